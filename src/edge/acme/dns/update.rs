//! Records written by updates that are signed (RFC 2136, RFC 8945).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::config::{DnsConfig, place};
use super::exchange;
use super::tsig::{Algorithm, Key};
use super::wire::{self, Change, SOA};
use crate::base::{Clock, Random, Secret};
use crate::edge::acme::failure::Failure;

/// A name server that takes updates.
#[derive(Debug)]
pub struct Updates {
    server: (String, u16),
    zone: Option<String>,
    key: Key,
}

impl Updates {
    /// The server of `config`; `file` holds the key.
    ///
    /// # Errors
    /// What is wrong with the key, without showing it.
    pub fn open(config: &DnsConfig, file: &[u8]) -> Result<Self, String> {
        let line = file.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
        let secret = BASE64_STANDARD.decode(line);
        let secret = secret.map_err(|_secret| format!("{}: its first line is no base64", config.key_file))?;
        if secret.is_empty() {
            return Err(format!("{}: its first line is empty", config.key_file));
        }
        let algorithm = Algorithm::parse(&config.key_algorithm).ok_or("key_algorithm is not known")?;
        let key = Key::new(&config.key_name, algorithm, Secret::new(secret)).ok_or("key_name is no name")?;
        let zone = (!config.zone.is_empty()).then(|| config.zone.to_ascii_lowercase());
        Ok(Self { server: place(&config.server).ok_or("server is no name server")?, zone, key })
    }

    /// Adds the text `value` to `name`, or takes it away.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or its answer is not signed with the key.
    pub async fn change(
        &self,
        name: &str,
        value: &str,
        change: Change,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<(), Failure> {
        let servers = exchange::addresses(&self.server.0, self.server.1).await?;
        let zone = match &self.zone {
            Some(zone) => zone.clone(),
            None => self.zone_of(&servers, name, random).await?,
        };
        let (Some(zone_wire), Some(name_wire)) = (wire::name(&zone), wire::name(name)) else {
            return Err(Failure::told(format!("{name} is no DNS name")));
        };
        let id = exchange::id(random);
        let message = wire::update(id, &zone_wire, &name_wire, value.as_bytes(), change);
        let signed = self.key.sign(message, clock.now());
        let (bytes, answer) = exchange::over_tcp(&servers, &signed.message).await?;
        let at = format!("{}:{}", self.server.0, self.server.1);
        if let Err(untrue) = self.key.check(&signed, &bytes, &answer, clock.now()) {
            let code = if answer.rcode == 0 { String::new() } else { format!(" ({})", code(answer.rcode)) };
            return Err(Failure::told(format!("{at}: {untrue}{code}")));
        }
        if answer.id != id {
            return Err(Failure::told(format!("{at} answered something else")));
        }
        match answer.rcode {
            0 => Ok(()),
            other => Err(Failure::told(format!("{at} refuses to update {zone}: {}", code(other)))),
        }
    }

    /// The zone `name` is in, as the server sees it.
    async fn zone_of(
        &self,
        servers: &[std::net::SocketAddr],
        name: &str,
        random: &dyn Random,
    ) -> Result<String, Failure> {
        let wire = wire::name(name).ok_or_else(|| Failure::told(format!("{name} is no DNS name")))?;
        let question = wire::question(exchange::id(random), &wire, SOA, false);
        let (_, answer) = exchange::over_tcp(servers, &question).await?;
        // Found, it stands in the answer; otherwise with the reason why there is none (RFC 2308 section 3).
        let told = answer.zone().filter(|zone| name == *zone || name.ends_with(&format!(".{zone}")));
        told.map(str::to_owned).ok_or_else(|| {
            Failure::told(format!("{} has no zone for {name} ({}): set zone", self.server.0, code(answer.rcode)))
        })
    }
}

/// A code's name (RFC 1035 section 4.1.1, RFC 2136 section 2.2).
fn code(rcode: u8) -> String {
    let name = match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        other => return format!("code {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_the_first_line_and_never_told() {
        let config = DnsConfig {
            server: "127.0.0.1".to_owned(),
            key_name: "acme.".to_owned(),
            key_file: "/k".to_owned(),
            ..DnsConfig::default()
        };
        let updates = Updates::open(&config, b"c2VjcmV0\nmore").unwrap();
        assert!(!format!("{updates:?}").contains("c2VjcmV0"));
        for wrong in [b"".as_slice(), b"se?cret", b"\nc2VjcmV0"] {
            let told = Updates::open(&config, wrong).unwrap_err();
            assert!(told.starts_with("/k: ") && !told.contains("cret"), "{told}");
        }
    }
}
