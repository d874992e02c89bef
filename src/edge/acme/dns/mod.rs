//! Names proven in the DNS (`dns-01`, RFC 8555 section 8.4): a text under `_acme-challenge.<name>`, put there by one of
//! three providers, waited for until it can be seen, and taken away after the order.
//!
//! Start reading at [`Dns::of`]. `update.rs`, `acme_dns.rs` and `hook.rs` are the providers, `aliases.rs` where a name leads,
//! `seen.rs` the wait, `kept.rs` what is remembered so that no record stays behind; messages are in `wire.rs`, their
//! signatures in `tsig.rs`. What a name server answers to an update counts only when it is signed with the key.

mod acme_dns;
pub mod aliases;
pub mod config;
mod exchange;
mod hook;
pub mod kept;
mod seen;
mod tsig;
mod update;
pub mod wire;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::acme_dns::AcmeDns;
use self::config::{DnsConfig, Kind};
use self::kept::RecordRow;
use self::update::Updates;
use self::wire::Change;
use super::failure::Failure;
use crate::base::supervise::Role;
use crate::base::{Clock, Disk, Random, disk};
use crate::edge::World;
use crate::edge::error::EdgeError;

/// Largest file of settings read.
const LARGEST_FILE: u64 = 64 << 10;
/// Longest time to take a record away again.
const CLEANUP: Duration = Duration::from_secs(90);

/// Who proves which names in the DNS.
#[derive(Debug, Default)]
pub struct Dns(Vec<Arc<Entry>>);

/// Names and who writes their records.
pub struct Entry {
    config: DnsConfig,
    provider: Provider,
}

enum Provider {
    Update(Updates),
    AcmeDns(AcmeDns),
    Exec,
}

/// Where a record is, or will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The zone; empty when the provider does not want to know.
    pub zone: String,
    /// The record's name.
    pub name: String,
}

/// A record that is there; taken away when dropped, and after the next start when it is not.
pub struct Standing {
    entry: Arc<Entry>,
    world: World,
    /// Also in the store.
    row: RecordRow,
}

impl Dns {
    /// Reads the files that the entries of `configs` name.
    ///
    /// # Errors
    /// [`EdgeError::Dns`].
    pub async fn open(configs: &[DnsConfig], disk: &Arc<dyn Disk>) -> Result<Self, EdgeError> {
        let (configs, disk) = (configs.to_vec(), Arc::clone(disk));
        let read = move || configs.into_iter().map(|config| Entry::open(config, disk.as_ref()).map(Arc::new)).collect();
        let opened = tokio::task::spawn_blocking(read).await;
        opened.unwrap_or_else(|error| Err(error.to_string())).map(Self).map_err(EdgeError::Dns)
    }

    /// Who proves `name` (`*.` at its beginning or not); `None` when it is not proven in the DNS.
    pub fn of(&self, name: &str) -> Option<Arc<Entry>> {
        let longest = self.0.iter().filter_map(|entry| Some((entry.config.has(name)?, entry)));
        longest.max_by_key(|(length, _)| *length).map(|(_, entry)| Arc::clone(entry))
    }
}

impl Entry {
    fn open(config: DnsConfig, disk: &dyn Disk) -> Result<Self, String> {
        let file = |path: &str| match disk::read_file(disk, Path::new(path), LARGEST_FILE) {
            Ok(Some(bytes)) => Ok(zeroize::Zeroizing::new(bytes)),
            Ok(None) => Err(format!("{path}: there is no such file")),
            Err(error) => Err(format!("{path}: {error}")),
        };
        let provider = match config.kind() {
            Some(Kind::Update) => Provider::Update(Updates::open(&config, &file(&config.key_file)?)?),
            Some(Kind::AcmeDns) => {
                let path = &config.account_file;
                Provider::AcmeDns(AcmeDns::open(&config.server, path, &file(path)?)?)
            }
            Some(Kind::Exec) => Provider::Exec,
            None => return Err(format!("provider {:?} is not known", config.provider)),
        };
        Ok(Self { config, provider })
    }

    /// How long [`Self::present`] waits at most for the record to be seen.
    pub fn wait(&self) -> Duration {
        self.config.wait.duration()
    }

