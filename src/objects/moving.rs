//! Moving the bodies of a bucket from one place to another while they are in use.
//!
//! From the moment a move is asked for, new bodies of the bucket go to the new place. Those that are there follow one by one,
//! on a thread of low priority and at no more than `objects.move_rate`: copied as they are (sealed, under the same blob id),
//! read back from the new place with every segment verified, and then, in one transaction, named there and let go of at the
//! old one, which keeps them until nobody reads them any more. Whoever reads meanwhile finds them at one or the other.
//!
//! One row of `objects.moves` says how it stands ([`MoveRow`]); it is written with every body, so a move goes on after a
//! restart where it was. A pass goes through all blobs by their ids, and passes go on until one has found nothing to move: an
//! upload that began before the move may be committed behind the place where the pass is. One that is committed even later
//! begins another pass ([`Objects::catch_up`]). A move is called off by moving back.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backends::{BackendName, Pieces};
use super::blob::{BlobFile, OpenFault, Source};
use super::error::ObjectError;
use super::garbage::Garbage;
use super::index::{BLOBS, BUCKETS, BlobRow, BucketRow, MOVES, decode, malformed_key, row};
use super::keys::is_changing;
use super::names::BucketName;
use super::place::{self, Placed};
use super::scrub::pace;
use super::service::Objects;
use super::usage::usage_row;
use crate::base::supervise::{Priority, Role};
use crate::base::{Id128, OpenMode, Shutdown, Supervisor, Timestamp};
use crate::store::{Direction, ReadTx, Record, WriteTx, record};

/// Rows looked at in one step.
const PAGE: usize = 256;

/// How long nothing is looked at, at most.
const LOOK: Duration = Duration::from_mins(1);

/// The wait after an error.
const TROUBLE: Duration = Duration::from_mins(1);

/// Bytes copied at a time to the disk.
const COPY: usize = 256 << 10;

/// How moving a bucket's bodies stands. Part of the stored format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MoveRow {
    /// Where to; `None` for the local disk.
    pub to: Option<BackendName>,
    /// When it began.
    pub began: Timestamp,
    /// When it was through.
    pub ended: Option<Timestamp>,
    /// The last blob that this pass has looked at.
    pub after: Option<Id128>,
    /// Bodies moved in this pass.
    pub in_pass: u64,
    /// Bodies moved in all.
    pub moved: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bodies that stayed in this pass, since they are damaged where they are.
    pub stayed: u64,
    /// What keeps it from going on.
    pub trouble: Option<String>,
}

impl Record for MoveRow {
    const VERSION: u8 = 1;
}

/// How moving a bucket's bodies stands, for those who look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveStatus {
    /// The bucket.
    pub bucket: String,
    /// Where to: a backend, or `local`.
    pub to: String,
    /// When it began.
    pub began: Timestamp,
    /// When it was through; `None` while it goes on.
    pub ended: Option<Timestamp>,
    /// Bodies moved so far.
    pub moved: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bodies that could not be moved, since they are damaged where they are.
    pub stayed: u64,
    /// What keeps it from going on; it is tried again every minute.
    pub trouble: Option<String>,
    /// Bytes the bucket holds, those in the index with them.
    pub expected_bytes: u64,
}

/// How the move of the bucket with the id `bucket` stands, or stood when it ended.
pub(super) fn status(tx: &dyn ReadTx, name: &BucketName, bucket: Id128) -> Result<Option<MoveStatus>, ObjectError> {
    let Some(row) = row::<MoveRow>(tx, MOVES, bucket.as_bytes())? else { return Ok(None) };
    let expected_bytes = usage_row(tx, bucket)?.bytes;
    let MoveRow { to, began, ended, moved, bytes, stayed, trouble, .. } = row;
    Ok(Some(MoveStatus {
        bucket: name.to_string(),
        to: BackendName::home(to.as_ref()).to_owned(),
        began,
        ended,
        moved,
        bytes,
        stayed,
        trouble,
        expected_bytes,
    }))
}

/// A move that is not through, with its bucket; one that nothing keeps from going on, if there is such.
fn under_way(tx: &dyn ReadTx) -> Result<Option<(Id128, MoveRow)>, ObjectError> {
    let mut found: Option<(Id128, MoveRow)> = None;
    for (at, value) in tx.scan(MOVES, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)? {
        let one: MoveRow = decode(MOVES, &value)?;
        if one.ended.is_none() && found.as_ref().is_none_or(|(_, other)| other.trouble.is_some()) {
            let goes_on = one.trouble.is_none();
            if goes_on || found.is_none() {
                found = Some((id_of(&at)?, one));
            }
            if goes_on {
                break;
            }
        }
    }
    Ok(found)
}

