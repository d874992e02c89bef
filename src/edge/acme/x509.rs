//! What has to be known about a certificate, read off it.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::failure::Failure;

/// A certificate with its key, ready for handshakes.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// What rustls signs with.
    pub key: Arc<CertifiedKey>,
    /// The DNS names it is good for, lower case, `*.` for one label.
    pub names: Vec<String>,
    /// First moment it is good for.
    pub not_before_ms: u64,
    /// Last moment it is good for.
    pub not_after_ms: u64,
}

impl Certificate {
    /// Puts `chain` (the certificate first) and `key` together.
    ///
    /// # Errors
    /// They are no certificate and key, or do not belong together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<Self, Failure> {
        let leaf = chain.first().ok_or_else(|| Failure::told("there is no certificate"))?;
        let (_, parsed) =
            parse_x509_certificate(leaf).map_err(|error| Failure::told(format!("no certificate: {error}")))?;
        let alternative = parsed.subject_alternative_name().ok().flatten();
        let names = alternative.map_or_else(Vec::new, |extension| {
            let named = extension.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            });
            named.collect()
        });
        let millis = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000);
        let not_before_ms = millis(parsed.validity().not_before.timestamp());
        let not_after_ms = millis(parsed.validity().not_after.timestamp());
        let signing = any_supported_type(key).map_err(|error| Failure::told(format!("the private key: {error}")))?;
        let key = CertifiedKey::new(chain, signing);
        key.keys_match().map_err(|_other| Failure::told("the private key does not belong to the certificate"))?;
        Ok(Self { key: Arc::new(key), names, not_before_ms, not_after_ms })
    }

    /// The same from PEM.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Failure> {
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| Failure::told(format!("the private key: {error}")))?;
        Self::new(chain_of(chain)?, &key)
    }

    /// Whether it is good for `name`.
    pub fn covers(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.names.iter().any(|known| known == name || Some(known) == parent.as_ref())
    }
}

/// The certificates of a PEM text.
///
/// # Errors
/// It has a part that is none.
pub fn chain_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Failure> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::told(format!("the certificate: {error}")))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn names_and_dates_are_read_and_a_foreign_key_is_refused() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["Example.com".to_owned(), "*.example.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let pem = params.self_signed(&key).unwrap().pem();
        let made = Certificate::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        assert_eq!(made.not_after_ms - made.not_before_ms, 90 * 86_400_000);
        for (name, covered) in [("example.com", true), ("a.example.com", true), ("a.b.example.com", false)] {
            assert_eq!(made.covers(name), covered, "{name}");
        }
        let other = KeyPair::generate().unwrap().serialize_pem();
        let error = Certificate::from_pem(pem.as_bytes(), other.as_bytes()).unwrap_err();
        assert!(error.text.contains("does not belong"), "{error}");
        assert!(Certificate::from_pem(b"", other.as_bytes()).is_err());
    }
}
