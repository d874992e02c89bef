//! From a host name to addresses: hosts file, then DNS.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::sync::{OnceLock, mpsc as reply};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Longest time one lookup may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Most lookups waiting for a DNS answer at once; further ones wait their turn.
const MOST_AT_ONCE: usize = 32;

/// Most lookups waiting for their turn; further ones are told to try again.
const MOST_WAITING: usize = 256;

/// Most bytes of a hosts file that are read.
const HOSTS_LIMIT: u64 = 16 << 20;

/// Most addresses a lookup gives.
const MOST_ADDRESSES: usize = 64;

/// Longest name DNS knows, written out (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 254;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

impl Family {
    const fn takes(self, address: IpAddr) -> bool {
        matches!((self, address), (Self::Any, _) | (Self::V4, IpAddr::V4(_)) | (Self::V6, IpAddr::V6(_)))
    }
}

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody knows the name.
    #[error("no such host name")]
    NoName,
    /// The DNS servers did not answer in time, or too many lookups wait.
    #[error("the name servers do not answer at present")]
    Again,
}

/// The addresses of `name`, reachable ones first. Blocks for up to [`LIMIT`].
///
/// # Errors
/// [`Failure::NoName`]: the name is unknown or has no address of this family. [`Failure::Again`]: nobody could tell.
pub fn addresses(name: &str, family: Family) -> Result<Vec<IpAddr>, Failure> {
    let name = name.to_ascii_lowercase();
    let bare = name.strip_suffix('.').unwrap_or(&name);
    // RFC 6761, sections 6.3 and 6.4: these two never leave the machine.
    if bare == "localhost" || bare.ends_with(".localhost") {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(both.into_iter().filter(|address| family.takes(*address)).collect());
    }
    if bare.is_empty() || name.len() > LONGEST_NAME || bare == "invalid" || bare.ends_with(".invalid") {
        return Err(Failure::NoName);
    }
    let mut found = File::open("/etc/hosts").map(|file| in_hosts(file, bare, family)).unwrap_or_default();
    if found.is_empty() {
        found = ask_worker(&name, family)?;
    }
    found.truncate(MOST_ADDRESSES);
    // As RFC 6724, rule 1: what has no route comes last. The order is else kept.
    found.sort_by_cached_key(|address| !has_route(*address));
    Ok(found)
}

/// The addresses a hosts file gives `name`: lines of an address and its names, `#` starts a comment.
fn in_hosts(file: impl Read, name: &str, family: Family) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in BufReader::new(file.take(HOSTS_LIMIT)).lines().map_while(Result::ok) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        let named = words.any(|word| word.eq_ignore_ascii_case(name));
        if named && family.takes(address) && !found.contains(&address) && found.len() < MOST_ADDRESSES {
            found.push(address);
        }
    }
    found
}

/// Whether the kernel has a route to `address`. Connecting a UDP socket sends nothing.
fn has_route(address: IpAddr) -> bool {
    let unspecified: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((unspecified, 0)).and_then(|socket| socket.connect((address, 53))).is_ok()
}

struct Question {
    name: String,
    family: Family,
    answer: reply::SyncSender<Result<Vec<IpAddr>, Failure>>,
}

/// Hands the question to the resolver thread and waits. The thread has a runtime of its own, since callers may sit on
/// any thread of any runtime.
fn ask_worker(name: &str, family: Family) -> Result<Vec<IpAddr>, Failure> {
    // The C function has no place to carry a handle in, so the thread is found through a static, set once.
    static WORKER: OnceLock<Option<mpsc::Sender<Question>>> = OnceLock::new();
    let worker = WORKER.get_or_init(start_worker).as_ref().ok_or(Failure::Again)?;
    let (answer, waiting) = reply::sync_channel(1);
    let question = Question { name: name.to_owned(), family, answer };
    worker.try_send(question).map_err(|_full_or_gone| Failure::Again)?;
    waiting.recv_timeout(LIMIT + Duration::from_secs(1)).unwrap_or(Err(Failure::Again))
}

fn start_worker() -> Option<mpsc::Sender<Question>> {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    // No supervisor reaches this place. The thread holds nothing that must be closed; it ends with the process.
    std::thread::Builder::new()
        .name(String::from("resolver"))
        .spawn(move || runtime.block_on(serve(receiver)))
        .ok()
        .map(|_thread| sender)
}

async fn serve(mut questions: mpsc::Receiver<Question>) {
    let mut system = System::default();
    let mut running = JoinSet::new();
    while let Some(question) = questions.recv().await {
        while running.try_join_next().is_some() {}
        if running.len() >= MOST_AT_ONCE {
            running.join_next().await;
        }
        let resolver = system.resolver();
        running.spawn(async move {
            let found = match resolver {
                None => Err(Failure::NoName),
                Some(resolver) => {
                    let asked = in_dns(&resolver, &question.name, question.family);
                    tokio::time::timeout(LIMIT, asked).await.unwrap_or(Err(Failure::Again))
                }
            };
            // The asker may have given up.
            let _ = question.answer.try_send(found);
        });
    }
}

async fn in_dns(resolver: &TokioResolver, name: &str, family: Family) -> Result<Vec<IpAddr>, Failure> {
    match resolver.lookup_ip(name).await {
        Ok(lookup) => {
            let found: Vec<IpAddr> = lookup.iter().filter(|address| family.takes(*address)).collect();
            if found.is_empty() { Err(Failure::NoName) } else { Ok(found) }
        }
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => Err(Failure::NoName),
        Err(error) => {
            tracing::debug!(%error, "name lookup failed");
            Err(Failure::Again)
        }
    }
}

/// The DNS servers of `resolv.conf`, read again when the file changes (a VPN comes up, a lease is renewed).
#[derive(Default)]
struct System {
    read_at: Option<SystemTime>,
    resolver: Option<TokioResolver>,
}

impl System {
    /// The resolver now; `None` when the machine names no DNS server.
    fn resolver(&mut self) -> Option<TokioResolver> {
        let changed = Path::new("/etc/resolv.conf").metadata().and_then(|file| file.modified()).ok();
        if changed != self.read_at || changed.is_none() {
            self.read_at = changed;
            self.resolver = changed.and_then(|_| read_system());
        }
        self.resolver.clone()
    }
}

fn read_system() -> Option<TokioResolver> {
    let mut builder = TokioResolver::builder_tokio().ok()?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // Read by `in_hosts`, fresh at each lookup.
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 256;
    builder.build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost\n10.0.0.7\tDb.internal db # the database\nfd00::7 db\nnonsense here\n";

    #[test]
    fn hosts_files_name_addresses_of_both_families() {
        assert_eq!(in_hosts(HOSTS.as_bytes(), "db", Family::Any).len(), 2);
        assert_eq!(in_hosts(HOSTS.as_bytes(), "db.internal", Family::V4), [IpAddr::from([10, 0, 0, 7])]);
        assert!(in_hosts(HOSTS.as_bytes(), "here", Family::Any).is_empty());
        assert!(in_hosts(HOSTS.as_bytes(), "database", Family::Any).is_empty());
    }

    #[test]
    fn localhost_is_this_machine_without_asking_anyone() {
        let found = addresses("LocalHost.", Family::V4).unwrap();
        assert_eq!(found, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        assert_eq!(addresses("app.localhost", Family::Any).unwrap().len(), 2);
    }

    #[test]
    fn names_that_cannot_exist_are_unknown() {
        for name in ["", ".", "nobody.invalid", &"a".repeat(300)] {
            assert_eq!(addresses(name, Family::Any), Err(Failure::NoName), "{name}");
        }
    }
}
