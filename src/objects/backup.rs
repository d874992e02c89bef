//! Blobs and bucket keys for backups, and back.
//!
//! A blob goes into a backup with its body in the clear, so that equal bodies are stored once and compress; whoever
//! keeps it seals it. Reading verifies every segment. One stream a blob, numbers big-endian:
//!
//! ```text
//! 1      format of this stream, 1
//! 4      bytes of the blob's head: header and sealed record
//! 8      plaintext bytes of the body
//! then   head, as it is in the file
//! then   body, in the clear
//! then   the blob's end: sealed footer and its length, as it is in the file
//! ```
//!
//! The head holds the salt, the nonce prefix and the wrapped data key, so sealing the body again gives the blob file back
//! byte for byte: AES-GCM is a function of key, nonce and plaintext. That also settles the question of nonces: where a
//! restored blob repeats one, it is over the same bytes.
//!
//! Bucket keys go as they are: wrapped by the master key.
//!
//! Bodies at backends are in a backup like all others. A restore makes files of them all ([`bring_home`]).

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::backends::BackendName;
use super::blob::{
    BlobFile, BlobFolder, BucketKey, Fault, OpenFault, Reseal, describe_head, is_rewrapped, open_inline,
};
use super::error::ObjectError;
use super::index::{
    BLOBS, BUCKETS, BlobRow, BucketRow, CURRENT, Content, INLINE, MANIFESTS, ManifestRow, ObjectRow, VERSIONS,
    VersionRow, decode, malformed_key, object_key, parse_version_key,
};
use super::keys::{BucketKeys, unwrap_with};
use super::names::{BucketName, ObjectKey};
use super::place::{Placed, Remote};
use super::service::Objects;
use super::settle::settle;
pub use super::settle::{Settled, bring_home};
use crate::base::{Disk, Id128, OpenMode, disk};
use crate::crypto::aead::TAG;
use crate::crypto::stream::{self, SEGMENT};
use crate::crypto::{Keyring, Opener};
use crate::store::{Direction, ReadTx, Store, StoreError, Table, after_prefix};

const VERSION: u8 = 1;

/// Bytes in front of a blob's head.
const LEAD: usize = 1 + 4 + 8;

/// Objects looked at in one step.
const OBJECTS_PAGE: usize = 1000;

/// Most bytes behind a blob's body.
const TAIL_MAX: u64 = 64 << 10;

/// As long as it lives no blob file is removed, so that all those a snapshot of the index names can be read.
#[derive(Debug)]
pub struct KeptBlobs(Objects);

impl Drop for KeptBlobs {
    fn drop(&mut self) {
        let mut kept = self.0.kept();
        *kept = kept.saturating_sub(1);
    }
}

impl Objects {
    /// Has every blob file stay until the guard is dropped. Take it before the snapshot of the index. Blocks.
    pub fn keep_blobs(&self) -> KeptBlobs {
        let mut kept = self.kept();
        *kept = kept.saturating_add(1);
        drop(kept);
        KeptBlobs(self.clone())
    }

