//! Another key for a bucket: new objects hang on it at once, and the data keys of all others are wrapped anew behind the scenes.
//!
//! 1. The new key is put beside the blobs, in front of the old one; then both are in the bucket's row, then in its file; then
//!    whoever is at work with the bucket uses them: the new one wraps, both open.
//! 2. What was being written under the old key by then is waited for. From here on nothing new hangs on it.
//! 3. Every blob file of the bucket (`key_walk.rs`), also what waits for a sweep or is in quarantine, gets its data key wrapped anew, within its
//!    header (`blob/rewrap.rs`). A batch of them is first written down in `objects.rewraps`, then each header is written and
//!    synced, and with the next batch's commit the rows go. Should a crash tear a header, the next start writes it again, before
//!    anything is read.
//! 4. So do the bodies in the index, row by row; and two exports are made, so that none holds a body under the old key.
//! 5. The old key is taken from beside the blobs, from the row, and from the bucket's file.
//!
//! How far it is, a row of `objects.rotations` says, so a restart goes on there. That a key is being changed is told by the
//! bucket's row alone, which has two wrapped keys then: an index made anew begins the walk again.
//!
//! Blobs at a backend are never written again, so a bucket with some is refused, and while its key is being changed it does
//! not move.
//!
//! A backup that began before has a bucket's keys as they were, so a change does not begin while one is made.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::ObjectError;
use super::index::{BUCKETS, BucketRow, ROTATIONS, decode, malformed_key, row};
use super::key_walk::Walk;
use super::keys::{is_changing, newest};
use super::moving;
use super::names::BucketName;
use super::scrub::Bell;
use super::service::{Objects, blocking};
use crate::base::supervise::{Priority, Role};
use crate::base::{Id128, Shutdown, Supervisor, Timestamp};
use crate::store::{Direction, ReadTx, WriteTx, record};

/// Folders of blobs.
pub(super) const FOLDERS: u16 = 256;

/// How long until uploads that are under way are looked at again.
const SOON: Duration = Duration::from_secs(1);

/// The wait after an error.
const TROUBLE: Duration = Duration::from_mins(1);

/// How long nothing is looked at, at most.
const LOOK: Duration = Duration::from_mins(10);

/// Rows of buckets read at once.
const PAGE: usize = 1000;

/// Changes of keys of this process.
#[derive(Debug, Default)]
pub(super) struct KeyChanges {
    /// One who begins or ends a change at a time.
    turn: Mutex<()>,
    /// Wakes the thread.
    bell: Arc<Bell>,
    /// Rung at a stop alone.
    pub rest: Arc<Bell>,
    /// By bucket, the blobs that were being written when the new key came into use.
    written: Mutex<HashMap<Id128, Vec<Id128>>>,
    /// By bucket, what is in the way.
    waits_for: Mutex<HashMap<Id128, String>>,
    /// Buckets whose file is to be brought up to date.
    unnoted: Mutex<HashSet<BucketName>>,
}

/// How far a change is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RotationRow {
    /// Milliseconds since the Unix epoch.
    began: u64,
    pub stage: Stage,
    pub rewrapped: u64,
    pub damaged: u64,
}

/// Where a change goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// With this folder of blobs; the one behind the last is the quarantine.
    Files(u16),
    /// With the bodies in the index behind this key.
    Bodies(Vec<u8>),
    /// With exports.
    Exports,
}

impl record::Record for RotationRow {
    const VERSION: u8 = 1;
}

/// A change of a bucket's key, as its operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// When it began.
    pub began: Timestamp,
    /// Data keys wrapped anew so far.
    pub rewrapped: u64,
    /// Blobs whose data key opens with neither key: damaged.
    pub damaged: u64,
    /// How much of the bucket's blobs were looked at, in percent, before the bodies in the index.
    pub percent: u8,
    /// What is in the way.
    pub waits_for: Option<String>,
}

/// What became of a round.
enum Round {
    Done,
    Stopped,
    Waits(String),
}

