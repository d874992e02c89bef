//! The settings of names that are proven in the DNS, and their check.

use super::tsig::Algorithm;
use crate::base::Span;
use crate::edge::error::ConfigError;
use crate::edge::host::is_name;
use crate::settings;

/// Most entries, and most domains or servers of one.
const MOST: usize = 100;
/// Longest wait for a record to be seen.
const LONGEST_WAIT: Span = Span::mins(15);
/// Most words of a command.
const MOST_WORDS: usize = 32;

settings! {
    /// Names that are proven by a record in the DNS (`dns-01`), which is the only way to a certificate for `*.example.com`,
    /// and the one for servers that the authority cannot reach.
    pub struct DnsConfig {
        /// Domains this is for: each with everything below it. Of several entries the one with the longest domain counts.
        pub domains: Vec<String> = Vec::new(),
        /// Who writes the record `_acme-challenge.<name>`: `rfc2136` (a name server that takes signed updates, such as
        /// BIND and Knot), `acme-dns` (<https://github.com/joohoi/acme-dns>), or `exec` (a program of yours).
        pub provider: String = String::new(),
        /// For `rfc2136`: the name server to update, `host` or `host:port`. For `acme-dns`: its address, such as
        /// `https://auth.example.com`.
        pub server: String = String::new(),
        /// For `rfc2136`: the zone to update. Empty asks the name server for it.
        pub zone: String = String::new(),
        /// For `rfc2136`: the name of the key that updates are signed with (TSIG).
        pub key_name: String = String::new(),
        /// For `rfc2136`: its algorithm, `hmac-sha256` or `hmac-sha512`.
        pub key_algorithm: String = String::from("hmac-sha256"),
        /// For `rfc2136`: file that holds the key in base64 (its first line).
        pub key_file: String = String::new(),
        /// For `acme-dns`: file with what its `/register` answered, in JSON.
        pub account_file: String = String::new(),
        /// For `exec`: the program, by its whole path, and what it is told first. `present` or `cleanup`, the record's name
        /// and its text follow. It is started without a shell and with nothing in its environment but `PATH`, has a minute,
        /// and succeeds with status 0.
        pub command: Vec<String> = Vec::new(),
        /// How long to wait at most until all name servers of the zone show the record, before the authority is told to
        /// look. 0s does not wait.
        pub wait: Span = Span::mins(2),
        /// Name servers to look for the record at, `host` or `host:port`, instead of those the DNS names for the zone.
        pub nameservers: Vec<String> = Vec::new(),
    }
}

/// Who writes the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name server that takes updates (RFC 2136).
    Update,
    /// acme-dns.
    AcmeDns,
    /// A program.
    Exec,
}

impl DnsConfig {
    /// Who writes the record; `None` when the setting names nobody known.
    pub fn kind(&self) -> Option<Kind> {
        match self.provider.as_str() {
            "rfc2136" => Some(Kind::Update),
            "acme-dns" => Some(Kind::AcmeDns),
            "exec" => Some(Kind::Exec),
            _ => None,
        }
    }

    /// The length of the longest domain of this entry that has `name`; `None` when none has.
    pub fn has(&self, name: &str) -> Option<usize> {
        let name = name.strip_prefix("*.").unwrap_or(name);
        let within = |domain: &&String| {
            let rest = name.len().checked_sub(domain.len());
            let end = rest.and_then(|rest| name.get(rest..)).is_some_and(|end| end.eq_ignore_ascii_case(domain));
            end && (rest == Some(0) || rest.and_then(|rest| name.get(..rest)).is_some_and(|head| head.ends_with('.')))
        };
        self.domains.iter().filter(within).map(String::len).max()
    }