    /// How many guards keep blob files. Removals happen inside this lock.
    pub(super) fn kept(&self) -> MutexGuard<'_, u32> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wrapped keys beside the blobs, by bucket, in order. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn key_files(&self) -> Result<Vec<(Id128, Vec<u8>)>, ObjectError> {
        Ok(self.0.keys.files()?)
    }

    /// Bytes of the stream of a blob, told from its file's length, or what the index knows of one at a backend, and without
    /// a key; `None` when the file is missing, or is none of a blob. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn blob_stream_len(&self, blob: &StoredBlob) -> Result<Option<u64>, ObjectError> {
        if let Placed::There(Remote { stored, size, .. }) = &blob.placed {
            let tags = stream::segments(*size).saturating_mul(TAG as u64);
            return Ok(Some((LEAD as u64).saturating_add(stored.saturating_sub(tags))));
        }
        match BlobFile::plain_len(&self.0.blobs, blob.id) {
            Ok((head, body, tail)) => Ok(Some(LEAD as u64 + head + body + tail)),
            Err(OpenFault::Missing | OpenFault::Corrupt(_)) => Ok(None),
            Err(OpenFault::Disk(error)) => Err(error.into()),
            Err(OpenFault::Backend(error)) => Err(error.into()),
        }
    }

    /// What tells this blob's stream from that of any other, and from its own of before its bucket's key was changed. Blocks.
    /// At a backend it stays what it was when it was sent, so it is not fetched again for having moved.
    ///
    /// # Errors
    /// The disk.
    pub fn blob_identity(&self, blob: &StoredBlob) -> Result<Vec<u8>, ObjectError> {
        let id = blob.id;
        if let Placed::There(remote) = &blob.placed {
            return Ok([id.as_bytes().as_slice(), &remote.head].concat());
        }
        let header = self.0.blobs.header(id, &self.0.blobs.path(id))?.unwrap_or_default();
        Ok([id.as_bytes().as_slice(), is_rewrapped(&header, id).unwrap_or_default()].concat())
    }

    /// The bucket and key a blob was written for, as far as it can be told. Blocks.
    pub fn blob_name(&self, blob: &StoredBlob) -> Option<(String, String)> {
        let key = |bucket| self.0.keys.beside_blobs(bucket).ok().flatten();
        let mut source = self.source(blob.id, &blob.placed).ok()?;
        source.will_end_at(0);
        describe_head(source, blob.id, key).ok().map(|record| (record.bucket, record.key))
    }

    /// The stream of a blob. Blocks, and so does reading it.
    ///
    /// # Errors
    /// [`ObjectError::Corrupt`] when the file is missing or its header does not verify, [`ObjectError::Backend`]; the rest
    /// comes as the error of a read.
    pub fn blob(&self, blob: &StoredBlob) -> Result<BlobStream, ObjectError> {
        let id = blob.id;
        let key = |bucket| self.0.keys.beside_blobs(bucket).ok().flatten();
        let opened = self.source(id, &blob.placed).and_then(|source| BlobFile::open_whole(source, id, key));
        let (file, head, tail) = opened.map_err(|fault| self.unreadable(id, fault))?;
        let size = file.size();
        let mut buffer = vec![VERSION];
        buffer.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
        buffer.extend_from_slice(&size.to_be_bytes());
        buffer.extend_from_slice(&head);
        Ok(BlobStream { objects: self.clone(), id, file, next: 0, tail: Some(tail), buffer, at: 0 })
    }
}

/// A blob that a state of the index names, and where it is in that state. As long as [`KeptBlobs`] lives it stays there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its id.
    pub id: Id128,
    placed: Placed,
}

impl StoredBlob {
    /// The backend it is at; `None` for the local disk.
    pub fn backend(&self) -> Option<&BackendName> {
        self.placed.backend()
    }
}

/// Blobs with a row in the index, wherever they are, behind `after`, at most `limit`, in the order of their ids.
///
/// # Errors
/// See [`ReadTx`].
pub fn stored_blobs(tx: &dyn ReadTx, after: Option<Id128>, limit: usize) -> Result<Vec<StoredBlob>, ObjectError> {
    let after = after.map(|id| id.as_bytes().to_vec());
    let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let rows = tx.scan(BLOBS, from, Bound::Unbounded, Direction::Forward, limit)?;
    let stored = |(key, value): (Vec<u8>, Vec<u8>)| {
        Ok(StoredBlob { id: id_of(&key)?, placed: decode::<BlobRow>(BLOBS, &value)?.placed })
    };
    rows.into_iter().map(stored).collect()
}

/// Ids of blobs with a row in the index, behind `after`, at most `limit`, in order.
///
/// # Errors
/// See [`ReadTx`].
pub fn blob_ids(tx: &dyn ReadTx, after: Option<Id128>, limit: usize) -> Result<Vec<Id128>, ObjectError> {
    let after = after.map(|id| id.as_bytes().to_vec());
    let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let rows = tx.scan(BLOBS, from, Bound::Unbounded, Direction::Forward, limit)?;
    rows.into_iter().map(|(key, _)| id_of(&key)).collect()
}

fn id_of(key: &[u8]) -> Result<Id128, ObjectError> {
    let bytes = <[u8; 16]>::try_from(key).map_err(|_other_length| malformed_key(BLOBS))?;
    Ok(Id128::from_bytes(bytes))
}

/// A blob on its way into a backup.
#[derive(Debug)]
pub struct BlobStream {
    objects: Objects,
    id: Id128,
    file: BlobFile,
    next: u32,
    tail: Option<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
}

