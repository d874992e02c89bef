//! Clients that show a certificate (mutual TLS).
//!
//! The handshake asks for one when a site with that name wants any, and takes whatever is shown, as long as the client has
//! its key; whether it is good for the site is judged with each request, by the site's own authorities. So a bad certificate
//! gets a page that says so instead of a broken handshake, a reload is in force for connections that are open, and a name in
//! the handshake that is not the request's opens nothing.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConnection, SignatureScheme};
use serde::{Deserialize, Serialize};
use x509_parser::{parse_x509_certificate, parse_x509_crl};

use super::acme::x509::chain_of;
use super::error::ConfigError;
use super::host::Host;
use super::site_config::SiteConfig;
use crate::base::{LocalDisk, Timestamp, disk};

/// Largest file of authorities, and of revocation lists, read.
const LARGEST: u64 = 1 << 20;
const LARGEST_LISTS: u64 = 16 << 20;
/// Longest subject passed on, in bytes.
const LONGEST_SUBJECT: usize = 1_024;

/// The certificate, in base64 between colons (RFC 9440 section 2.2).
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// `success`, `none` or `failed`.
const VERIFIED: HeaderName = HeaderName::from_static("x-client-cert-verified");
/// Whose it is.
const SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
/// SHA-256 of the certificate in hexadecimal.
const SHA256: HeaderName = HeaderName::from_static("x-client-cert-sha256");

/// What a site does with clients that show no good certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCert {
    /// They get 400.
    #[default]
    Require,
    /// The app is told.
    Request,
}

/// Whose certificates a site takes.
pub struct ClientAuth {
    authorities: Arc<dyn ClientCertVerifier>,
    mode: ClientCert,
    lists: Option<Lists>,
}

/// Where the revocation lists are from, and what is to be known of them.
struct Lists {
    path: String,
    /// When the first of them is past its time.
    until: Timestamp,
    /// Whether it was told that one is.
    told: AtomicBool,
}

/// What is known of a client's TLS connection.
pub struct Secured {
    /// The name in the handshake.
    name: Option<String>,
    /// Whether it was asked for a certificate.
    asked: bool,
    /// What it showed, its own first.
    chain: Vec<CertificateDer<'static>>,
    /// The last judgement, and by which authorities. It ends after a while, as certificates do.
    judged: Mutex<Option<(Arc<ClientAuth>, Timestamp, bool)>>,
}

/// How long a judgement holds.
const JUDGED: Duration = Duration::from_mins(1);

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// The handshake was for another name, or before the site wanted certificates (RFC 9110 section 15.5.20).
    Misdirected,
    /// No certificate was shown.
    Missing,
    /// It is not one that the site takes.
    Wrong,
}

impl ClientAuth {
    /// What `site` wants; `None` when it asks for no certificates. Reads files.
    ///
    /// # Errors
    /// The files.
    pub fn of(site: &SiteConfig) -> Result<Option<Arc<Self>>, ConfigError> {
        let path = site.client_ca_file.as_str();
        if path.is_empty() {
            if site.client_crl_file.is_empty() {
                return Ok(None);
            }
            return Err(wrong_lists(&site.client_crl_file, "client_ca_file says whose".to_owned()));
        }
        let wrong = |what: String| ConfigError::Value {
            key: "edge.sites.client_ca_file",
            value: path.to_owned(),
            allowed: format!("a file with certificates of authorities in PEM ({what})"),
        };
        let chain =
            read(path, LARGEST).and_then(|pem| chain_of(&pem).map_err(|failure| failure.text)).map_err(wrong)?;
        let mut roots = RootCertStore::empty();
        for certificate in chain {
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
        let mut built =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider()));
        let mut lists = None;
        if !site.client_crl_file.is_empty() {
            let path = site.client_crl_file.clone();
            let (read, until) = Lists::read(&path).map_err(|what| wrong_lists(&path, what))?;
            built = built.with_crls(read).enforce_revocation_expiration();
            lists = Some(Lists { path, until, told: AtomicBool::new(false) });
        }
        let authorities = built.build().map_err(|error| match (&error, &lists) {
            (VerifierBuilderError::InvalidCrl(_), Some(lists)) => wrong_lists(&lists.path, error.to_string()),
            _ => wrong(error.to_string()),
        })?;
        Ok(Some(Arc::new(Self { authorities, mode: site.client_cert, lists })))
    }

    /// The file of revocation lists, and when the first of them is past its time.
    pub fn lists(&self) -> Option<(&str, Timestamp)> {
        self.lists.as_ref().map(|lists| (lists.path.as_str(), lists.until))
    }

    /// Whether clients without a good certificate are refused.
    pub fn is_required(&self) -> bool {
        self.mode == ClientCert::Require
    }

    fn takes(self: &Arc<Self>, secured: &Secured, now: Timestamp) -> bool {
        let mut judged = secured.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((by, at, good)) = judged.as_ref()
            && Arc::ptr_eq(by, self)
            && now.since(*at) < JUDGED
        {
            return *good;
        }
        let time = UnixTime::since_unix_epoch(Duration::from_millis(now.millis()));
        let judge = |(own, others): (&CertificateDer<'_>, &[CertificateDer<'_>])| {
            self.authorities.verify_client_cert(own, others, time)
        };
        let good = match secured.chain.split_first().map(judge) {
            Some(Ok(_)) => true,
            Some(Err(error)) => {
                self.tell_of_old_lists(&error);
                false
            }
            None => false,
        };
        *judged = Some((Arc::clone(self), now, good));
        good
    }
}

