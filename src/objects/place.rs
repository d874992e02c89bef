//! Where each blob is, and what of that has to be remembered so that nothing is lost and nothing left behind.
//!
//! | table | key | value |
//! |---|---|---|
//! | `objects.backends` | name of a backend | [`HeldRow`]: how much this server has put there, whatever refers to it |
//! | `objects.sending` | blob id ‖ nonce (8) | [`SendingRow`]: what is on its way to a backend |
//!
//! A blob goes to a backend in three steps, each durable before the next: a row in `objects.sending`; the bytes; one
//! transaction that names the place in `objects.blobs` and takes the row away. A crash or an error in between leaves the
//! row; nothing was acknowledged. A sweep notes that nobody is at it any more, and one that is at least [`LATE`] later has
//! what it names deleted: a service may carry out late what it has not answered in time. What is let go of becomes
//! [`Garbage::There`], which stays until the backend has said that it is gone. So the server knows, without asking, every
//! name it has written at a backend, and deletes no other.
//!
//! A row of `objects.backends` counts from the first of these steps to the last, so a backend may be taken out of the
//! settings when its row says zero and no bucket is set to it.

use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backends::{BackendName, Backends, BackendsError, Pieces};
use super::blob::{HEADER, is_rewrapped};
use super::error::ObjectError;
use super::garbage::Garbage;
use super::index::{BACKENDS, BLOBS, BUCKETS, BlobRow, BucketRow, MOVES, SENDING, decode, malformed_key, row};
use super::moving::{self, MoveRow};
use super::service::Objects;
use super::versions::nonce;
use crate::base::{Id128, Timestamp};
use crate::store::{Direction, ReadTx, Record, WriteTx, record};

/// How long a request may be carried out after it was given up.
const LATE: Duration = Duration::from_hours(1);

/// Rows looked at in one transaction.
const PAGE: usize = 256;

/// Where a blob's bytes are. Part of the stored format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Placed {
    /// In a file in `blobs/`.
    #[default]
    Here,
    /// At a backend.
    There(Remote),
}

impl Placed {
    /// The backend; `None` for the local disk.
    pub fn backend(&self) -> Option<&BackendName> {
        match self {
            Self::Here => None,
            Self::There(remote) => Some(&remote.backend),
        }
    }

    /// What is to be removed when the blob `id` is let go of.
    pub fn let_go(&self, id: Id128) -> Garbage {
        match self {
            Self::Here => Garbage::Blob(id),
            Self::There(remote) => Garbage::There { blob: id, remote: remote.clone(), upload: None },
        }
    }

    /// The same place, of a body of `size` plaintext bytes.
    #[must_use]
    pub fn with_size(mut self, size: u64) -> Self {
        if let Self::There(remote) = &mut self {
            remote.size = size;
        }
        self
    }
}

/// A blob at a backend. Part of the stored format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remote {
    /// Which backend.
    pub backend: BackendName,
    /// Makes its name there one that was never used before.
    pub nonce: u64,
    /// Bytes there.
    pub stored: u64,
    /// Plaintext bytes of the body.
    pub size: u64,
    /// What tells its header from the one the blob was first written with: nothing, or the wrapped key that has come into it
    /// since; of one that was only found in a listing, what no other has. Where it is it stays as it is.
    pub head: Vec<u8>,
}

/// What this server has put to a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HeldRow {
    /// How many bodies, also such as wait to be deleted.
    pub held: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bucket and prefix they are in.
    pub place: String,
}

impl Record for HeldRow {
    const VERSION: u8 = 1;
}

/// A blob on its way to a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SendingRow {
    /// Where to.
    pub remote: Remote,
    /// The upload in parts, once it was begun.
    pub upload: Option<String>,
    /// When a sweep found it first with nobody at it.
    pub left: Option<Timestamp>,
}

impl Record for SendingRow {
    const VERSION: u8 = 1;
}

/// Key of what is on its way.
pub(super) fn sending_key(blob: Id128, remote: &Remote) -> Vec<u8> {
    [&blob.as_bytes()[..], &remote.nonce.to_be_bytes()].concat()
}

/// Keeps count of what comes to a backend whose bodies lie in `place`.
fn came(tx: &mut dyn WriteTx, remote: &Remote, place: &str) -> Result<(), ObjectError> {
    let at = remote.backend.as_str().as_bytes();
    let found: Option<HeldRow> = row(tx, BACKENDS, at)?;
    let mut held = found.unwrap_or(HeldRow { held: 0, bytes: 0, place: String::new() });
    place.clone_into(&mut held.place);
    held.held = held.held.saturating_add(1);
    held.bytes = held.bytes.saturating_add(remote.stored);
    Ok(tx.put(BACKENDS, at, &record::encode(&held))?)
}