impl Read for BlobStream {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.buffer.len() {
            self.at = 0;
            if self.next < self.file.segments() {
                let segment = self.file.segment(self.next);
                self.buffer = segment.map_err(|fault| io::Error::other(self.objects.unreadable(self.id, fault)))?;
                self.next += 1;
            } else if let Some(tail) = self.tail.take() {
                self.buffer = tail;
            } else {
                self.buffer.clear();
                return Ok(0);
            }
        }
        let left = self.buffer.get(self.at..).unwrap_or_default();
        let count = left.len().min(target.len());
        if let (Some(to), Some(from)) = (target.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

/// Objects, as `bucket/key`, whose bytes are in one of the blobs `lost`; at most `limit`. Looks through the whole index.
///
/// # Errors
/// See [`ReadTx`].
pub fn objects_of(tx: &dyn ReadTx, lost: &BTreeSet<Id128>, limit: usize) -> Result<Vec<String>, ObjectError> {
    let mut out = Vec::new();
    let mut buckets = HashMap::new();
    for (name, value) in tx.scan(BUCKETS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)? {
        let row: BucketRow = decode(BUCKETS, &value)?;
        buckets.insert(*row.id.as_bytes(), String::from_utf8_lossy(&name).into_owned());
    }
    for table in [CURRENT, VERSIONS] {
        let mut last: Option<Vec<u8>> = None;
        loop {
            let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let rows = tx.scan(table, from, Bound::Unbounded, Direction::Forward, OBJECTS_PAGE)?;
            for (at, value) in &rows {
                if !is_lost(tx, table, value, lost)? {
                    continue;
                }
                let bucket = at.first_chunk::<16>().and_then(|id| buckets.get(id)).map_or("?", String::as_str);
                out.push(format!("{bucket}/{}", name_of(table, at)?));
                if out.len() >= limit {
                    return Ok(out);
                }
            }
            let full = rows.len() == OBJECTS_PAGE;
            let Some((at, _)) = rows.into_iter().next_back().filter(|_| full) else { break };
            last = Some(at);
        }
    }
    Ok(out)
}

/// Whether the bytes of the object in a row of `table` are in one of the blobs `lost`.
fn is_lost(tx: &dyn ReadTx, table: Table, value: &[u8], lost: &BTreeSet<Id128>) -> Result<bool, ObjectError> {
    let object = if table == CURRENT {
        decode::<ObjectRow>(CURRENT, value)?
    } else {
        match decode(VERSIONS, value)? {
            VersionRow::Object(object) => object,
            VersionRow::Marker { .. } => return Ok(false),
        }
    };
    Ok(match object.content {
        Content::Inline(_) => false,
        Content::Blob(id) => lost.contains(&id),
        Content::Parts(id) => parts_of(tx, id)?.iter().any(|part| lost.contains(part)),
    })
}

/// The key of the object in a row of `table`; of an older version, with a word that says so.
fn name_of(table: Table, at: &[u8]) -> Result<String, ObjectError> {
    if table == CURRENT {
        return Ok(String::from_utf8_lossy(at.get(16..).unwrap_or_default()).into_owned());
    }
    Ok(format!("{} (an older version)", parse_version_key(at)?.0))
}

/// The blobs of a multipart object.
fn parts_of(tx: &dyn ReadTx, content: Id128) -> Result<Vec<Id128>, ObjectError> {
    let end = after_prefix(content.as_bytes());
    let (from, to) = (Bound::Included(content.as_bytes().as_slice()), end.as_ref().map(Vec::as_slice));
    let mut out = Vec::new();
    // An object has at most 10,000 parts, 256 in a row.
    for (_, value) in tx.scan(MANIFESTS, from, to, Direction::Forward, usize::MAX)? {
        out.extend(decode::<ManifestRow>(MANIFESTS, &value)?.parts.iter().map(|part| part.blob));
    }
    Ok(out)
}

/// An object store's folder being restored.
#[derive(Debug)]
pub struct Restoring {
    blobs: BlobFolder,
    keys: BucketKeys,
    open: HashMap<Id128, BucketKey>,
}

impl Restoring {
    /// Begins in the folder `root`, which is made. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn begin(disk: &Arc<dyn Disk>, root: &Path, keyring: Arc<Keyring>) -> Result<Self, ObjectError> {
        let blobs = BlobFolder::open(Arc::clone(disk), root.join("blobs"))?;
        let keys = BucketKeys::open(Arc::clone(disk), root.join("keys"), keyring)?;
        disk.sync_dir(root)?;
        disk.sync_dir(disk::parent(root))?;
        Ok(Self { blobs, keys, open: HashMap::new() })
    }

    /// Puts a bucket's wrapped key back. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn put_key(&self, bucket: Id128, wrapped: &[u8]) -> Result<(), ObjectError> {
        Ok(self.keys.put_back(bucket, wrapped)?)
    }

