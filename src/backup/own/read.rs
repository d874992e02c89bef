//! The moment's data into a snapshot, entry by entry.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{
    ABOUT, About, BLOBS, BUCKET_KEYS, CERTIFICATE, FORMAT, KEYSPACE, KEYSPACE_NAMES, Moment, OwnData, RING, STORES,
};
use crate::backup::{BackupError, EntryPath, Fault, FaultKind, Meta, SnapshotWriter};
use crate::base::{Timestamp, disk};
use crate::kv::persist::{Cut, salvage};
use crate::objects::ObjectError;
use crate::objects::backup::{StoredBlob, stored_blobs};
use crate::store::OBJECTS;
use crate::store::dump::Dump;

/// Most bytes of a small file of the folder.
const SMALL_MAX: u64 = 1 << 20;

/// A piece of the list of keys ends with the record that takes it past this many bytes.
const NAMES_PIECE: usize = 256 << 10;

/// Blob ids asked for at a time.
const PAGE: usize = 1000;

/// BLAKE3 of the entries a drill reads back, by path.
pub(in crate::backup) type Contents = BTreeMap<String, [u8; 32]>;

/// Adds everything to `writer`; returns the hashes of what holds the server's state.
///
/// # Errors
/// The state could not be read as a whole: there must be no snapshot then. A blob that does not read is a fault of the
/// snapshot.
pub(in crate::backup) fn add(
    own: &OwnData,
    moment: Moment,
    release: &str,
    writer: &mut SnapshotWriter,
) -> Result<Contents, BackupError> {
    let Moment { at, snapshots, keyspace, _blobs, .. } = moment;
    let mut contents = Contents::new();
    let mut whole = |writer: &mut SnapshotWriter, path: &str, stream: &mut dyn Read| {
        let mut hashed = Hashed { stream, hash: blake3::Hasher::new() };
        writer.add(&EntryPath::new(path)?, &Meta::plain_file(0, at), &mut hashed)?;
        contents.insert(path.to_owned(), *hashed.hash.finalize().as_bytes());
        Ok::<_, BackupError>(())
    };
    let about = About { format: FORMAT, release: release.to_owned(), moment: at };
    let about = serde_json::to_vec_pretty(&about).unwrap_or_default();
    whole(writer, ABOUT, &mut about.as_slice())?;
    for (bucket, wrapped) in own.objects.key_files().map_err(source(BUCKET_KEYS))? {
        whole(writer, &format!("{BUCKET_KEYS}/{bucket}"), &mut wrapped.as_slice())?;
    }
    for path in [CERTIFICATE, RING] {
        let file = disk::read_file(own.disk.as_ref(), &own.data.join(path), SMALL_MAX);
        match file.map_err(|source| BackupError::Source { path: path.to_owned(), source })? {
            Some(bytes) => whole(writer, path, &mut bytes.as_slice())?,
            None if path == RING => {
                let source = io::ErrorKind::NotFound.into();
                return Err(BackupError::Source { path: path.to_owned(), source });
            }
            None => {}
        }
    }
    if let Some(cut) = keyspace {
        contents.extend(add_keyspace(&cut, at, writer)?);
    }
    if let Some((_, index)) = snapshots.iter().find(|(file, _)| *file == OBJECTS.name()) {
        let mut last = None;
        loop {
            let blobs = stored_blobs(index.as_ref(), last, PAGE).map_err(source(BLOBS))?;
            for blob in &blobs {
                add_blob(own, blob, writer)?;
            }
            last = blobs.last().map(|blob| blob.id);
            if blobs.len() < PAGE {
                break;
            }
        }
    }
    for (file, snapshot) in snapshots {
        let path = format!("{STORES}/{file}");
        let mut rows = Dump::new(snapshot).map_err(source(&path))?;
        contents
            .insert(path.clone(), add_pieces(writer, &path, at, &mut || rows.next_piece().map_err(io::Error::other))?);
    }
    Ok(contents)
}

/// Adds an entry in pieces; returns its hash.
fn add_pieces(
    writer: &mut SnapshotWriter,
    path: &str,
    at: Timestamp,
    next: &mut dyn FnMut() -> io::Result<Option<Vec<u8>>>,
) -> Result<[u8; 32], BackupError> {
    let mut hash = blake3::Hasher::new();
    let mut hashed = || {
        let piece = next()?;
        if let Some(piece) = &piece {
            hash.update(piece);
        }
        Ok(piece)
    };
    writer.add_pieces(&EntryPath::new(path)?, &Meta::plain_file(0, at), &mut hashed)?;
    Ok(*hash.finalize().as_bytes())
}

