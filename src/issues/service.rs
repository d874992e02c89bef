//! Taking events in: scrub, spool, answer.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::digest::{self, Digest};
use super::group::Grouper;
use super::rows::{self, RECEIVED, SPOOL, SpoolRow};
use super::scrub::{self, Scrubber};
use super::{Category, IssuesConfig, IssuesError, event, shape, sweep};
use crate::base::{Clock, Id128, Random, Span};
use crate::jobs::Jobs;
use crate::store::record::encode;
use crate::store::{Store, WriteTx};
use crate::telemetry::{Counter, Gauge, Metrics};

/// The project of the server's own errors. No key leads to it, so that nobody outside can put anything in.
pub const OWN_PROJECT: u64 = 0;

/// What error capture stands on.
pub struct World {
    /// `issues.redb`.
    pub store: Store,
    /// The jobs of `issues.redb`.
    pub jobs: Jobs,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The registry.
    pub metrics: Metrics,
}

/// Error capture. Clones are the same.
#[derive(Clone, Debug)]
pub struct Issues(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) jobs: Jobs,
    pub(super) clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    pub(super) config: IssuesConfig,
    scrubber: Scrubber,
    pub(super) grouper: Grouper,
    pub(super) counts: Counts,
    minute: Mutex<Minute>,
    received: Mutex<Received>,
}

/// Items received and not yet in the store, by project and category.
type Received = BTreeMap<(u64, Category), u64>;

#[derive(Debug)]
pub(super) struct Counts {
    items: BTreeMap<Category, Counter>,
    refused: Counter,
    pub(super) digested: Counter,
    pub(super) malformed: Counter,
    pub(super) waiting: Gauge,
}

impl Counts {
    fn new(metrics: &Metrics) -> Self {
        let items = Category::ALL.map(|(category, name)| {
            let help = "Items received from SDKs.";
            (category, metrics.counter("mainstay_issues_items_total", help, &[("category", name)]))
        });
        let ended = |outcome| {
            let help = "Events that were digested, or dropped because they could not be.";
            metrics.counter("mainstay_issues_events_total", help, &[("outcome", outcome)])
        };
        Self {
            items: items.into_iter().collect(),
            refused: metrics.counter("mainstay_issues_refused_total", "Events refused for want of room or time.", &[]),
            digested: ended("digested"),
            malformed: ended("malformed"),
            waiting: metrics.gauge("mainstay_issues_spool_events", "Events waiting to be digested.", &[]),
        }
    }
}

/// Events of the minute that runs.
#[derive(Debug, Default)]
struct Minute {
    number: u64,
    events: u32,
}

/// An event ready to be spooled.
struct Ready {
    id: Id128,
    event: Vec<u8>,
}

impl Issues {
    /// Opens error capture and registers its jobs; they run once the jobs are started.
    pub fn new(world: World, config: IssuesConfig) -> Self {
        let World { store, jobs, clock, random, metrics } = world;
        let scrubber = Scrubber::new(config.keep_addresses);
        let issues = Self(Arc::new(Inner {
            store,
            jobs,
            clock,
            random,
            config,
            scrubber,
            grouper: Grouper::new(),
            counts: Counts::new(&metrics),
            minute: Mutex::default(),
            received: Mutex::default(),
        }));
        let jobs = &issues.0.jobs;
        jobs.register(digest::KIND, Arc::new(Digest::new(issues.clone())));
        jobs.register(sweep::SWEEP, Arc::new(sweep::Sweep(issues.clone())));
        jobs.register(sweep::COUNTS, Arc::new(sweep::FoldCounts(issues.clone())));
        jobs.every(sweep::SWEEP, Span::hours(1));
        jobs.every(sweep::COUNTS, Span::secs(10));
        issues
    }

