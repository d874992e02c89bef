//! Keys and what they seal.
//!
//! Three promises the rest of Mainstay rests on:
//! - **Nothing opens with the wrong key, place or order.** Every seal names what it belongs to (associated data), every
//!   stream authenticates position and end, and a key commitment is checked before the first segment is opened.
//! - **One master key, never in use directly.** The [`keyring`] wraps random data keys with a key derived from the
//!   master key; changing the master key ([`rotation`]) means wrapping again, not sealing all data again.
//! - **Never a new key over old data.** A missing or wrong key refuses to start and says which key is wanted.
//!
//! AES-256-GCM comes from the `aes-gcm` crate behind [`aead::Aead`]'s two functions; hashes, HMAC and HKDF from
//! `aws-lc-rs`, which TLS brings anyway. Start reading at [`keyring`].

pub mod aead;
pub mod keyring;
pub mod mac;
pub mod master;
pub mod rotation;
pub mod stream;
mod wrapping;

use aws_lc_rs::hkdf;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::base::{Random, random};

pub use aead::{Aead, Tampered};
pub use keyring::{Keyring, KeyringError};
pub use master::{MasterKey, MasterKeyError};
pub use stream::StreamKey;
pub use wrapping::Opener;

/// 32 secret bytes: an AES-256 or HMAC key. Wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// A fresh random key.
    pub fn random(random: &dyn Random) -> Self {
        Self(random::bytes(random))
    }

    /// The key from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes. Never into a log, an error or a file in clear.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key([secret])")
    }
}

/// A key that depends on `key`, `salt` and `info` and tells nothing about them (HKDF-SHA256, RFC 5869).
///
/// `info` names the purpose and ends in a version, such as `store/row/v1`; two purposes never share a key.
pub fn derive(key: &Key, salt: &[u8], info: &[u8]) -> Key {
    let mut out = [0; 32];
    let pseudo_random_key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key.expose());
    // Fails only for outputs over 255 * 32 bytes; a zero key from a failure must never be used.
    let filled = pseudo_random_key.expand(&[info], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut out));
    assert!(filled.is_ok(), "HKDF refuses 32 bytes of output");
    Key(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::hex;

    #[test]
    fn derivation_is_hkdf_sha256() {
        // Checked against Python's hmac module: HKDF(ikm = 0b * 32, salt = 00..0c, info = f0..f9), 32 bytes.
        let salt: Vec<u8> = (0..13).collect();
        let info: Vec<u8> = (0xf0..0xfa).collect();
        let key = derive(&Key::from_bytes([0x0b; 32]), &salt, &info);
        assert_eq!(hex(key.expose()), HKDF_VECTOR);
    }

    const HKDF_VECTOR: &str = "d4100799f26a09615a72af3e58fa3841a2ff20d5ace3fb392e562e207fe6b718";

    #[test]
    fn keys_are_never_printed() {
        assert_eq!(format!("{:?}", Key::from_bytes([7; 32])), "Key([secret])");
    }
}
