//! Everything here that a master key has wrapped, under the one that follows it ([`crate::crypto::rotation`]).
//!
//! That is each bucket's key, in its row, beside the blobs and in the bucket's own file, and the heads of exports. Blobs hang
//! on their bucket's key and are left alone. Each step may be done any number of times, so nothing is noted of how far it is.
//!
//! What was wrapped by the old key and is not written yet when the ring changes is no exception: rows are wrapped anew within
//! the transaction that puts them, and whoever writes a file does so inside a lock that is taken here before looking.

use std::ops::Bound;

use super::error::ObjectError;
use super::index::{BUCKETS, BucketRow, decode};
use super::service::Objects;
use crate::crypto::KeyringError;
use crate::store::{Direction, WriteTx, record};

/// Rows wrapped anew in one transaction.
const PAGE: usize = 200;

/// What was wrapped anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Rows of buckets.
    pub rows: Count,
    /// Keys beside the blobs.
    pub key_files: Count,
    /// Files of buckets.
    pub bucket_files: Count,
    /// Exports of the index.
    pub exports: Count,
}

/// How many of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Wrapped anew.
    pub done: u64,
    /// Opened by no master key at all, the old one neither: damaged.
    pub damaged: u64,
}

impl Count {
    /// Counts an outcome, and gives what is to be written.
    pub(super) fn of(&mut self, outcome: Result<Option<Vec<u8>>, KeyringError>) -> Option<Vec<u8>> {
        match outcome {
            Ok(again) => {
                self.done += u64::from(again.is_some());
                again
            }
            Err(_opens_under_none) => {
                self.damaged += 1;
                None
            }
        }
    }
}

impl Rewrapped {
    /// How many were wrapped anew, of every kind.
    pub const fn done(&self) -> u64 {
        self.rows.done + self.key_files.done + self.bucket_files.done + self.exports.done
    }

    /// How many opened under no master key.
    pub const fn damaged(&self) -> u64 {
        self.rows.damaged + self.key_files.damaged + self.bucket_files.damaged + self.exports.damaged
    }
}

impl Objects {
    /// Has everything here be wrapped by the master key in use, durably, as long as `go_on` says so. With nothing
    /// [done](Rewrapped::done), and `go_on` still saying yes, nothing refers to an older one. Blocks.
    ///
    /// # Errors
    /// The index, the disk: part of it is done, and it may be called again.
    pub fn rewrap(&self, go_on: &dyn Fn() -> bool) -> Result<Rewrapped, ObjectError> {
        let mut done = Rewrapped::default();
        let mut after = Vec::new();
        // Rows first: a bucket's file holds a copy of its row.
        while go_on() {
            let Some((last, rows)) = self.rewrap_rows(&after)? else { break };
            done.rows.done += rows.done;
            done.rows.damaged += rows.damaged;
            after = last;
        }
        if go_on() {
            self.note_buckets()?;
        }
        self.0.keys.rewrap(go_on, &mut done)?;
        self.0.bucket_files.rewrap(go_on, &mut done)?;
        if go_on() {
            self.0.exports.rewrap(&mut done)?;
        }
        Ok(done)
    }

    /// The next page of rows behind `after`: the last of them, and what became of them; `None` behind the last.
    fn rewrap_rows(&self, after: &[u8]) -> Result<Option<(Vec<u8>, Count)>, ObjectError> {
        let (this, after) = (self.clone(), after.to_vec());
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            let mut count = Count::default();
            let rows =
                tx.scan(BUCKETS, Bound::Excluded(after.as_slice()), Bound::Unbounded, Direction::Forward, PAGE)?;
            let Some((last, _)) = rows.last() else { return Ok(None) };
            let last = last.clone();
            for (name, value) in rows {
                let row: BucketRow = decode(BUCKETS, &value)?;
                if let Some(wrapped_key) = count.of(this.0.keys.rewrapped(row.id, &row.wrapped_key)) {
                    tx.put(BUCKETS, &name, &record::encode(&BucketRow { wrapped_key, ..row }))?;
                }
            }
            Ok(Some((last, count)))
        })
    }
}
