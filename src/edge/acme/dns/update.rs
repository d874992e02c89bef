//! Records written by updates that are signed (RFC 2136, RFC 8945).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use std::net::SocketAddr;

use super::aliases::Path;
use super::config::{DnsConfig, place};
use super::tsig::{Algorithm, Key};
use super::wire::{self, CNAME, Change, SOA};
use super::{Spot, exchange, seen};
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

    /// Where the record for `name` belongs: at the name its CNAMEs lead to, in the zone that one is in. CNAMEs are asked for
    /// at this server, which need not know them all, then at the first of `nameservers`, or else the machine's resolver.
    ///
    /// # Errors
    /// The server cannot be reached, it has no such zone, or the CNAMEs lead nowhere.
    pub async fn spot(&self, name: &str, nameservers: &[String], random: &dyn Random) -> Result<Spot, Failure> {
        let servers = exchange::addresses(&self.server.0, self.server.1).await?;
        let mut path = Path::new(name);
        loop {
            let next = match self.alias(&servers, path.end(), random).await? {
                Known::Alias(next) => next,
                Known::NoAlias => break,
                Known::Nothing => match seen::alias(path.end(), nameservers, random).await {
                    Some(next) => next,
                    None => break,
                },
            };
            path.add(&next).map_err(|astray| Failure::told(astray.to_string()))?;
        }
        let end = path.end().to_owned();
        let told = if end == name { String::new() } else { format!(", to which {name} is a CNAME") };
        let zone = match &self.zone {
            Some(zone) if is_in(&end, zone) => zone.clone(),
            Some(zone) => return Err(Failure::told(format!("{end}{told}, is not in the zone {zone}"))),
            None => self.zone_of(&servers, &end, random).await.map_err(|mut failure| {
                failure.text.push_str(&told);
                failure
            })?,
        };
        Ok(Spot { zone, name: end })
    }

    /// What the server knows of a CNAME at `name`.
    async fn alias(&self, servers: &[SocketAddr], name: &str, random: &dyn Random) -> Result<Known, Failure> {
        let wire = wire::name(name).ok_or_else(|| Failure::told(format!("{name} is no DNS name")))?;
        let question = wire::question(exchange::id(random), &wire, CNAME, false);
        let (_, answer) = exchange::over_tcp(servers, &question).await?;
        Ok(match answer.alias(name) {
            Some(next) => Known::Alias(next.to_owned()),
            // Who has the zone says so when there is none (RFC 2308 section 3).
            None if answer.zone().is_some_and(|zone| is_in(name, zone)) => Known::NoAlias,
            None => Known::Nothing,
        })
    }

    /// Adds the text `value` at `spot`, or takes it away.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or its answer is not signed with the key.
    pub async fn change(
        &self,
        spot: &Spot,
        value: &str,
        change: Change,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<(), Failure> {
        let Spot { zone, name } = spot;
        let servers = exchange::addresses(&self.server.0, self.server.1).await?;
        let (Some(zone_wire), Some(name_wire)) = (wire::name(zone), wire::name(name)) else {
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
    async fn zone_of(&self, servers: &[SocketAddr], name: &str, random: &dyn Random) -> Result<String, Failure> {
        let wire = wire::name(name).ok_or_else(|| Failure::told(format!("{name} is no DNS name")))?;
        let question = wire::question(exchange::id(random), &wire, SOA, false);
        let (_, answer) = exchange::over_tcp(servers, &question).await?;
        // Found, it stands in the answer; otherwise with the reason why there is none (RFC 2308 section 3).
        let told = answer.zone().filter(|zone| is_in(name, zone));
        told.map(str::to_owned).ok_or_else(|| {
            Failure::told(format!("{} has no zone for {name} ({}): set zone", self.server.0, code(answer.rcode)))
        })
    }
}

/// What a server knows of an alias.
enum Known {
    /// There is one, of this name.
    Alias(String),
    /// There is none.
    NoAlias,
    /// It is not the one to ask.
    Nothing,
}

/// Whether `name` is in `zone`, or would be in one further below.
fn is_in(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|head| head.is_empty() || head.ends_with('.'))
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::base::SystemRandom;

    /// A server for `zone` alone, which has the CNAMEs `aliases` in it, and answers others' names with REFUSED.
    async fn serve(listener: TcpListener, zone: &str, aliases: &[(&str, &str)]) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut asked = vec![0; length.into()];
            stream.read_exact(&mut asked).await.unwrap();
            asked[2] |= 0x80;
            let (name, kind) = wire::Answer::read(&asked).unwrap().question.unwrap();
            let own = |asked: &mut Vec<u8>, at: usize, name: &[u8], kind: u16, data: &[u8]| {
                asked[at] = 1;
                asked.extend_from_slice(name);
                wire::words(asked, &[kind, 1, 0, 60, u16::try_from(data.len()).unwrap()]);
                asked.extend_from_slice(data);
            };
            let alias = aliases.iter().find(|(from, _)| *from == name);
            if !is_in(&name, zone) {
                asked[3] = 5;
            } else if let Some((_, to)) = alias.filter(|_| kind == CNAME) {
                own(&mut asked, 7, b"\xc0\x0c", CNAME, &wire::name(to).unwrap());
            } else {
                own(&mut asked, 9, &wire::name(zone).unwrap(), SOA, &[]);
            }
            stream.write_u16(u16::try_from(asked.len()).unwrap()).await.unwrap();
            stream.write_all(&asked).await.unwrap();
        }
    }

    async fn spot(zone: &str, setting: &str, aliases: &[(&str, &str)]) -> Result<Spot, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let config = DnsConfig {
            server: server.clone(),
            zone: setting.to_owned(),
            key_name: "acme.".to_owned(),
            ..DnsConfig::default()
        };
        let updates = Updates::open(&config, b"c2VjcmV0").unwrap();
        // Nobody is there for datagrams: what the server does not know, nobody does.
        let nameservers = [server];
        tokio::select! {
            () = serve(listener, zone, aliases) => unreachable!(),
            spot = updates.spot("_acme-challenge.shop.example", &nameservers, &SystemRandom) => spot.map_err(|failure| failure.text),
        }
    }

    #[tokio::test]
    async fn the_record_goes_where_the_aliases_lead_and_into_the_zone_that_is_there() {
        let found = |zone: &str, name: &str| Ok(Spot { zone: zone.to_owned(), name: name.to_owned() });
        let own = "_acme-challenge.shop.example";
        assert_eq!(spot("example", "", &[]).await, found("example", own));
        assert_eq!(spot("example", "shop.example", &[]).await, found("shop.example", own));
        let aliases = [(own, "a.auth.example"), ("a.auth.example", "b.auth.example")];
        assert_eq!(spot("example", "", &aliases).await, found("example", "b.auth.example"));
        assert_eq!(spot("example", "auth.example", &aliases).await, found("auth.example", "b.auth.example"));
    }

    #[tokio::test]
    async fn aliases_in_a_circle_or_out_of_reach_are_told() {
        let own = "_acme-challenge.shop.example";
        let told = spot("example", "", &[(own, "a.example"), ("a.example", own)]).await.unwrap_err();
        assert!(told.contains("leads back to itself"), "{told}");
        let told = spot("example", "shop.example", &[(own, "a.auth.example")]).await.unwrap_err();
        assert_eq!(told, format!("a.auth.example, to which {own} is a CNAME, is not in the zone shop.example"));
        let told = spot("example", "", &[(own, "a.elsewhere.test")]).await.unwrap_err();
        assert!(told.contains("no zone for a.elsewhere.test") && told.contains(own), "{told}");
    }

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
