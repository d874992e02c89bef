//! The certificate made at the first start, so that HTTPS works before any authority was asked.
//!
//! Kept sealed in the store (table `edge.certificates`, key `self-signed`, record [`SelfSigned`]). Its public part is
//! also written to `edge/self-signed.pem` in the data folder, for clients to trust: `curl --cacert <that file>`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::error::EdgeError;
use crate::base::{Disk, Span, Timestamp, disk};
use crate::store::record::{self, Record};
use crate::store::{Store, StoreError, Table, WriteTx};

const CERTIFICATES: Table = Table::new("edge.certificates");
const SELF_SIGNED: &[u8] = b"self-signed";

/// How long a certificate is good for from now on. With [`BACKDATED`] it must stay below 398 days, which is the most
/// that browsers and macOS accept.
const LIFETIME: Span = Span::days(396);
/// A certificate with less time left is made anew.
const RENEW_BEFORE: Span = Span::days(30);
/// Clients' clocks may be behind.
const BACKDATED: Span = Span::days(1);

/// The self-signed certificate with its private key. Version 1.
#[derive(Clone, Serialize, Deserialize)]
pub struct SelfSigned {
    domain: String,
    certificate: Vec<u8>,
    /// PKCS #8.
    key: Vec<u8>,
    expires_ms: u64,
}

impl Record for SelfSigned {
    const VERSION: u8 = 1;
}

impl Drop for SelfSigned {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfSigned").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl SelfSigned {
    /// A new P-256 key and a certificate for it, good from the day before `now` on. The key comes from aws-lc's own
    /// generator (the kernel's), which takes no argument.
    ///
    /// # Errors
    /// The domain cannot stand in a certificate, or the generator failed.
    pub fn make(domain: &str, now: Timestamp) -> Result<Self, EdgeError> {
        let failed = |error: rcgen::Error| EdgeError::Certificate(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(names(domain)).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, domain);
        params.distinguished_name.push(DnType::OrganizationName, "Mainstay self-signed");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let expires = now.after(LIFETIME.duration());
        let (year, month, day) = date(Timestamp(now.millis().saturating_sub(BACKDATED.duration().as_millis() as u64)));
        params.not_before = date_time_ymd(year, month, day);
        let (year, month, day) = date(expires);
        params.not_after = date_time_ymd(year, month, day);
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self {
            domain: domain.to_owned(),
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            expires_ms: expires.millis(),
        })
    }

    /// What rustls signs with.
    ///
    /// # Errors
    /// The stored key is none.
    pub fn key(&self) -> Result<Arc<CertifiedKey>, EdgeError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.as_slice()));
        let signing = any_supported_type(&key).map_err(|error| EdgeError::Certificate(error.to_string()))?;
        Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(self.certificate.clone())], signing)))
    }

    /// Last moment it is good for, in milliseconds since 1970.
    pub const fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    fn is_good(&self, domain: &str, now: Timestamp) -> bool {
        self.domain == domain && now.after(RENEW_BEFORE.duration()).millis() < self.expires_ms
    }

    /// The certificate without its key.
    fn pem(&self) -> String {
        pem(&self.certificate)
    }
}

/// A certificate as text (RFC 7468).
pub fn pem(certificate: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, letter) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            out.push('\n');
        }
        out.push(letter);
    }
    out.push_str("\n-----END CERTIFICATE-----\n");
    out
}

/// Where the public part lies in the data folder.
pub fn exported_path(data_dir: &Path) -> PathBuf {
    data_dir.join("edge").join("self-signed.pem")
}

