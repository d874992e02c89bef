//! Which answers are on disk: where, for which requests, how old. In memory, bounded by number and bytes; the least
//! recently used go first.
//!
//! Whatever takes an answer away takes it out of here first, and bars what is being written for the same place now, and
//! what a start has not found yet. Only then its file goes.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use http::HeaderMap;

use super::super::freshness::Life;
use super::super::key::Key;
use super::super::room::Room;
use super::super::shelves::Kept;
use super::super::vary::Selecting;
use super::super::wants;
use crate::base::{Id128, Timestamp};
use crate::monitor::WhichKept;

/// Most answers on disk.
pub const MOST: usize = 65_536;
/// Most answers on disk at one place, which differ by the headers that `Vary` names.
const MOST_VARIANTS: usize = 16;
/// Most answers being written at once.
const MOST_WRITING: usize = 64;
/// What an answer takes in memory beside the bytes of its key.
const OVERHEAD: u64 = 448;
/// Most purges that a start still under way remembers one by one.
const MOST_BARRED: usize = 1024;
/// Uses since a start count from here on, so that what the start finds can be put before them.
const FIRST_TICK: u64 = 1 << 32;

/// One answer on disk.
#[derive(Debug)]
pub struct Spot {
    /// Its file.
    pub id: Id128,
    /// Its place.
    pub key: Arc<Key>,
    /// Which requests it answers.
    pub selecting: Selecting,
    /// Its time.
    pub life: Life,
    /// When it came, by the calendar.
    pub at: Timestamp,
    /// Bytes of its body.
    pub size: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Held while its head is read or written anew.
    pub lock: Arc<RwLock<()>>,
    /// Times it was read.
    pub reads: AtomicU32,
    /// The memory of all this.
    pub room: Room,
}

/// All answers on disk.
#[derive(Debug, Default)]
pub struct Index(Mutex<State>);

#[derive(Debug)]
struct State {
    places: HashMap<Arc<Key>, Vec<Row>>,
    /// By last use.
    order: BTreeMap<u64, Arc<Spot>>,
    /// Bytes of files, those being written included.
    bytes: u64,
    /// Bytes of memory.
    memory: u64,
    ticks: u64,
    tickets: u64,
    writing: HashMap<u64, Writing>,
    /// While a start looks through the files: what of them is not taken.
    barred: Option<Vec<Barred>>,
}

#[derive(Debug)]
struct Row {
    used: u64,
    spot: Arc<Spot>,
}

#[derive(Debug)]
struct Writing {
    key: Arc<Key>,
    void: Arc<AtomicBool>,
    bytes: u64,
}

#[derive(Debug)]
enum Barred {
    Which(WhichKept),
    Place(Arc<Key>),
}

/// The right to write one answer. Dropped, what was counted for it is given back.
#[derive(Debug)]
pub struct Ticket {
    index: Arc<Index>,
    /// Its number.
    pub number: u64,
    /// Where the answer belongs.
    pub key: Arc<Key>,
    void: Arc<AtomicBool>,
}

impl Ticket {
    /// Whether the place has changed meanwhile, so that the answer is of no use.
    pub fn is_void(&self) -> bool {
        self.void.load(Ordering::Relaxed)
    }

    /// Nothing comes of it.
    pub fn give_up(&self) {
        self.void.store(true, Ordering::Relaxed);
    }

    /// Counts `bytes` more of its file.
    pub fn grow(&self, bytes: u64) {
        let mut state = self.index.lock();
        if let Some(writing) = state.writing.get_mut(&self.number) {
            writing.bytes = writing.bytes.saturating_add(bytes);
            state.bytes = state.bytes.saturating_add(bytes);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.index.lock().end(self.number);
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            order: BTreeMap::new(),
            bytes: 0,
            memory: 0,
            ticks: FIRST_TICK,
            tickets: 0,
            writing: HashMap::new(),
            barred: None,
        }
    }
}