/// Adds the keyspace, and beside it which keys each of its pieces is about: read once more for that, so that nothing of
/// it has to be held. A record is a piece's number (8), bytes (8), and [names](salvage::names_in), big-endian; the last
/// has the number of all pieces in the place of bytes, and all ones for its own.
fn add_keyspace(cut: &Cut, at: Timestamp, writer: &mut SnapshotWriter) -> Result<Contents, BackupError> {
    let mut contents = Contents::new();
    let mut stream = cut.stream().map_err(source(KEYSPACE))?;
    let hash = add_pieces(writer, KEYSPACE, at, &mut || stream.next_piece().map_err(io::Error::other))?;
    contents.insert(KEYSPACE.to_owned(), hash);
    let mut stream = cut.stream().map_err(source(KEYSPACE_NAMES))?;
    let (mut number, mut over) = (0_u64, false);
    let mut next = || {
        let mut records = Vec::new();
        while !over && records.len() < NAMES_PIECE {
            let (lead, names) = if let Some(piece) = stream.next_piece().map_err(io::Error::other)? {
                let names = salvage::names_in(cut.place(), &piece).map_err(io::Error::other)?;
                ((number, names.len() as u64), names)
            } else {
                over = true;
                ((u64::MAX, number), Vec::new())
            };
            number = number.saturating_add(1);
            records.extend_from_slice(&lead.0.to_be_bytes());
            records.extend_from_slice(&lead.1.to_be_bytes());
            records.extend_from_slice(&names);
        }
        Ok(Some(records).filter(|records| !records.is_empty()))
    };
    let hash = add_pieces(writer, KEYSPACE_NAMES, at, &mut next)?;
    contents.insert(KEYSPACE_NAMES.to_owned(), hash);
    Ok(contents)
}

/// A blob that is in the last snapshot already is not read again: under its id it never changes, but for the key it hangs on,
/// which is part of its identity. What a backend does not give is a fault like any other: all else is kept safe meanwhile.
fn add_blob(own: &OwnData, blob: &StoredBlob, writer: &mut SnapshotWriter) -> Result<(), BackupError> {
    let path = EntryPath::new(format!("{BLOBS}/{}", blob.id))?;
    let added = match (own.objects.blob_stream_len(blob), own.objects.blob_identity(blob)) {
        (Ok(Some(size)), Ok(identity)) => {
            let mut meta = Meta::plain_file(size, Timestamp::default());
            meta.identity = identity;
            if writer.reuse(&path, &meta)? {
                return Ok(());
            }
            match own.objects.blob(blob) {
                Ok(mut stream) => writer.add(&path, &meta, &mut stream).map(drop),
                Err(error) => Err(source(BLOBS)(error)),
            }
        }
        (Ok(None), _) => Err(source(BLOBS)(io::Error::from(io::ErrorKind::NotFound))),
        (Err(error), _) | (_, Err(error)) => Err(source(BLOBS)(error)),
    };
    match added {
        Err(BackupError::Source { source, .. }) => {
            // Its name is in the blob: a backend that does not answer would have to be waited for again.
            let name = if is_of_a_backend(&source) { None } else { own.objects.blob_name(blob) };
            let reason = name.map_or_else(
                || source.to_string(),
                |(bucket, key)| format!("the object {bucket}/{key} or a part of it: {source}"),
            );
            writer.fault(Fault { path: path.to_string(), kind: FaultKind::Unreadable, reason });
            Ok(())
        }
        other => other,
    }
}

/// Whether a backend could not be read from.
fn is_of_a_backend(error: &io::Error) -> bool {
    let objects = error.get_ref().and_then(|error| error.downcast_ref::<ObjectError>());
    matches!(objects, Some(ObjectError::Backend(_)))
}

fn source<E>(path: &str) -> impl FnOnce(E) -> BackupError + use<E>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let path = path.to_owned();
    move |error| BackupError::Source { path, source: io::Error::other(error) }
}

/// Passes a stream on and hashes it.
struct Hashed<'a> {
    stream: &'a mut dyn Read,
    hash: blake3::Hasher,
}

impl Read for Hashed<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(target)?;
        self.hash.update(target.get(..count).unwrap_or_default());
        Ok(count)
    }
}
