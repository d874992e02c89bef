//! The internal authority: certificates for names that no public authority can know, such as `nas.home.arpa`.
//!
//! Its root is made once and kept sealed in the store (table `edge.internal_ca`, key `root`, record [`RootRow`]); its public
//! part is also written to `edge/internal-ca.pem` in the data folder, and answered under [`PATH`] on plain HTTP. It may sign
//! for names of private use alone, which its certificate says (RFC 5280 section 4.2.1.10): who trusts it trusts it with no
//! public name, whoever gets hold of the key.
//!
//! Certificates are made when a client first asks for a name in its handshake, last a week, and are kept in memory alone:
//! the next start makes others from the same root. They are made one at a time, on a thread that may block, while the
//! handshake waits ([`Internal::prepare`]): clients that ask for ever other names hold up each other and nobody else.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;
use zeroize::Zeroize as _;

use crate::base::{Clock, Disk, Span, Timestamp};
use crate::edge::certificate::{date, export, pem};
use crate::edge::error::{ConfigError, EdgeError};
use crate::edge::host::is_name;
use crate::monitor::certificates::RootView;
use crate::settings;
use crate::store::record::{self, Record};
use crate::store::{Store, StoreError, Table, WriteTx};

const TABLE: Table = Table::new("edge.internal_ca");
const ROOT: &[u8] = b"root";

/// Where the root is answered on plain HTTP, whatever the host: a device that does not trust it yet can fetch it no other
/// way.
pub const PATH: &str = "/.well-known/mainstay/ca.crt";

/// Names that belong to nobody in the public DNS: RFC 8375 (`home.arpa`), ICANN's `internal`, RFC 6762 section 3 and
/// appendix G, RFC 6761 (`test`, `localhost`), and ICANN's `home` and `corp`, which will never be delegated.
pub const PRIVATE: [&str; 11] = [
    "home.arpa",
    "internal",
    "local",
    "lan",
    "home",
    "corp",
    "intranet",
    "private",
    "localdomain",
    "localhost",
    "test",
];

/// How long the root is good for.
const ROOT_LIFETIME: Span = Span::days(3_652);
/// A root with less time left is made anew.
const ROOT_LEAST: Span = Span::days(30);
/// How long a certificate is good for, and when it is made anew.
const LIFETIME: Span = Span::days(8);
const RENEWED_AFTER: Span = Span::days(4);
/// Clients' clocks may be behind.
const BACKDATED: Span = Span::days(1);
/// Most certificates kept. Past it the one that was made first goes, and is made again when it is asked for.
const MOST: usize = 1_000;
/// Most names in the settings.
const MOST_NAMES: usize = 1_000;

settings! {
    /// Certificates from an authority of this server's own, for names that no public authority can know.
    pub struct InternalCaConfig {
        /// Names that get one: `nas.home.arpa`, or `*.home.arpa` for everything below it. They must end in a name of private
        /// use: `home.arpa`, `internal`, `local`, `lan`, `home`, `corp`, `intranet`, `private`, `localdomain`, `localhost`
        /// or `test`. Devices trust them once they have the root certificate (`mainstay ca`).
        pub names: Vec<String> = Vec::new(),
    }
}

impl InternalCaConfig {
    /// Whether `name`, in lower case, is one of its names.
    pub fn has(&self, name: &str) -> bool {
        has(&self.names, name)
    }

    /// Checks the names.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |value: &str, allowed: &str| {
            Err(ConfigError::Value {
                key: "edge.internal_ca.names",
                value: value.to_owned(),
                allowed: allowed.to_owned(),
            })
        };
        if self.names.len() > MOST_NAMES {
            return wrong(&format!("{} names", self.names.len()), "at most 1000 names");
        }
        let private = |name: &str| {
            let name = name.to_ascii_lowercase();
            PRIVATE.iter().any(|end| name == *end || name.ends_with(&format!(".{end}")))
        };
        let bad = |name: &&String| {
            let bare = name.strip_prefix("*.").unwrap_or(name);
            !is_name(bare) || !private(bare)
        };
        match self.names.iter().find(bad) {
            Some(name) => wrong(name, "a name of private use, such as nas.home.arpa, *.home.arpa or app.internal"),
            None => Ok(()),
        }
    }
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|known| match known.strip_prefix('*') {
        Some(end) => {
            name.len() > end.len()
                && name.get(name.len() - end.len()..).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
        }
        None => known.eq_ignore_ascii_case(name),
    })
}

/// The root with its private key. Version 1.
#[derive(Clone, Serialize, Deserialize)]
struct RootRow {
    /// What it calls itself.
    subject: String,
    certificate: Vec<u8>,
    /// PKCS #8.
    key: Vec<u8>,
    not_before_ms: u64,
    not_after_ms: u64,
}