impl Objects {
    /// Gives a bucket another key. Returns once everything that is stored from now on hangs on it; the rest follows behind
    /// the scenes.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`]; [`ObjectError::Unavailable`]: its key is being changed already, or a backup is under way.
    /// [`ObjectError::KeptElsewhere`]: not all of it is on this disk. [`ObjectError::Disk`]: it may have begun.
    ///
    /// # Cancel safety
    /// It is done whether the caller waits or not.
    pub async fn rotate_bucket_key(&self, name: &BucketName) -> Result<(), ObjectError> {
        let (this, name) = (self.clone(), name.clone());
        blocking(move || this.begin_key_change(&name)).await
    }

    pub(super) fn begin_key_change(&self, name: &BucketName) -> Result<(), ObjectError> {
        let _turn = self.0.key_changes.turn();
        // A backup waits in this lock for the change to have begun, and a change does not begin before it is over.
        let kept = self.kept();
        let at = name.as_str().as_bytes().to_vec();
        let found = self.0.store.read_blocking(|tx| row::<BucketRow>(tx, BUCKETS, &at))?;
        let found = found.ok_or(ObjectError::NoSuchBucket)?;
        if *kept > 0 {
            return Err(ObjectError::Unavailable(
                "a backup is under way, which needs the bucket's key to stay the same",
            ));
        }
        if is_changing(&found.wrapped_key) {
            return Err(ObjectError::Unavailable("the key of the bucket is being changed already"));
        }
        if found.home.is_some() || self.is_away(found.id)? {
            return Err(ObjectError::KeptElsewhere);
        }
        let (this, before, id) = (self.clone(), found.wrapped_key, found.id);
        // Whoever opens the bucket meanwhile uses the key before, until the new one is in the bucket's file too.
        self.0.keys.adopt(id, &before)?;
        let both = self.0.keys.put_before(id, &before, self.0.random.as_ref())?;
        let began = self.0.clock.now().millis();
        let rotation = RotationRow { began, stage: Stage::Files(0), rewrapped: 0, damaged: 0 };
        let wrapped = self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            let bucket = row::<BucketRow>(tx, BUCKETS, &at)?.filter(|bucket| bucket.id == id);
            let bucket = bucket.ok_or(ObjectError::NoSuchBucket)?;
            if bucket.wrapped_key != before {
                return Err(ObjectError::Unavailable("the master key is being changed"));
            }
            // A move that begins from here on is refused.
            if bucket.home.is_some() || moving::is_under_way(tx, id)? {
                return Err(ObjectError::KeptElsewhere);
            }
            let wrapped_key = this.0.keys.rewrapped(id, &both)?.unwrap_or_else(|| both.clone());
            tx.put(BUCKETS, &at, &record::encode(&BucketRow { wrapped_key: wrapped_key.clone(), ..bucket }))?;
            tx.put(ROTATIONS, id.as_bytes(), &record::encode(&rotation))?;
            Ok(wrapped_key)
        })?;
        self.0.key_changes.bell.ring();
        self.note_bucket(name)?;
        self.0.keys.adopt(id, &wrapped)?;
        drop(kept);
        tracing::info!(bucket = %name, "the key of a bucket is changed");
        Ok(())
    }

    /// Starts the thread that goes on with changes until the server stops.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub(super) fn start_changing_keys(&self, supervisor: &Supervisor) -> std::io::Result<()> {
        let (this, shutdown) = (self.clone(), supervisor.shutdown().clone());
        let bells = [&self.0.key_changes.bell, &self.0.key_changes.rest].map(Arc::clone);
        shutdown.on_change(move || bells.iter().for_each(|bell| bell.ring()));
        supervisor.thread("objects-keys", Role::Ordinary, Priority::Low, move || this.change_keys_until(&shutdown))
    }

    fn change_keys_until(&self, shutdown: &Shutdown) {
        while !shutdown.is_draining() {
            let wait = self.change_keys(&|| !shutdown.is_draining()).unwrap_or_else(|error| {
                tracing::warn!(%error, "changes of buckets' keys wait a minute");
                TROUBLE
            });
            if !wait.is_zero() {
                self.0.key_changes.bell.wait(wait);
            }
        }
    }

    /// Goes on with every change; tells how long to wait before the next call. Blocks.
    pub(super) fn change_keys(&self, go_on: &dyn Fn() -> bool) -> Result<Duration, ObjectError> {
        let changes = &self.0.key_changes;
        let unnoted: Vec<BucketName> = changes.unnoted().iter().cloned().collect();
        for name in unnoted {
            self.note_bucket(&name)?;
            changes.unnoted().remove(&name);
        }
        let mut wait = LOOK;
        for (name, row) in self.changing()? {
            if !go_on() {
                return Ok(Duration::ZERO);
            }
            let (reason, again) = match self.change_key(&name, &row, go_on) {
                Ok(Round::Done) => (None, Duration::ZERO),
                Ok(Round::Stopped) => return Ok(Duration::ZERO),
                Ok(Round::Waits(reason)) => (Some(reason), SOON),
                Err(error) => {
                    tracing::warn!(bucket = %name, %error, "the change of a bucket's key waits a minute");
                    (Some(error.to_string()), TROUBLE)
                }
            };
            wait = wait.min(again);
            match reason {
                Some(reason) => drop(changes.waits_for().insert(row.id, reason)),
                None => drop(changes.waits_for().remove(&row.id)),
            }
        }
        Ok(wait)
    }

    /// The buckets whose key is being changed.
    pub(super) fn changing(&self) -> Result<Vec<(BucketName, BucketRow)>, ObjectError> {
        let (mut out, mut after) = (Vec::new(), Vec::new());
        loop {
            let rows = self.0.store.read_blocking(|tx| {
                tx.scan(BUCKETS, Bound::Excluded(after.as_slice()), Bound::Unbounded, Direction::Forward, PAGE)
            });
            let rows = rows.map_err(ObjectError::Store)?;
            let Some((last, _)) = rows.last() else { return Ok(out) };
            after.clone_from(last);
            for (name, value) in rows {
                let row: BucketRow = decode(BUCKETS, &value)?;
                if is_changing(&row.wrapped_key) {
                    let name = std::str::from_utf8(&name).ok().and_then(|name| name.parse().ok());
                    out.push((name.ok_or_else(|| malformed_key(BUCKETS))?, row));
                }
            }
        }
    }

    fn change_key(
        &self,
        name: &BucketName,
        bucket: &BucketRow,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Round, ObjectError> {
        let (id, inner) = (bucket.id, &self.0);
        // Done when the change began, unless that was cut off behind its commit.
        inner.keys.settle(id, &bucket.wrapped_key)?;
        self.note_bucket(name)?;
        let key = inner.keys.adopt(id, &bucket.wrapped_key)?;
        let left = {
            let mut written = inner.key_changes.written();
            let before = written.entry(id).or_insert_with(|| inner.writing.all());
            before.retain(|blob| inner.writing.holds(*blob));
            before.len()
        };
        if left > 0 {
            return Ok(Round::Waits(format!("{left} uploads that began before")));
        }
        // What was given up by its caller may be on its way into the index.
        inner.store.write_blocking(|_tx: &mut dyn WriteTx| Ok::<_, ObjectError>(()))?;
        self.redo_rewraps()?;
        // What began for a backend before the bucket came home from there.
        if self.is_away(id)? {
            return Err(ObjectError::KeptElsewhere);
        }
        let row = inner.store.read_blocking(|tx| row::<RotationRow>(tx, ROTATIONS, id.as_bytes()))?;
        let began = inner.clock.now().millis();
        let row = row.unwrap_or(RotationRow { began, stage: Stage::Files(0), rewrapped: 0, damaged: 0 });
        let mut walk = Walk { id, key: &key, row, settled: Vec::new(), go_on };
        loop {
            let on = match walk.row.stage.clone() {
                Stage::Files(folder) => self.rewrap_files(&mut walk, folder)?,
                Stage::Bodies(after) => self.rewrap_bodies(&mut walk, after)?,
                Stage::Exports if self.is_away(id)? => {
                    walk.row.stage = Stage::Files(0);
                    self.advance(&mut walk, Vec::new())?;
                    return Err(ObjectError::KeptElsewhere);
                }
                Stage::Exports => {
                    if !self.export_twice(go_on)? {
                        return Ok(Round::Stopped);
                    }
                    self.end_key_change(name, id)?;
                    let RotationRow { rewrapped, damaged, .. } = walk.row;
                    tracing::info!(bucket = %name, rewrapped, damaged, "the key before of a bucket is destroyed");
                    return Ok(Round::Done);
                }
            };
            if !on {
                return Ok(Round::Stopped);
            }
        }
    }

    /// Destroys the key before: nothing hangs on it.
    fn end_key_change(&self, name: &BucketName, id: Id128) -> Result<(), ObjectError> {
        let _turn = self.0.key_changes.turn();
        let at = name.as_str().as_bytes().to_vec();
        let found = self.0.store.read_blocking(|tx| row::<BucketRow>(tx, BUCKETS, &at))?;
        let Some(found) = found.filter(|found| found.id == id) else {
            // Deleted meanwhile.
            return self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
                tx.delete(ROTATIONS, id.as_bytes()).map(drop).map_err(ObjectError::Store)
            });
        };
        self.0.keys.settle(id, newest(&found.wrapped_key))?;
        self.0.key_changes.unnoted().insert(name.clone());
        let wrapped = self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            let found = row::<BucketRow>(tx, BUCKETS, &at)?.filter(|found| found.id == id);
            let Some(bucket) = found else { return Ok(None) };
            let wrapped_key = newest(&bucket.wrapped_key).to_vec();
            tx.put(BUCKETS, &at, &record::encode(&BucketRow { wrapped_key: wrapped_key.clone(), ..bucket }))?;
            tx.delete(ROTATIONS, id.as_bytes())?;
            Ok::<_, ObjectError>(Some(wrapped_key))
        })?;
        if let Some(wrapped) = wrapped {
            self.0.keys.adopt(id, &wrapped)?;
        }
        self.0.key_changes.written().remove(&id);
        self.note_bucket(name)?;
        self.0.key_changes.unnoted().remove(name);
        Ok(())
    }

    /// Takes a key from beside the blobs that its bucket's row did not get: a change was cut off before it began. Blocks.
    pub(super) fn settle_keys(&self) -> Result<(), ObjectError> {
        let _turn = self.0.key_changes.turn();
        let files = self.0.keys.files()?;
        let long: HashSet<Id128> =
            files.into_iter().filter(|(_, wrapped)| is_changing(wrapped)).map(|(id, _)| id).collect();
        if long.is_empty() {
            return Ok(());
        }
        let mut after = Vec::new();
        loop {
            let rows = self.0.store.read_blocking(|tx| {
                tx.scan(BUCKETS, Bound::Excluded(after.as_slice()), Bound::Unbounded, Direction::Forward, PAGE)
            });
            let rows = rows.map_err(ObjectError::Store)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after.clone_from(last);
            for (_, value) in rows {
                let row: BucketRow = decode(BUCKETS, &value)?;
                if long.contains(&row.id) && !is_changing(&row.wrapped_key) {
                    self.0.keys.settle(row.id, &row.wrapped_key)?;
                }
            }
        }
    }

    /// How the change of a bucket's key stands, if there is one. `tx` is the moment that `bucket` was read at.
    pub(super) fn key_change(&self, tx: &dyn ReadTx, bucket: &BucketRow) -> Result<Option<KeyChange>, ObjectError> {
        if !is_changing(&bucket.wrapped_key) {
            return Ok(None);
        }
        let row: Option<RotationRow> = row(tx, ROTATIONS, bucket.id.as_bytes())?;
        let (began, rewrapped, damaged) = row.as_ref().map_or((0, 0, 0), |row| (row.began, row.rewrapped, row.damaged));
        let percent = match row.map(|row| row.stage) {
            None => 0,
            Some(Stage::Files(folder)) => u8::try_from(u32::from(folder) * 100 / u32::from(FOLDERS)).unwrap_or(100),
            Some(Stage::Bodies(_) | Stage::Exports) => 100,
        };
        let waits_for = self.0.key_changes.waits_for().get(&bucket.id).cloned();
        Ok(Some(KeyChange { began: Timestamp(began), rewrapped, damaged, percent, waits_for }))
    }
}

impl KeyChanges {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, HashMap<Id128, Vec<Id128>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits_for(&self) -> MutexGuard<'_, HashMap<Id128, String>> {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unnoted(&self) -> MutexGuard<'_, HashSet<BucketName>> {
        self.unnoted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
