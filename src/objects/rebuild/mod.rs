//! The index made anew: from the newest export, the blobs, the files of buckets, and the master key.
//!
//! It goes into a new file; the old one is not read, and nothing that lies beside the index is removed:
//! 1. **The export** ([`load`]): the newest that reads whole, row by row. Without a whole one, what still reads of the newest.
//! 2. **Buckets** (`buckets.rs`): each bucket's own file has the last word, then the export; a key beside the blobs that neither
//!    knows gets its bucket's name from a blob. A bucket that was deleted stays away, with all that was in it.
//! 3. **Blobs** (`scan.rs`, `there.rs`): every file, and every body at a backend of the settings, that the export does not
//!    name says itself what it is. One that was there before the export and is not in it was let go of by then, and stays where
//!    it is. What the export has in one place and is in another was moved since. A backend that does not answer ends the
//!    rebuild: what is there would be taken for lost.
//! 4. **Objects** (`place.rs`): what is found is put in by its time, as an upload would be; parts with the blob of their
//!    completion ([`joined`](super::joined)) become an object, others an upload in progress.
//! 5. **Losses** (`lost.rs`): what the export names and is not there any more is told and left out.
//!
//! What no blob tells is of the moment of the export: small objects, since they lie in the index; deletions and delete
//! markers; tags set later; and the ids of versions are what they would be if nothing had been deleted in between. A blob
//! that was whole and whose upload was never acknowledged is taken for an object.
//!
//! Memory is bounded by what is missing (16 bytes a blob) and by a 256th of all blobs: what is found waits in three tables of
//! the new file, which are empty in the end.

mod buckets;
mod lost;
mod place;
mod scan;
mod there;

use std::collections::{HashMap, HashSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use self::buckets::Known;
use super::blob::OpenFault;
use super::error::ObjectError;
use super::export::{Export, ExportReader, Exports};
use super::index::{BUCKETS, BucketRow, UPLOADS, decode};
use super::service::Objects;
use super::settle::settle;
use super::usage::usage_row;
use crate::base::{Disk, Id128, Random, Timestamp};
use crate::crypto::Keyring;
use crate::store::dump::DumpError;
use crate::store::recover::{clear, recover};
use crate::store::{DataFile, Direction, ReadTx, Row, Store, StoreError, Table};

/// Most names told of each kind; more are counted.
const NAMED: usize = 1_000;

/// Rows looked at in one step.
const PAGE: usize = 256;

/// What the exports gave.
#[derive(Debug, Default)]
pub struct Loaded {
    export: Option<UsedExport>,
    damaged: Vec<String>,
}

/// The export an index was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UsedExport {
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub taken: Timestamp,
    /// Whether all of it was there.
    pub whole: bool,
}

/// What becomes of files beside the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// A key that is lost is put back where a copy of it is.
    Mend,
    /// All stay as they are.
    Leave,
}

/// Is shown what is being done, and how many of it were.
pub type Show<'a> = dyn FnMut(&'static str, u64) + 'a;

/// What an index that was made anew holds, and what it lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// The export it was made from; none when no export could be read.
    pub export: Option<UsedExport>,
    /// Exports that are damaged, with what is wrong.
    pub damaged_exports: Vec<String>,
    /// Buckets.
    pub buckets: u64,
    /// Objects, each version one.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of the objects, those that blobs alone told of.
    pub from_blobs: u64,
    /// Uploads in progress.
    pub uploads: u64,
    /// Objects that are left out since their bytes are not there, as `bucket/key`: deleted or replaced since the export, or
    /// lost.
    pub lost: Vec<String>,
    /// Objects beyond those.
    pub lost_more: u64,
    /// Blobs that do not read, with what is wrong.
    pub unreadable: Vec<String>,
    /// Blobs beyond those.
    pub unreadable_more: u64,
    /// Blobs that nothing refers to: let go of before the export, replaced since, or parts nobody chose. They stay until a
    /// sweep puts them aside.
    pub left: u64,
    /// Blobs of buckets that have no key: they were deleted, or their keys are lost.
    pub without_key: u64,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// Puts the rows of the best export in `root`, the object store's folder, into `store`, which is empty and was opened