impl Record for RootRow {
    const VERSION: u8 = 1;
}

impl Drop for RootRow {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The authority, at work.
pub struct Internal {
    row: RootRow,
    names: Vec<String>,
    clock: Arc<dyn Clock>,
    made: Mutex<HashMap<String, Leaf>>,
    /// Held while a certificate is made.
    making: Arc<AsyncMutex<()>>,
}

#[derive(Clone)]
struct Leaf {
    key: Arc<CertifiedKey>,
    renew_at_ms: u64,
}

impl RootRow {
    /// A new P-256 key and a certificate for it.
    fn make(domain: &str, now: Timestamp) -> Result<Self, EdgeError> {
        let key = KeyPair::generate().map_err(failed)?;
        let not_before = Timestamp(now.millis().saturating_sub(BACKDATED.duration().as_millis() as u64));
        let not_after = now.after(ROOT_LIFETIME.duration());
        let mut row = Self {
            subject: format!("Mainstay internal authority of {domain}"),
            certificate: Vec::new(),
            key: key.serialize_der(),
            not_before_ms: not_before.millis(),
            not_after_ms: not_after.millis(),
        };
        row.certificate = row.params()?.self_signed(&key).map_err(failed)?.der().to_vec();
        Ok(row)
    }

    /// What its certificate says; the same each time, so that others can be signed without reading it back.
    fn params(&self) -> Result<CertificateParams, EdgeError> {
        let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.subject.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: PRIVATE.iter().map(|end| GeneralSubtree::DnsName((*end).to_owned())).collect(),
            // Addresses are free unless they are excluded; names of the other kinds are no use to a server.
            excluded_subtrees: vec![
                GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)),
                GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)),
            ],
        });
        let (year, month, day) = date(Timestamp(self.not_before_ms));
        params.not_before = date_time_ymd(year, month, day);
        let (year, month, day) = date(Timestamp(self.not_after_ms));
        params.not_after = date_time_ymd(year, month, day);
        Ok(params)
    }
}

