//! The master key as people hold it.
//!
//! Written out as `mainstay-key-1-<64 hex digits>-<8 hex digits>`; the last eight are the start of the SHA-256 of the
//! key, so that a typing error is told from a wrong key. A key made elsewhere may also be given as 64 hex digits or as
//! the base64 of 32 bytes (`openssl rand -base64 32`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroize;

use super::{Key, derive, mac};
use crate::base::ids::{hex, hex_decode};
use crate::base::{Random, Secret};

const LEAD: &str = "mainstay-key-1-";

/// The key everything else hangs on. Only ever used to derive others.
#[derive(Clone, Debug)]
pub struct MasterKey(Key);

/// Why a text is no master key. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// Not one of the accepted forms.
    #[error(
        "the master key is neither `mainstay-key-1-…` as `mainstay key export` prints it, nor 64 hex digits, nor the base64 of 32 bytes"
    )]
    Form,
    /// The check digits do not fit.
    #[error("the master key has a typing error: its last eight digits do not fit the rest")]
    Check,
}

impl MasterKey {
    /// A fresh random master key.
    pub fn random(random: &dyn Random) -> Self {
        Self(Key::random(random))
    }

    /// The master key that a keyring kept.
    pub(super) const fn from_key(key: Key) -> Self {
        Self(key)
    }

    /// The key itself, for a keyring to keep.
    pub(super) const fn key(&self) -> &Key {
        &self.0
    }

    /// Reads a key from `text`; white space around it does not matter.
    ///
    /// # Errors
    /// [`MasterKeyError`] when it is none; the text is not repeated.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let text = text.trim();
        let mut bytes = [0; 32];
        if let Some(rest) = text.strip_prefix(LEAD) {
            let (digits, check) = rest.split_once('-').ok_or(MasterKeyError::Form)?;
            hex_decode(digits.as_bytes(), &mut bytes).ok_or(MasterKeyError::Form)?;
            let key = Self(Key::from_bytes(bytes));
            bytes.zeroize();
            return if key.check() == check { Ok(key) } else { Err(MasterKeyError::Check) };
        }
        if hex_decode(text.to_ascii_lowercase().as_bytes(), &mut bytes).is_none() {
            let mut decoded = STANDARD.decode(text).map_err(|_not_base64| MasterKeyError::Form)?;
            let copied = <[u8; 32]>::try_from(decoded.as_slice());
            decoded.zeroize();
            bytes = copied.map_err(|_other_length| MasterKeyError::Form)?;
        }
        let key = Self(Key::from_bytes(bytes));
        bytes.zeroize();
        Ok(key)
    }

    /// The key written out, for the recovery sheet.
    pub fn export(&self) -> Secret<String> {
        Secret::new(format!("{LEAD}{}-{}", hex(self.0.expose()), self.check()))
    }

    /// Sixteen digits that tell keys apart and tell nothing about them.
    pub fn id(&self) -> String {
        hex(&derive(&self.0, b"", b"mainstay/master-id/v1").expose()[..8])
    }

    /// The key that wraps the key of the backup repository with this id.
    pub fn backup_key(&self, repository: &[u8; 16]) -> Key {
        derive(&self.0, repository, b"mainstay/backup/v1")
    }

    /// The key that wraps others.
    pub(super) fn wrapping_key(&self) -> Key {
        derive(&self.0, b"", b"mainstay/wrap/v1")
    }

    fn check(&self) -> String {
        hex(&mac::sha256(self.0.expose())[..4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemRandom;

    #[test]
    fn an_exported_key_is_read_back() {
        let key = MasterKey::random(&SystemRandom);
        let again = MasterKey::parse(&format!("  {}\n", key.export().expose())).unwrap();
        assert_eq!(again.id(), key.id());
    }

    #[test]
    fn hex_and_base64_are_the_same_key() {
        let hex = MasterKey::parse(&"0A".repeat(32)).unwrap();
        let base64 = MasterKey::parse("CgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgo=").unwrap();
        assert_eq!(hex.id(), base64.id());
    }

    #[test]
    fn a_typing_error_is_told_from_a_wrong_form() {
        let text = MasterKey::parse(&"0a".repeat(32)).unwrap().export().expose().replace("0a0a-", "0a0b-");
        assert_eq!(MasterKey::parse(&text).unwrap_err(), MasterKeyError::Check);
        for text in ["", "secret", "mainstay-key-1-00", "CgoK"] {
            assert_eq!(MasterKey::parse(text).unwrap_err(), MasterKeyError::Form);
        }
    }
}
