//! An index that lost rows, made whole in itself again.
//!
//! A restore from a damaged backup may have brought back an object without its bucket, its body or some of its parts, and
//! bodies without their object. Afterwards every row names only rows that are there: an object is whole or gone, and the
//! names of those that are gone are told as far as anything still knows them. Blob files without a reference stay where
//! they are; a later sweep puts them aside for the operator and deletes none.
//!
//! Holds 16 bytes for every body and every part in memory, and looks through the whole index.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;

use super::blob::{BlobFolder, Source, describe_head};
use super::error::ObjectError;
use super::garbage::Garbage;
use super::index::{
    BACKENDS, BLOBS, BUCKETS, BlobRow, BucketRow, CURRENT, Content, GARBAGE, INLINE, JOINED, MANIFESTS, MOVES,
    ManifestRow, NULLS, ObjectRow, PARTS, PartRow, SENDING, SETTINGS, UPLOADS, USAGE, VERSIONS, VersionRow, decode,
    number_after_id, parse_upload_key, parse_version_key,
};
use super::keys::BucketKeys;
use super::place::Placed;
use crate::base::Id128;
use crate::store::{Direction, ReadTx, Row, Store, StoreError, Table, WriteTx, after_prefix, record};

/// Rows looked at, or changed, in one step.
const PAGE: usize = 1000;

/// What is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Objects that are gone, as `bucket/key`, as far as anything still knows them.
    pub objects: Vec<String>,
    /// Objects beyond those (their names are too many), and objects whose names nothing knows.
    pub more: u64,
    /// Uploads in progress that are gone.
    pub uploads: u64,
    /// Whether objects may be gone that nothing tells of: all their rows are lost.
    pub unnamed: bool,
}

impl Settled {
    fn name(&mut self, name: String, most: usize) {
        if self.objects.len() < most {
            self.objects.push(name);
        } else {
            self.more += 1;
        }
    }
}

/// Makes the index in `store`, whose blobs are in `blobs`, whole in itself; at most `most` names are told. Blocks.
///
/// # Errors
/// The store. What was done stays; it may be done again.
pub(super) fn settle(
    store: &Store,
    blobs: &BlobFolder,
    keys: &BucketKeys,
    most: usize,
) -> Result<Settled, ObjectError> {
    let mut buckets = HashMap::new();
    walk(store, BUCKETS, &mut |_, (name, value)| {
        let row: BucketRow = decode(BUCKETS, &value)?;
        buckets.insert(row.id, String::from_utf8_lossy(&name).into_owned());
        Ok(Change::Keep)
    })?;
    walk(store, SETTINGS, &mut |_, (key, _)| {
        let there = id_in(&key).is_some_and(|id| buckets.contains_key(&id));
        Ok(if there { Change::Keep } else { Change::Remove })
    })?;
    // Rows of objects may be lost: the next start counts what is there.
    walk(store, USAGE, &mut |_, _| Ok(Change::Remove))?;
    let mut job = Job { store, buckets, used: HashSet::new(), settled: Settled::default(), most };
    job.objects(CURRENT)?;
    job.objects(VERSIONS)?;
    job.nulls()?;
    job.uploads()?;
    job.joined()?;
    job.bodies()?;
    job.blobs(blobs, keys)?;
    Ok(job.settled)
}

/// Has the index in `store` say that every blob is on this disk, as it is after a restore, and that every bucket's new ones
/// go there. What is at backends still belongs to the server that put it there. Blocks.
///
/// # Errors
/// The store. What was done stays; it may be done again.
pub fn bring_home(store: &Store) -> Result<(), ObjectError> {
    for table in [BACKENDS, SENDING, MOVES] {
        walk(store, table, &mut |_, _| Ok(Change::Remove))?;
    }
    walk(store, GARBAGE, &mut |_, (_, value)| {
        let there = matches!(decode(GARBAGE, &value)?, Garbage::There { .. } | Garbage::Stale(_));
        Ok(if there { Change::Remove } else { Change::Keep })
    })?;
    let mut home = Vec::new();
    walk(store, BLOBS, &mut |_, (key, value)| {
        let row: BlobRow = decode(BLOBS, &value)?;
        if row.placed != Placed::Here {
            home.push((key, record::encode(&BlobRow { placed: Placed::Here, ..row })));
        }
        if home.len() >= PAGE {
            put(store, BLOBS, &std::mem::take(&mut home))?;
        }
        Ok(Change::Keep)
    })?;
    put(store, BLOBS, &home)?;
    let mut buckets = Vec::new();
    walk(store, BUCKETS, &mut |_, (key, value)| {
        let row: BucketRow = decode(BUCKETS, &value)?;
        if row.home.is_some() {
            buckets.push((key, record::encode(&BucketRow { home: None, ..row })));
        }
        Ok(Change::Keep)
    })?;
    put(store, BUCKETS, &buckets)
}

