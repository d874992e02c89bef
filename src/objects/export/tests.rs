//! Exports that were changed, cut, swapped, or never finished.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::crypto::MasterKey;
use crate::crypto::keyring::MasterSource;
use crate::objects::blob::OpenFault;
use crate::objects::index::{BUCKETS, BucketRow, CURRENT, INLINE};
use crate::objects::types::Versioning;
use crate::store::dump::DumpError;
use crate::store::recover::{Recovered, recover};
use crate::store::{OBJECTS, Store, StoreError, WriteTx, record};
use crate::testing::{FaultyDisk, TestRandom, plain_memory_store};

const FOLDER: &str = "/data/objects/index";

fn exports(disk: &FaultyDisk) -> Exports {
    let random = Arc::new(TestRandom::new(7));
    let master = MasterSource::Given { key: MasterKey::random(&TestRandom::new(1)), from: "test" };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let keyring = Keyring::open(shared.clone(), random.clone(), Path::new("/data"), master, false).unwrap();
    let exports = Exports::open(shared, PathBuf::from(FOLDER), Arc::new(keyring), random).unwrap();
    // The data folder itself is not this room's to make durable.
    disk.sync_dir(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    exports
}

/// An index of `rows` rows that do not compress, in some pieces.
fn index(rows: u32) -> Store {
    let store = plain_memory_store();
    let id = crate::base::Id128::from_bytes([3; 16]);
    let bucket = BucketRow { id, created: 5, wrapped_key: vec![9; 60], versioning: Versioning::Off, home: None };
    let noise: Vec<u8> =
        (0..2_000_u32).flat_map(|at| blake3::hash(&at.to_be_bytes()).as_bytes()[..1].to_vec()).collect();
    let fill = move |tx: &mut dyn WriteTx| {
        tx.put(BUCKETS, b"photos", &record::encode(&bucket))?;
        tx.put(crate::objects::index::USAGE, b"x", b"counted anew")?;
        tx.put(crate::store::Table::new("jobs.rows"), b"x", b"a job")?;
        (0..rows).try_for_each(|row| tx.put(INLINE, &row.to_be_bytes(), &noise))?;
        tx.put(CURRENT, b"k", b"an object")
    };
    store.write_blocking::<_, StoreError>(fill).unwrap();
    store
}

fn write(exports: &Exports, store: &Store) -> Result<Option<Export>, crate::objects::ObjectError> {
    exports.write(store.snapshot().unwrap(), Timestamp(77), &|| true)
}

fn is_whole(exports: &Exports, export: &Export) -> bool {
    exports.read(export).is_ok_and(ExportReader::reads_whole)
}

fn load(exports: &Exports, export: &Export) -> Result<(Store, Recovered), DumpError> {
    let store = plain_memory_store();
    let mut reader = exports.read(export).unwrap();
    let recovered = recover(&OBJECTS, &store, &mut || reader.next_piece())?;
    Ok((store, recovered))
}

fn bytes_of(disk: &FaultyDisk, export: &Export) -> Vec<u8> {
    disk::read_file(disk, &export.path, 1 << 30).unwrap().unwrap()
}

fn put_bytes(disk: &FaultyDisk, export: &Export, bytes: &[u8]) {
    disk::replace_file(disk, &export.path, bytes).unwrap();
}

/// Where frames begin, and the end.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut out = vec![HEAD];
    while let Some(len) = out.last().and_then(|at| bytes.get(*at..)?.first_chunk::<4>()) {
        out.push(out.last().unwrap() + 4 + u32::from_be_bytes(*len) as usize);
    }
    out
}

#[test]
fn an_export_gives_the_rows_back_but_for_keys_and_what_is_counted_anew() {
    let disk = FaultyDisk::new();
    let (exports, store) = (exports(&disk), index(1500));
    let export = write(&exports, &store).unwrap().unwrap();
    let reader = exports.read(&export).unwrap();
    assert_eq!((reader.number(), reader.taken()), (1, Timestamp(77)));
    assert!(is_whole(&exports, &export));
    assert!(frames(&bytes_of(&disk, &export)).len() > 3, "it has pieces");
    let (back, recovered) = load(&exports, &export).unwrap();
    assert!(recovered.is_whole());
    assert_eq!(recovered.rows, 1502);
    let read = |key: &'static [u8], table| back.read_blocking::<_, StoreError>(|tx| tx.get(table, key)).unwrap();
    let bucket: BucketRow = record::decode(&read(b"photos", BUCKETS).unwrap()).unwrap();
    assert_eq!((bucket.created, bucket.wrapped_key.len()), (5, 0));
    assert_eq!(read(b"k", CURRENT).unwrap(), b"an object");
    assert_eq!(read(b"x", crate::objects::index::USAGE), None);
    assert_eq!(read(b"x", crate::store::Table::new("jobs.rows")), None);
}

#[test]
fn the_two_newest_stay() {
    let disk = FaultyDisk::new();
    let (exports, store) = (exports(&disk), index(3));
    for number in 1..=4 {
        assert_eq!(write(&exports, &store).unwrap().unwrap().number, number);
    }
    let numbers: Vec<u64> = exports.list().unwrap().iter().map(|export| export.number).collect();
    assert_eq!(numbers, [4, 3]);
    // One that was stopped leaves nothing.
    assert_eq!(exports.write(store.snapshot().unwrap(), Timestamp(78), &|| false).unwrap(), None);
    assert_eq!(disk.list(Path::new(FOLDER)).unwrap().len(), 2);
}

