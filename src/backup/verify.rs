//! Whether everything is still there and still what was written.

use std::collections::HashSet;

use super::fetch::{Fetcher, Ids};
use super::format::ChunkId;
use super::format::keys::Sealed;
use super::format::pack::{HEADER, LARGEST_PACK, PackEntry, PackInfo, open_chunk, open_pack, pack_name};
use super::load::{Loaded, Purpose};
use super::{BackupError, Progress, Repository, SnapshotInfo, listing};
use crate::base::random;

/// Files and findings named in a report; more files are counted.
const MOST_NAMED: usize = 10_000;

/// How much of the packs a verify reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyLevel {
    /// Snapshots and their chain, index, presence and size of every pack.
    Structure,
    /// That, and every byte of a random part of the packs: so many percent, 1 to 100.
    Percent(u8),
    /// That, and every byte of every pack.
    ReadData,
}

/// What a verify found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Snapshots looked through.
    pub snapshots: u64,
    /// Packs present.
    pub packs: u64,
    /// Packs read in full.
    pub packs_read: u64,
    /// Chunks known.
    pub chunks: u64,
    /// What is wrong with the repository, one sentence each; empty: all is well.
    pub findings: Vec<String>,
    /// Files that need what is damaged: `snapshot: path`.
    pub files: Vec<String>,
    /// Files beyond those named in `files` (bounded).
    pub files_more: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub const fn is_well(&self) -> bool {
        self.findings.is_empty() && self.files.is_empty()
    }

    fn find(&mut self, finding: impl std::fmt::Display) {
        if self.findings.len() < MOST_NAMED {
            self.findings.push(finding.to_string());
        }
    }

    fn file(&mut self, snapshot: &SnapshotInfo, path: &str) {
        if self.files.len() < MOST_NAMED {
            self.files.push(format!("{}: {path}", snapshot.name));
        } else {
            self.files_more += 1;
        }
    }
}

impl Repository {
    /// Checks the repository without changing it. Blocks.
    ///
    /// # Errors
    /// The target cannot be read at all; [`BackupError::Cancelled`]. Damage is no error but in the report.
    pub fn verify(&self, level: VerifyLevel, progress: &Progress) -> Result<VerifyReport, BackupError> {
        let mut report = VerifyReport::default();
        let (snapshots, problems) = self.survey()?;
        for problem in &problems {
            report.find(problem);
        }
        let loaded = self.0.load(Purpose::Read, progress)?;
        for problem in &loaded.damaged {
            report.find(problem);
        }
        for name in &loaded.missing {
            report.find(format!("{name} is missing: someone or something deleted it"));
        }
        for name in &loaded.cut {
            report.find(format!("{name} has other bytes than were written: it was cut or replaced"));
        }
        report.packs = loaded.present.len() as u64;
        report.chunks = loaded.table.len() as u64;
        let mut bad = HashSet::new();
        let percent = match level {
            VerifyLevel::Structure => 0,
            VerifyLevel::Percent(percent) => u64::from(percent.clamp(1, 100)),
            VerifyLevel::ReadData => 100,
        };
        if percent > 0 {
            self.read_packs(&loaded, percent, &mut report, &mut bad, progress)?;
        }
        let mut walk = Walk { loaded: &loaded, fetcher: self.fetcher(), bad: &bad, good_lists: HashSet::new() };
        for snapshot in &snapshots {
            walk.snapshot(snapshot, &mut report, progress)?;
            report.snapshots += 1;
        }
        Ok(report)
    }

