//! The settings of certificates from an authority, and their check.

pub use super::dns::config::DnsConfig;
use super::on_demand::OnDemandConfig;
use crate::edge::error::ConfigError;
use crate::edge::host::is_name;
use crate::settings;

/// Let's Encrypt (<https://letsencrypt.org/docs/acme-protocol-updates/>).
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Most names with certificates of their own.
pub const MAX_NAMES: usize = 1_000;
/// Most authorities to fall back to, and most certificate files.
pub const MAX_LISTED: usize = 100;

settings! {
    /// Certificates from an authority that speaks ACME (RFC 8555), such as Let's Encrypt.
    pub struct AcmeConfig {
        /// Get certificates, and agree to the terms of service of every authority below. Each name gets its own: the
        /// server's domain with `console.` and `s3.`, and every host of `edge.sites` that is exact, or that an entry of
        /// `dns` has. The authority must reach this server under that name, on port 80 or 443, unless it is proven in the DNS.
        pub agree_terms: bool = false,
        /// Where the authority may write to.
        pub email: String = String::new(),
        /// Further names to get certificates for; `*.example.com`, which is good for one label, needs an entry of `dns`.
        pub names: Vec<String> = Vec::new(),
        /// Names to leave out, such as those without an address in the DNS.
        pub skip: Vec<String> = Vec::new(),
        /// How to prove that a name is this server's: `http-01` (needs port 80), `tls-alpn-01` (needs port 443). After a
        /// failure the next one is tried. Names that an entry of `dns` has are proven by `dns-01` alone.
        pub challenges: Vec<String> = vec!["http-01".to_owned(), "tls-alpn-01".to_owned()],
        /// Names that are proven in the DNS, which takes no port.
        pub dns: Vec<DnsConfig> = Vec::new(),
        /// Authorities, in the order they are asked; a later one only when those before it fail.
        pub authorities: Vec<AuthorityConfig> = vec![AuthorityConfig::default()],
        /// Names that are not known beforehand.
        pub on_demand: OnDemandConfig = OnDemandConfig::default(),
    }
}

settings! {
    /// One authority.
    pub struct AuthorityConfig {
        /// Address of its directory.
        pub directory: String = LETS_ENCRYPT.to_owned(),
        /// The kind of certificate, for authorities that offer several (Let's Encrypt: `classic`, `tlsserver`,
        /// `shortlived`). Empty leaves it to the authority.
        pub profile: String = String::new(),
        /// Key id of the account there this server's account is bound to (external account binding).
        pub eab_key_id: String = String::new(),
        /// File that holds the key to `eab_key_id`, in base64url (its first line).
        pub eab_key_file: String = String::new(),
        /// File with certificates (PEM) to trust when calling it, for an authority in your own network.
        pub trust_file: String = String::new(),
    }
}

settings! {
    /// A certificate in files, made and renewed by another program. Both are read again when they change.
    pub struct CertificateConfig {
        /// The certificate and those between it and its authority (PEM).
        pub certificate: String = String::new(),
        /// Its private key (PEM).
        pub key: String = String::new(),
    }
}

/// How a name is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A file under `/.well-known/acme-challenge/` (RFC 8555 section 8.3).
    Http,
    /// A certificate with the answer in it (RFC 8737).
    TlsAlpn,
}

impl Proof {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "http-01" => Some(Self::Http),
            "tls-alpn-01" => Some(Self::TlsAlpn),
            _ => None,
        }
    }
}

impl AcmeConfig {
    /// The ways to prove a name that the listeners allow, in order.
    pub fn proofs(&self, http: bool, https: bool) -> Vec<Proof> {
        let open = |proof: &Proof| match proof {
            Proof::Http => http,
            Proof::TlsAlpn => https,
        };
        self.challenges.iter().filter_map(|text| Proof::parse(text)).filter(open).collect()
    }

    /// Whether `name` is proven in the DNS.
    pub fn in_dns(&self, name: &str) -> bool {
        self.dns.iter().any(|entry| entry.has(name).is_some())
    }