/// What becomes of a row.
enum Change {
    Keep,
    Remove,
}

/// Shows every row of `table` to `look`, in order, with a view of the others.
fn walk(
    store: &Store,
    table: Table,
    look: &mut dyn FnMut(&dyn ReadTx, Row) -> Result<Change, ObjectError>,
) -> Result<(), ObjectError> {
    let mut last: Option<Vec<u8>> = None;
    loop {
        let snapshot = store.snapshot()?;
        let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = snapshot.scan(table, from, Bound::Unbounded, Direction::Forward, PAGE)?;
        let full = rows.len() == PAGE;
        last = rows.last().map(|(key, _)| key.clone());
        let mut gone = Vec::new();
        for (key, value) in rows {
            let at = key.clone();
            if matches!(look(snapshot.as_ref(), (key, value))?, Change::Remove) {
                gone.push(at);
            }
        }
        drop(snapshot);
        if !gone.is_empty() {
            let remove = move |tx: &mut dyn WriteTx| gone.iter().try_for_each(|key| tx.delete(table, key).map(drop));
            store.write_blocking::<_, StoreError>(remove)?;
        }
        if !full {
            return Ok(());
        }
    }
}

fn put(store: &Store, table: Table, rows: &[Row]) -> Result<(), ObjectError> {
    for page in rows.chunks(PAGE) {
        let page = page.to_vec();
        let put = move |tx: &mut dyn WriteTx| page.iter().try_for_each(|(key, value)| tx.put(table, key, value));
        store.write_blocking::<_, StoreError>(put)?;
    }
    Ok(())
}

/// Gives blobs that are referred to their rows, where these are lost; each comes with its bucket.
fn refer_to(store: &Store, blobs: &[(Id128, Id128)]) -> Result<(), ObjectError> {
    let mut lacking = Vec::new();
    for page in blobs.chunks(PAGE) {
        let keys: Vec<&[u8]> = page.iter().map(|(id, _)| id.as_bytes().as_slice()).collect();
        let known = store.read_blocking(|tx| tx.get_many(BLOBS, &keys)).map_err(ObjectError::Store)?;
        for ((id, bucket), known) in page.iter().zip(known) {
            if known.is_none() {
                lacking
                    .push((id.as_bytes().to_vec(), record::encode(&BlobRow { bucket: *bucket, placed: Placed::Here })));
            }
        }
    }
    put(store, BLOBS, &lacking)
}

/// The id a key begins with.
fn id_in(key: &[u8]) -> Option<Id128> {
    key.first_chunk::<16>().map(|id| Id128::from_bytes(*id))
}

struct Job<'a> {
    store: &'a Store,
    buckets: HashMap<Id128, String>,
    /// Ids of bodies, manifests and blobs that something refers to.
    used: HashSet<Id128>,
    settled: Settled,
    most: usize,
}

