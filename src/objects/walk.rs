//! Walking keys in order, with everything behind a delimiter rolled up: the heart of every listing.
//!
//! A common prefix costs one seek, not a scan of what it stands for: after the first key of it the walk goes on at the
//! first key behind it.

use std::ops::Bound;

use super::error::ObjectError;
use super::index::malformed_key;
use crate::base::Id128;
use crate::store::{Direction, ReadTx, Table, after_prefix};

/// Most entries of a page (S3 API, `max-keys`).
pub(super) const PAGE_MAX: usize = 1000;

/// Rows read at once: few while common prefixes keep cutting pages short, more on a straight run.
const SCAN_LEAST: usize = 16;
const SCAN_MOST: usize = 256;

/// How keys of a table look behind the bucket's id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// The table.
    pub table: Table,
    /// What every row whose object key starts with the text starts with.
    pub encode: fn(&str) -> Vec<u8>,
    /// The object key of a whole row key.
    pub decode: fn(&[u8]) -> Option<String>,
}

/// What to walk over.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// Where.
    pub form: Form,
    /// In which bucket.
    pub bucket: Id128,
    /// Only keys that start with this.
    pub prefix: String,
    /// Roll up behind this; empty for no rolling up.
    pub delimiter: String,
    /// Where to begin; the prefix's own beginning, if that is later.
    pub start: Bound<Vec<u8>>,
    /// Most entries, at most [`PAGE_MAX`].
    pub limit: usize,
}

/// An entry of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A row, with its object key.
    Row { key: String, at: Vec<u8>, value: Vec<u8> },
    /// A common prefix, delimiter included.
    Prefix(String),
}

impl Walk {
    /// The common prefix that stands for `key`, if it is rolled up.
    pub fn rolled_up<'a>(&self, key: &'a str) -> Option<&'a str> {
        let rest = key.strip_prefix(self.prefix.as_str()).filter(|_| !self.delimiter.is_empty())?;
        let end = self.prefix.len() + rest.find(&self.delimiter)? + self.delimiter.len();
        key.get(..end)
    }

    /// Where the rows behind all of those with keys starting with `prefix` begin.
    pub fn behind(&self, prefix: &str) -> Bound<Vec<u8>> {
        match after_prefix(&self.row_start(prefix)) {
            Bound::Excluded(next) => Bound::Included(next),
            other => other,
        }
    }

    /// What rows with keys starting with `prefix` start with.
    pub fn row_start(&self, prefix: &str) -> Vec<u8> {
        [&self.bucket.as_bytes()[..], &(self.form.encode)(prefix)].concat()
    }

    /// The page's entries in order, and whether more follow.
    pub fn page(&self, tx: &dyn ReadTx) -> Result<(Vec<Entry>, bool), ObjectError> {
        let mut out = Vec::new();
        let limit = self.limit.min(PAGE_MAX);
        if limit == 0 {
            return Ok((out, false));
        }
        let first = self.row_start(&self.prefix);
        let end = after_prefix(&first);
        let mut from = later(self.start.clone(), first);
        let mut rows_wanted = if self.delimiter.is_empty() { SCAN_MOST.min(limit + 1) } else { SCAN_LEAST };
        loop {
            let (low, high) = (from.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
            let rows = tx.scan(self.form.table, low, high, Direction::Forward, rows_wanted)?;
            let full = rows.len() == rows_wanted;
            // The next row that is not under the common prefix seen last.
            let mut resume: Option<Vec<u8>> = None;
            let mut last = None;
            for (at, value) in rows {
                if resume.as_ref().is_some_and(|resume| at < *resume) {
                    last = Some(at);
                    continue;
                }
                resume = None;
                if out.len() == limit {
                    return Ok((out, true));
                }
                let key = (self.form.decode)(&at).ok_or_else(|| malformed_key(self.form.table))?;
                last = Some(at.clone());
                match self.rolled_up(&key) {
                    Some(prefix) => {
                        if let Bound::Included(next) = self.behind(prefix) {
                            resume = Some(next);
                        }
                        out.push(Entry::Prefix(prefix.to_owned()));
                    }
                    None => out.push(Entry::Row { key, at, value }),
                }
            }
            let Some(last) = last.filter(|_| full) else { return Ok((out, false)) };
            (from, rows_wanted) = match resume {
                Some(resume) => (Bound::Included(resume), SCAN_LEAST),
                None => (Bound::Excluded(last), (rows_wanted * 2).min(SCAN_MOST)),
            };
        }
    }
}

/// The later of `start` and the first row `first`.
fn later(start: Bound<Vec<u8>>, first: Vec<u8>) -> Bound<Vec<u8>> {
    match start {
        Bound::Included(at) if at > first => Bound::Included(at),
        Bound::Excluded(at) if at >= first => Bound::Excluded(at),
        _ => Bound::Included(first),
    }
}