/// Keeps count of what is gone from a backend.
pub(super) fn gone(tx: &mut dyn WriteTx, remote: &Remote) -> Result<(), ObjectError> {
    let at = remote.backend.as_str().as_bytes();
    let Some(mut held) = row::<HeldRow>(tx, BACKENDS, at)? else { return Ok(()) };
    held.held = held.held.saturating_sub(1);
    held.bytes = held.bytes.saturating_sub(remote.stored);
    if held.held == 0 {
        tx.delete(BACKENDS, at)?;
        return Ok(());
    }
    Ok(tx.put(BACKENDS, at, &record::encode(&held))?)
}

/// Gives the blob `id` its row: it is in `placed` from this commit on.
pub(super) fn settle_in(tx: &mut dyn WriteTx, id: Id128, bucket: Id128, placed: &Placed) -> Result<(), ObjectError> {
    if let Placed::There(remote) = placed {
        tx.delete(SENDING, &sending_key(id, remote))?;
    }
    Ok(tx.put(BLOBS, id.as_bytes(), &record::encode(&BlobRow { bucket, placed: placed.clone() }))?)
}

/// Takes the row of the blob `id` away; what is returned must be discarded in the same transaction.
pub(super) fn let_go(tx: &mut dyn WriteTx, id: Id128) -> Result<Garbage, ObjectError> {
    let found: Option<BlobRow> = row(tx, BLOBS, id.as_bytes())?;
    tx.delete(BLOBS, id.as_bytes())?;
    Ok(found.map(|row| row.placed).unwrap_or_default().let_go(id))
}

/// What is at each backend, by name.
pub(super) fn held(tx: &dyn ReadTx) -> Result<Vec<(BackendName, HeldRow)>, ObjectError> {
    let rows = tx.scan(BACKENDS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)?;
    let known = |(name, value): (Vec<u8>, Vec<u8>)| {
        let name = std::str::from_utf8(&name).ok().and_then(|name| name.parse().ok());
        Ok((name.ok_or_else(|| malformed_key(BACKENDS))?, decode(BACKENDS, &value)?))
    };
    rows.into_iter().map(known).collect()
}

/// Whether the settings have every backend that is needed, in its place.
///
/// # Errors
/// [`BackendsError`].
pub(super) fn check(tx: &dyn ReadTx, backends: &Backends) -> Result<(), ObjectError> {
    let needed = |name: &BackendName, what: String| match backends.find(name) {
        Ok(backend) => Ok(backend),
        Err(_unknown) => Err(BackendsError::Gone { name: name.clone(), what }),
    };
    for (name, HeldRow { held, place, .. }) in held(tx)? {
        let backend = needed(&name, format!("it holds {held} bodies of objects, or what is left of some"))?;
        if backend.place() != place {
            return Err(BackendsError::Elsewhere { name, held, was: place, is: backend.place() }.into());
        }
    }
    for (name, value) in tx.scan(BUCKETS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)? {
        if let Some(home) = decode::<BucketRow>(BUCKETS, &value)?.home {
            needed(&home, format!("the bucket {} is set to it", String::from_utf8_lossy(&name)))?;
        }
    }
    for (_, value) in tx.scan(MOVES, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)? {
        if let MoveRow { to: Some(to), ended: None, .. } = decode(MOVES, &value)? {
            needed(&to, "a bucket is being moved to it".to_owned())?;
        }
    }
    Ok(())
}

impl Objects {
    /// Where the blob `id` is. Blocks, and costs nothing where there are no backends.
    pub(super) fn placed(&self, id: Id128) -> Result<Placed, ObjectError> {
        if self.0.backends.is_empty() {
            return Ok(Placed::Here);
        }
        let found: Option<BlobRow> = self.0.store.read_blocking(|tx| row(tx, BLOBS, id.as_bytes()))?;
        Ok(found.map_or(Placed::Here, |row| row.placed))
    }

    /// Whether a body of `bucket` is at a backend, or is being moved. Blocks.
    pub(super) fn is_away(&self, bucket: Id128) -> Result<bool, ObjectError> {
        let (any, moving) = self
            .0
            .store
            .read_blocking(|tx| Ok::<_, ObjectError>((!held(tx)?.is_empty(), moving::is_under_way(tx, bucket)?)))?;
        if !any || moving {
            return Ok(moving);
        }
        let mut from = Bound::Unbounded;
        loop {
            let rows = self.0.store.read_blocking(|tx| {
                tx.scan(BLOBS, from.as_ref().map(Vec::as_slice), Bound::Unbounded, Direction::Forward, PAGE)
            });
            let rows = rows.map_err(ObjectError::Store)?;
            let Some((last, _)) = rows.last() else { return Ok(false) };
            from = Bound::Excluded(last.clone());
            for (_, value) in rows {
                let row: BlobRow = decode(BLOBS, &value)?;
                if row.bucket == bucket && row.placed != Placed::Here {
                    return Ok(true);
                }
            }
        }
    }

