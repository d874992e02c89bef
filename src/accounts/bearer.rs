//! Secrets that are carried: made at random, shown once, stored as a hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::{Random, Secret, random};
use crate::crypto::mac;

/// Random bytes of every carried secret: 256 bits.
const BYTES: usize = 32;

/// A carried secret: a name the row is found by, and 32 random bytes that are compared in constant time. Written as
/// base64url of both, without padding.
pub(super) struct Bearer<const N: usize> {
    /// What the row is found by.
    pub name: [u8; N],
    secret: Secret<[u8; BYTES]>,
}

impl<const N: usize> Bearer<N> {
    /// A fresh one.
    pub fn new(name: [u8; N], random: &dyn Random) -> Self {
        Self { name, secret: Secret::new(random::bytes(random)) }
    }

    /// Reads what [`Bearer::text`] wrote; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        // Longer texts are refused before they are decoded.
        if text.len() > (N + BYTES).div_ceil(3) * 4 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (name, secret) = bytes.split_first_chunk::<N>()?;
        Some(Self { name: *name, secret: Secret::new(secret.try_into().ok()?) })
    }

    /// What is carried.
    pub fn text(&self) -> Secret<String> {
        Secret::new(URL_SAFE_NO_PAD.encode([self.name.as_slice(), self.secret.expose()].concat()))
    }

    /// What is stored.
    pub fn hash(&self) -> [u8; 32] {
        mac::sha256(self.secret.expose())
    }

    /// Whether this is the one whose hash is stored.
    pub fn fits(&self, hash: &[u8; 32]) -> bool {
        mac::equal(&self.hash(), hash)
    }

    /// A text that only who carries this can know: 64 hexadecimal digits that tell nothing about it.
    pub fn derive(&self, purpose: &[u8]) -> Secret<String> {
        Secret::new(crate::base::ids::hex(&mac::hmac_sha256(self.secret.expose(), &[purpose, &self.name])))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::SystemRandom;

    #[test]
    fn what_is_carried_fits_its_hash_alone() {
        let (one, other) = (Bearer::new([7; 8], &SystemRandom), Bearer::new([7; 8], &SystemRandom));
        let carried = Bearer::<8>::parse(one.text().expose()).unwrap();
        assert_eq!((carried.name, carried.fits(&one.hash())), ([7; 8], true));
        assert!(!carried.fits(&other.hash()));
        assert!(Bearer::<9>::parse(one.text().expose()).is_none());
        assert_ne!(one.derive(b"x").expose(), one.derive(b"y").expose());
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,80}") {
            if let Some(carried) = Bearer::<8>::parse(&text) {
                let text_again = carried.text();
                prop_assert_eq!(text_again.expose(), &text);
            }
        }
    }
}