impl Job<'_> {
    /// Keeps the objects of `table` whose bucket and bytes are named by rows that are there.
    fn objects(&mut self, table: Table) -> Result<(), ObjectError> {
        let (store, buckets, most) = (self.store, &self.buckets, self.most);
        let (used, settled) = (&mut self.used, &mut self.settled);
        let mut found = Vec::new();
        walk(self.store, table, &mut |tx, (key, value)| {
            let object = if table == CURRENT {
                decode::<ObjectRow>(CURRENT, &value)?
            } else {
                match decode(VERSIONS, &value)? {
                    VersionRow::Object(object) => object,
                    VersionRow::Marker { .. } => {
                        let there = id_in(&key).is_some_and(|id| buckets.contains_key(&id));
                        return Ok(if there { Change::Keep } else { Change::Remove });
                    }
                }
            };
            let bucket = id_in(&key);
            let name = bucket.and_then(|id| buckets.get(&id));
            let bytes = bytes_of(tx, &object)?;
            if let (Some(bucket), Some(_), Some(bytes)) = (bucket, name, bytes) {
                let (Content::Inline(content) | Content::Blob(content) | Content::Parts(content)) = object.content;
                used.insert(content);
                found.extend(bytes.into_iter().filter(|id| used.insert(*id)).map(|id| (id, bucket)));
                if let Content::Blob(id) = object.content {
                    found.push((id, bucket));
                }
                if found.len() >= PAGE {
                    refer_to(store, &std::mem::take(&mut found))?;
                }
                return Ok(Change::Keep);
            }
            let (key, older) = if table == CURRENT {
                (String::from_utf8_lossy(key.get(16..).unwrap_or_default()).into_owned(), "")
            } else {
                (parse_version_key(&key)?.0, " (an older version)")
            };
            settled.name(format!("{}/{key}{older}", name.map_or("(a lost bucket)", String::as_str)), most);
            Ok(Change::Remove)
        })?;
        refer_to(self.store, &found)
    }

    /// Which version is a key's `null` one is read from the versions.
    fn nulls(&self) -> Result<(), ObjectError> {
        walk(self.store, NULLS, &mut |_, _| Ok(Change::Remove))?;
        let mut found = Vec::new();
        walk(self.store, VERSIONS, &mut |_, (key, value)| {
            let row: VersionRow = decode(VERSIONS, &value)?;
            if row.version().null
                && let Some(bucket) = id_in(&key)
            {
                let (name, sequence) = parse_version_key(&key)?;
                let at = [&bucket.as_bytes()[..], name.as_bytes()].concat();
                found.push((at, sequence.to_be_bytes().to_vec()));
            }
            Ok(Change::Keep)
        })?;
        put(self.store, NULLS, &found)
    }

    /// Keeps uploads of buckets that are there, and parts of uploads that are.
    fn uploads(&mut self) -> Result<(), ObjectError> {
        let mut open = HashMap::new();
        let (buckets, settled) = (&self.buckets, &mut self.settled);
        walk(self.store, UPLOADS, &mut |_, (key, _)| {
            let bucket = id_in(&key).filter(|id| buckets.contains_key(id));
            let Some(bucket) = bucket else {
                settled.uploads += 1;
                return Ok(Change::Remove);
            };
            open.insert(parse_upload_key(&key)?.1, bucket);
            Ok(Change::Keep)
        })?;
        let used = &mut self.used;
        let mut found = Vec::new();
        walk(self.store, PARTS, &mut |_, (key, value)| {
            let part: PartRow = decode(PARTS, &value)?;
            let Some(bucket) = id_in(&key).and_then(|id| open.get(&id)) else { return Ok(Change::Remove) };
            used.insert(part.blob);
            found.push((part.blob, *bucket));
            Ok(Change::Keep)
        })?;
        refer_to(self.store, &found)
    }

    /// Keeps the blobs that tell which parts an object has.
    fn joined(&mut self) -> Result<(), ObjectError> {
        let used = &mut self.used;
        walk(self.store, JOINED, &mut |_, (key, value)| {
            let there = id_in(&key).is_some_and(|id| used.contains(&id));
            used.extend(id_in(&value).filter(|_| there));
            Ok(if there { Change::Keep } else { Change::Remove })
        })
    }

    /// Removes bodies and lists of parts that no object has any more.
    fn bodies(&self) -> Result<(), ObjectError> {
        for table in [INLINE, MANIFESTS] {
            walk(self.store, table, &mut |_, (key, _)| {
                let used = id_in(&key).is_some_and(|id| self.used.contains(&id));
                Ok(if used { Change::Keep } else { Change::Remove })
            })?;
        }
        Ok(())
    }

    /// Removes the rows of blobs that nothing refers to any more, and tells the names in those blobs.
    fn blobs(&mut self, folder: &BlobFolder, keys: &BucketKeys) -> Result<(), ObjectError> {
        let (used, settled, most) = (&self.used, &mut self.settled, self.most);
        let mut told: HashSet<String> = settled.objects.iter().cloned().collect();
        walk(self.store, BLOBS, &mut |_, (key, _)| {
            let Some(id) = id_in(&key).filter(|id| !used.contains(id)) else { return Ok(Change::Keep) };
            let key = |bucket| keys.beside_blobs(bucket).ok().flatten();
            if let Ok(record) = Source::file(folder, id).and_then(|file| describe_head(file, id, key)) {
                let name = format!("{}/{}", record.bucket, record.key);
                if told.insert(name.clone()) {
                    settled.name(name, most);
                }
            } else {
                settled.unnamed = true;
            }
            Ok(Change::Remove)
        })
    }
}

/// The blobs of an object of several parts (else none), when all rows that lead to its bytes are there.
fn bytes_of(tx: &dyn ReadTx, object: &ObjectRow) -> Result<Option<Vec<Id128>>, ObjectError> {
    match object.content {
        Content::Inline(id) => Ok(tx.get(INLINE, id.as_bytes())?.map(|_| Vec::new())),
        Content::Blob(_) => Ok(Some(Vec::new())),
        Content::Parts(id) => {
            let end = after_prefix(id.as_bytes());
            let (from, to) = (Bound::Included(id.as_bytes().as_slice()), end.as_ref().map(Vec::as_slice));
            let mut offset = 0_u64;
            let mut out = Vec::new();
            // An object has at most 10,000 parts, 256 in a row.
            for (key, value) in tx.scan(MANIFESTS, from, to, Direction::Forward, usize::MAX)? {
                if number_after_id(MANIFESTS, &key)? != offset {
                    return Ok(None);
                }
                for part in decode::<ManifestRow>(MANIFESTS, &value)?.parts {
                    offset = offset.saturating_add(part.size);
                    out.push(part.blob);
                }
            }
            Ok((offset == object.size).then_some(out))
        }
    }
}