    /// Sends the blob `blob`, `stored` bytes with `size` plaintext bytes, to the backend `to`. Blocks. The caller holds
    /// `blob` as being written until [`settle_in`] is committed.
    ///
    /// # Errors
    /// A sweep has deleted what may be there by then.
    pub(super) fn send(
        &self,
        blob: Id128,
        (stored, size): (u64, u64),
        from: &dyn Pieces,
        to: &BackendName,
    ) -> Result<Remote, ObjectError> {
        let backend = self.0.backends.find(to)?;
        let nonce = nonce(Id128::random(self.0.random.as_ref()));
        let header = from.piece(0, HEADER)?;
        let head = is_rewrapped(&header, blob).unwrap_or_default().to_vec();
        let remote = Remote { backend: to.clone(), nonce, stored, size, head };
        let (at, place) = (sending_key(blob, &remote), backend.place());
        let (key, noted) = (at.clone(), remote.clone());
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            let sending = SendingRow { remote: noted.clone(), upload: None, left: None };
            came(tx, &noted, &place)?;
            Ok::<_, ObjectError>(tx.put(SENDING, &key, &record::encode(&sending))?)
        })?;
        let begun = |upload: &str| {
            let sending = SendingRow { remote: remote.clone(), upload: Some(upload.to_owned()), left: None };
            let (key, value) = (at.clone(), record::encode(&sending));
            self.0
                .store
                .write_blocking(move |tx: &mut dyn WriteTx| tx.put(SENDING, &key, &value))
                .map_err(ObjectError::Store)
        };
        backend.write(&backend.path(blob, &remote), stored, from, &begun)?;
        Ok(remote)
    }

    /// Has deleted what was sent and is not wanted any more, since what should have named it failed for certain.
    pub(super) fn unsend(&self, tx: &mut dyn WriteTx, blob: Id128, remote: &Remote) -> Result<(), ObjectError> {
        let Some(sending) = row::<SendingRow>(tx, SENDING, &sending_key(blob, remote))? else { return Ok(()) };
        tx.delete(SENDING, &sending_key(blob, remote))?;
        self.discard(tx, &[Garbage::There { blob, remote: sending.remote, upload: sending.upload }])
    }

    /// Has deleted what was on its way when a process ended or a request failed; tells how much. Blocks.
    pub(super) fn sweep_sending(&self) -> Result<u64, ObjectError> {
        let (mut from, mut count) = (Bound::Unbounded, 0);
        loop {
            let rows = self.0.store.read_blocking(|tx: &dyn ReadTx| {
                tx.scan(SENDING, from.as_ref().map(Vec::as_slice), Bound::Unbounded, Direction::Forward, PAGE)
            });
            let rows = rows.map_err(ObjectError::Store)?;
            let Some((last, _)) = rows.last() else { return Ok(count) };
            from = Bound::Excluded(last.clone());
            for (at, _) in rows {
                let blob = Id128::from_bytes(*at.first_chunk::<16>().ok_or_else(|| malformed_key(SENDING))?);
                // Asked before the row is looked at again: what is committed in between has taken it away.
                if self.0.writing.holds(blob) {
                    continue;
                }
                let (this, now) = (self.clone(), self.0.clock.now());
                let deleted = self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
                    let Some(row) = row::<SendingRow>(tx, SENDING, &at)? else { return Ok(false) };
                    match row.left {
                        Some(left) if now.since(left) >= LATE => this.unsend(tx, blob, &row.remote).map(|()| true),
                        Some(_) => Ok(false),
                        None => {
                            tx.put(SENDING, &at, &record::encode(&SendingRow { left: Some(now), ..row }))?;
                            Ok::<_, ObjectError>(false)
                        }
                    }
                })?;
                count += u64::from(deleted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_stored_as_they_always_were() {
        let remote = Remote { backend: "cold".parse().unwrap(), nonce: 300, stored: 7, size: 5, head: vec![9] };
        let row = BlobRow { bucket: Id128::from_bytes([2; 16]), placed: Placed::There(remote.clone()) };
        let stored = [&[2][..], &[2; 16], &[1, 4], b"cold", &[0xac, 2, 7, 5, 1, 9]].concat();
        assert_eq!(record::encode(&row), stored);
        assert_eq!(record::decode(&stored), Ok(row));
        let sending = SendingRow { remote, upload: Some("u".to_owned()), left: None };
        let stored = [&[1, 4][..], b"cold", &[0xac, 2, 7, 5, 1, 9, 1, 1], b"u", &[0]].concat();
        assert_eq!(record::encode(&sending), stored);
        assert_eq!(record::decode(&stored), Ok(sending));
    }

    #[test]
    fn a_blob_of_the_first_release_is_here() {
        let old = [&[1][..], &[2; 16]].concat();
        assert_eq!(record::decode(&old), Ok(BlobRow { bucket: Id128::from_bytes([2; 16]), placed: Placed::Here }));
    }
}