impl ClientAuth {
    /// Says once that everybody is refused because a list was not renewed.
    fn tell_of_old_lists(&self, error: &rustls::Error) {
        use rustls::CertificateError as E;
        let is_old = matches!(
            error,
            rustls::Error::InvalidCertificate(E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. })
        );
        if let Some(lists) = self.lists.as_ref().filter(|_| is_old)
            && !lists.told.swap(true, Ordering::Relaxed)
        {
            tracing::error!(
                file = lists.path,
                until = %lists.until,
                "a revocation list is past its time: clients of its authority are refused until a reload finds a newer one"
            );
        }
    }
}

impl Lists {
    /// The lists in the file at `path`, and when the first of them is past its time.
    fn read(path: &str) -> Result<(Vec<CertificateRevocationListDer<'static>>, Timestamp), String> {
        let pem = read(path, LARGEST_LISTS)?;
        let lists = CertificateRevocationListDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let lists = lists.map_err(|error| error.to_string())?;
        let mut until = None;
        for list in &lists {
            let (_, parsed) = parse_x509_crl(list).map_err(|error| error.to_string())?;
            let next = parsed.next_update().ok_or("it does not say when the next one comes")?;
            let next = Timestamp::from_seconds(u64::try_from(next.timestamp()).unwrap_or(0));
            until = Some(until.map_or(next, |until: Timestamp| until.min(next)));
        }
        let until = until.ok_or("there is none in it")?;
        Ok((lists, until))
    }
}

