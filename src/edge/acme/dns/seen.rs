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

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);
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

async fn look(name: &str, value: &str, servers: &[String], random: &dyn Random) -> Result<bool, Failure> {
    let (name, servers) =
        if servers.is_empty() { authoritative(name).await? } else { named(name, servers, random).await? };
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

/// The servers the DNS names for the zone that `name`, or what it is a CNAME to, is in.
async fn authoritative(name: &str) -> Result<(String, Vec<SocketAddr>), Failure> {
    let built = tokio::task::spawn_blocking(|| TokioResolver::builder_tokio().and_then(ResolverBuilder::build)).await;
    let resolver = built.map_err(|error| Failure::told(error.to_string()))?;
    let resolver = resolver.map_err(|error| Failure::told(format!("/etc/resolv.conf: {error}")))?;
    let mut name = name.to_owned();
    for _ in 0..MOST_ALIASES {
        // None, or no answer: then what is known so far is looked for.
        let Ok(found) = resolver.lookup(format!("{name}."), RecordType::CNAME).await else { break };
        let alias = found.answers().iter().find_map(|record| match &record.data {
            RData::CNAME(other) => Some(other.0.to_ascii()),
            _ => None,
        });
        match alias {
            Some(other) => other.trim_end_matches('.').clone_into(&mut name),
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
        servers.extend(exchange::addresses(host.trim_end_matches('.'), 53).await?.into_iter().next());
    }
    Ok((name, servers))
}
