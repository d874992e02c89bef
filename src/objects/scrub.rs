//! The scrub: every stored byte is read and verified once in a while, behind the scenes.
//!
//! A pass is the walk of `check.rs` with every byte read, piece by piece at no more than `objects.scrub_rate`, on a thread
//! of low priority. One row says where it stands, so that it goes on after a restart; it is written after every piece, in
//! the transaction that puts what was damaged on the list (`damage.rs`). Nothing of the index is held while bytes are
//! read. What is stored during a pass, in a place it has passed, is looked at by the next.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::{Asked, Damaged, Depth, Named, PIECE_BYTES, Piece, Place};
use super::damage::{self, Damage};
use super::error::ObjectError;
use super::index::{SCRUB, row};
use super::service::{Objects, blocking};
use super::usage::bytes_of_all;
use crate::base::supervise::{Priority, Role};
use crate::base::{Shutdown, Supervisor, Timestamp};
use crate::crypto::stream::SEGMENT;
use crate::store::{ReadTx, Record, WriteTx, record};

/// The key of the one row. Part of the stored format.
const KEY: &[u8] = b"pass";

/// What looking at a row costs beside its bytes, as bytes: objects without any take time too.
const ROW_COST: u64 = 4 << 10;

/// How long nothing is looked at, at most: the wall clock may be set meanwhile.
const LOOK: Duration = Duration::from_hours(1);

/// The wait after an error.
const TROUBLE: Duration = Duration::from_mins(1);

/// What a pass came to so far. Part of the stored format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubCounts {
    /// Buckets whose keys were looked at.
    pub buckets: u64,
    /// Objects read, older versions too.
    pub objects: u64,
    /// Uploads in progress read.
    pub uploads: u64,
    /// Plaintext bytes read.
    pub bytes: u64,
    /// How much was damaged.
    pub damaged: u64,
    /// Of that, what found no place on the list.
    pub unlisted: u64,
}

impl ScrubCounts {
    fn add(&mut self, piece: &Piece, unlisted: u64) {
        self.buckets += piece.buckets;
        self.objects += piece.objects;
        self.uploads += piece.uploads;
        self.bytes = self.bytes.saturating_add(piece.bytes);
        self.damaged += piece.damaged.len() as u64;
        self.unlisted += unlisted;
    }
}

/// How scrubbing stands. Part of the stored format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ScrubRow {
    /// Passes begun so far.
    passes: u64,
    running: Option<Running>,
    last: Option<ScrubEnded>,
}

impl Record for ScrubRow {
    const VERSION: u8 = 1;
}

/// A pass under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    began: Timestamp,
    place: Place,
    counts: ScrubCounts,
}

/// A pass that came to its end. Part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubEnded {
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What it came to.
    pub counts: ScrubCounts,
}

/// A pass under way, for those who look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubRunning {
    /// When it began.
    pub began: Timestamp,
    /// What it came to so far.
    pub counts: ScrubCounts,
    /// Bytes of all objects there are now: about as many as it will have read.
    pub expected_bytes: u64,
}

/// How scrubbing stands, for those who look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// The number of the pass under way, or of the last one; 0 when there was none.
    pub pass: u64,
    /// Milliseconds from the beginning of a pass to that of the next; 0 when one begins only when it is asked for.
    pub every_ms: u64,
    /// Most bytes read a second; 0 for no limit.
    pub rate: u64,
    /// The pass under way.
    pub running: Option<ScrubRunning>,
    /// The last one that came to its end.
    pub last: Option<ScrubEnded>,
    /// When the next begins by itself.
    pub next: Option<Timestamp>,
    /// What is damaged, by bucket and key.
    pub damage: Vec<Damage>,
}

