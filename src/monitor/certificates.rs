//! How the certificates stand, as everybody sees it who shows them. Whoever keeps them tells; nothing is kept here.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// From files.
    File,
    /// From an authority.
    Authority,
    /// From the server's internal authority, when a client asks for the name.
    Internal,
    /// The server's own; browsers warn.
    SelfSigned,
}

impl Origin {
    /// Its name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::File => "from files",
            Self::Authority => "from an authority",
            Self::Internal => "from the internal authority",
            Self::SelfSigned => "self-signed",
        }
    }
}

/// How one name stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateView {
    /// The name, or the path of the files.
    pub name: String,
    /// What is in use now.
    pub origin: Origin,
    /// The authority's directory, when it came from one.
    pub authority: Option<String>,
    /// Last moment it is good for, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
    /// When the next one is ordered.
    pub renew_at_ms: Option<u64>,
    /// Whether an order is under way.
    pub ordering: bool,
    /// When the last attempt began.
    pub last_attempt_ms: Option<u64>,
    /// Failed attempts since the last success.
    pub failures: u32,
    /// Whether one is ordered for this name.
    pub can_renew: bool,
    /// When the next attempt may begin.
    pub next_attempt_ms: Option<u64>,
    /// Why the last attempt failed, in the authority's words.
    pub error: Option<String>,
}

/// The root of the internal authority, without its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootView {
    /// What it calls itself.
    pub subject: String,
    /// SHA-256 of the certificate, as devices show it.
    pub sha256: String,
    /// The names it is for.
    pub names: Vec<String>,
    /// First moment it is good for, in milliseconds since 1970.
    pub not_before_ms: u64,
    /// Last moment it is good for.
    pub not_after_ms: u64,
    /// The certificate.
    pub pem: String,
}

struct Keeper {
    root: Box<dyn Fn() -> Option<RootView> + Send + Sync>,
    tell: Box<dyn Fn() -> Vec<CertificateView> + Send + Sync>,
    renew: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// The certificates. Clones are the same.
#[derive(Clone, Default)]
pub struct Certificates(Arc<OnceLock<Keeper>>);

impl Certificates {
    /// From now on `tell` says how they stand, and `renew` orders one, if it is for a name that one is ordered for;
    /// `root` is the internal authority's. The first to be named stay.
    pub fn kept_by(
        &self,
        tell: impl Fn() -> Vec<CertificateView> + Send + Sync + 'static,
        renew: impl Fn(&str) -> bool + Send + Sync + 'static,
        root: impl Fn() -> Option<RootView> + Send + Sync + 'static,
    ) {
        let _first_stays = self.0.set(Keeper { root: Box::new(root), tell: Box::new(tell), renew: Box::new(renew) });
    }

    /// Orders a certificate for `name` now; whether that is a name one is ordered for.
    pub fn renew(&self, name: &str) -> bool {
        self.0.get().is_some_and(|keeper| (keeper.renew)(name))
    }

    /// The root of the internal authority, when there is one.
    pub fn root(&self) -> Option<RootView> {
        self.0.get().and_then(|keeper| (keeper.root)())
    }

    /// How each stands; none while nobody keeps any.
    pub fn all(&self) -> Vec<CertificateView> {
        self.0.get().map(|keeper| (keeper.tell)()).unwrap_or_default()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}
