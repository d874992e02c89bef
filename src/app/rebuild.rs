//! The index of the object store made anew in a folder that no server runs on.
//!
//! The new file grows beside the old one under a name of its own, and takes its place when it is whole and synced; the old
//! one stays under another name. Cut off at any point, the folder has the old index, or the new one, or none and says so at
//! the next start ([`refuse_without_index`]): then the command is run again.

use std::path::Path;
use std::sync::Arc;

use super::start::{Plan, opening};
use super::{Folder, StartError, master};
use crate::base::{Disk, Shutdown, Supervisor};
use crate::crypto::Keyring;
use crate::jobs::Jobs;
use crate::objects::Objects;
use crate::objects::rebuild::{self, Beside, Rebuilt, Show, has_buckets};
use crate::store::{OBJECTS, OBJECTS_REBUILT, Store, StoreError};
use crate::telemetry::Metrics;

/// What the old index is called afterwards, with the moment behind.
const ASIDE: &str = "objects.redb.before-rebuild-";

/// Whether the new index takes the place of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It does.
    Replace,
    /// It is thrown away.
    ThrowAway,
}

/// Makes the index in `folder` anew. Blocks.
///
/// # Errors
/// [`StartError`]: the old index is as it was.
pub fn rebuild_index(
    plan: &Plan,
    folder: &Folder,
    outcome: Outcome,
    show: &mut Show<'_>,
) -> Result<Rebuilt, StartError> {
    let (disk, data) = (plan.disk.as_ref(), folder.path());
    let source = master::source(disk, &plan.environment)?;
    // `has_data`: a missing ring is an error here, never made.
    let keyring = Keyring::open(Arc::clone(&plan.disk), Arc::clone(&plan.random), data, source, true)?;
    clear(disk, data).map_err(at(data))?;
    let made = make(plan, data, &Arc::new(keyring), outcome, show);
    let placed = made.and_then(|rebuilt| {
        if outcome == Outcome::Replace {
            put_in_place(plan, data).map_err(at(data))?;
        }
        Ok(rebuilt)
    });
    clear(disk, data).map_err(at(data))?;
    placed
}

/// Makes the new file, synced and closed.
fn make(
    plan: &Plan,
    data: &Path,
    keyring: &Arc<Keyring>,
    outcome: Outcome,
    show: &mut Show<'_>,
) -> Result<Rebuilt, StartError> {
    let root = data.join("objects");
    let failed = |source| StartError::Objects { path: root.clone(), source };
    show("the newest export", 0);
    let (disk, random) = (Arc::clone(&plan.disk), Arc::clone(&plan.random));
    let loaded = in_file(plan, data, keyring, Store::open_as_it_is, |store, _| {
        rebuild::load(&disk, &root, Arc::clone(keyring), random, (&OBJECTS_REBUILT, store)).map_err(failed)
    })?;
    let beside = if outcome == Outcome::Replace { Beside::Mend } else { Beside::Leave };
    in_file(plan, data, keyring, Store::open, |store, supervisor| {
        let (clock, random, metrics) = (Arc::clone(&plan.clock), Arc::clone(&plan.random), Metrics::new());
        let jobs = Jobs::new(store.clone(), clock, random, supervisor.clone(), &metrics);
        let objects = Objects::open(
            Arc::clone(&plan.disk),
            root.clone(),
            store.clone(),
            Arc::clone(keyring),
            jobs,
            Arc::clone(&plan.clock),
            Arc::clone(&plan.random),
            &metrics,
            plan.config.objects.clone(),
        );
        objects.and_then(|objects| rebuild::finish(&objects, loaded, beside, show)).map_err(failed)
    })
}

/// Runs `work` with the new file open, and closes it.
fn in_file<T>(
    plan: &Plan,
    data: &Path,
    keyring: &Keyring,
    open: impl FnOnce(&'static crate::store::DataFile, crate::store::Opening<'_>) -> Result<Store, StoreError>,
    work: impl FnOnce(&Store, &Supervisor) -> Result<T, StartError>,
) -> Result<T, StartError> {
    // Of its own, since the end of a file's writer ends what it watches.
    let supervisor = Supervisor::new(Shutdown::new());
    let wanted = crate::store::Opening { supervisor: &supervisor, ..opening(plan, data, keyring, "store/objects")? };
    let store = open(&OBJECTS_REBUILT, wanted)?;
    let done = work(&store, &supervisor);
    supervisor.shutdown().drain();
    store.close_blocking();
    supervisor.join_threads();
    done
}

/// Gives the old index another name, and the new one its name.
fn put_in_place(plan: &Plan, data: &Path) -> std::io::Result<()> {
    let (disk, index) = (plan.disk.as_ref(), data.join(OBJECTS.name()));
    if disk.entry(&index)?.is_some() {
        let moment = plan.clock.now().to_jiff().strftime("%Y%m%dT%H%M%S%3fZ").to_string();
        disk.rename(&index, &data.join(format!("{ASIDE}{moment}")))?;
    }
    disk.rename(&data.join(OBJECTS_REBUILT.name()), &index)?;
    disk.sync_dir(data)
}

/// Removes what an earlier run, or this one, has left of its file.
fn clear(disk: &dyn Disk, data: &Path) -> std::io::Result<()> {
    for name in [OBJECTS_REBUILT.name().to_owned(), format!("{}.new", OBJECTS_REBUILT.name())] {
        let path = data.join(name);
        if disk.entry(&path)?.is_some() {
            disk.remove_file(&path)?;
        }
    }
    disk.sync_dir(data)
}

/// Refuses to begin with an empty index where there are buckets. Blocks.
///
/// # Errors
/// [`StartError::NoIndex`]; the folder cannot be read.
pub(super) fn refuse_without_index(disk: &dyn Disk, data: &Path) -> Result<(), StartError> {
    let index = data.join(OBJECTS.name());
    let looked = disk.entry(&index).and_then(|entry| Ok(entry.is_none() && has_buckets(disk, &data.join("objects"))?));
    if looked.map_err(at(data))? { Err(StartError::NoIndex { path: index }) } else { Ok(()) }
}

fn at(data: &Path) -> impl Fn(std::io::Error) -> StartError + '_ {
    |source| StartError::Folder {
        path: data.to_owned(),
        what: "the object index cannot be looked after there",
        source,
        instead: "see whether the disk is well and has room",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk::replace_file;
    use crate::testing::FaultyDisk;

    #[test]
    fn buckets_without_an_index_are_no_empty_server() {
        let (disk, data) = (FaultyDisk::new(), Path::new("/data"));
        refuse_without_index(&disk, data).unwrap();
        disk.create_dir(&data.join("objects/keys")).unwrap();
        refuse_without_index(&disk, data).unwrap();
        replace_file(&disk, &data.join("objects/keys").join("0123456789abcdef0123456789abcdef"), b"key").unwrap();
        let error = refuse_without_index(&disk, data).unwrap_err();
        assert!(error.to_string().contains("mainstay objects rebuild-index"), "{error}");
        replace_file(&disk, &data.join("objects.redb"), b"rows").unwrap();
        refuse_without_index(&disk, data).unwrap();
    }
}