impl Internal {
    /// The authority of the store for `names`; makes it when there is none, or when less than 30 days of it are left. `None`
    /// without names. Durable before it is returned or exported.
    ///
    /// # Errors
    /// [`EdgeError::Store`], [`EdgeError::InternalCa`].
    ///
    /// # Cancel safety
    /// Dropped before its end, a root may have been stored; the next call finds it.
    pub async fn open(
        config: &InternalCaConfig,
        domain: &str,
        store: &Store,
        disk: &Arc<dyn Disk>,
        data_dir: &Path,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Arc<Self>>, EdgeError> {
        if config.names.is_empty() {
            return Ok(None);
        }
        let now = clock.now();
        let stored = store.read(|tx| tx.get(TABLE, ROOT)).await.map_err(EdgeError::Store)?;
        // One that cannot be read stays: devices trust it, and it may be read by a later release.
        let known = stored.as_deref().map(record::decode::<RootRow>).transpose();
        let known = known.map_err(|error| EdgeError::InternalCa(error.to_string()))?;
        let known = known.filter(|row| now.after(ROOT_LEAST.duration()).millis() < row.not_after_ms);
        let row = if let Some(row) = known {
            row
        } else {
            let made = RootRow::make(domain, now)?;
            let bytes = record::encode(&made);
            store.write::<(), StoreError>(move |tx: &mut dyn WriteTx| tx.put(TABLE, ROOT, &bytes)).await?;
            tracing::info!(expires = %Timestamp(made.not_after_ms), "made the root of the internal authority");
            made
        };
        let (disk, path, text) = (Arc::clone(disk), exported_path(data_dir), pem(&row.certificate));
        let exported = tokio::task::spawn_blocking(move || export(disk.as_ref(), &path, text.as_bytes())).await;
        exported.map_err(std::io::Error::other).flatten().map_err(|source| EdgeError::System {
            what: "cannot write edge/internal-ca.pem in the data folder",
            source,
        })?;
        let names = config.names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Ok(Some(Arc::new(Self {
            row,
            names,
            clock: Arc::clone(clock),
            made: Mutex::default(),
            making: Arc::default(),
        })))
    }

    /// The certificate for `name`, in lower case, as it was made last; `None` when it is no name of this authority, or
    /// none was made yet. What is missing or old is made meanwhile, so that the next handshake finds it where one cannot
    /// wait for [`Self::prepare`] (QUIC).
    pub fn certificate(self: &Arc<Self>, name: &str) -> Option<Arc<CertifiedKey>> {
        if !has(&self.names, name) {
            return None;
        }
        let known = self.made().get(name).map(|leaf| Arc::clone(&leaf.key));
        if !self.is_fresh(name) {
            self.make_soon(name);
        }
        known
    }

    /// Has one made for `name` if nothing else is being made.
    fn make_soon(self: &Arc<Self>, name: &str) {
        let turn = Arc::clone(&self.making).try_lock_owned();
        let (Ok(turn), Ok(runtime)) = (turn, Handle::try_current()) else { return };
        let (internal, name) = (Arc::clone(self), name.to_owned());
        drop(runtime.spawn_blocking(move || {
            let _turn = turn;
            internal.make(&name);
        }));
    }

    /// Has [`Self::certificate`] know one for `name`, in lower case, that is good for some days yet. Does nothing for others'
    /// names. One that cannot be made is told in the log; the one before stays, half of whose time is left.
    ///
    /// # Cancel safety
    /// Dropped before its end, the certificate may be made none the less.
    pub async fn prepare(self: &Arc<Self>, name: &str) {
        if !has(&self.names, name) || self.is_fresh(name) {
            return;
        }
        let turn = Arc::clone(&self.making).lock_owned().await;
        // Others may have waited for the same name.
        if self.is_fresh(name) {
            return;
        }
        let (internal, name) = (Arc::clone(self), name.to_owned());
        let made = tokio::task::spawn_blocking(move || {
            // Goes with the work, not with whoever waits for it.
            let _turn = turn;
            internal.make(&name);
        });
        // It panicked, which was reported, or the server stops.
        let _ = made.await;
    }

    fn is_fresh(&self, name: &str) -> bool {
        let now = self.clock.now();
        self.made().get(name).is_some_and(|leaf| now.millis() < leaf.renew_at_ms)
    }

    fn make(&self, name: &str) {
        let now = self.clock.now();
        let key = match self.sign(name, now) {
            Ok(key) => key,
            Err(error) => return tracing::error!(name, %error, "no certificate"),
        };
        let mut made = self.made();
        if made.len() >= MOST && !made.contains_key(name) {
            let first = made.iter().min_by_key(|(_, leaf)| leaf.renew_at_ms).map(|(name, _)| name.clone());
            first.map(|first| made.remove(&first));
        }
        made.insert(name.to_owned(), Leaf { key, renew_at_ms: now.after(RENEWED_AFTER.duration()).millis() });
    }

    /// Whether it gives certificates for `name`, in lower case.
    pub fn is_for(&self, name: &str) -> bool {
        has(&self.names, name)
    }

    /// The names it is for, as the settings have them, and the last moment its root is good for.
    pub fn names(&self) -> (&[String], u64) {
        (&self.names, self.row.not_after_ms)
    }

    /// The root, without its key.
    pub fn root(&self) -> RootView {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.row.certificate);
        RootView {
            subject: self.row.subject.clone(),
            sha256: hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"),
            names: self.names.clone(),
            not_before_ms: self.row.not_before_ms,
            not_after_ms: self.row.not_after_ms,
            pem: pem(&self.row.certificate),
        }
    }

    fn sign(&self, name: &str, now: Timestamp) -> Result<Arc<CertifiedKey>, EdgeError> {
        let root = PrivatePkcs8KeyDer::from(self.row.key.as_slice());
        let issuer = Issuer::new(self.row.params()?, KeyPair::try_from(&root).map_err(failed)?);
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.get(..name.len().min(64)).unwrap_or_default());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let before = now.millis().saturating_sub(BACKDATED.duration().as_millis() as u64);
        let (year, month, day) = date(Timestamp(before.max(self.row.not_before_ms)));
        params.not_before = date_time_ymd(year, month, day);
        let after = now.after(LIFETIME.duration()).millis().min(self.row.not_after_ms);
        let (year, month, day) = date(Timestamp(after));
        params.not_after = date_time_ymd(year, month, day);
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = any_supported_type(&der).map_err(|error| EdgeError::InternalCa(error.to_string()))?;
        // The root goes along: clients need not have it to see who it is from.
        let chain = vec![certificate.der().clone(), CertificateDer::from(self.row.certificate.clone())];
        Ok(Arc::new(CertifiedKey::new(chain, signing)))
    }

    fn made(&self) -> MutexGuard<'_, HashMap<String, Leaf>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the public part of the root lies in the data folder.
pub fn exported_path(data_dir: &Path) -> PathBuf {
    data_dir.join("edge").join("internal-ca.pem")
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn failed(error: rcgen::Error) -> EdgeError {
    EdgeError::InternalCa(error.to_string())
}

impl fmt::Debug for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Internal")
            .field("subject", &self.row.subject)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "internal_tests.rs"]
mod tests;