/// Bytes of memory an answer takes here.
pub fn memory(key: &Key, selecting: &Selecting) -> u64 {
    key.bytes().saturating_add(selecting.bytes()).saturating_add(OVERHEAD)
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest answer at `key` to a request with the headers `request`, and whether there are answers to others only.
    pub fn find(&self, key: &Key, request: &HeaderMap) -> (Option<Arc<Spot>>, bool) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(rows) = state.places.get_mut(key) else { return (None, false) };
        let fitting = rows.iter_mut().filter(|row| row.spot.selecting.fits(request));
        let Some(row) = fitting.max_by_key(|row| row.spot.at) else { return (None, true) };
        state.ticks = state.ticks.saturating_add(1);
        state.order.remove(&row.used);
        row.used = state.ticks;
        state.order.insert(row.used, Arc::clone(&row.spot));
        (Some(Arc::clone(&row.spot)), false)
    }

    /// Whether `spot` is still here.
    pub fn has(&self, spot: &Spot) -> bool {
        let state = self.lock();
        state.places.get(&spot.key).is_some_and(|rows| rows.iter().any(|row| row.spot.id == spot.id))
    }

    /// The right to write an answer for `key`. With `alone` nobody else may be writing one for it.
    pub fn begin(self: &Arc<Self>, key: &Arc<Key>, alone: bool) -> Option<Ticket> {
        let mut state = self.lock();
        let in_the_way = |other: &Writing| other.key == *key && !other.void.load(Ordering::Relaxed);
        if state.writing.len() >= MOST_WRITING || (alone && state.writing.values().any(in_the_way)) {
            return None;
        }
        state.tickets = state.tickets.saturating_add(1);
        let (number, void) = (state.tickets, Arc::<AtomicBool>::default());
        state.writing.insert(number, Writing { key: Arc::clone(key), void: Arc::clone(&void), bytes: 0 });
        Some(Ticket { index: Arc::clone(self), number, key: Arc::clone(key), void })
    }

    /// Takes in what was written with `ticket`, and gives back what it stands in for. `None`: its place has changed
    /// meanwhile.
    pub fn insert(&self, spot: &Arc<Spot>, ticket: &Ticket) -> Option<Vec<Arc<Spot>>> {
        let mut state = self.lock();
        if ticket.is_void() {
            return None;
        }
        state.end(ticket.number);
        let mut gone = state.take_out(&spot.key, |other| other.selecting == spot.selecting);
        gone.extend(state.over_variants(&spot.key));
        state.ticks = state.ticks.saturating_add(1);
        let used = state.ticks;
        state.add(spot, used);
        Some(gone)
    }

    /// Takes in what a start has found as the `rank`th, counted from what was changed last, as long as all take no more than
    /// `bytes` on disk and `memory`. False: it is not to be kept.
    pub fn found(&self, spot: &Arc<Spot>, rank: u64, bytes: u64, memory: u64) -> bool {
        let mut state = self.lock();
        let barred = state.barred.as_ref().is_none_or(|barred| barred.iter().any(|barred| barred.takes(&spot.key)));
        let rows = state.places.get(&spot.key);
        let known = rows.is_some_and(|rows| {
            rows.len() >= MOST_VARIANTS || rows.iter().any(|row| row.spot.selecting == spot.selecting)
        });
        let used = FIRST_TICK.saturating_sub(rank);
        let full = state.order.len() >= MOST
            || state.bytes.saturating_add(spot.bytes) > bytes
            || state.memory.saturating_add(spot.room.bytes()) > memory;
        if barred || known || full || state.order.contains_key(&used) {
            return false;
        }
        state.add(spot, used);
        true
    }

    /// From now on what is purged is not taken by a start either.
    pub fn begin_start(&self) {
        self.lock().barred = Some(Vec::new());
    }

    /// A start has looked through all files.
    pub fn end_start(&self) {
        self.lock().barred = None;
    }

    /// Puts `new` in the place of the same file's `old`. False: that is gone.
    pub fn replace(&self, old: &Spot, new: &Arc<Spot>) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let rows = state.places.get_mut(&old.key);
        let Some(row) = rows.and_then(|rows| rows.iter_mut().find(|row| row.spot.id == old.id)) else { return false };
        let before = std::mem::replace(&mut row.spot, Arc::clone(new));
        state.order.insert(row.used, Arc::clone(new));
        state.memory = state.memory.saturating_sub(before.room.bytes()).saturating_add(new.room.bytes());
        true
    }

    /// Takes `spot` out; `None` when it was not in any more.
    pub fn remove(&self, spot: &Spot) -> Option<Arc<Spot>> {
        self.lock().take_out(&spot.key, |other| other.id == spot.id).pop()
    }

    /// Takes out what has the same place and the same headers.
    pub fn forget(&self, key: &Key, selecting: &Selecting) -> Vec<Arc<Spot>> {
        self.lock().take_out(key, |other| other.selecting == *selecting)
    }

    /// What is at `key` has changed.
    pub fn void(&self, key: &Arc<Key>) -> Vec<Arc<Spot>> {
        let mut state = self.lock();
        state.bar(Barred::Place(Arc::clone(key)), |other| *other == **key);
        state.take_out(key, |_| true)
    }

    /// Takes out all of `which`.
    pub fn purge(&self, which: &WhichKept) -> Vec<Arc<Spot>> {
        let mut state = self.lock();
        state.bar(Barred::Which(which.clone()), |key| wants(which, key));
        let keys: Vec<Arc<Key>> = state.places.keys().filter(|key| wants(which, key)).map(Arc::clone).collect();
        keys.iter().flat_map(|key| state.take_out(key, |_| true)).collect()
    }

    /// Takes out what is of other sites than `sites`.
    pub fn keep_only(&self, sites: &[Arc<str>]) -> Vec<Arc<Spot>> {
        let mut state = self.lock();
        for writing in state.writing.values().filter(|writing| !sites.contains(&writing.key.site)) {
            writing.void.store(true, Ordering::Relaxed);
        }
        let keys: Vec<Arc<Key>> =
            state.places.keys().filter(|key| !sites.contains(&key.site)).map(Arc::clone).collect();
        keys.iter().flat_map(|key| state.take_out(key, |_| true)).collect()
    }

    /// Takes out what was used least recently, until the rest takes no more than `bytes` on disk and `memory`.
    pub fn shrink(&self, bytes: u64, memory: u64) -> Vec<Arc<Spot>> {
        let mut state = self.lock();
        let mut gone = Vec::new();
        while state.bytes > bytes || state.memory > memory || state.order.len() > MOST {
            let Some(oldest) = state.order.first_key_value().map(|(_, spot)| Arc::clone(spot)) else { break };
            gone.extend(state.take_out(&oldest.key, |other| other.id == oldest.id));
        }
        gone
    }

    /// Answers, and bytes of all files.
    pub fn totals(&self) -> (usize, u64) {
        let state = self.lock();
        (state.order.len(), state.bytes)
    }

    /// What is kept, by site.
    pub fn kept(&self) -> HashMap<Arc<str>, Kept> {
        let mut all: HashMap<Arc<str>, Kept> = HashMap::new();
        for spot in self.lock().order.values() {
            let kept = all.entry(Arc::clone(&spot.key.site)).or_default();
            kept.answers = kept.answers.saturating_add(1);
            kept.bytes = kept.bytes.saturating_add(spot.bytes);
        }
        all
    }
}

