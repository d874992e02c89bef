//! Answers to the challenges that are under way, for whoever asks on a listener.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::failure::Failure;

/// The protocol a TLS-ALPN-01 validation negotiates (RFC 8737 section 6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Every answer that may be asked for now. Each order adds its own and takes it back, so there are never more than
/// orders under way.
#[derive(Debug, Default)]
pub struct Challenges(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    /// Key authorization by token.
    files: HashMap<String, String>,
    /// Certificate by name.
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

/// Takes its answers back when dropped.
#[derive(Debug)]
pub struct Answering {
    all: Arc<Challenges>,
    token: Option<String>,
    name: Option<String>,
}

impl Challenges {
    /// What to answer to HTTP-01's request for `token`.
    pub fn file(&self, token: &str) -> Option<String> {
        self.answers().files.get(token).cloned()
    }

    /// What to present in a handshake for `name` that negotiates [`ACME_TLS`].
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.answers().certificates.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Whether an authority may come to see a certificate.
    pub fn expects_handshakes(&self) -> bool {
        !self.answers().certificates.is_empty()
    }

    /// Answers HTTP-01.
    pub fn answer_file(self: &Arc<Self>, token: &str, authorization: &str) -> Answering {
        self.answers().files.insert(token.to_owned(), authorization.to_owned());
        Answering { all: Arc::clone(self), token: Some(token.to_owned()), name: None }
    }

    /// Answers TLS-ALPN-01 for `name` with the SHA-256 of the key authorization (RFC 8737 section 3).
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn answer_tls(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Answering, Failure> {
        let failed = |error: rcgen::Error| Failure::told(format!("cannot make the challenge's certificate: {error}"));
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key).map_err(failed)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = any_supported_type(&der).map_err(|error| Failure::told(error.to_string()))?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing));
        let name = name.to_ascii_lowercase();
        self.answers().certificates.insert(name.clone(), certified);
        Ok(Answering { all: Arc::clone(self), token: None, name: Some(name) })
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut answers = self.all.answers();
        if let Some(token) = &self.token {
            answers.files.remove(token);
        }
        if let Some(name) = &self.name {
            answers.certificates.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_there_for_as_long_as_its_order_runs() {
        let challenges = Arc::new(Challenges::default());
        let file = challenges.answer_file("t", "t.k");
        let tls = challenges.answer_tls("Example.com", &[7; 32]).unwrap();
        assert_eq!(challenges.file("t").as_deref(), Some("t.k"));
        assert_eq!(challenges.file("u"), None);
        assert!(challenges.certificate("example.COM").is_some());
        drop((file, tls));
        assert_eq!(challenges.file("t"), None);
        assert!(challenges.certificate("example.com").is_none());
    }
}