/// [as it is](Store::open_as_it_is) for `file`. Blocks.
///
/// # Errors
/// The disk; the store; a newer Mainstay has made the export. The store must not be used then.
pub fn load(
    disk: &Arc<dyn Disk>,
    root: &Path,
    keyring: Arc<Keyring>,
    random: Arc<dyn Random>,
    (file, store): (&'static DataFile, &Store),
) -> Result<Loaded, ObjectError> {
    let exports = Exports::open(Arc::clone(disk), root.join("index"), keyring, random)?;
    let mut loaded = Loaded::default();
    let mut halves: Option<Export> = None;
    for export in exports.list()? {
        let name = |what: &str| format!("export {}: {what}", export.number);
        match exports.read(&export).map(ExportReader::reads_whole) {
            Ok(true) => {
                take(&exports, &export, true, (file, store), &mut loaded)?;
                return Ok(loaded);
            }
            Ok(false) => {
                loaded.damaged.push(name("some of it does not verify"));
                halves.get_or_insert(export);
            }
            Err(fault) => loaded.damaged.push(name(&why(&fault))),
        }
    }
    if let Some(export) = halves {
        take(&exports, &export, false, (file, store), &mut loaded)?;
    }
    Ok(loaded)
}

fn take(
    exports: &Exports,
    export: &Export,
    whole: bool,
    (file, store): (&'static DataFile, &Store),
    loaded: &mut Loaded,
) -> Result<(), ObjectError> {
    let unread = |fault| std::io::Error::other(format!("export {}: {}", export.number, why(&fault)));
    let mut reader = exports.read(export).map_err(unread)?;
    let (number, taken) = (reader.number(), reader.taken());
    let recovered = recover(file, store, &mut || reader.next_piece()).map_err(|error| match error {
        DumpError::Store(error) => error,
        other => StoreError::Engine { file: file.name(), reason: format!("export {number}: {other}") },
    })?;
    let whole = whole && recovered.is_whole();
    if recovered.rows > 0 {
        loaded.export = Some(UsedExport { number, taken, whole });
    }
    Ok(())
}

/// Makes the index of `objects` whole, which is open over what [`load`] has put into its store, and which serves nobody.
/// Blocks.
///
/// # Errors
/// The disk; the store. The store must not be used then.
pub fn finish(objects: &Objects, loaded: Loaded, beside: Beside, show: &mut Show<'_>) -> Result<Rebuilt, ObjectError> {
    objects.0.keep_files.store(true, Ordering::Relaxed);
    let Loaded { export, damaged } = loaded;
    let rebuilt = Rebuilt { export, damaged_exports: damaged, ..Rebuilt::default() };
    let mut job = Job {
        objects,
        store: &objects.0.store,
        beside,
        since: export.filter(|export| export.whole).map(|export| export.taken),
        known: HashMap::new(),
        unnamed: HashMap::new(),
        missing: HashSet::new(),
        rebuilt,
        show,
    };
    job.buckets()?;
    if export.is_some_and(|export| !export.whole) {
        let settled = settle(job.store, &objects.0.blobs, &objects.0.keys, NAMED)?;
        settled.objects.into_iter().for_each(|name| job.lose(name));
        job.rebuilt.lost_more += settled.more;
        if settled.unnamed {
            job.note("objects are lost that nothing tells of".to_owned());
        }
    }
    job.list_backends()?;
    job.scan()?;
    job.name_buckets()?;
    job.place()?;
    job.place_parts()?;
    job.leave_out()?;
    job.settle_backends()?;
    for table in [scan::FOUND, scan::FOUND_PARTS, there::FOUND_THERE] {
        clear(job.store, table)?;
    }
    objects.count_usage()?;
    job.count()?;
    Ok(job.rebuilt)
}

struct Job<'a> {
    objects: &'a Objects,
    store: &'a Store,
    beside: Beside,
    /// The moment of the export, when all of it is there: what is older and not in it was let go of by then.
    since: Option<Timestamp>,
    /// Buckets by id, whose keys open.
    known: HashMap<Id128, Known>,
    /// Names that blobs give to buckets without one, and the time of the earliest.
    unnamed: HashMap<Id128, (String, u64)>,
    /// Blobs that the export names and that are not there.
    missing: HashSet<Id128>,
    rebuilt: Rebuilt,
    show: &'a mut Show<'a>,
}

impl Job<'_> {
    fn lose(&mut self, name: String) {
        if self.rebuilt.lost.len() < NAMED {
            self.rebuilt.lost.push(name);
        } else {
            self.rebuilt.lost_more += 1;
        }
    }

    fn note(&mut self, text: String) {
        if self.rebuilt.notes.len() < NAMED {
            self.rebuilt.notes.push(text);
        }
    }

    /// Rows of `table` behind `after` that begin with `prefix`: a page.
    fn page(&self, table: Table, prefix: &[u8], after: &[u8]) -> Result<Vec<Row>, ObjectError> {
        let from = if after.is_empty() { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let end = crate::store::after_prefix(prefix);
        let end = if prefix.is_empty() { Bound::Unbounded } else { end };
        let scan = |tx: &dyn ReadTx| tx.scan(table, from, end.as_ref().map(Vec::as_slice), Direction::Forward, PAGE);
        self.store.read_blocking(scan).map_err(ObjectError::Store)
    }

    fn count(&mut self) -> Result<(), ObjectError> {
        let mut after = Vec::new();
        loop {
            let rows = self.page(BUCKETS, &[], &after)?;
            let Some((last, _)) = rows.last() else { break };
            after.clone_from(last);
            for (_, value) in rows {
                let id = decode::<BucketRow>(BUCKETS, &value)?.id;
                let usage = self.store.read_blocking(|tx| usage_row(tx, id))?;
                self.rebuilt.buckets += 1;
                self.rebuilt.objects += usage.objects;
                self.rebuilt.bytes = self.rebuilt.bytes.saturating_add(usage.bytes);
            }
        }
        after.clear();
        loop {
            let rows = self.page(UPLOADS, &[], &after)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after.clone_from(last);
            self.rebuilt.uploads += rows.len() as u64;
        }
    }
}

/// What is wrong with a file, in words.
fn why(fault: &OpenFault) -> String {
    match fault {
        OpenFault::Missing => "its file is missing".to_owned(),
        OpenFault::Corrupt(fault) => fault.0.to_owned(),
        OpenFault::Disk(error) => error.to_string(),
        OpenFault::Backend(error) => error.to_string(),
    }
}

/// Whether the object store in `root` has buckets, which an index must name. Blocks.
///
/// # Errors
/// The disk.
pub fn has_buckets(disk: &dyn Disk, root: &Path) -> std::io::Result<bool> {
    let keys = root.join("keys");
    if disk.entry(&keys)?.is_none() {
        return Ok(false);
    }
    let is_id = |entry: &crate::base::Entry| {
        entry.path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<Id128>().is_ok())
    };
    Ok(disk.list(&keys)?.iter().any(is_id))
}