#[test]
fn a_power_cut_at_any_step_leaves_a_whole_export_and_the_new_one_when_it_was_acknowledged() {
    let disk = FaultyDisk::new();
    let (before, store) = (exports(&disk), index(3));
    write(&before, &store).unwrap();
    write(&before, &store).unwrap();
    let start = disk.operations();
    write(&before, &store).unwrap();
    let steps = disk.operations() - start;
    assert!(steps > 8, "{steps}");
    for step in 1..=steps {
        let disk = FaultyDisk::new();
        let before = exports(&disk);
        write(&before, &store).unwrap();
        write(&before, &store).unwrap();
        disk.cut_power_at(step);
        let answered = write(&before, &store).is_ok();
        for seed in 0..4 {
            let after = exports(&disk.crash(seed));
            let there = after.list().unwrap();
            assert!(there.iter().all(|export| is_whole(&after, export)), "step {step}, outcome {seed}");
            let numbers: Vec<u64> = there.iter().map(|export| export.number).collect();
            assert!(numbers.contains(&2), "step {step}, outcome {seed}: {numbers:?}");
            assert!(!answered || numbers.first() == Some(&3), "step {step}, outcome {seed}: {numbers:?}");
            // The next one takes a number of its own and cleans up.
            let next = write(&after, &store).unwrap().unwrap();
            assert_eq!(after.list().unwrap().first(), Some(&next));
            assert!(disk::read_file(after.disk.as_ref(), &next.path, 1 << 30).unwrap().is_some());
        }
    }
}

#[test]
fn a_disk_that_lies_or_is_full_costs_no_export_that_is_there() {
    use crate::testing::Fault;
    for fault in [Fault::NoSpace, Fault::ShortWrite, Fault::Io, Fault::SyncError, Fault::LostWrite, Fault::TornWrite] {
        for nth in 1..8 {
            let disk = FaultyDisk::new();
            let (exports, store) = (exports(&disk), index(3));
            write(&exports, &store).unwrap();
            disk.fail_at(nth, fault);
            drop(write(&exports, &store));
            disk.heal();
            let there = exports.list().unwrap();
            assert!(there.iter().any(|export| export.number == 1), "{fault:?} at {nth}");
            assert!(there.iter().all(|export| is_whole(&exports, export)), "{fault:?} at {nth}");
        }
    }
}

#[test]
fn pieces_that_change_places_are_noticed() {
    let disk = FaultyDisk::new();
    let (exports, store) = (exports(&disk), index(1500));
    let (first, second) = (write(&exports, &store).unwrap().unwrap(), write(&exports, &store).unwrap().unwrap());
    let (one, two) = (bytes_of(&disk, &first), bytes_of(&disk, &second));
    let at = frames(&one);
    assert!(at.len() > 4, "it has few pieces");
    put_bytes(&disk, &first, &[&one[..at[0]], &one[at[1]..at[2]], &one[at[0]..at[1]], &one[at[2]..]].concat());
    assert!(!is_whole(&exports, &first));
    // Another export's piece, in its own place.
    let other = frames(&two);
    put_bytes(&disk, &first, &[&one[..at[0]], &two[other[0]..other[1]], &one[at[1]..]].concat());
    assert!(!is_whole(&exports, &first));
    // One left out; the last left out.
    put_bytes(&disk, &first, &[&one[..at[0]], &one[at[1]..]].concat());
    assert!(!is_whole(&exports, &first));
    put_bytes(&disk, &first, &one[..at[at.len() - 2]]);
    assert!(!is_whole(&exports, &first));
    // Another export's head.
    put_bytes(&disk, &first, &[&two[..HEAD], &one[HEAD..]].concat());
    assert!(!is_whole(&exports, &first));
    put_bytes(&disk, &first, &one);
    assert!(is_whole(&exports, &first));
}

#[test]
fn a_damaged_piece_costs_its_own_rows() {
    let disk = FaultyDisk::new();
    let (exports, store) = (exports(&disk), index(1500));
    let export = write(&exports, &store).unwrap().unwrap();
    let bytes = bytes_of(&disk, &export);
    let second = frames(&bytes)[1] as u64;
    disk.flip(&export.path, second + 100, 1).unwrap();
    let (_, recovered) = load(&exports, &export).unwrap();
    assert!(!recovered.is_whole());
    assert!((100..1502).contains(&recovered.rows), "{}", recovered.rows);
}

#[test]
fn an_export_of_another_master_key_does_not_open() {
    let disk = FaultyDisk::new();
    let (exports, store) = (exports(&disk), index(3));
    let export = write(&exports, &store).unwrap().unwrap();
    let other = MasterSource::Given { key: MasterKey::random(&TestRandom::new(2)), from: "test" };
    let shared: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let keyring = Keyring::open(shared, Arc::new(TestRandom::new(3)), Path::new("/data"), other, false).unwrap();
    let opened = ExportReader::open(&disk, &export.path, &keyring);
    assert!(matches!(opened, Err(OpenFault::Corrupt(_))), "{opened:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_changed_byte_or_a_cut_is_never_taken_for_a_whole_export(place in 0.0..1.0f64, mask in 1u8.., cut in any::<bool>()) {
        let disk = FaultyDisk::new();
        let (exports, store) = (exports(&disk), index(40));
        let export = write(&exports, &store).unwrap().unwrap();
        let mut bytes = bytes_of(&disk, &export);
        let at = ((bytes.len() as f64) * place) as usize;
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= mask;
        }
        put_bytes(&disk, &export, &bytes);
        // Bytes of the head that say nothing are bound as well.
        prop_assert!(!is_whole(&exports, &export), "at {}", at);
    }
}