/// Whether bodies of `bucket` are being moved.
pub(super) fn is_under_way(tx: &dyn ReadTx, bucket: Id128) -> Result<bool, ObjectError> {
    Ok(row::<MoveRow>(tx, MOVES, bucket.as_bytes())?.is_some_and(|row| row.ended.is_none()))
}

/// Changes the row of a move that is still the one that began at `began`.
fn change(
    tx: &mut dyn WriteTx,
    bucket: Id128,
    began: Timestamp,
    with: impl FnOnce(&mut MoveRow),
) -> Result<(), ObjectError> {
    let Some(mut now) = row::<MoveRow>(tx, MOVES, bucket.as_bytes())?.filter(|row| row.began == began) else {
        return Ok(());
    };
    with(&mut now);
    Ok(tx.put(MOVES, bucket.as_bytes(), &record::encode(&now))?)
}

fn id_of(key: &[u8]) -> Result<Id128, ObjectError> {
    let bytes = <[u8; 16]>::try_from(key).map_err(|_other_length| malformed_key(BLOBS))?;
    Ok(Id128::from_bytes(bytes))
}

/// An error when the server stops: a body may be large, and the next start begins with it again.
fn go_on(stopping: &AtomicBool) -> std::io::Result<()> {
    if stopping.load(Ordering::Relaxed) { Err(std::io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

/// A blob's bytes, as long as the server does not stop.
struct Stoppable<'a> {
    source: &'a Source,
    stopping: &'a AtomicBool,
}

impl Pieces for Stoppable<'_> {
    fn piece(&self, offset: u64, len: usize) -> Result<Vec<u8>, ObjectError> {
        go_on(self.stopping)?;
        self.source.piece(offset, len)
    }
}

/// What became of one body.
enum Outcome {
    /// It is at the new place, with so many bytes.
    Moved(u64),
    /// It is damaged where it is, and stays.
    Stays,
    /// It was let go of, or moved by another, meanwhile.
    Gone,
}

impl Objects {
    /// Has the bodies of a bucket moved to the backend `to` (`None` for the local disk), those to come at once, the others
    /// behind the scenes; returns once that would survive power loss. A move under way ends with it: to the place where it
    /// came from, that is how it is called off.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::Backends`]; [`ObjectError::Unavailable`]: its key is being changed.
    ///
    /// # Cancel safety
    /// Dropped before its end, the move may have begun.
    pub async fn start_move(&self, name: &BucketName, to: Option<BackendName>) -> Result<(), ObjectError> {
        if let Some(to) = &to {
            self.0.backends.find(to)?;
        }
        let (key, now) = (name.as_str().as_bytes().to_vec(), self.0.clock.now());
        // Where there is but one place, all are there.
        let ended = self.0.backends.is_empty().then_some(now);
        let begin = move |tx: &mut dyn WriteTx| {
            let mut bucket: BucketRow = row(tx, BUCKETS, &key)?.ok_or(ObjectError::NoSuchBucket)?;
            // Its walk goes through files alone, and each once.
            if is_changing(&bucket.wrapped_key) {
                return Err(ObjectError::Unavailable("the key of the bucket is being changed"));
            }
            bucket.home.clone_from(&to);
            let begun = MoveRow { to: to.clone(), began: now, ended, ..MoveRow::default() };
            tx.put(MOVES, bucket.id.as_bytes(), &record::encode(&begun))?;
            Ok(tx.put(BUCKETS, &key, &record::encode(&bucket))?)
        };
        self.write_and_forget(name, begin).await?;
        self.0.move_bell.ring();
        Ok(())
    }

    /// The names of all backends, in the order of the settings.
    pub fn backend_names(&self) -> Vec<String> {
        self.0.backends.all().iter().map(|backend| backend.name().to_string()).collect()
    }

    /// How the last move of a bucket stands, or ended; `None` when there was none. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`].
    pub async fn move_status(&self, name: &BucketName) -> Result<Option<MoveStatus>, ObjectError> {
        let name = name.clone();
        let read = self.0.store.read(move |tx| {
            let bucket: BucketRow = row(tx, BUCKETS, name.as_str().as_bytes())?.ok_or(ObjectError::NoSuchBucket)?;
            status(tx, &name, bucket.id)
        });
        read.await
    }

    /// Begins another pass, when a body is committed `placed` where its `bucket` does not keep them any more: its upload began
    /// before a move.
    pub(super) fn catch_up(
        &self,
        tx: &mut dyn WriteTx,
        bucket: &BucketRow,
        placed: &Placed,
    ) -> Result<(), ObjectError> {
        if placed.backend() == bucket.home.as_ref() {
            return Ok(());
        }
        let found: Option<MoveRow> = row(tx, MOVES, bucket.id.as_bytes())?;
        let mut again = found.unwrap_or_else(|| MoveRow { began: self.0.clock.now(), ..MoveRow::default() });
        again.to.clone_from(&bucket.home);
        (again.ended, again.after, again.in_pass) = (None, None, 0);
        Ok(tx.put(MOVES, bucket.id.as_bytes(), &record::encode(&again))?)
    }

    /// Starts the thread that moves until the server stops; where there are no backends, nothing can be moved.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub(super) fn start_moving(&self, supervisor: &Supervisor) -> std::io::Result<()> {
        if self.0.backends.is_empty() {
            return Ok(());
        }
        let (this, shutdown) = (self.clone(), supervisor.shutdown().clone());
        let stopped = self.clone();
        shutdown.on_change(move || {
            stopped.0.stopping.store(true, Ordering::Relaxed);
            stopped.0.move_bell.ring();
        });
        supervisor.thread("objects-move", Role::Ordinary, Priority::Low, move || this.move_until(&shutdown))
    }

    fn move_until(&self, shutdown: &Shutdown) {
        while !shutdown.is_draining() {
            let wait = self.move_step().unwrap_or_else(|error| {
                if shutdown.is_draining() {
                    return Duration::ZERO;
                }
                tracing::warn!(%error, "moving bodies waits a minute");
                if let Err(error) = self.note_trouble(&error.to_string()) {
                    tracing::warn!(%error, "what keeps a move from going on is not noted");
                }
                TROUBLE
            });
            if !wait.is_zero() {
                self.0.move_bell.wait(wait);
            }
        }
    }

    fn note_trouble(&self, what: &str) -> Result<(), ObjectError> {
        let Some((bucket, MoveRow { began, .. })) = self.0.store.read_blocking(under_way)? else { return Ok(()) };
        let what = what.to_owned();
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            change(tx, bucket, began, |row| row.trouble = Some(what.clone()))
        })
    }

    /// Moves the next body of the move under way; tells how long to wait before the next call. Blocks.
    pub(super) fn move_step(&self) -> Result<Duration, ObjectError> {
        let Some((bucket, state)) = self.0.store.read_blocking(under_way)? else { return Ok(LOOK) };
        let after = state.after;
        let rows = self.0.store.read_blocking(|tx| {
            let from = after.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_bytes().as_slice()));
            tx.scan(BLOBS, from, Bound::Unbounded, Direction::Forward, PAGE)
        });
        let rows = rows.map_err(ObjectError::Store)?;
        let (more, began) = (rows.len() == PAGE, self.0.clock.monotonic());
        let last = rows.last().map(|(at, _)| id_of(at)).transpose()?;
        for (at, value) in rows {
            let (id, found) = (id_of(&at)?, decode::<BlobRow>(BLOBS, &value)?);
            if found.bucket != bucket || found.placed.backend() == state.to.as_ref() {
                continue;
            }
            let outcome = self.move_blob(id, &found, bucket, &state)?;
            let rate = self.0.config.move_rate.bytes();
            let spent = self.0.clock.monotonic().saturating_sub(began);
            return Ok(match outcome {
                Outcome::Moved(bytes) => pace(bytes, rate).saturating_sub(spent),
                Outcome::Stays | Outcome::Gone => Duration::ZERO,
            });
        }
        let now = self.0.clock.now();
        let ended = self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            let mut ended = false;
            change(tx, bucket, state.began, |row| {
                // Begun anew meanwhile.
                if row.after != after {
                    return;
                }
                row.trouble = None;
                if more {
                    row.after = last;
                } else if row.in_pass == 0 {
                    (row.ended, row.after, ended) = (Some(now), None, true);
                } else {
                    (row.in_pass, row.stayed, row.after) = (0, 0, None);
                }
            })?;
            Ok::<_, ObjectError>(ended)
        })?;
        if ended {
            let MoveRow { to, moved, bytes, stayed, .. } = state;
            let to = BackendName::home(to.as_ref());
            tracing::info!(%bucket, to, moved, bytes, stayed, "the bodies of a bucket are moved");
            self.count_held()?;
        }
        Ok(Duration::ZERO)
    }

    /// Moves the blob `id`, whose row is `found`. An error leaves it where it is.
    fn move_blob(&self, id: Id128, found: &BlobRow, bucket: Id128, state: &MoveRow) -> Result<Outcome, ObjectError> {
        // From before anything is at the new place until its row says so.
        let _writing = self.0.writing.hold(id);
        let source = match self.source(id, &found.placed) {
            Ok(source) => source,
            Err(OpenFault::Missing) => return self.stays(id, bucket, state, "its file is missing"),
            Err(fault) => return Err(self.unreadable(id, fault)),
        };
        let stored = source.len().map_err(|fault| self.unreadable(id, fault))?;
        let copied = match &state.to {
            Some(to) => {
                let size = match self.body_size(id, found) {
                    Ok(size) => size,
                    Err(OpenFault::Backend(error)) => return Err(error.into()),
                    Err(OpenFault::Disk(error)) => return Err(error.into()),
                    Err(OpenFault::Missing) => return self.stays(id, bucket, state, "its bytes are missing"),
                    Err(OpenFault::Corrupt(fault)) => return self.stays(id, bucket, state, fault.0),
                };
                let pieces = Stoppable { source: &source, stopping: &self.0.stopping };
                self.send(id, (stored, size), &pieces, to).map(Placed::There)
            }
            None => self.fetch(id, &source, stored).map(|()| Placed::Here),
        };
        let placed = match copied {
            Ok(placed) => placed,
            Err(error) => return self.not_copied(id, found, bucket, state, error),
        };
        if let Err(fault) = self.source(id, &placed).and_then(|copy| self.verify(id, copy, found.bucket)) {
            self.drop_copy(id, &placed)?;
            return match fault {
                OpenFault::Corrupt(_) => match self.verify(id, source, found.bucket) {
                    // What was written well does not come back so.
                    Ok(()) => Err(self.unreadable(id, fault)),
                    Err(OpenFault::Corrupt(fault)) => self.stays(id, bucket, state, fault.0),
                    Err(other) => Err(self.unreadable(id, other)),
                },
                other => Err(self.unreadable(id, other)),
            };
        }
        let (this, was, began) = (self.clone(), found.clone(), state.began);
        let goes = placed.clone();
        let moved = self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            if row::<BlobRow>(tx, BLOBS, id.as_bytes())?.as_ref() != Some(&was) {
                return Ok(false);
            }
            place::settle_in(tx, id, was.bucket, &goes)?;
            let garbage = match &was.placed {
                Placed::Here => Garbage::Stale(id),
                Placed::There(remote) => Garbage::There { blob: id, remote: remote.clone(), upload: None },
            };
            this.discard(tx, &[garbage])?;
            change(tx, bucket, began, |row| {
                (row.after, row.trouble) = (Some(id), None);
                row.in_pass = row.in_pass.saturating_add(1);
                row.moved = row.moved.saturating_add(1);
                row.bytes = row.bytes.saturating_add(stored);
            })?;
            Ok::<_, ObjectError>(true)
        })?;
        if moved {
            self.0.metrics.moved.add(stored);
            return Ok(Outcome::Moved(stored));
        }
        self.drop_copy(id, &placed)?;
        Ok(Outcome::Gone)
    }

    /// Passes over a body that could not be copied since it is not whole where it is; else it is the error's time to pass.
    fn not_copied(
        &self,
        id: Id128,
        found: &BlobRow,
        bucket: Id128,
        state: &MoveRow,
        error: ObjectError,
    ) -> Result<Outcome, ObjectError> {
        let of_its_bytes = match &error {
            ObjectError::Corrupt { .. } => true,
            ObjectError::Disk(error) => error.kind() == std::io::ErrorKind::UnexpectedEof,
            _ => false,
        };
        if !of_its_bytes {
            return Err(error);
        }
        match self.source(id, &found.placed).and_then(|source| self.verify(id, source, found.bucket)) {
            Err(OpenFault::Missing) => self.stays(id, bucket, state, "its bytes are missing"),
            Err(OpenFault::Corrupt(fault)) => self.stays(id, bucket, state, fault.0),
            Ok(()) | Err(_) => Err(error),
        }
    }

    /// Passes over a body that is damaged where it is.
    fn stays(&self, id: Id128, bucket: Id128, state: &MoveRow, fault: &'static str) -> Result<Outcome, ObjectError> {
        let began = state.began;
        let there = self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            let there = tx.get(BLOBS, id.as_bytes())?.is_some();
            change(tx, bucket, began, |row| {
                row.after = Some(id);
                row.stayed = row.stayed.saturating_add(u64::from(there));
            })?;
            Ok::<_, ObjectError>(there)
        })?;
        if !there {
            return Ok(Outcome::Gone);
        }
        self.0.metrics.integrity_failures.inc();
        tracing::error!(blob = %id, fault, "a body is damaged where it is, and is not moved");
        Ok(Outcome::Stays)
    }

    /// Plaintext bytes of a blob, told by its row or its footer.
    fn body_size(&self, id: Id128, found: &BlobRow) -> Result<u64, OpenFault> {
        if let Placed::There(remote) = &found.placed {
            return Ok(remote.size);
        }
        let key = self.0.keys.beside_blobs(found.bucket).map_err(std::io::Error::other)?;
        Ok(BlobFile::open_whole(Source::file(&self.0.blobs, id)?, id, |_| key)?.0.size())
    }

    /// Reads a blob from its beginning to its end, every segment verified.
    fn verify(&self, id: Id128, source: Source, bucket: Id128) -> Result<(), OpenFault> {
        let key = self.0.keys.beside_blobs(bucket).map_err(std::io::Error::other)?;
        let (file, _, _) = BlobFile::open_whole(source, id, |_| key)?;
        (0..file.segments()).try_for_each(|index| {
            go_on(&self.0.stopping)?;
            file.segment(index).map(drop)
        })
    }

    /// Makes the file of a blob from `source`, synced and named.
    fn fetch(&self, id: Id128, source: &Source, stored: u64) -> Result<(), ObjectError> {
        self.0.room.admit_now(stored)?;
        let explain = |error| self.0.room.explain(error);
        self.0.blobs.usable()?;
        let temporary = self.0.blobs.temporary(id);
        let file = self.0.blobs.disk().open(&temporary, OpenMode::OpenOrCreate).map_err(explain)?;
        file.set_len(0).map_err(explain)?;
        let mut offset = 0;
        let mut buffer = vec![0; COPY];
        while offset < stored {
            let len = usize::try_from(stored - offset).unwrap_or(COPY).min(COPY);
            let Some(piece) = buffer.get_mut(..len) else { break };
            go_on(&self.0.stopping)?;
            source.read_exact_at(offset, piece).map_err(|fault| self.unreadable(id, fault))?;
            self.0.room.admit_now(0)?;
            file.write_at(offset, piece).map_err(explain)?;
            offset += len as u64;
        }
        self.0.blobs.sync(id, file.as_ref()).map_err(explain)?;
        // Inside the lock, so that no stale file of this name is being removed meanwhile.
        let kept = self.kept();
        self.0.blobs.give_name(id)?;
        drop(kept);
        self.0.metrics.used.add(stored as i64);
        Ok(())
    }

    /// Has a copy removed that nothing names.
    fn drop_copy(&self, id: Id128, placed: &Placed) -> Result<(), ObjectError> {
        let (this, placed) = (self.clone(), placed.clone());
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| match &placed {
            Placed::Here => this.discard(tx, &[Garbage::Stale(id)]),
            Placed::There(remote) => this.unsend(tx, id, remote),
        })
    }

    /// Tells the metrics how much is at each backend. Blocks.
    pub(super) fn count_held(&self) -> Result<(), ObjectError> {
        let held = self.0.store.read_blocking(place::held)?;
        for backend in self.0.backends.all() {
            let row = held.iter().find(|(name, _)| name == backend.name()).map(|(_, row)| row);
            backend.tell(row.map_or(0, |row| row.held), row.map_or(0, |row| row.bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_of_the_first_release_that_has_it_is_read() {
        let row = MoveRow {
            to: Some("cold".parse().unwrap()),
            began: Timestamp(300),
            after: Some(Id128::from_bytes([2; 16])),
            moved: 5,
            ..MoveRow::default()
        };
        let stored = [&[1, 1, 4][..], b"cold", &[0xac, 2, 0, 1], &[2; 16], &[0, 5, 0, 0, 0]].concat();
        assert_eq!(record::encode(&row), stored);
        assert_eq!(record::decode(&stored), Ok(row));
    }
}
