//! What lies at the target, read: snapshots, marks, the index, and packs no index names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::format::document::{self, LARGEST_DOCUMENT};
use super::format::index::{self, Indexed, MOST_CHUNKS, MOST_INDEXED, MOST_PACKS, Table};
use super::format::keys::Sealed;
use super::format::pack::{LARGEST_PACK, PackEntry, PackInfo, open_pack, pack_hash, pack_name};
use super::repository::Inner;
use super::snapshot::{SnapshotInfo, SnapshotName};
use super::target::{Target, Trouble};
use super::{BackupError, Progress};
use crate::base::ids::{hex, hex_decode};
use crate::base::{Timestamp, random};

/// Most dropped snapshots a mark remembers besides those that are somebody's predecessor.
const MOST_DROPPED: usize = 5000;

/// What the index is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reading: everything that may still be there.
    Read,
    /// Writing: only what a new snapshot may rely on, so no pack that is marked, cut or missing.
    Write,
}

/// The index and what was noticed on the way.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) table: Table,
    /// Index files by name, with the packs each tells of.
    pub(super) files: BTreeMap<String, Vec<[u8; 32]>>,
    /// Bytes of every pack there.
    pub(super) present: HashMap<[u8; 32], u64>,
    /// Packs no index names, taken in from their trailers.
    pub(super) adopted: Vec<Indexed>,
    /// Packs an index names that are not there.
    pub(super) missing: Vec<String>,
    /// Packs that are there with other bytes than written.
    pub(super) cut: Vec<String>,
    /// Files that are not what they should be.
    pub(super) damaged: Vec<BackupError>,
}

/// What prunes have decided so far: JSON in `marks/<milliseconds, 16 hex digits>-<16 hex digits>`. A later mark holds all
/// that is still true of the earlier ones, which are then deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// When it was made.
    pub(super) made: Timestamp,
    /// Snapshots that were dropped on purpose.
    pub(super) dropped: BTreeSet<SnapshotName>,
    /// Packs nothing needs, by hash in hex, and since when.
    pub(super) packs: BTreeMap<String, Timestamp>,
}