    /// Takes in the `events` (JSON) of `project`, sent from `peer`: all or none. Returns their ids once they would
    /// survive a power cut.
    ///
    /// # Errors
    /// [`IssuesError::NotJson`], [`IssuesError::TooDeep`], [`IssuesError::EventTooLarge`] for an event;
    /// [`IssuesError::TooFast`], [`IssuesError::SpoolFull`], or what the store says. Nothing was taken in.
    ///
    /// # Cancel safety
    /// Dropped before its end, the events are taken in as a whole or not at all.
    pub async fn accept(&self, project: u64, events: Vec<Bytes>, peer: IpAddr) -> Result<Vec<Id128>, IssuesError> {
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Ok(Vec::new());
        }
        self.admit(count).inspect_err(|_| self.0.counts.refused.add(u64::from(count)))?;
        let issues = self.clone();
        let prepare = move || events.iter().map(|event| issues.prepare(event, peer)).collect::<Result<Vec<_>, _>>();
        let ready = tokio::task::spawn_blocking(prepare).await.map_err(|_stopping| IssuesError::Stopping)??;
        let ids = ready.iter().map(|ready| ready.id).collect();
        let spooled = self.spool(project, ready).await;
        if spooled.as_ref().is_err_and(IssuesError::is_full) {
            self.0.counts.refused.add(u64::from(count));
        }
        self.0.counts.waiting.set(i64::try_from(spooled?).unwrap_or(i64::MAX));
        self.0.jobs.wake();
        Ok(ids)
    }

    /// Counts `quantity` items of `category` that `project` sent. In memory at once; in the store
    /// with the next event, at the latest after ten seconds.
    pub fn count(&self, project: u64, category: Category, quantity: u64) {
        self.measure(category, quantity);
        self.put_back([((project, category), quantity)]);
    }

    fn measure(&self, category: Category, quantity: u64) {
        if let Some(counter) = self.0.counts.items.get(&category) {
            counter.add(quantity);
        }
    }

    /// The counts in memory, which is empty then.
    fn take_counts(&self) -> Received {
        std::mem::take(&mut *self.0.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds `counts` to those in memory.
    fn put_back(&self, counts: impl IntoIterator<Item = ((u64, Category), u64)>) {
        let mut received = self.0.received.lock().unwrap_or_else(PoisonError::into_inner);
        for (of, quantity) in counts {
            let sum = received.entry(of).or_default();
            *sum = sum.saturating_add(quantity);
        }
    }

    /// Moves the counts in memory into the store.
    ///
    /// # Errors
    /// What the store says; the counts stay in memory.
    pub(super) async fn fold_counts(&self) -> Result<(), IssuesError> {
        let counts = self.take_counts();
        if counts.is_empty() {
            return Ok(());
        }
        let added = counts.clone();
        let folded = self.0.store.write(move |tx| add_counts(tx, &added)).await;
        if folded.is_err() {
            self.put_back(counts);
        }
        folded
    }

    /// Counts `events` against the minute that runs.
    fn admit(&self, events: u32) -> Result<(), IssuesError> {
        let most = self.0.config.events_per_minute;
        let now = self.0.clock.monotonic().as_secs();
        let mut minute = self.0.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.number != now / 60 {
            *minute = Minute { number: now / 60, events: 0 };
        }
        let sum = minute.events.saturating_add(events);
        if most > 0 && sum > most {
            return Err(IssuesError::TooFast { most, wait_seconds: 60 - now % 60 });
        }
        minute.events = sum;
        Ok(())
    }

    /// Parses, completes, trims and scrubs an event. Takes time in proportion to its size.
    fn prepare(&self, bytes: &[u8], peer: IpAddr) -> Result<Ready, IssuesError> {
        let mut fields = shape::parse(bytes)?;
        let given = fields.get("event_id").and_then(Value::as_str).and_then(event::id);
        let id = given.unwrap_or_else(|| Id128::random(self.0.random.as_ref()));
        fields.insert(String::from("event_id"), Value::from(id.to_string()));
        if let Some(address) = fields.get_mut("user").and_then(|user| user.get_mut("ip_address"))
            && address == "{{auto}}"
        {
            let peer = if self.0.config.keep_addresses { peer } else { scrub::network(peer) };
            *address = Value::from(peer.to_string());
        }
        if asks_for_address(&fields) {
            let peer = if self.0.config.keep_addresses { peer } else { scrub::network(peer) };
            let user = fields.entry("user").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(user) = user {
                user.entry("ip_address").or_insert_with(|| Value::from(peer.to_string()));
            }
        }
        shape::trim(&mut fields);
        self.0.scrubber.event(&mut fields);
        Ok(Ready { id, event: Value::Object(fields).to_string().into_bytes() })
    }

    /// Writes the events, a job that digests them, and every count; returns how many events wait then.
    async fn spool(&self, project: u64, ready: Vec<Ready>) -> Result<u64, IssuesError> {
        let (jobs, now) = (self.0.jobs.clone(), self.0.clock.now());
        let (most_events, most_bytes) = (self.0.config.max_spool_events, self.0.config.max_spool.0);
        let row = |Ready { id, event }: Ready| {
            let bytes = event.len() as u64;
            (bytes, encode(&SpoolRow { project, received_ms: now.millis(), event_id: *id.as_bytes(), event }))
        };
        let rows: Vec<(u64, Vec<u8>)> = ready.into_iter().map(row).collect();
        let events = rows.len() as u64;
        let waiting_counts = self.take_counts();
        let mut counts = waiting_counts.clone();
        let errors = counts.entry((project, Category::Error)).or_default();
        *errors = errors.saturating_add(events);
        let written = self.0.store.write(move |tx| {
            let mut totals = rows::totals(tx)?;
            for (bytes, row) in &rows {
                if totals.spool_events >= most_events || totals.spool_bytes.saturating_add(*bytes) > most_bytes {
                    return Err(IssuesError::SpoolFull { events: totals.spool_events, bytes: totals.spool_bytes });
                }
                totals.sequence += 1;
                totals.accepted += 1;
                totals.spool_events += 1;
                totals.spool_bytes += bytes;
                tx.put(SPOOL, &totals.sequence.to_be_bytes(), row)?;
            }
            rows::put_totals(tx, totals)?;
            add_counts(tx, &counts)?;
            jobs.enqueue(tx, digest::KIND, b"", now, Some("spool"))?;
            Ok::<u64, IssuesError>(totals.spool_events)
        });
        let written = written.await;
        match &written {
            Ok(_) => self.measure(Category::Error, events),
            Err(_) => self.put_back(waiting_counts),
        }
        written
    }

    /// Whether new events are taken in.
    ///
    /// # Errors
    /// Why not.
    pub async fn health(&self) -> Result<(), IssuesError> {
        let (most_events, most_bytes) = (self.0.config.max_spool_events, self.0.config.max_spool.0);
        let totals = self.0.store.read(|tx| rows::totals(tx)).await?;
        if totals.spool_events >= most_events || totals.spool_bytes >= most_bytes {
            return Err(IssuesError::SpoolFull { events: totals.spool_events, bytes: totals.spool_bytes });
        }
        Ok(())
    }
}

/// Whether the SDK leaves the user's address to us: `{"sdk":{"settings":{"infer_ip":"auto"}}}`, which browsers send.
fn asks_for_address(fields: &Map<String, Value>) -> bool {
    fields.get("sdk").and_then(|sdk| sdk.pointer("/settings/infer_ip")).is_some_and(|infer| infer == "auto")
}

/// Adds `counts` to those in the store.
fn add_counts(tx: &mut dyn WriteTx, counts: &Received) -> Result<(), IssuesError> {
    for ((project, category), quantity) in counts {
        let key = [&project.to_be_bytes(), category.name().as_bytes()].concat();
        let before = tx.get(RECEIVED, &key)?.map_or(Ok(0), |bytes| rows::number(&bytes))?;
        tx.put(RECEIVED, &key, &before.saturating_add(*quantity).to_be_bytes())?;
    }
    Ok(())
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("store", &self.store).finish_non_exhaustive()
    }
}