    /// Checks what can be checked without reading a file.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.domains.is_empty() || self.domains.len() > MOST {
            return Err(wrong("edge.acme.dns.domains", &format!("{} domains", self.domains.len()), "1 to 100 domains"));
        }
        if let Some(domain) = self.domains.iter().find(|domain| !is_name(domain)) {
            return Err(wrong("edge.acme.dns.domains", domain, "a domain name such as example.com, without *."));
        }
        let Some(kind) = self.kind() else {
            return Err(wrong("edge.acme.dns.provider", &self.provider, "rfc2136, acme-dns or exec"));
        };
        match kind {
            Kind::Update => self.validate_update()?,
            Kind::AcmeDns => {
                let http = self.server.starts_with("https://") || self.server.starts_with("http://");
                if !http || self.server.parse::<http::Uri>().is_err() {
                    return Err(wrong("edge.acme.dns.server", &self.server, "an address that begins with https://"));
                }
                if self.account_file.is_empty() {
                    return Err(wrong("edge.acme.dns.account_file", "", "the path of a file"));
                }
            }
            Kind::Exec => {
                let program = self.command.first().map(String::as_str).unwrap_or_default();
                if !program.starts_with('/') || self.command.len() > MOST_WORDS {
                    return Err(wrong(
                        "edge.acme.dns.command",
                        program,
                        "the whole path of a program, at most 32 words",
                    ));
                }
            }
        }
        if self.wait > LONGEST_WAIT {
            return Err(wrong("edge.acme.dns.wait", &self.wait.to_string(), "0s to 15m"));
        }
        if self.nameservers.len() > MOST {
            return Err(wrong("edge.acme.dns.nameservers", "a longer list", "at most 100"));
        }
        match self.nameservers.iter().find(|server| place(server).is_none()) {
            Some(server) => Err(wrong("edge.acme.dns.nameservers", server, "host or host:port")),
            None => Ok(()),
        }
    }

    fn validate_update(&self) -> Result<(), ConfigError> {
        if place(&self.server).is_none() {
            return Err(wrong("edge.acme.dns.server", &self.server, "host or host:port"));
        }
        if !self.zone.is_empty() && !is_name(&self.zone) {
            return Err(wrong("edge.acme.dns.zone", &self.zone, "a domain name such as example.com"));
        }
        if !is_name(self.key_name.trim_end_matches('.')) {
            return Err(wrong("edge.acme.dns.key_name", &self.key_name, "the name of a key"));
        }
        if Algorithm::parse(&self.key_algorithm).is_none() {
            return Err(wrong("edge.acme.dns.key_algorithm", &self.key_algorithm, "hmac-sha256 or hmac-sha512"));
        }
        if self.key_file.is_empty() {
            return Err(wrong("edge.acme.dns.key_file", "", "the path of a file"));
        }
        Ok(())
    }
}

/// Host and port (53 unless named) of a name server; `None` when `text` is no such thing.
pub fn place(text: &str) -> Option<(String, u16)> {
    let authority: http::uri::Authority = text.parse().ok()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16();
    let whole = text.ends_with(authority.host()) || port.is_some_and(|port| port != 0);
    (whole && !host.is_empty() && !text.contains('@')).then(|| (host.to_owned(), port.unwrap_or(53)))
}

fn wrong(key: &'static str, value: &str, allowed: &str) -> ConfigError {
    ConfigError::Value { key, value: value.to_owned(), allowed: allowed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_value_is_told_by_its_key() {
        let update = "domains = [\"example.com\"]\nprovider = \"rfc2136\"\nserver = \"ns.example.com\"\n\
                      key_name = \"acme.\"\nkey_file = \"/k\"\n";
        let read = |text: &str| toml::from_str::<DnsConfig>(text).unwrap().validate();
        read(update).unwrap();
        read("domains = [\"a.b\"]\nprovider = \"exec\"\ncommand = [\"/bin/true\"]").unwrap();
        read("domains = [\"a.b\"]\nprovider = \"acme-dns\"\nserver = \"https://x\"\naccount_file = \"/a\"").unwrap();
        for (text, key) in [
            ("provider = \"exec\"", "domains"),
            ("domains = [\"*.a.b\"]\nprovider = \"exec\"", "domains"),
            ("domains = [\"a.b\"]\nprovider = \"route53\"", "provider"),
            ("domains = [\"a.b\"]\nprovider = \"exec\"\ncommand = [\"hook\"]", "command"),
            ("domains = [\"a.b\"]\nprovider = \"acme-dns\"\nserver = \"x\"", "server"),
            ("domains = [\"a.b\"]\nprovider = \"acme-dns\"\nserver = \"https://x\"", "account_file"),
            (&update.replace("ns.example.com", "ns:x"), "server"),
            (&update.replace("acme.", ""), "key_name"),
            (&update.replace("/k", ""), "key_file"),
            (&format!("{update}key_algorithm = \"hmac-md5\""), "key_algorithm"),
            (&format!("{update}zone = \"a b\""), "zone"),
            (&format!("{update}wait = \"1h\""), "wait"),
            (&format!("{update}nameservers = [\"\"]"), "nameservers"),
        ] {
            let told = read(text).unwrap_err().to_string();
            assert!(told.contains(&format!("edge.acme.dns.{key}")), "{text}: {told}");
        }
    }

    #[test]
    fn an_entry_has_its_domains_and_what_is_below_them() {
        let config: DnsConfig = toml::from_str("domains = [\"Example.com\", \"a.example.com\"]").unwrap();
        for (name, has) in [
            ("example.com", Some(11)),
            ("*.example.com", Some(11)),
            ("b.example.com", Some(11)),
            ("x.a.example.com", Some(13)),
            ("notexample.com", None),
            ("com", None),
        ] {
            assert_eq!(config.has(name), has, "{name}");
        }
    }

    #[test]
    fn a_name_servers_port_may_be_left_out() {
        assert_eq!(place("ns.example"), Some(("ns.example".to_owned(), 53)));
        assert_eq!(place("127.0.0.1:5353"), Some(("127.0.0.1".to_owned(), 5353)));
        assert_eq!(place("[::1]:54"), Some(("::1".to_owned(), 54)));
        assert_eq!(place("[::1]"), Some(("::1".to_owned(), 53)));
        for text in ["", "a b", "ns:x", "ns:70000", "u@ns", "ns:0"] {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