    /// Checks what can be checked without reading a file.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (key, names) in [("edge.acme.names", &self.names), ("edge.acme.skip", &self.skip)] {
            if names.len() > MAX_NAMES {
                return Err(wrong(key, &format!("{} names", names.len()), "at most 1000 names"));
            }
            if let Some(name) = names.iter().find(|name| !is_name(name.strip_prefix("*.").unwrap_or(name))) {
                return Err(wrong(key, name, "a host name such as www.example.com"));
            }
        }
        if let Some(name) = self.names.iter().find(|name| name.starts_with("*.") && !self.in_dns(name)) {
            return Err(wrong("edge.acme.names", name, "an entry of edge.acme.dns that has this domain"));
        }
        if self.dns.len() > MAX_LISTED {
            return Err(wrong("edge.acme.dns", "a longer list", "at most 100"));
        }
        self.dns.iter().try_for_each(DnsConfig::validate)?;
        self.on_demand.validate()?;
        if let Some(text) = self.challenges.iter().find(|text| Proof::parse(text).is_none()) {
            return Err(wrong("edge.acme.challenges", text, "http-01 or tls-alpn-01"));
        }
        let unproven = self.challenges.is_empty() && self.dns.is_empty();
        if self.agree_terms && (unproven || self.authorities.is_empty()) {
            let key = if unproven { "edge.acme.challenges" } else { "edge.acme.authorities" };
            return Err(wrong(key, "[]", "at least one"));
        }
        if self.authorities.len() > MAX_LISTED {
            return Err(wrong("edge.acme.authorities", "a longer list", "at most 100"));
        }
        if !self.email.is_empty() && (!self.email.contains('@') || self.email.contains([' ', ',', '?'])) {
            return Err(wrong("edge.acme.email", &self.email, "an e-mail address"));
        }
        self.authorities.iter().try_for_each(AuthorityConfig::validate)
    }
}

impl AuthorityConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let host = self.directory.strip_prefix("https://").unwrap_or_default();
        if host.is_empty() || self.directory.parse::<http::Uri>().is_err() {
            return Err(wrong(
                "edge.acme.authorities.directory",
                &self.directory,
                "an address that begins with https://",
            ));
        }
        if self.eab_key_id.is_empty() != self.eab_key_file.is_empty() {
            let (key, value) = ("edge.acme.authorities.eab_key_file", self.eab_key_file.as_str());
            return Err(wrong(key, value, "set together with eab_key_id"));
        }
        Ok(())
    }
}

impl CertificateConfig {
    /// Whether `other` names the same files.
    pub fn same(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key == other.key
    }

    /// Checks that both files are named.
    ///
    /// # Errors
    /// The one that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (key, path) in [("edge.certificates.certificate", &self.certificate), ("edge.certificates.key", &self.key)]
        {
            if path.is_empty() {
                return Err(wrong(key, path, "the path of a PEM file"));
            }
        }
        Ok(())
    }
}

fn wrong(key: &'static str, value: &str, allowed: &str) -> ConfigError {
    ConfigError::Value { key, value: value.to_owned(), allowed: allowed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let config: AcmeConfig = toml::from_str(text).unwrap();
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn every_wrong_value_is_told_by_its_key() {
        AcmeConfig::default().validate().unwrap();
        for (text, key) in [
            ("names = [\"*.example.com\"]", "edge.acme.names"),
            ("skip = [\"a b\"]", "edge.acme.skip"),
            ("challenges = [\"http\"]", "edge.acme.challenges"),
            ("agree_terms = true\nchallenges = []", "edge.acme.challenges"),
            ("agree_terms = true\nauthorities = []", "edge.acme.authorities"),
            ("email = \"me\"", "edge.acme.email"),
            ("[[authorities]]\ndirectory = \"http://ca.example\"", "edge.acme.authorities.directory"),
            ("[[authorities]]\neab_key_id = \"k\"", "edge.acme.authorities.eab_key_file"),
        ] {
            assert!(told(text).contains(key), "{text}");
        }
    }

    #[test]
    fn a_closed_listener_cannot_prove_anything() {
        let config = AcmeConfig::default();
        assert_eq!(config.proofs(true, true), [Proof::Http, Proof::TlsAlpn]);
        assert_eq!(config.proofs(false, true), [Proof::TlsAlpn]);
    }
}