    /// Makes the file of the blob `id` from its stream and syncs it; its name is durable after [`Restoring::finish`].
    /// The bucket's key must be back already. Blocks.
    ///
    /// # Errors
    /// [`ObjectError::Corrupt`] when the stream is not that of this blob; [`ObjectError::Disk`].
    pub fn put_blob(&mut self, id: Id128, stream: &mut dyn Read) -> Result<(), ObjectError> {
        let corrupt = |fault: Fault| ObjectError::Corrupt { blob: id.to_string(), fault: fault.0 };
        let mut stream = io::BufReader::with_capacity(2 * SEGMENT, stream);
        let (head_len, size) = lead(&mut stream)?;
        let mut head = vec![0; head_len];
        stream.read_exact(&mut head)?;
        let bucket = BlobFile::bucket_in(&head).ok_or_else(|| corrupt(Fault("its header is malformed")))?;
        if !self.open.contains_key(&bucket) {
            let key = self.keys.beside_blobs(bucket)?;
            self.open.insert(bucket, key.ok_or_else(|| corrupt(Fault("its bucket's key is gone")))?);
        }
        let key = self.open.get(&bucket).ok_or_else(|| corrupt(Fault("its bucket's key is gone")))?;
        let reseal = Reseal::new(&head, id, key, size).map_err(corrupt)?;
        let disk = self.blobs.disk();
        let temporary = self.blobs.temporary(id);
        let file = disk.open(&temporary, OpenMode::OpenOrCreate)?;
        file.set_len(0)?;
        file.write_at(0, &head)?;
        let mut offset = head.len() as u64;
        let mut left = size;
        for index in 0..reseal.segments() {
            let mut segment = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(SEGMENT)];
            stream.read_exact(&mut segment)?;
            left -= segment.len() as u64;
            reseal.segment(index, &mut segment);
            file.write_at(offset, &segment)?;
            offset += segment.len() as u64;
        }
        let mut tail = Vec::new();
        (&mut stream).take(TAIL_MAX + 1).read_to_end(&mut tail)?;
        reseal.check_tail(&tail).map_err(corrupt)?;
        file.write_at(offset, &tail)?;
        file.sync_data()?;
        Ok(disk.rename(&temporary, &self.blobs.path(id))?)
    }

    /// Makes the index in `store` whole in itself after it lost rows: an object is whole or gone; at most `most` names
    /// are told. Blocks.
    ///
    /// # Errors
    /// The store.
    pub fn settle(&self, store: &Store, most: usize) -> Result<Settled, ObjectError> {
        settle(store, &self.blobs, &self.keys, most)
    }

    /// Blobs that the index in `store` names and that are not there. Blocks.
    ///
    /// # Errors
    /// The store; the disk.
    pub fn missing(&self, store: &Store) -> Result<Vec<Id128>, ObjectError> {
        let snapshot = store.snapshot()?;
        let (mut out, mut last) = (Vec::new(), None);
        loop {
            let ids = blob_ids(snapshot.as_ref(), last, OBJECTS_PAGE)?;
            for id in &ids {
                if self.blobs.disk().entry(&self.blobs.path(*id))?.is_none() {
                    out.push(*id);
                }
            }
            last = ids.last().copied();
            if ids.len() < OBJECTS_PAGE {
                return Ok(out);
            }
        }
    }

    /// Makes every name durable. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn finish(self) -> Result<(), ObjectError> {
        for inner in self.blobs.inner() {
            self.blobs.disk().sync_dir(&inner)?;
        }
        Ok(())
    }
}