/// The stored certificate for `domain`, or a new one when there is none, it names another domain, or less than 30 days
/// are left. A new one is durable before it is returned or exported.
///
/// # Errors
/// [`EdgeError::Store`], [`EdgeError::Certificate`], [`EdgeError::System`] when it cannot be exported.
///
/// # Cancel safety
/// Dropped before its end, a new certificate may have been stored; the next call finds it.
pub async fn ensure(
    store: &Store,
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    domain: &str,
    now: Timestamp,
) -> Result<SelfSigned, EdgeError> {
    let stored = store.read(|tx| tx.get(CERTIFICATES, SELF_SIGNED)).await.map_err(EdgeError::Store)?;
    let known = match stored.as_deref().map(record::decode::<SelfSigned>).transpose() {
        Ok(known) => known.filter(|known| known.is_good(domain, now)),
        Err(error) => return Err(EdgeError::Certificate(error.to_string())),
    };
    let certificate = if let Some(known) = known {
        known
    } else {
        let made = SelfSigned::make(domain, now)?;
        let bytes = record::encode(&made);
        let put = move |tx: &mut dyn WriteTx| tx.put(CERTIFICATES, SELF_SIGNED, &bytes);
        store.write::<(), StoreError>(put).await?;
        tracing::info!(domain, "made a self-signed certificate");
        made
    };
    let (disk, path, pem) = (Arc::clone(disk), exported_path(data_dir), certificate.pem());
    let exported = tokio::task::spawn_blocking(move || export(disk.as_ref(), &path, pem.as_bytes())).await;
    exported
        .map_err(std::io::Error::other)
        .flatten()
        .map_err(|source| EdgeError::System { what: "cannot write edge/self-signed.pem in the data folder", source })?;
    Ok(certificate)
}

/// Writes `pem` to `path`, unless it is there. Blocks.
///
/// # Errors
/// The disk's.
pub fn export(disk: &dyn Disk, path: &Path, pem: &[u8]) -> std::io::Result<()> {
    if disk::read_file(disk, path, 1 << 20).ok().flatten().as_deref() == Some(pem) {
        return Ok(());
    }
    disk.create_dir(disk::parent(path))?;
    disk::replace_file(disk, path, pem)
}

fn names(domain: &str) -> Vec<String> {
    let mut names = vec![domain.to_owned()];
    for prefix in ["*", "s3", "*.s3", "console"] {
        names.push(format!("{prefix}.{domain}"));
    }
    for local in ["localhost", "127.0.0.1", "::1"] {
        if local != domain {
            names.push(local.to_owned());
        }
    }
    names
}

/// Year, month and day (UTC) of `at`.
pub fn date(at: Timestamp) -> (i32, u8, u8) {
    let day = at.to_jiff().to_zoned(jiff::tz::TimeZone::UTC).date();
    (i32::from(day.year()), day.month().unsigned_abs(), day.day().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LocalDisk;
    use crate::testing::memory_store;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    async fn ensured(store: &Store, folder: &Path, domain: &str, now: Timestamp) -> SelfSigned {
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk);
        ensure(store, &disk, folder, domain, now).await.unwrap()
    }

    #[tokio::test]
    async fn a_certificate_is_kept_until_it_is_near_its_end_or_the_domain_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store = memory_store();
        let first = ensured(&store, folder.path(), "example.com", NOW).await;
        let later = NOW.after(Span::days(300).duration());
        assert_eq!(ensured(&store, folder.path(), "example.com", later).await.certificate, first.certificate);
        let late = NOW.after(Span::days(370).duration());
        let renewed = ensured(&store, folder.path(), "example.com", late).await;
        assert_ne!(renewed.certificate, first.certificate);
        let other = ensured(&store, folder.path(), "example.org", late).await;
        assert_ne!(other.certificate, renewed.certificate);
        let exported = std::fs::read_to_string(exported_path(folder.path())).unwrap();
        assert_eq!(exported, other.pem());
    }

    #[test]
    fn the_key_fits_the_certificate() {
        let key = SelfSigned::make("example.com", NOW).unwrap().key().unwrap();
        key.keys_match().unwrap();
    }

    #[test]
    fn neither_debug_nor_the_exported_file_shows_the_key() {
        let made = SelfSigned::make("localhost", NOW).unwrap();
        assert_eq!(format!("{made:?}"), "SelfSigned { domain: \"localhost\", .. }");
        assert!(!made.pem().contains("PRIVATE"));
    }
}
