//! AES-256-GCM (NIST SP 800-38D) behind two functions, so that the library underneath can change.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};

use super::Key;

/// Bytes of a nonce. A key never seals twice with the same one.
pub const NONCE: usize = 12;

/// Bytes a seal adds.
pub const TAG: usize = 16;

/// The bytes are not what was sealed, or not with this key, nonce and associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed bytes do not verify")]
pub struct Tampered;

/// A key ready to seal and open. The expanded key is wiped when dropped.
#[derive(Clone)]
pub struct Aead(Aes256Gcm);

impl Aead {
    /// Expands `key`.
    pub fn new(key: &Key) -> Self {
        Self(Aes256Gcm::new(key.expose().into()))
    }

    /// Encrypts `buffer` in place and returns the tag over it and `aad`.
    pub fn seal(&self, nonce: &[u8; NONCE], aad: &[u8], buffer: &mut [u8]) -> [u8; TAG] {
        let sealed = self.0.encrypt_inout_detached(&Nonce::from(*nonce), aad, buffer.into());
        // GCM refuses only messages over 64 GiB; every caller seals at most a few MiB.
        match sealed {
            Ok(tag) => tag.into(),
            Err(_) => unreachable_length(),
        }
    }

    /// Decrypts `buffer` in place, if it, `aad` and `tag` are what was sealed.
    ///
    /// # Errors
    /// [`Tampered`]; then `buffer` holds nothing of the plaintext.
    pub fn open(&self, nonce: &[u8; NONCE], aad: &[u8], buffer: &mut [u8], tag: &[u8; TAG]) -> Result<(), Tampered> {
        self.0
            .decrypt_inout_detached(&Nonce::from(*nonce), aad, buffer.into(), &Tag::from(*tag))
            .map_err(|_does_not_verify| Tampered)
    }
}

#[expect(clippy::panic, reason = "a message over 64 GiB in memory; going on would leave it unsealed")]
fn unreachable_length() -> ! {
    panic!("AES-GCM message over 64 GiB")
}

impl std::fmt::Debug for Aead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Aead([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::hex;

    /// Test case 14 of the GCM specification by `McGrew` and `Viega`: zero key, zero nonce, 16 zero bytes.
    #[test]
    fn the_published_vector_matches() {
        let aead = Aead::new(&Key::from_bytes([0; 32]));
        let mut buffer = [0; 16];
        let tag = aead.seal(&[0; 12], &[], &mut buffer);
        assert_eq!(hex(&buffer), "cea7403d4d606b6e074ec5d3baf39d18");
        assert_eq!(hex(&tag), "d0d1c8a799996bf0265b98b5d48ab919");
    }

    #[test]
    fn any_change_is_noticed() {
        let aead = Aead::new(&Key::from_bytes([1; 32]));
        let mut sealed = *b"attack at dawn";
        let tag = aead.seal(&[2; 12], b"row 7", &mut sealed);

        let mut good = sealed;
        assert_eq!(aead.open(&[2; 12], b"row 7", &mut good, &tag), Ok(()));
        assert_eq!(&good, b"attack at dawn");

        assert_eq!(aead.open(&[2; 12], b"row 8", &mut sealed.clone(), &tag), Err(Tampered));
        assert_eq!(aead.open(&[3; 12], b"row 7", &mut sealed.clone(), &tag), Err(Tampered));
        sealed[0] ^= 1;
        assert_eq!(aead.open(&[2; 12], b"row 7", &mut sealed, &tag), Err(Tampered));
    }
}
