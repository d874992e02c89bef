//! One object, or what was piped in, out of a backup.

use std::io::{self, Read as _, Write};

use super::restore::RestoreError;
use super::{BLOBS, RING, STORES};
use crate::backup::{Entry, EntryPath, Repository, SnapshotInfo};
use crate::crypto::{MasterKey, Opener};
use crate::objects::backup::{Located, Search, body};
use crate::objects::{BucketName, ObjectKey};
use crate::store::OBJECTS;
use crate::store::dump::{DumpError, Rows};

/// Writes the object `bucket`/`key` of `snapshot` to `out`; returns its bytes. Blocks.
///
/// # Errors
/// It is not in the snapshot, or not whole: part of it may be written then.
pub fn one_object(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    (bucket, key): (BucketName, ObjectKey),
    master: &MasterKey,
    out: &mut dyn Write,
) -> Result<u64, RestoreError> {
    let name = format!("{}/{}", bucket.as_str(), key.as_str());
    let index = find(repository, snapshot, &format!("{STORES}/{}", OBJECTS.name()))?;
    // While a master key is being changed, some keys are wrapped by the one before, which the ring has.
    let opener = match find(repository, snapshot, RING).ok().map(|ring| read_small(repository, &ring)) {
        Some(Ok(ring)) => Opener::with_ring(master, &ring),
        _ => Opener::new(master),
    };
    let mut search = Search::new(bucket, key, &opener);
    let mut stream = repository.read(&index);
    let part = |error: DumpError| RestoreError::part(&index.path.to_string(), error);
    let object = |source| RestoreError::Object { name: name.clone(), source };
    let mut rows = Rows::new(&OBJECTS, &mut stream).map_err(part)?;
    while let Some(row) = rows.next_row().map_err(part)? {
        search.row(row.table, &row.key, &row.value).map_err(object)?;
    }
    let output = |source| RestoreError::Output { name: name.clone(), source };
    match search.finish().map_err(object)? {
        Located::Inline(bytes) => {
            out.write_all(&bytes).map_err(output)?;
            Ok(bytes.len() as u64)
        }
        Located::Blobs(blobs) => {
            let mut total = 0;
            for blob in blobs {
                let entry = find(repository, snapshot, &format!("{BLOBS}/{blob}"))?;
                let mut plain = body(repository.read(&entry)).map_err(object)?;
                total += io::copy(&mut plain, out).map_err(output)?;
            }
            Ok(total)
        }
    }
}

/// Writes what was piped in as `name` to `out`; returns its bytes. Blocks.
///
/// # Errors
/// It is not in the snapshot, or not whole: part of it may be written then.
pub fn one_stream(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    name: &str,
    out: &mut dyn Write,
) -> Result<u64, RestoreError> {
    let entry = find(repository, snapshot, name)?;
    io::copy(&mut repository.read(&entry), out).map_err(|source| RestoreError::Output { name: name.to_owned(), source })
}

/// Most bytes of a keyring.
const RING_MAX: u64 = 1 << 20;

fn read_small(repository: &Repository, entry: &Entry) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    repository.read(entry).take(RING_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn find(repository: &Repository, snapshot: &SnapshotInfo, path: &str) -> Result<Entry, RestoreError> {
    let wanted = EntryPath::new(path)?;
    for entry in repository.entries(snapshot) {
        let entry = entry?;
        if entry.path == wanted {
            return Ok(entry);
        }
        if entry.path > wanted {
            break;
        }
    }
    Err(RestoreError::NoSnapshot { what: path.to_owned() })
}