impl State {
    fn add(&mut self, spot: &Arc<Spot>, used: u64) {
        self.bytes = self.bytes.saturating_add(spot.bytes);
        self.memory = self.memory.saturating_add(spot.room.bytes());
        self.order.insert(used, Arc::clone(spot));
        self.places.entry(Arc::clone(&spot.key)).or_default().push(Row { used, spot: Arc::clone(spot) });
    }

    fn take_out(&mut self, key: &Key, goes: impl Fn(&Spot) -> bool) -> Vec<Arc<Spot>> {
        let Some(rows) = self.places.get_mut(key) else { return Vec::new() };
        let gone: Vec<Row> = rows.extract_if(.., |row| goes(&row.spot)).collect();
        if rows.is_empty() {
            self.places.remove(key);
        }
        let out = |row: Row| {
            self.order.remove(&row.used);
            self.bytes = self.bytes.saturating_sub(row.spot.bytes);
            self.memory = self.memory.saturating_sub(row.spot.room.bytes());
            row.spot
        };
        gone.into_iter().map(out).collect()
    }

    /// Takes out the oldest answer at `key` when there is no place for another.
    fn over_variants(&mut self, key: &Key) -> Vec<Arc<Spot>> {
        let rows = self.places.get(key).filter(|rows| rows.len() >= MOST_VARIANTS);
        let oldest = rows.and_then(|rows| rows.iter().min_by_key(|row| row.spot.at).map(|row| row.spot.id));
        oldest.map(|oldest| self.take_out(key, |other| other.id == oldest)).unwrap_or_default()
    }

    fn end(&mut self, number: u64) {
        if let Some(writing) = self.writing.remove(&number) {
            self.bytes = self.bytes.saturating_sub(writing.bytes);
        }
    }

    fn bar(&mut self, what: Barred, takes: impl Fn(&Key) -> bool) {
        for writing in self.writing.values().filter(|writing| takes(&writing.key)) {
            writing.void.store(true, Ordering::Relaxed);
        }
        if let Some(barred) = &mut self.barred {
            if barred.len() >= MOST_BARRED {
                *barred = vec![Barred::Which(WhichKept::All)];
            }
            barred.push(what);
        }
    }
}

impl Barred {
    fn takes(&self, key: &Key) -> bool {
        match self {
            Self::Which(which) => wants(which, key),
            Self::Place(place) => **place == *key,
        }
    }
}