/// Wakes the thread before its time.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// Ends the wait under way, or the next one.
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_all();
    }

    /// Waits until it rings. Blocks.
    pub fn wait(&self, at_most: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.wait_timeout_while(rung, at_most, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

fn scrub_row(tx: &dyn ReadTx) -> Result<ScrubRow, ObjectError> {
    Ok(row(tx, SCRUB, KEY)?.unwrap_or_default())
}

/// Begins a pass; false when one is under way.
fn begin(tx: &mut dyn WriteTx, now: Timestamp) -> Result<bool, ObjectError> {
    let mut row = scrub_row(tx)?;
    if row.running.is_some() {
        return Ok(false);
    }
    row.passes = row.passes.saturating_add(1);
    row.running = Some(Running { began: now, place: Place::default(), counts: ScrubCounts::default() });
    tx.put(SCRUB, KEY, &record::encode(&row))?;
    Ok(true)
}

/// Notes what the piece from `from` on came to, unless somebody else has; gives what the pass came to when it ended.
fn advance(
    tx: &mut dyn WriteTx,
    from: &Place,
    piece: &Piece,
    found: &[(Named, Damaged)],
    now: Timestamp,
) -> Result<Option<ScrubEnded>, ObjectError> {
    let mut row = scrub_row(tx)?;
    let pass = row.passes;
    let Some(mut running) = row.running.take().filter(|running| running.place == *from) else { return Ok(None) };
    let unlisted = damage::note(tx, found, pass, now)?;
    running.counts.add(piece, unlisted);
    let mut ended = None;
    if let Some(next) = &piece.next {
        row.running = Some(Running { place: next.clone(), ..running });
    } else {
        damage::forget_all_but(tx, pass)?;
        ended = Some(ScrubEnded { began: running.began, ended: now, counts: running.counts });
        row.last = ended;
    }
    tx.put(SCRUB, KEY, &record::encode(&row))?;
    Ok(ended)
}

impl Objects {
    /// Starts the thread that scrubs until the server stops.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub(super) fn start_scrubbing(&self, supervisor: &Supervisor) -> std::io::Result<()> {
        let (this, shutdown, bell) = (self.clone(), supervisor.shutdown().clone(), Arc::clone(&self.0.scrub_bell));
        shutdown.on_change(move || bell.ring());
        supervisor.thread("objects-scrub", Role::Ordinary, Priority::Low, move || this.scrub_until(&shutdown))
    }

    fn scrub_until(&self, shutdown: &Shutdown) {
        while !shutdown.is_draining() {
            let wait = self.count_damage().and_then(|_| self.scrub_step()).unwrap_or_else(|error| {
                tracing::warn!(%error, "the scrub waits a minute");
                TROUBLE
            });
            if !wait.is_zero() {
                self.0.scrub_bell.wait(wait);
            }
        }
    }

    /// Does the next piece of the pass under way, or begins one that is due; tells how long to wait before the next call.
    /// Blocks.
    pub(super) fn scrub_step(&self) -> Result<Duration, ObjectError> {
        let now = self.0.clock.now();
        let row = self.0.store.read_blocking(scrub_row)?;
        let Some(running) = &row.running else {
            return match self.next_pass(&row) {
                Some(due) if due <= now => {
                    self.0.store.write_blocking(move |tx: &mut dyn WriteTx| begin(tx, now)).map(|_| Duration::ZERO)
                }
                Some(due) => Ok(due.since(now).min(LOOK)),
                None => Ok(LOOK),
            };
        };
        let (rate, began) = (self.0.config.scrub_rate.bytes(), self.0.clock.monotonic());
        let most = if rate == 0 { PIECE_BYTES } else { rate.clamp(SEGMENT as u64, PIECE_BYTES) };
        let (from, pass) = (running.place.clone(), row.passes);
        let (piece, named) = self.check_piece(from.clone(), Depth::Whole, Asked::ByScrub, most)?;
        let now = self.0.clock.now();
        self.0.metrics.scrubbed.add(piece.bytes);
        let rows = piece.buckets + piece.objects + piece.uploads;
        let cost = piece.bytes.saturating_add(rows.saturating_mul(ROW_COST));
        if piece.unknown > 0 {
            tracing::warn!(
                objects = piece.unknown,
                "the scrub has passed over what is at a backend that cannot be asked"
            );
        }
        let found: Vec<(Named, Damaged)> = named.into_iter().zip(piece.damaged.iter().cloned()).collect();
        let advancing = move |tx: &mut dyn WriteTx| advance(tx, &from, &piece, &found, now);
        if let Some(ended) = self.0.store.write_blocking(advancing)? {
            let ScrubCounts { objects, uploads, bytes, damaged, .. } = ended.counts;
            tracing::info!(pass, objects, uploads, bytes, damaged, "every stored byte was read and verified");
            self.count_damage()?;
        }
        let spent = self.0.clock.monotonic().saturating_sub(began);
        Ok(pace(cost, rate).saturating_sub(spent))
    }

    /// When the next pass begins by itself.
    fn next_pass(&self, row: &ScrubRow) -> Option<Timestamp> {
        let every = self.0.config.scrub_every.duration();
        let last = row.last.map_or(Timestamp::default(), |last| last.began.after(every));
        (!every.is_zero()).then_some(last)
    }

    /// Begins a pass now; false when one is under way, which goes on. Returns once that would survive power loss.
    ///
    /// # Errors
    /// The index cannot be written.
    ///
    /// # Cancel safety
    /// Dropped before its end, a pass may have begun.
    pub async fn start_scrub(&self) -> Result<bool, ObjectError> {
        let now = self.0.clock.now();
        let begun = self.0.store.write(move |tx| begin(tx, now)).await?;
        self.0.scrub_bell.ring();
        Ok(begun)
    }

    /// How scrubbing stands. Cancel safe.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn scrub_status(&self) -> Result<ScrubStatus, ObjectError> {
        let this = self.clone();
        blocking(move || {
            // At one moment: of a pass that has ended, everything it found is told.
            let (row, expected_bytes, damage) = this
                .0
                .store
                .read_blocking(|tx| Ok::<_, ObjectError>((scrub_row(tx)?, bytes_of_all(tx)?, damage::listed(tx)?)))?;
            let every = this.0.config.scrub_every.duration();
            let next = this.next_pass(&row).filter(|_| row.running.is_none());
            let running = row.running.map(|Running { began, counts, .. }| ScrubRunning {
                began,
                counts,
                expected_bytes: expected_bytes.max(counts.bytes),
            });
            Ok(ScrubStatus {
                pass: row.passes,
                every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
                rate: this.0.config.scrub_rate.bytes(),
                running,
                last: row.last,
                next: next.map(|next| next.max(this.0.clock.now())),
                damage,
            })
        })
        .await
    }
}

/// How long reading `bytes` takes at `rate` bytes a second.
pub(super) fn pace(bytes: u64, rate: u64) -> Duration {
    if rate == 0 {
        return Duration::ZERO;
    }
    let millis = u128::from(bytes) * 1000 / u128::from(rate);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_of_the_first_release_that_has_it_is_read() {
        let row = ScrubRow {
            passes: 2,
            running: Some(Running { began: Timestamp(300), place: Place::default(), counts: ScrubCounts::default() }),
            last: None,
        };
        let stored = [1, 2, 1, 0xac, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(record::encode(&row), stored);
        assert_eq!(record::decode(&stored), Ok(row));
    }

    #[test]
    fn a_bell_that_rang_before_ends_the_next_wait_alone() {
        let bell = Bell::default();
        bell.ring();
        bell.wait(Duration::from_hours(1));
        bell.wait(Duration::ZERO);
        assert_eq!(pace(3000, 2000), Duration::from_millis(1500));
        assert_eq!(pace(3000, 0), Duration::ZERO);
    }
}
