//! Exports for the fuzzer, which sees nothing private. Compiled for tests and, behind the feature `testing`, for the fuzzer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Export, ExportReader, Exports};
use crate::base::{Disk, Timestamp, disk};
use crate::crypto::keyring::MasterSource;
use crate::crypto::{Keyring, MasterKey};
use crate::objects::index::INLINE;
use crate::store::{StoreError, WriteTx};
use crate::testing::{FaultyDisk, TestRandom, plain_memory_store};

/// Opens `bytes` as an export. Then exports an index with the rest of them in it, changes the byte that the first four name,
/// and reads that.
///
/// # Panics
/// An export that was changed is taken for whole.
pub(in crate::objects) fn export(bytes: &[u8]) {
    let disk = FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (random, data) = (Arc::new(TestRandom::new(7)), Path::new("/data"));
    let master = MasterSource::Given { key: MasterKey::random(&TestRandom::new(1)), from: "test" };
    let Ok(keyring) = Keyring::open(Arc::clone(&shared), random.clone(), data, master, false) else { return };
    let folder = PathBuf::from("/data/objects/index");
    let Ok(exports) = Exports::open(shared, folder, Arc::new(keyring), random) else { return };
    let foreign = Export { number: 9, path: exports.path(9), bytes: bytes.len() as u64 };
    if disk::replace_file(&disk, &foreign.path, bytes).is_ok() {
        drop(exports.read(&foreign).map(ExportReader::reads_whole));
        drop(disk.remove_file(&foreign.path));
    }

    let Some((place, rest)) = bytes.split_first_chunk::<4>() else { return };
    let (mask, rows) = rest.split_at(rest.len().min(1));
    let (store, rows) = (plain_memory_store(), rows.to_vec());
    let fill = move |tx: &mut dyn WriteTx| {
        let mut rows = rows.chunks(64).enumerate();
        rows.try_for_each(|(at, row)| tx.put(INLINE, &(at as u64).to_be_bytes(), row))
    };
    if store.write_blocking::<_, StoreError>(fill).is_err() {
        return;
    }
    let Ok(snapshot) = store.snapshot() else { return };
    let Ok(Some(export)) = exports.write(snapshot, Timestamp(6), &|| true) else { return };
    let place = u64::from(u32::from_be_bytes(*place)) % export.bytes;
    let mask = mask.first().copied().unwrap_or_default();
    if disk.flip(&export.path, place, mask).is_ok() {
        let whole = exports.read(&export).is_ok_and(ExportReader::reads_whole);
        assert_eq!(whole, mask == 0, "an export changed at {place} by {mask}");
    }
}
