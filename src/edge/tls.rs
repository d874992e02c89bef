//! TLS: versions, groups, tickets, and which certificate answers which name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::acme::challenges::{ACME_TLS, Challenges};
use super::acme::internal::Internal;
use super::mutual::AnyCertificate;

/// What is spoken over TLS; the last is an authority's way to look at a certificate.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", ACME_TLS];

/// What is spoken over QUIC.
const HTTP3: &[u8] = b"h3";

/// The certificates in use. Handshakes read it without a lock; a new set replaces the old one whole.
pub struct Certificates {
    set: ArcSwap<Set>,
    challenges: Arc<Challenges>,
}

/// Certificates by name, and the one for everybody else.
#[derive(Debug)]
pub struct Set {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    internal: Option<Arc<Internal>>,
    fallback: Arc<CertifiedKey>,
}

impl Set {
    /// `fallback` for names that no other certificate of the set has.
    pub fn new(fallback: Arc<CertifiedKey>) -> Self {
        Self { by_name: HashMap::new(), internal: None, fallback }
    }

    /// Adds a certificate for `names`, each exact or `*.` with one label left open (RFC 9525 section 6.3).
    #[must_use]
    pub fn with(mut self, names: &[String], key: &Arc<CertifiedKey>) -> Self {
        self.by_name.extend(names.iter().map(|name| (name.to_ascii_lowercase(), Arc::clone(key))));
        self
    }

    /// Names that no certificate of the set has are left to `internal`.
    #[must_use]
    pub fn then(mut self, internal: Option<Arc<Internal>>) -> Self {
        self.internal = internal;
        self
    }

    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.known(&name).cloned().or_else(|| self.internal.as_ref()?.certificate(&name))
    }

    /// The certificate for `name`, in lower case, that is no affair of the internal authority.
    fn known(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        self.by_name.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

impl Certificates {
    /// Begins with `set`; handshakes of an authority that validates a name are answered from `challenges`.
    pub fn new(set: Set, challenges: Arc<Challenges>) -> Arc<Self> {
        Arc::new(Self { set: ArcSwap::from_pointee(set), challenges })
    }

    /// Whether there is a certificate for `name`, in lower case, other than the one for everybody.
    pub fn has(&self, name: &str) -> bool {
        let set = self.set.load();
        set.known(name).is_some() || set.internal.as_ref().is_some_and(|internal| internal.is_for(name))
    }

    /// Whether a handshake may have to wait for [`Self::prepare`].
    pub fn makes_some(&self) -> bool {
        self.set.load().internal.is_some()
    }

    /// Has a certificate made for `name` if the internal authority is the one to give it and has none yet.
    ///
    /// # Cancel safety
    /// Dropped before its end, it may be made none the less.
    pub async fn prepare(&self, name: &str) {
        let name = name.to_ascii_lowercase();
        let internal = {
            let set = self.set.load();
            set.internal.clone().filter(|_| set.known(&name).is_none())
        };
        if let Some(internal) = internal {
            internal.prepare(&name).await;
        }
    }

    /// Puts `set` in place of what is used now; running connections keep theirs.
    pub fn replace(&self, set: Set) {
        self.set.store(Arc::new(set));
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_TLS)) {
            // RFC 8737 section 3: this certificate or none.
            return self.challenges.certificate(hello.server_name()?);
        }
        let set = self.set.load();
        let named = hello.server_name().and_then(|name| set.find(name));
        Some(named.unwrap_or_else(|| Arc::clone(&set.fallback)))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

/// The certificates for a door of another protocol: by name as for HTTPS, and for clients that name no server the one
/// of `domain`. Authorities ask at HTTPS alone.
#[derive(Debug)]
struct Elsewhere {
    certificates: Arc<Certificates>,
    domain: String,
}

impl ResolvesServerCert for Elsewhere {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.certificates.set.load();
        let found = set.find(hello.server_name().unwrap_or(&self.domain));
        Some(found.unwrap_or_else(|| Arc::clone(&set.fallback)))
    }
}

/// The configuration every worker shares, so that a session begun at one is resumed at another.
///
/// TLS 1.2 and 1.3, X25519MLKEM768 first (rustls feature `prefer-post-quantum`), tickets instead of a session table, no
/// early data: a replayed request is not safe to pass on.
///
/// # Errors
/// The kernel's generator gives no ticket key.
pub fn server_config(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = config(certificates)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}

/// The configuration for names whose sites ask clients for certificates, which [`super::mutual`] judges. It has ticket keys
/// of its own: a session begun without being asked is not gone on with here.
///
/// # Errors
/// As [`server_config`].
pub fn asking_config(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(Arc::new(AnyCertificate::new(provider)))
        .with_cert_resolver(certificates);
    let mut config = with_tickets(config)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}

/// The configuration of HTTP/3: TLS 1.3 alone (RFC 9001 section 4.2), without early data. It has ticket keys of its own, since a
/// session belongs to its protocol, and asks nobody for a certificate: sites that want one are served by HTTP/2.
///
/// # Errors
/// As [`server_config`].
pub fn http3_config(certificates: Arc<Certificates>) -> Result<Arc<QuicServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    let mut config = with_tickets(config)?;
    config.alpn_protocols = vec![HTTP3.to_vec()];
    let config = QuicServerConfig::try_from(config).map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(Arc::new(config))
}

/// The configuration of a door that speaks another protocol and announces none, with the same certificates.
///
/// # Errors
/// As [`server_config`].
pub fn config_elsewhere(certificates: Arc<Certificates>, domain: &str) -> Result<Arc<ServerConfig>, rustls::Error> {
    let certificates = Arc::new(Elsewhere { certificates, domain: domain.to_owned() });
    Ok(Arc::new(config(certificates)?))
}

fn config(certificates: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    with_tickets(config)
}

fn with_tickets(mut config: ServerConfig) -> Result<ServerConfig, rustls::Error> {
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::certificate::SelfSigned;

    #[test]
    fn a_certificate_is_found_by_exact_name_then_by_wildcard() {
        let now = crate::base::Timestamp::from_seconds(1_767_225_600);
        let key = |domain| SelfSigned::make(domain, now).unwrap().key().unwrap();
        let (exact, wild, fallback) = (key("a.example"), key("example"), key("localhost"));
        let set = Set::new(fallback).with(&["*.Example".to_owned()], &wild).with(&["a.example".to_owned()], &exact);
        let found = |name| set.find(name).as_ref().map(Arc::as_ptr);
        assert_eq!(found("A.example"), Some(Arc::as_ptr(&exact)));
        assert_eq!(found("b.example"), Some(Arc::as_ptr(&wild)));
        assert_eq!(found("c.b.example"), None);
        assert_eq!(found("example"), None);
    }
}