    /// Puts up the text `value` for `name` and waits until it is seen, or the time for that is over: then the authority may
    /// look, and says what it sees.
    ///
    /// # Errors
    /// The record cannot be written.
    ///
    /// # Cancel safety
    /// Dropped before its end, the record is taken away.
    pub async fn present(self: &Arc<Self>, name: &str, value: &str, world: &World) -> Result<Standing, Failure> {
        let certificate = name.to_owned();
        let name = format!("_acme-challenge.{}", name.strip_prefix("*.").unwrap_or(name)).to_ascii_lowercase();
        let spot = self.spot(&name, world.random.as_ref()).await?;
        let row = RecordRow {
            certificate,
            name: spot.name.clone(),
            zone: spot.zone.clone(),
            value: value.to_owned(),
            since_ms: world.clock.now().millis(),
        };
        // What is kept by its server is nothing to take away.
        if self.leaves_records() {
            let noted = kept::note(&world.store, &row).await;
            noted.map_err(|error| Failure::told(format!("the record cannot be noted: {error}")))?;
        }
        // Before the change: an answer that is lost tells nothing of it.
        let standing = Standing { entry: Arc::clone(self), world: world.clone(), row };
        self.change(&spot, value, Change::Add, world.clock.as_ref(), world.random.as_ref()).await?;
        let limit = self.wait();
        if !limit.is_zero() && !seen::wait(&name, value, &self.config.nameservers, limit, &world.random).await {
            tracing::warn!(
                name,
                "not every name server shows the challenge's record in time; the authority is told to look"
            );
        }
        Ok(standing)
    }

    /// Whether records stay until they are taken away.
    const fn leaves_records(&self) -> bool {
        !matches!(self.provider, Provider::AcmeDns(_))
    }

    /// Where the record for `name` has to be: programs and acme-dns know by themselves.
    async fn spot(&self, name: &str, random: &dyn Random) -> Result<Spot, Failure> {
        match &self.provider {
            Provider::Update(updates) => updates.spot(name, &self.config.nameservers, random).await,
            Provider::AcmeDns(_) | Provider::Exec => Ok(Spot { zone: String::new(), name: name.to_owned() }),
        }
    }

    async fn change(
        &self,
        spot: &Spot,
        value: &str,
        change: Change,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<(), Failure> {
        match &self.provider {
            Provider::Update(updates) => updates.change(spot, value, change, clock, random).await,
            Provider::AcmeDns(account) => match change {
                Change::Add => account.present(value).await,
                Change::Remove => Ok(()),
            },
            Provider::Exec => {
                let (command, name, value) = (self.config.command.clone(), spot.name.clone(), value.to_owned());
                let ran = tokio::task::spawn_blocking(move || hook::run(&command, change, &name, &value)).await;
                ran.unwrap_or_else(|error| Err(Failure::told(error.to_string())))
            }
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let (entry, world, row) = (Arc::clone(&self.entry), self.world.clone(), self.row.clone());
        // Whoever drops it may be outside of any runtime by now.
        let _inside = self.world.runtime.enter();
        self.world.supervisor.task("edge dns cleanup", Role::Ordinary, async move {
            let (spot, name) = (row.spot(), row.name.as_str());
            let change =
                entry.change(&spot, &row.value, Change::Remove, world.clock.as_ref(), world.random.as_ref());
            match tokio::time::timeout(CLEANUP, change).await {
                Ok(Ok(())) if entry.leaves_records() => {
                    if let Err(error) = kept::forget(&world.store, &row).await {
                        tracing::debug!(name, %error, "a challenge's record is taken away once more after the next start");
                    }
                }
                Ok(Ok(())) => {}
                // Its row stays: the keeper tries again.
                Ok(Err(failure)) => tracing::warn!(name, %failure, "a challenge's record cannot be taken away"),
                Err(_elapsed) => tracing::warn!(name, "a challenge's record is not taken away in time"),
            }
        });
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("domains", &self.config.domains).finish_non_exhaustive()
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("name", &self.row.name).finish_non_exhaustive()
    }
}