fn read(path: &str, largest: u64) -> Result<Vec<u8>, String> {
    let read = disk::read_file(&LocalDisk, Path::new(path), largest).map_err(|error| error.to_string())?;
    read.ok_or_else(|| "there is no such file".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn wrong_lists(path: &str, what: String) -> ConfigError {
    ConfigError::Value {
        key: "edge.sites.client_crl_file",
        value: path.to_owned(),
        allowed: format!("a file with revocation lists, version 2, in PEM ({what})"),
    }
}

impl Secured {
    /// What `connection` came to, which was asked for a certificate or not.
    pub fn of(connection: &ServerConnection, asked: bool) -> Self {
        Self {
            name: connection.server_name().map(str::to_ascii_lowercase),
            asked,
            chain: connection.peer_certificates().map(<[_]>::to_vec).unwrap_or_default(),
            judged: Mutex::new(None),
        }
    }

    /// Whether the handshake was for `host`. Clients name no address.
    fn is_for(&self, host: &Host) -> bool {
        match &self.name {
            Some(name) => name == host.name(),
            None => host.is_address(),
        }
    }
}

/// Whether a request for `host` may come over this connection at all: where a certificate was asked for, only what the
/// handshake named is served.
///
/// # Errors
/// [`Unproven::Misdirected`].
pub fn direct(secured: Option<&Arc<Secured>>, host: &Host) -> Result<(), Unproven> {
    match secured {
        Some(secured) if secured.asked && !secured.is_for(host) => Err(Unproven::Misdirected),
        _ => Ok(()),
    }
}

/// What the app is to be told of the client's certificate, once `auth` lets it in.
///
/// # Errors
/// [`Unproven`].
pub fn admit(
    auth: &Arc<ClientAuth>,
    secured: Option<&Arc<Secured>>,
    host: &Host,
    encrypted: bool,
    now: Timestamp,
) -> Result<HeaderMap, Unproven> {
    let mut told = HeaderMap::new();
    let verified = |told: &mut HeaderMap, how| told.insert(VERIFIED, HeaderValue::from_static(how));
    let secured = match secured {
        Some(secured) if secured.asked && secured.is_for(host) => secured,
        _ if encrypted => return Err(Unproven::Misdirected),
        _ if auth.is_required() => return Err(Unproven::Missing),
        _ => {
            verified(&mut told, "none");
            return Ok(told);
        }
    };
    let Some(own) = secured.chain.first() else {
        verified(&mut told, "none");
        return if auth.is_required() { Err(Unproven::Missing) } else { Ok(told) };
    };
    if !auth.takes(secured, now) {
        verified(&mut told, "failed");
        return if auth.is_required() { Err(Unproven::Wrong) } else { Ok(told) };
    }
    verified(&mut told, "success");
    let hash = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, own);
    let hex = hash.as_ref().iter().fold(String::new(), |mut out, byte| {
        // Writing into a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    });
    for (name, text) in
        [(SHA256, hex), (SUBJECT, subject(own)), (CLIENT_CERT, format!(":{}:", BASE64_STANDARD.encode(own)))]
    {
        if let Ok(value) = HeaderValue::from_str(&text) {
            told.insert(name, value);
        }
    }
    Ok(told)
}

/// The subject as text, of which whatever is no plain ASCII becomes `?`.
fn subject(certificate: &[u8]) -> String {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else { return String::new() };
    let text = parsed.subject().to_string();
    text.chars().take(LONGEST_SUBJECT).map(|letter| if matches!(letter, ' '..='~') { letter } else { '?' }).collect()
}

/// Asks for a certificate and takes any, or none: [`admit`] judges. The client must have its key.
#[derive(Debug)]
pub struct AnyCertificate(Arc<CryptoProvider>);

impl AnyCertificate {
    /// One for `provider`'s algorithms.
    pub const fn new(provider: Arc<CryptoProvider>) -> Self {
        Self(provider)
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _own: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuth").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("name", &self.name).field("asked", &self.asked).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
        KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::*;

    /// 2026-01-01.
    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    struct People {
        folder: tempfile::TempDir,
        issuer: Issuer<'static, KeyPair>,
        next: u8,
    }

    impl People {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let pem = params.self_signed(&key).unwrap().pem();
            let people = Self { folder, issuer: Issuer::new(params, key), next: 1 };
            people.write("ca.pem", &pem);
            people
        }

        fn path(&self, name: &str) -> String {
            self.folder.path().join(name).display().to_string()
        }

        fn write(&self, name: &str, text: &str) {
            use std::io::Write as _;
            std::fs::File::create(self.path(name)).unwrap().write_all(text.as_bytes()).unwrap();
        }

        /// Somebody, by the certificate's number.
        fn somebody(&mut self) -> (u8, Secured) {
            let number = self.next;
            self.next += 1;
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.serial_number = Some(SerialNumber::from(vec![number]));
            let key = KeyPair::generate().unwrap();
            let own = params.signed_by(&key, &self.issuer).unwrap().der().clone();
            (number, Secured { name: None, asked: true, chain: vec![own], judged: Mutex::new(None) })
        }

        /// A list of those `revoked`, good from `year` to the next.
        fn list(&self, year: i32, revoked: &[u8]) {
            let revoked = revoked.iter().map(|number| RevokedCertParams {
                serial_number: SerialNumber::from(vec![*number]),
                revocation_time: date_time_ymd(year, 1, 1),
                reason_code: None,
                invalidity_date: None,
            });
            let params = CertificateRevocationListParams {
                this_update: date_time_ymd(year, 1, 1),
                next_update: date_time_ymd(year + 1, 1, 1),
                crl_number: SerialNumber::from(vec![1]),
                issuing_distribution_point: None,
                revoked_certs: revoked.collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            self.write("crl.pem", &params.signed_by(&self.issuer).unwrap().pem().unwrap());
        }

        fn auth(&self, crl: &str) -> Result<Arc<ClientAuth>, String> {
            let client_crl_file = if crl.is_empty() { String::new() } else { self.path(crl) };
            let site = SiteConfig { client_ca_file: self.path("ca.pem"), client_crl_file, ..SiteConfig::default() };
            ClientAuth::of(&site).map(Option::unwrap).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn who_is_on_a_revocation_list_is_refused_and_others_are_not() {
        let mut people = People::new();
        let ((_, ada), (number, mallory)) = (people.somebody(), people.somebody());
        let plain = people.auth("").unwrap();
        assert!(plain.takes(&ada, NOW) && plain.takes(&mallory, NOW));
        people.list(2026, &[number]);
        let auth = people.auth("crl.pem").unwrap();
        assert!(auth.takes(&ada, NOW) && !auth.takes(&mallory, NOW));
        assert_eq!(auth.lists().unwrap().1, Timestamp::from_seconds(1_798_761_600));
    }

    #[test]
    fn a_list_past_its_time_and_one_of_another_authority_refuse_everybody() {
        let mut people = People::new();
        let (_, ada) = people.somebody();
        people.list(2024, &[]);
        assert!(!people.auth("crl.pem").unwrap().takes(&ada, NOW));
        let others = People::new();
        others.list(2026, &[]);
        std::fs::copy(others.path("crl.pem"), people.path("crl.pem")).unwrap();
        assert!(!people.auth("crl.pem").unwrap().takes(&ada, NOW));
        people.list(2026, &[]);
        assert!(people.auth("crl.pem").unwrap().takes(&ada, NOW));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_told_by_its_setting() {
        let people = People::new();
        for (text, told) in
            [("", "none in it"), ("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "version 2")]
        {
            people.write("crl.pem", text);
            let error = people.auth("crl.pem").unwrap_err();
            assert!(error.contains("edge.sites.client_crl_file") && error.contains(told), "{error}");
        }
        assert!(people.auth("nowhere.pem").unwrap_err().contains("there is no such file"));
        let alone = SiteConfig { client_crl_file: people.path("crl.pem"), ..SiteConfig::default() };
        assert!(ClientAuth::of(&alone).unwrap_err().to_string().contains("client_ca_file"));
    }
}
