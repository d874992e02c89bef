//! A small restore after every backup: the newest state as a whole, and some files by chance.
//!
//! What holds the server's state (keyspace, rows, keys) is read back from the target, through every seal, and its hash
//! compared with the one taken while it was read from the server. Of everything else a few files are drawn, each with
//! the same chance; the repository checks the hash of each of their chunks.

use std::io::Read;

use super::own::Contents;
use super::status::Drill;
use super::{Entry, Kind, Progress, Repository, SnapshotInfo};
use crate::base::{Random, Timestamp, random};

/// Files drawn by chance, of each snapshot.
const DRAWN: usize = 5;

/// A drawn file larger than this is left out: a drill is small.
const DRAWN_MAX: u64 = 64 << 20;

/// Most failures told.
const FAILURES: usize = 20;

/// Reads back; failures are in the answer.
pub(super) fn drill(
    repository: &Repository,
    snapshots: &[SnapshotInfo],
    contents: &Contents,
    random: &dyn Random,
    at: Timestamp,
    progress: &Progress,
) -> Drill {
    let mut drill = Drill { at, files: 0, bytes: 0, failures: Vec::new() };
    let mut left: Contents = contents.clone();
    for (index, snapshot) in snapshots.iter().enumerate() {
        let mut drawn: Vec<Entry> = Vec::new();
        let mut seen: u64 = 0;
        for entry in repository.entries(snapshot) {
            if progress.is_cancelled() {
                drill.failures.push("it was called off".to_owned());
                return drill;
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    drill.failures.push(format!("snapshot {}: {error}", snapshot.name));
                    break;
                }
            };
            // The first snapshot is the server's own.
            let expected = if index == 0 { left.remove(&entry.path.to_string()) } else { None };
            if let Some(expected) = expected {
                read_back(repository, &entry, Some(expected), &mut drill);
            } else if entry.meta.kind == Kind::File && entry.meta.size <= DRAWN_MAX {
                seen += 1;
                // Each of the `seen` files so far is drawn with the same chance (reservoir sampling).
                if drawn.len() < DRAWN {
                    drawn.push(entry);
                } else if let Some(place) =
                    usize::try_from(random::below(random, seen)).ok().and_then(|place| drawn.get_mut(place))
                {
                    *place = entry;
                }
            }
        }
        for entry in &drawn {
            read_back(repository, entry, None, &mut drill);
        }
    }
    drill.failures.extend(left.keys().map(|path| format!("{path} is not in the snapshot")));
    drill.failures.truncate(FAILURES);
    drill
}

fn read_back(repository: &Repository, entry: &Entry, expected: Option<[u8; 32]>, drill: &mut Drill) {
    let mut hash = blake3::Hasher::new();
    let mut reader = repository.read(entry);
    let mut buffer = vec![0; 256 << 10];
    let outcome = loop {
        match reader.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                hash.update(buffer.get(..count).unwrap_or_default());
                drill.bytes += count as u64;
            }
            Err(error) => break Err(error.to_string()),
        }
    };
    drill.files += 1;
    match outcome {
        Err(reason) => drill.failures.push(format!("{}: {reason}", entry.path)),
        Ok(()) if expected.is_some_and(|expected| *hash.finalize().as_bytes() != expected) => {
            drill.failures.push(format!("{}: it is not what was backed up", entry.path));
        }
        Ok(()) => {}
    }
}
