//! The counting itself: notes come in from the edge's workers, rows go out to the store.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::config::{AnalyticsConfig, MOST_DAYS};
use super::day::Day;
use super::days::Days;
use super::note::{Kind, Note, Visit};
use super::report::Report;
use super::rows;
use crate::base::{Clock, Random, Shutdown};
use crate::store::{Store, StoreError};
use crate::telemetry::{Counter, Metrics};

/// Time between two writings: what a crash may lose.
pub const SAVE_EVERY: Duration = Duration::from_secs(15);
/// Most notes that wait to be counted; further ones are dropped, and that is counted.
const WAITING: usize = 4_096;
/// Most notes counted at once.
const BATCH: usize = 256;

/// The counts. Clones share them.
#[derive(Clone)]
pub struct Analytics(Arc<Inner>);

struct Inner {
    notes: mpsc::Sender<Note>,
    /// Held by whoever counts.
    inbox: tokio::sync::Mutex<mpsc::Receiver<Note>>,
    days: Mutex<Days>,
    /// One writing at a time, so that an older row never lands after a newer one.
    writing: tokio::sync::Mutex<Swept>,
    watched: ArcSwap<Vec<Arc<str>>>,
    config: AnalyticsConfig,
    store: Store,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    dropped: Counter,
}

/// The day on which old days were last removed.
#[derive(Default)]
struct Swept(Option<Day>);

