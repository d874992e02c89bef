//! Whether everybody can see a record: asked at the name servers of its zone, not at a resolver, which would remember for a
//! while that there was none.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use super::config::place;
use super::exchange;
use super::wire::{CNAME, TXT};
use crate::base::Random;
use crate::edge::acme::failure::Failure;

/// Where name servers listen.
const PORT: u16 = 53;
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest wait for where a CNAME leads.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most names a CNAME leads through, and most servers asked.
const MOST_ALIASES: usize = 8;
const MOST_SERVERS: usize = 16;

/// Waits until every name server of `name`'s zone shows the text `value`, at most `limit`; true when they do. `servers` are
/// asked instead when there are any.
///
/// # Cancel safety
/// Changes nothing.
pub async fn wait(name: &str, value: &str, servers: &[String], limit: Duration, random: &Arc<dyn Random>) -> bool {
    let look = async {
        loop {
            match look(name, value, servers, random.as_ref()).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(failure) => tracing::debug!(name, %failure, "cannot see a challenge's record"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(limit, look).await.is_ok()
}

/// What `name` is a CNAME to, as the first of `servers` has it, or without any the machine's resolver; `None` when there is
/// none, or nobody says.
pub async fn alias(name: &str, servers: &[String], random: &dyn Random) -> Option<String> {
    let ask = async {
        let Some((host, port)) = servers.first().and_then(|server| place(server)) else {
            return cname(&system().await.ok()?, name).await;
        };
        let address = exchange::addresses(&host, port).await.ok()?.into_iter().next()?;
        let answer = exchange::ask(address, name, CNAME, random).await.ok()?;
        answer.alias(name).map(str::to_owned)
    };
    tokio::time::timeout(PATIENCE, ask).await.ok().flatten()
}

/// What `name` is a CNAME to, as `resolver` finds it; `None` also when it does not answer.
async fn cname(resolver: &TokioResolver, name: &str) -> Option<String> {
    let found = resolver.lookup(format!("{name}."), RecordType::CNAME).await.ok()?;
    let alias = found.answers().iter().find_map(|record| match &record.data {
        RData::CNAME(other) => Some(other.0.to_ascii()),
        _ => None,
    });
    alias.map(|other| other.trim_end_matches('.').to_owned())
}

async fn look(name: &str, value: &str, servers: &[String], random: &dyn Random) -> Result<bool, Failure> {
    let (name, servers) = if servers.is_empty() {
        authoritative(&system().await?, name, PORT).await?
    } else {
        named(name, servers, random).await?
    };
    let shown = servers.iter().map(|server| exchange::ask(*server, &name, TXT, random));
    for answer in join_all(shown).await {
        if !answer?.texts(&name).any(|text| text == value.as_bytes()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The servers of the settings, and where a CNAME of `name` leads as the first of them has it.
async fn named(name: &str, servers: &[String], random: &dyn Random) -> Result<(String, Vec<SocketAddr>), Failure> {
    let mut found = Vec::new();
    for server in servers {
        let (host, port) = place(server).ok_or_else(|| Failure::told(format!("{server} is no name server")))?;
        // One address each: behind others stands the same server.
        found.extend(exchange::addresses(&host, port).await?.into_iter().next());
    }
    let mut name = name.to_owned();
    for _ in 0..MOST_ALIASES {
        let Some(first) = found.first() else { break };
        let answer = exchange::ask(*first, &name, CNAME, random).await?;
        match answer.alias(&name) {
            Some(other) => name = other.to_owned(),
            None => break,
        }
    }
    Ok((name, found))
}

/// The machine's resolver. Made for each look: what it remembers would be old by the next.
async fn system() -> Result<TokioResolver, Failure> {
    let built = tokio::task::spawn_blocking(|| TokioResolver::builder_tokio().and_then(ResolverBuilder::build)).await;
    let resolver = built.map_err(|error| Failure::told(error.to_string()))?;
    resolver.map_err(|error| Failure::told(format!("/etc/resolv.conf: {error}")))
}

/// The servers the DNS names for the zone that `name`, or what it is a CNAME to, is in.
async fn authoritative(resolver: &TokioResolver, name: &str, port: u16) -> Result<(String, Vec<SocketAddr>), Failure> {
    let mut name = name.to_owned();
    for _ in 0..MOST_ALIASES {
        // None, or no answer: then what is known so far is looked for.
        match cname(resolver, &name).await {
            Some(other) => name = other,
            None => break,
        }
    }
    let mut zone = name.as_str();
    let hosts = loop {
        let found = resolver.lookup(format!("{zone}."), RecordType::NS).await;
        let hosts: BTreeSet<String> = found
            .iter()
            .flat_map(Lookup::answers)
            .filter_map(|record| match &record.data {
                RData::NS(host) => Some(host.0.to_ascii()),
                _ => None,
            })
            .collect();
        if !hosts.is_empty() {
            break hosts;
        }
        zone = zone
            .split_once('.')
            .map(|(_, parent)| parent)
            .ok_or_else(|| Failure::told(format!("the DNS names no name server for {name}")))?;
    };
    let mut servers = Vec::new();
    for host in hosts.into_iter().take(MOST_SERVERS) {
        let found = resolver.lookup_ip(host.as_str()).await;
        let found = found.map_err(|error| Failure::told(format!("{host}: {error}")))?;
        servers.extend(found.iter().next().map(|address| SocketAddr::new(address, port)));
    }
    if servers.is_empty() {
        return Err(Failure::told(format!("the name servers of {zone} have no address")));
    }
    Ok((name, servers))
}

#[cfg(test)]
mod tests {
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use tokio::net::UdpSocket;

    use super::*;
    use crate::base::SystemRandom;
    use crate::edge::acme::dns::wire;

    const A: u16 = 1;
    const NS: u16 = 2;

    /// Answers for a zone `auth.example` that `_acme-challenge.shop.example` leads to.
    async fn serve(socket: UdpSocket, text: &'static [u8]) {
        let mut room = [0; 600];
        loop {
            let (length, from) = socket.recv_from(&mut room).await.unwrap();
            let mut asked = room[..length].to_vec();
            asked[2] |= 0x80;
            let end = 12 + asked[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            // What comes behind the question (EDNS) is not taken up.
            asked.truncate(end);
            asked[6..12].fill(0);
            let (name, kind) = wire::Answer::read(&asked).unwrap().question.unwrap();
            let told = match (name.as_str(), kind) {
                ("_acme-challenge.shop.example", CNAME) => Some((CNAME, wire::name("id.auth.example").unwrap())),
                ("auth.example", NS) => Some((NS, wire::name("ns.auth.example").unwrap())),
                ("ns.auth.example", A) => Some((A, vec![127, 0, 0, 1])),
                ("id.auth.example", TXT) => Some((TXT, [&[u8::try_from(text.len()).unwrap()], text].concat())),
                _ => None,
            };
            if let Some((kind, data)) = told {
                asked[7] = 1;
                asked.extend_from_slice(b"\xc0\x0c");
                wire::words(&mut asked, &[kind, 1, 0, 60, u16::try_from(data.len()).unwrap()]);
                asked.extend_from_slice(&data);
            }
            socket.send_to(&asked, from).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_record_is_looked_for_where_its_alias_leads_at_the_zones_own_servers() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let asked = async {
            let mut connection = ConnectionConfig::udp();
            connection.port = port;
            let server = NameServerConfig::new("127.0.0.1".parse().unwrap(), true, vec![connection]);
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            let provider = TokioRuntimeProvider::default();
            let resolver = TokioResolver::builder_with_config(config, provider).build().unwrap();
            let (name, servers) = authoritative(&resolver, "_acme-challenge.shop.example", port).await.unwrap();
            assert_eq!(name, "id.auth.example");
            assert_eq!(servers, [SocketAddr::from(([127, 0, 0, 1], port))]);
            assert!(authoritative(&resolver, "_acme-challenge.nowhere.example", port).await.is_err());
            let random: Arc<dyn Random> = Arc::new(SystemRandom);
            let told = [format!("127.0.0.1:{port}")];
            let limit = Duration::from_millis(1);
            assert!(wait("_acme-challenge.shop.example", "there", &told, Duration::from_mins(1), &random).await);
            assert!(!wait("_acme-challenge.shop.example", "not there", &told, limit, &random).await);
        };
        tokio::select! {
            () = serve(socket, b"there") => {}
            () = asked => {}
        }
    }
}
