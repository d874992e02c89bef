//! A keyspace back from a backup, whole or what is left of it.

use std::collections::BTreeMap;
use std::io;

use super::KEYSPACE_NAMES;
use super::restore::RestoreError;
use super::single::find;
use crate::backup::pieces::{Pieces, is_in_pieces};
use crate::backup::{BackupError, Entry, Repository, SnapshotInfo};
use crate::kv::persist::salvage::{Salvaged, is_last, number, salvage};
use crate::kv::persist::{PersistError, Place};

/// What is left of the keyspace in `entry`, whose damage is known, into the empty folder of `place`.
///
/// # Errors
/// [`RestoreError`]: the folder must not be used.
pub(super) fn save(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    entry: &Entry,
    place: &Place,
) -> Result<Salvaged, RestoreError> {
    let path = entry.path.to_string();
    let part = |error: PersistError| RestoreError::part(&path, error);
    let mut there = std::collections::BTreeSet::new();
    let mut all = None;
    for piece in Pieces::new(repository, entry) {
        match piece {
            Ok(piece) => {
                let number = number(place, &piece).map_err(part)?;
                there.insert(number);
                if is_last(place, &piece).map_err(part)? {
                    all = number.checked_add(1);
                }
            }
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut names = BTreeMap::new();
    match find(repository, snapshot, KEYSPACE_NAMES) {
        Ok(list) if is_in_pieces(&list) => {
            for piece in Pieces::new(repository, &list) {
                let records = match piece {
                    Ok(records) => records,
                    Err(error) if error.is_damage() => continue,
                    Err(error) => return Err(error.into()),
                };
                let mut rest = records.as_slice();
                while let Some((head, behind)) = rest.split_first_chunk::<16>() {
                    let [number, count] = halves(*head);
                    rest = behind;
                    if number == u64::MAX {
                        all = Some(count);
                        continue;
                    }
                    let bytes = usize::try_from(count).ok().and_then(|count| rest.split_at_checked(count));
                    let (bytes, behind) =
                        bytes.ok_or_else(|| RestoreError::part(KEYSPACE_NAMES, "a record is cut off"))?;
                    rest = behind;
                    if !there.contains(&number) {
                        names.insert(number, bytes.to_vec());
                    }
                }
            }
        }
        Ok(_) | Err(RestoreError::NoSnapshot { .. }) => {}
        Err(RestoreError::Backup(error)) if error.is_damage() => {}
        Err(error) => return Err(error),
    }
    let mut pieces = Pieces::new(repository, entry);
    let mut trouble = None;
    let mut next = || {
        loop {
            match pieces.next()? {
                Ok(piece) => return Some(piece),
                Err(error) if error.is_damage() => {}
                Err(error) => {
                    trouble = Some(error);
                    return None;
                }
            }
        }
    };
    let saved = salvage(place, &mut next, &names, all);
    match trouble {
        Some(error) => Err(error.into()),
        None => saved.map_err(part),
    }
}

fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let number = u128::from_be_bytes(bytes);
    [(number >> 64) as u64, number as u64]
}

/// A key of a database, as people read it.
pub(super) fn shown((database, key): &(u8, Vec<u8>)) -> String {
    format!("{} (database {database})", key.escape_ascii())
}

/// Whether a read failed for a damaged chunk of the repository.
pub(super) fn is_damage(error: &io::Error) -> bool {
    error.get_ref().and_then(|error| error.downcast_ref::<BackupError>()).is_some_and(BackupError::is_damage)
}
