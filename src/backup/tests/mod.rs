//! The repository as a whole: written, read, cut off, tampered with, pruned.

mod crash;
mod losses;
mod prune;
mod repository;
mod tamper;
mod tree;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::target::FolderTarget;
use super::*;
use crate::base::{Clock, Disk, Random, SystemRandom, Timestamp};
use crate::crypto::MasterKey;
use crate::testing::{FaultyDisk, TestClock, TestRandom};

const PLACE: &str = "/backups/main";

/// Files by path.
type Files = BTreeMap<String, Vec<u8>>;

/// A repository on a disk that fails on command, with a clock that moves when told.
struct Fixture {
    disk: FaultyDisk,
    clock: Arc<TestClock>,
    key: MasterKey,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            disk: FaultyDisk::new(),
            clock: Arc::new(TestClock::default()),
            key: MasterKey::parse(&"0a".repeat(32)).unwrap(),
        };
        Repository::create(fixture.target(), &Unlock::MasterKey(&fixture.key), fixture.clock(), random()).unwrap();
        fixture
    }

    /// The same on another disk.
    fn on(&self, disk: FaultyDisk) -> Self {
        Self { disk, clock: Arc::clone(&self.clock), key: self.key.clone() }
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::new(FolderTarget::new(PathBuf::from(PLACE), Arc::new(self.disk.clone())))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    fn try_open(&self, head: Option<&Head>) -> Result<Repository, BackupError> {
        Repository::open(self.target(), &Unlock::MasterKey(&self.key), head, self.clock(), random())
    }

    fn open(&self) -> Repository {
        self.try_open(None).unwrap()
    }

    fn try_backup(&self, files: &Files) -> Result<Finished, BackupError> {
        let repository = self.try_open(None)?;
        let mut writer = repository.begin(new_snapshot("files", self.clock.now()), Progress::new())?;
        for (path, bytes) in files {
            writer.add(&path_of(path), &Meta::plain_file(0, Timestamp(5)), &mut bytes.as_slice())?;
        }
        writer.finish()
    }

    fn backup(&self, files: &Files) -> Finished {
        self.try_backup(files).unwrap()
    }

    /// Every file of the snapshot, read back.
    fn files(&self, snapshot: &SnapshotInfo) -> Files {
        read_all(&self.open(), snapshot)
    }

    /// Paths at the target below `folder`, sorted.
    fn names(&self, folder: &str) -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> =
            self.target().list(folder).unwrap().into_iter().map(|listed| Path::new(PLACE).join(listed.name)).collect();
        names.sort();
        names
    }

    fn remove(&self, path: &Path) {
        self.disk.remove_file(path).unwrap();
        self.disk.sync_dir(path.parent().unwrap()).unwrap();
    }
}

fn random() -> Arc<dyn Random> {
    Arc::new(SystemRandom)
}

fn new_snapshot(source: &str, started: Timestamp) -> NewSnapshot {
    NewSnapshot { source: source.to_owned(), host: HostFacts::default(), started }
}

fn path_of(text: &str) -> EntryPath {
    EntryPath::new(text).unwrap()
}

/// Bytes that do not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    TestRandom::new(seed).fill(&mut out);
    out
}

fn files(of: &[(&str, Vec<u8>)]) -> Files {
    of.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect()
}

fn read_all(repository: &Repository, snapshot: &SnapshotInfo) -> Files {
    let mut out = Files::new();
    for entry in repository.entries(snapshot) {
        let entry = entry.unwrap();
        let mut bytes = Vec::new();
        repository.read(&entry).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, entry.meta.size);
        out.insert(entry.path.to_string(), bytes);
    }
    out
}