/// The names of the snapshots there, oldest first.
pub(super) fn snapshot_names(target: &dyn Target) -> Result<Vec<SnapshotName>, BackupError> {
    let listed = target.list("snapshots")?;
    let name = |listed: super::target::Listed| SnapshotName::parse(listed.name.strip_prefix("snapshots/")?);
    let mut names: Vec<SnapshotName> = listed.into_iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

impl Inner {
    /// A snapshot and the BLAKE3 of its file.
    pub(super) fn read_snapshot(&self, name: &SnapshotName) -> Result<(SnapshotInfo, [u8; 32]), BackupError> {
        let file_name = format!("snapshots/{name}");
        let file = match self.target.get(&file_name, LARGEST_DOCUMENT) {
            Ok(file) => file,
            Err(error) if error.trouble == Trouble::Missing => {
                return Err(BackupError::NoSuchSnapshot { name: name.to_string() });
            }
            Err(error) => return Err(error.into()),
        };
        let hash = *blake3::hash(&file).as_bytes();
        let plain = document::open(&self.keys, Sealed::Snapshot, name.as_str(), &file)
            .ok_or_else(|| BackupError::damaged(&file_name, "it does not verify: it was cut, altered or forged"))?;
        let info = decode_snapshot(&plain)
            .filter(|info| info.name == *name)
            .ok_or_else(|| BackupError::damaged(&file_name, "it is no snapshot this release can read"))?;
        Ok((info, hash))
    }

    /// Every mark there, by name.
    pub(super) fn marks(&self) -> Result<Vec<(String, Mark)>, BackupError> {
        let mut out = Vec::new();
        for listed in self.target.list("marks")? {
            let file = match self.target.get(&listed.name, LARGEST_DOCUMENT) {
                Ok(file) => file,
                // A later mark took its place between the listing and the look.
                Err(error) if error.trouble == Trouble::Missing => continue,
                Err(error) => return Err(error.into()),
            };
            let name = listed.name.strip_prefix("marks/").unwrap_or_default();
            let mark = document::open(&self.keys, Sealed::Mark, name, &file)
                .and_then(|plain| decode_mark(&plain))
                .ok_or_else(|| {
                    BackupError::damaged(&listed.name, "it does not verify: it was cut, altered or forged")
                })?;
            out.push((listed.name, mark));
        }
        Ok(out)
    }

    /// Snapshots dropped on purpose, as far as remembered.
    pub(super) fn dropped(&self) -> Result<BTreeSet<SnapshotName>, BackupError> {
        Ok(self.marks()?.into_iter().flat_map(|(_, mark)| mark.dropped).collect())
    }

    /// Packs marked as needed by nothing, and since when.
    pub(super) fn marked(&self) -> Result<BTreeMap<[u8; 32], Timestamp>, BackupError> {
        let mut out = BTreeMap::new();
        for (name, mark) in self.marks()? {
            for (digits, since) in mark.packs {
                let mut hash = [0; 32];
                hex_decode(digits.as_bytes(), &mut hash)
                    .ok_or_else(|| BackupError::damaged(&name, "it names a pack that can be none"))?;
                let earliest = out.entry(hash).or_insert(since);
                *earliest = since.min(*earliest);
            }
        }
        Ok(out)
    }

    /// Writes a mark.
    pub(super) fn put_mark(
        &self,
        mut mark: Mark,
        predecessors: &BTreeSet<SnapshotName>,
    ) -> Result<String, BackupError> {
        while mark.dropped.len() > MOST_DROPPED {
            let Some(oldest) = mark.dropped.iter().find(|name| !predecessors.contains(*name)).cloned() else { break };
            mark.dropped.remove(&oldest);
        }
        let suffix = hex(&random::bytes::<8>(self.random.as_ref()));
        let name = format!("{:016x}-{suffix}", mark.made.millis());
        let plain = serde_json::to_vec(&mark).map_err(|error| BackupError::damaged(&name, error.to_string()))?;
        let file = document::seal(&self.keys, Sealed::Mark, &name, plain, self.random.as_ref());
        let name = format!("marks/{name}");
        self.target.put(&name, &file)?;
        Ok(name)
    }

    /// Writes index files about `packs`, as many as it takes, and empties it.
    pub(super) fn put_index(&self, packs: &mut Vec<Indexed>) -> Result<(), BackupError> {
        while !packs.is_empty() {
            let mut chunks = 0;
            let fits = |(_, entries): &&Indexed| {
                chunks += entries.len();
                chunks <= MOST_INDEXED
            };
            let count = packs.iter().take(MOST_PACKS).take_while(fits).count().max(1);
            let plain = index::encode(packs.get(..count).unwrap_or_default());
            let file = document::seal(&self.keys, Sealed::Index, "", plain, self.random.as_ref());
            self.target.put(&format!("index/{}", hex(blake3::hash(&file).as_bytes())), &file)?;
            packs.drain(..count);
        }
        Ok(())
    }

    /// What one index file tells.
    pub(super) fn index_file(&self, name: &str) -> Result<Vec<Indexed>, BackupError> {
        let file = self.target.get(name, LARGEST_DOCUMENT)?;
        document::open(&self.keys, Sealed::Index, "", &file)
            .and_then(|plain| index::decode(&plain))
            .ok_or_else(|| BackupError::damaged(name, "it does not verify"))
    }

    /// Reads the whole index, and takes in the packs no index names.
    pub(super) fn load(&self, purpose: Purpose, progress: &Progress) -> Result<Loaded, BackupError> {
        let mut loaded = Loaded::default();
        // Index before packs: a pack is always there before an index names it.
        let files = self.target.list("index")?;
        let marked = self.marked()?;
        let mut documents = Vec::new();
        for listed in files {
            progress.go_on()?;
            match self.target.get(&listed.name, LARGEST_DOCUMENT) {
                Ok(file) => documents.push((listed.name, file)),
                Err(error) if error.trouble == Trouble::Missing => {}
                Err(error) => return Err(error.into()),
            }
            // One at a time keeps few in memory.
            if let Some((name, file)) = documents.pop() {
                self.read_index(&mut loaded, &marked, purpose, name, &file)?;
            }
        }
        for listed in self.target.list("packs")? {
            if let Some(hash) = pack_hash(&listed.name) {
                loaded.present.insert(hash, listed.size);
            }
        }
        self.drop_absent(&mut loaded, purpose)?;
        let unknown: Vec<[u8; 32]> = loaded
            .present
            .keys()
            .filter(|hash| !loaded.table.knows_pack(hash))
            .filter(|hash| purpose == Purpose::Read || !marked.contains_key(*hash))
            .filter(|hash| !loaded.files.values().flatten().any(|known| known == *hash))
            .copied()
            .collect();
        for hash in unknown {
            progress.go_on()?;
            self.adopt(&mut loaded, hash, marked.contains_key(&hash))?;
        }
        Ok(loaded)
    }

    fn read_index(
        &self,
        loaded: &mut Loaded,
        marked: &BTreeMap<[u8; 32], Timestamp>,
        purpose: Purpose,
        name: String,
        file: &[u8],
    ) -> Result<(), BackupError> {
        let packs = document::open(&self.keys, Sealed::Index, "", file).and_then(|plain| index::decode(&plain));
        let Some(packs) = packs else {
            loaded.damaged.push(BackupError::damaged(name, "it does not verify; what it told is read from the packs"));
            return Ok(());
        };
        loaded.files.insert(name, packs.iter().map(|(info, _)| info.hash).collect());
        for (info, entries) in packs {
            let is_marked = marked.contains_key(&info.hash);
            if purpose == Purpose::Read || !is_marked {
                add(&mut loaded.table, info, &entries, is_marked)?;
            }
        }
        Ok(())
    }

    /// Finds packs that are missing or cut. What they hold is then looked for in other packs: the index is built again
    /// without them, which is rare and may take its time.
    fn drop_absent(&self, loaded: &mut Loaded, purpose: Purpose) -> Result<(), BackupError> {
        let mut bad = BTreeSet::new();
        for info in loaded.table.packs() {
            match loaded.present.get(&info.hash) {
                None => {
                    loaded.missing.push(info.name());
                    bad.insert(info.hash);
                }
                Some(size) if *size != info.size => {
                    loaded.cut.push(info.name());
                    bad.insert(info.hash);
                }
                Some(_) => {}
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        let marked = self.marked()?;
        let mut table = Table::default();
        for name in loaded.files.keys() {
            let packs = self
                .target
                .get(name, LARGEST_DOCUMENT)
                .ok()
                .and_then(|file| index::decode(&document::open(&self.keys, Sealed::Index, "", &file)?));
            for (info, entries) in packs.unwrap_or_default() {
                let is_bad = bad.contains(&info.hash);
                let gone = !loaded.present.contains_key(&info.hash);
                let is_marked = marked.contains_key(&info.hash);
                let skip = match purpose {
                    Purpose::Read => gone,
                    Purpose::Write => is_bad || is_marked,
                };
                if !skip {
                    add(&mut table, info, &entries, is_bad || is_marked)?;
                }
            }
        }
        loaded.table = table;
        Ok(())
    }

    fn adopt(&self, loaded: &mut Loaded, hash: [u8; 32], second_choice: bool) -> Result<(), BackupError> {
        let name = pack_name(&hash);
        let file = match self.target.get(&name, LARGEST_PACK) {
            Ok(file) => file,
            Err(error) if error.trouble == Trouble::Missing => return Ok(()),
            Err(error) if error.trouble == Trouble::TooLarge => {
                loaded.damaged.push(BackupError::damaged(name, "it is larger than a pack can be"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let opened = (*blake3::hash(&file).as_bytes() == hash).then(|| open_pack(&self.keys, hash, &file)).flatten();
        let Some((info, entries)) = opened else {
            loaded.damaged.push(BackupError::damaged(name, "its bytes are not what its name says"));
            return Ok(());
        };
        add(&mut loaded.table, info.clone(), &entries, second_choice)?;
        loaded.adopted.push((info, entries));
        Ok(())
    }
}

/// Reads the JSON of a snapshot.
pub(crate) fn decode_snapshot(plain: &[u8]) -> Option<SnapshotInfo> {
    serde_json::from_slice(plain).ok().filter(|info: &SnapshotInfo| SnapshotName::parse(info.name.as_str()).is_some())
}

/// Reads the JSON of a mark.
pub(crate) fn decode_mark(plain: &[u8]) -> Option<Mark> {
    serde_json::from_slice(plain).ok()
}

/// Takes a pack into a table.
pub(super) fn add(
    table: &mut Table,
    info: PackInfo,
    entries: &[PackEntry],
    second_choice: bool,
) -> Result<(), BackupError> {
    table.add(info, entries, second_choice).map(|_| ()).map_err(|_full| too_many(table))
}

/// The table is full.
pub(super) fn too_many(table: &Table) -> BackupError {
    BackupError::TooMany {
        what: "chunks of the repository",
        found: (table.len() as u64).saturating_add(1),
        limit: MOST_CHUNKS as u64,
    }
}