impl Analytics {
    /// Counts that are kept in `store`. Nothing is read yet.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: &Metrics,
        config: AnalyticsConfig,
    ) -> Self {
        let (notes, inbox) = mpsc::channel(WAITING);
        let dropped = metrics.counter(
            "mainstay_analytics_dropped_total",
            "Page views and measurements that were not counted, because too many came at once or the store failed.",
            &[],
        );
        Self(Arc::new(Inner {
            notes,
            inbox: tokio::sync::Mutex::new(inbox),
            days: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            watched: ArcSwap::default(),
            config,
            store,
            clock,
            random,
            dropped,
        }))
    }

    /// From now on `sites` are those that are counted. For those who show them; what is counted is what is noted.
    pub fn watch(&self, sites: Vec<Arc<str>>) {
        self.0.watched.store(Arc::new(sites));
    }

    /// The sites that are counted, by name.
    pub fn watched(&self) -> Arc<Vec<Arc<str>>> {
        self.0.watched.load_full()
    }

    /// The watched site that `name` means: its name, or its host alone.
    pub fn site(&self, name: &str) -> Option<Arc<str>> {
        let watched = self.watched();
        let named = |site: &&Arc<str>| ***site == *name || site.strip_suffix('/') == Some(name);
        watched.iter().find(named).map(Arc::clone)
    }

    /// Hands `note` over; never waits.
    pub fn note(&self, note: Note) {
        if self.0.notes.try_send(note).is_err() {
            self.0.dropped.inc();
        }
    }

    /// Today, and the first day that is kept.
    pub fn kept(&self) -> (Day, Day) {
        let today = Day::of(self.0.clock.now());
        (today, today.earlier(self.0.config.days.clamp(1, MOST_DAYS) - 1))
    }

    /// What is known of `site` from `from` to `to`, both among them; days that are not kept are empty.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn report(&self, site: &str, from: Day, to: Day) -> Result<Report, StoreError> {
        let days: Vec<Day> = (from.0..=to.0).take(MOST_DAYS as usize).map(Day).collect();
        let mut found = rows::rows(&self.0.store, site, &days).await?;
        {
            let open = self.days();
            for (day, row) in days.iter().zip(&mut found) {
                if let Some(now) = open.row(*day, site, self.names()) {
                    *row = Some(now);
                }
            }
        }
        Ok(Report::of(site, &days, &found, self.names()))
    }

    /// Counts and writes until the server stops. What comes after that waits for [`Self::close`].
    pub async fn run(self, shutdown: Shutdown) {
        let mut inbox = self.0.inbox.lock().await;
        let mut save = interval(SAVE_EVERY);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                _count = inbox.recv_many(&mut batch, BATCH) => self.count(&mut batch).await,
                _ = save.tick() => {
                    self.today();
                    if let Err(error) = self.save().await {
                        tracing::warn!(%error, "the counts of pages cannot be saved; that is tried again");
                    }
                }
                () = shutdown.draining() => return,
            }
        }
    }

    /// As [`Self::leave`], and what is noted afterwards is not counted.
    ///
    /// # Errors
    /// [`StoreError`]: what came since the last writing is lost.
    ///
    /// # Cancel safety
    /// Dropped before its end, the same may be lost.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.inbox.lock().await.close();
        self.leave().await
    }

    /// From now on nothing is noted, and what is waits for nobody.
    pub async fn hang_up(&self) {
        let mut inbox = self.0.inbox.lock().await;
        inbox.close();
        while inbox.try_recv().is_ok() {
            self.0.dropped.inc();
        }
    }

    /// As [`Self::finish`], the last that happens before the store closes; then nothing that was counted is left in memory, the
    /// day's salt neither, however long the process goes on. What is noted afterwards waits for [`Self::left`].
    ///
    /// # Errors
    /// [`StoreError`]: what came since the last writing is lost.
    ///
    /// # Cancel safety
    /// Dropped before its end, the same may be lost.
    pub async fn leave(&self) -> Result<(), StoreError> {
        let finished = self.finish().await;
        *self.days() = Days::default();
        finished
    }

    /// Waits for what is noted after [`Self::leave`], and puts at most `most` of it to `notes`: for a process that counts it.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn left(&self, notes: &mut Vec<Note>, most: usize) {
        self.0.inbox.lock().await.recv_many(notes, most).await;
    }

    /// Hands over what another process has noted of the site called `site`, if that is counted here.
    pub fn learn(&self, site: &str, kind: Kind, visit: Visit) {
        if let Some(site) = self.site(site) {
            self.note(Note { site, kind, visit });
        }
    }

    /// Counts what still waits and writes everything.
    ///
    /// # Errors
    /// [`StoreError`]: what came since the last writing is lost.
    ///
    /// # Cancel safety
    /// Dropped before its end, the same may be lost.
    pub async fn finish(&self) -> Result<(), StoreError> {
        let mut inbox = self.0.inbox.lock().await;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            while batch.len() < BATCH
                && let Ok(note) = inbox.try_recv()
            {
                batch.push(note);
            }
            if batch.is_empty() {
                break;
            }
            self.count(&mut batch).await;
        }
        self.save().await
    }

    /// Counts `batch`, which is empty then.
    async fn count(&self, batch: &mut Vec<Note>) {
        let today = self.today();
        let sites: BTreeSet<Arc<str>> = batch.iter().map(|note| Arc::clone(&note.site)).collect();
        for site in sites {
            if self.days().has(today, &site) {
                continue;
            }
            match rows::rows(&self.0.store, &site, &[today]).await {
                Ok(mut found) => self.days().begin(today, site, found.pop().flatten()),
                Err(error) => {
                    tracing::warn!(%error, "the counts of a site cannot be read; what comes is not counted");
                    let before = batch.len();
                    batch.retain(|note| note.site != site);
                    self.0.dropped.add((before - batch.len()) as u64);
                }
            }
        }
        let mut days = self.days();
        for note in batch.drain(..) {
            days.count(&note, self.names());
        }
    }

    /// The day it is. With another one the salt of the last is gone.
    fn today(&self) -> Day {
        let today = Day::of(self.0.clock.now());
        self.days().today(today, self.0.random.as_ref());
        today
    }

    /// Writes what has changed, and once a day removes what is older than the days kept.
    async fn save(&self) -> Result<(), StoreError> {
        let mut swept = self.0.writing.lock().await;
        let changed = self.days().take_changed(self.names());
        if !changed.is_empty() {
            let rows = changed.iter().map(|(_, _, key, row)| (*key, row.clone())).collect();
            if let Err(error) = rows::write(&self.0.store, rows).await {
                let mut days = self.days();
                for (day, site, ..) in changed {
                    days.unsaved(day, site);
                }
                return Err(error);
            }
        }
        self.days().let_go();
        let (today, first) = self.kept();
        if swept.0 != Some(today) {
            rows::remove_before(&self.0.store, first).await?;
            swept.0 = Some(today);
        }
        Ok(())
    }

    fn names(&self) -> usize {
        self.0.config.names as usize
    }

    fn days(&self) -> MutexGuard<'_, Days> {
        self.0.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Analytics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Analytics").field("watched", &self.watched().len()).finish_non_exhaustive()
    }
}