    fn read_packs(
        &self,
        loaded: &Loaded,
        percent: u64,
        report: &mut VerifyReport,
        bad: &mut HashSet<ChunkId>,
        progress: &Progress,
    ) -> Result<(), BackupError> {
        let mut seen = HashSet::new();
        for name in loaded.files.keys() {
            let lines = match self.0.index_file(name) {
                Ok(lines) => lines,
                // A prune beside this verify may have replaced it; what is wrong with it was found before.
                Err(BackupError::Target(_) | BackupError::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            };
            for (info, entries) in lines {
                progress.go_on()?;
                let takes = percent >= 100 || random::below(self.0.random.as_ref(), 100) < percent;
                if takes && loaded.present.contains_key(&info.hash) && seen.insert(info.hash) {
                    self.read_pack(&info, &entries, report, bad, progress);
                }
            }
        }
        // The others were read when they were taken in.
        report.packs_read += loaded.adopted.len() as u64;
        Ok(())
    }

    fn read_pack(
        &self,
        info: &PackInfo,
        entries: &[PackEntry],
        report: &mut VerifyReport,
        bad: &mut HashSet<ChunkId>,
        progress: &Progress,
    ) {
        let name = pack_name(&info.hash);
        let file = match self.0.target.get(&name, LARGEST_PACK) {
            Ok(file) => file,
            Err(error) => {
                report.find(&error);
                bad.extend(entries.iter().map(|entry| entry.id));
                return;
            }
        };
        report.packs_read += 1;
        progress.read(file.len() as u64);
        let whole = *blake3::hash(&file).as_bytes() == info.hash;
        if whole && open_pack(&self.0.keys, info.hash, &file).is_some_and(|(_, lines)| lines == entries) {
            return;
        }
        let aead = self.0.keys.aead(Sealed::Chunk, &info.salt);
        let mut offset = HEADER;
        let mut lost = 0;
        for entry in entries {
            let sealed = file.get(offset..offset.saturating_add(entry.sealed as usize)).unwrap_or_default();
            let plain = entry.plain as usize;
            let opened = open_chunk(&self.0.keys, &aead, &entry.id, offset as u64, sealed, entry.packing, plain);
            if opened.is_none() {
                bad.insert(entry.id);
                lost += 1;
            }
            offset = offset.saturating_add(entry.sealed as usize);
        }
        report.find(format!("{name} is damaged: {lost} of its {} chunks do not open", entries.len()));
    }
}

struct Walk<'a> {
    loaded: &'a Loaded,
    fetcher: Fetcher,
    bad: &'a HashSet<ChunkId>,
    /// Lists all of whose files are well, by chunk.
    good_lists: HashSet<ChunkId>,
}

impl Walk<'_> {
    fn snapshot(
        &mut self,
        snapshot: &SnapshotInfo,
        report: &mut VerifyReport,
        progress: &Progress,
    ) -> Result<(), BackupError> {
        let mut ids = Ids::new(&snapshot.listing);
        loop {
            progress.go_on()?;
            let fetcher = &mut self.fetcher;
            let Some(next) = ids.next(|id| fetcher.chunk(&self.loaded.table, id)) else { return Ok(()) };
            if next.as_ref().is_ok_and(|id| self.good_lists.contains(id)) {
                continue;
            }
            let read = next.and_then(|id| {
                let bytes = fetcher.chunk(&self.loaded.table, &id)?;
                let entries = listing::decode(&bytes);
                let entries =
                    entries.ok_or_else(|| BackupError::damaged(format!("chunk {id}"), "it is no list of entries"))?;
                Ok((id, entries))
            });
            let (id, entries) = match read {
                Ok(read) => read,
                Err(BackupError::Cancelled) => return Err(BackupError::Cancelled),
                Err(error) => {
                    report.find(format!("snapshot {}: a part of its list cannot be read: {error}", snapshot.name));
                    continue;
                }
            };
            let mut good = true;
            for entry in &entries {
                progress.file();
                if let Some(reason) = self.trouble(&mut Ids::new(&entry.content)) {
                    good = false;
                    report.file(snapshot, &format!("{} ({reason})", entry.path));
                }
            }
            if good {
                self.good_lists.insert(id);
            }
        }
    }

    /// What is wrong with the first chunk that is not well.
    fn trouble(&mut self, ids: &mut Ids) -> Option<String> {
        let table = &self.loaded.table;
        let fetcher = &mut self.fetcher;
        loop {
            let id = match ids.next(|id| fetcher.chunk(table, id))? {
                Ok(id) => id,
                Err(error) => return Some(error.to_string()),
            };
            let Some(place) = table.find(&id) else { return Some(format!("chunk {id} is missing")) };
            let size = table.pack(place.pack).and_then(|pack| self.loaded.present.get(&pack.hash)).copied();
            if size.unwrap_or(0) < u64::from(place.offset) + u64::from(place.sealed) {
                return Some(format!("chunk {id} is cut off"));
            }
            if self.bad.contains(&id) {
                return Some(format!("chunk {id} is damaged"));
            }
        }
    }
}
