//! One copy of an app: where it is, how it is spoken to, how long each step may take, and how it has done lately.
//!
//! All workers share it. Two sites that name the same address with the same rules have the same peer, and with it one
//! pool a worker and one state of health.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsConnector;

use super::config::EdgeConfig;
use super::error::ConfigError;
use super::health::{CheckRules, Health, HealthRules};
use super::site_config::SiteConfig;
use super::upstream::{Place, SHAPE, Upstream};
use crate::base::Span;
use crate::http::client::trusted_roots;

/// Whether an app's certificate must be good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// It must be of a trusted authority and for the app's name.
    #[default]
    Full,
    /// Any certificate will do: whoever stands between sees and changes everything.
    Insecure,
}

/// One copy of an app.
#[derive(Debug)]
pub struct Peer {
    /// What settings say of it.
    pub rules: PeerRules,
    /// Its address as people read it.
    pub name: String,
    /// How TLS is spoken to it; `None` without.
    pub tls: Option<PeerTls>,
    /// How it does.
    pub health: Health,
}

/// What settings say of a copy. Equal rules are one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRules {
    /// Where it is.
    pub upstream: Upstream,
    /// How long things may take.
    pub times: Times,
    /// When it is left out.
    pub health: HealthRules,
    tls: TlsRules,
}

/// How long each step with an app may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// To a connection, TLS included.
    pub connect: Duration,
    /// From the last byte of the request to the response's head.
    pub response: Duration,
    /// Longest pause within a response; `None` sets no limit.
    pub read: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TlsRules {
    verify: Verify,
    /// PEM of the only authorities trusted; empty trusts those of the machine.
    authorities: Vec<u8>,
    name: String,
}

/// How TLS is spoken to an app.
#[derive(Clone)]
pub struct PeerTls {
    /// Makes connections.
    pub connector: TlsConnector,
    /// The name its certificate must have.
    pub name: ServerName<'static>,
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PeerRules {
    /// The rules for the copy `text` of `site`; `key` is the setting it comes from. Reads the file of authorities, if one
    /// is named: blocks.
    ///
    /// # Errors
    /// No address, or rules that cannot be.
    pub fn of(site: &SiteConfig, config: &EdgeConfig, key: &'static str, text: &str) -> Result<Self, ConfigError> {
        let upstream: Upstream = text.parse().map_err(|_bad| wrong(key, text, SHAPE))?;
        let or = |own: Span, common: Span| if own.duration().is_zero() { common.duration() } else { own.duration() };
        let read = or(site.read_timeout, config.timeouts.read);
        let authorities = match site.upstream_ca.as_str() {
            "" => Vec::new(),
            path => std::fs::read(path).map_err(|error| {
                wrong("edge.sites.upstream_ca", path, &format!("a readable file of certificates in PEM ({error})"))
            })?,
        };
        Ok(Self {
            upstream,
            times: Times {
                connect: or(site.connect_timeout, config.timeouts.connect),
                response: or(site.response_timeout, config.timeouts.response),
                read: (!read.is_zero()).then_some(read),
            },
            health: HealthRules {
                failures: site.failures,
                pause: site.failure_pause.duration(),
                check: CheckRules::of(site)?,
            },
            tls: TlsRules { verify: site.upstream_verify, authorities, name: site.upstream_name.clone() },
        })
    }
}

impl Peer {
    /// A copy by `rules`, thought to be well.
    ///
    /// # Errors
    /// Authorities that are none, or a name that is none.
    pub fn new(rules: PeerRules) -> Result<Arc<Self>, ConfigError> {
        let name = rules.upstream.to_string();
        let tls = if rules.upstream.protocol.is_secure() { Some(PeerTls::new(&rules)?) } else { None };
        Ok(Arc::new(Self { rules, name, tls, health: Health::default() }))
    }
}

impl PeerTls {
    fn new(rules: &PeerRules) -> Result<Self, ConfigError> {
        let tls = &rules.tls;
        let own_name = match &rules.upstream.place {
            Place::Tcp { host, .. } => host.as_str(),
            Place::Unix(_) => "localhost",
        };
        let name = if tls.name.is_empty() { own_name } else { tls.name.as_str() };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_bad| wrong("edge.sites.upstream_name", name, "a name or address that a certificate can have"))?;
        let refused = |error: rustls::Error| {
            wrong("edge.sites.upstream_verify", &rules.upstream.to_string(), &format!("what TLS can do ({error})"))
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(refused)?;
        let mut config = match tls.verify {
            Verify::Full => builder.with_root_certificates(roots(&tls.authorities)?),
            Verify::Insecure => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            }
        }
        .with_no_client_auth();
        let spoken: &[u8] = if rules.upstream.protocol.is_multiplexed() { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![spoken.to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

/// The authorities in `pem`, or those of the machine when there is nothing in it.
fn roots(pem: &[u8]) -> Result<RootCertStore, ConfigError> {
    if pem.is_empty() {
        return Ok(trusted_roots());
    }
    let bad = || wrong("edge.sites.upstream_ca", "the file", "certificates of authorities in PEM");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|_bad| bad())?).map_err(|_bad| bad())?;
    }
    if roots.is_empty() { Err(bad()) } else { Ok(roots) }
}

/// Takes any certificate, as [`Verify::Insecure`] says. That the other side has its key is still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn wrong(key: &'static str, value: &str, allowed: &str) -> ConfigError {
    ConfigError::Value { key, value: value.to_owned(), allowed: allowed.to_owned() }
}