/// Length of a blob's head, and plaintext bytes of its body.
fn lead(stream: &mut dyn Read) -> Result<(usize, u64), ObjectError> {
    let mut bytes = [0; LEAD];
    stream.read_exact(&mut bytes)?;
    let [version, h0, h1, h2, h3, size @ ..] = bytes;
    let head = u32::from_be_bytes([h0, h1, h2, h3]) as usize;
    if version != VERSION || head > BlobFile::HEAD_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the backup of a blob is malformed").into());
    }
    Ok((head, u64::from_be_bytes(size)))
}

/// The body in a blob's stream.
///
/// # Errors
/// The stream fails, or is none of a blob.
pub fn body<R: Read>(mut stream: R) -> Result<io::Take<R>, ObjectError> {
    let (head, size) = lead(&mut stream)?;
    io::copy(&mut (&mut stream).take(head as u64), &mut io::sink())?;
    Ok(stream.take(size))
}

/// The id and the wrapped key of a bucket, in its row; `None` for rows of other tables.
pub fn bucket_key_in(table: &str, value: &[u8]) -> Option<(Id128, Vec<u8>)> {
    let row: BucketRow = (table == BUCKETS.name()).then(|| decode(BUCKETS, value).ok()).flatten()?;
    Some((row.id, row.wrapped_key))
}

/// Finds one object among the rows of an index that pass by in order, as they do in a backup.
#[derive(Debug)]
pub struct Search<'a> {
    bucket: BucketName,
    key: ObjectKey,
    opener: &'a Opener,
    open: Option<BucketKey>,
    wanted: Option<Vec<u8>>,
    object: Option<ObjectRow>,
    inline: Option<Vec<u8>>,
    parts: Vec<Id128>,
}

/// Where an object's bytes are in a backup.
#[derive(Debug, PartialEq, Eq)]
pub enum Located {
    /// Here they are.
    Inline(Vec<u8>),
    /// The bodies of these blobs, one behind the other.
    Blobs(Vec<Id128>),
}

impl<'a> Search<'a> {
    /// Looks for `bucket`/`key`.
    pub fn new(bucket: BucketName, key: ObjectKey, opener: &'a Opener) -> Self {
        Self { bucket, key, opener, open: None, wanted: None, object: None, inline: None, parts: Vec::new() }
    }

    /// Looks at the next row.
    ///
    /// # Errors
    /// A row that matters does not read.
    pub fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), ObjectError> {
        if table == BUCKETS.name() && key == self.bucket.as_str().as_bytes() {
            let row: BucketRow = decode(BUCKETS, value)?;
            self.wanted = Some(object_key(row.id, &self.key));
            self.open = Some(unwrap_with(self.opener, row.id, &row.wrapped_key)?);
        } else if table == CURRENT.name() && self.wanted.as_deref() == Some(key) {
            let row: ObjectRow = decode(CURRENT, value)?;
            if let Content::Blob(id) = row.content {
                self.parts = vec![id];
            }
            self.object = Some(row);
        } else if table == INLINE.name() {
            if let (Some(object), Some(open)) = (&self.object, &self.open)
                && let Content::Inline(id) = object.content
                && id.as_bytes().as_slice() == key
            {
                let plain = open_inline(value, id, open, object.size);
                let corrupt = |fault: Fault| ObjectError::Corrupt { blob: id.to_string(), fault: fault.0 };
                self.inline = Some(plain.map_err(corrupt)?);
            }
        } else if table == MANIFESTS.name()
            && let Some(object) = &self.object
            && let Content::Parts(id) = object.content
            && key.starts_with(id.as_bytes())
        {
            self.parts.extend(decode::<ManifestRow>(MANIFESTS, value)?.parts.iter().map(|part| part.blob));
        }
        Ok(())
    }

    /// What was found.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::NoSuchKey`].
    pub fn finish(self) -> Result<Located, ObjectError> {
        if self.open.is_none() {
            return Err(ObjectError::NoSuchBucket);
        }
        let object = self.object.ok_or(ObjectError::NoSuchKey)?;
        match (object.content, self.inline) {
            (Content::Inline(_), Some(plain)) => Ok(Located::Inline(plain)),
            (Content::Inline(_), None) => {
                Err(StoreError::Corrupt { table: INLINE.name(), reason: "the body of an object is missing".to_owned() }
                    .into())
            }
            (Content::Blob(_) | Content::Parts(_), _) => Ok(Located::Blobs(self.parts)),
        }
    }
}
