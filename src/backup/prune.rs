//! What may go: snapshots by time, then what only they needed.
//!
//! In two phases, without locks. A prune *marks* packs nothing needs (durably, before it drops the snapshots) and deletes
//! those that were marked at least [`GRACE`] ago and are still needed by nothing. New snapshots do not rely on marked packs;
//! one that was being written when the mark was made and does rely on one either ends within the grace, and the pack is
//! seen to be needed, or ends with [`BackupError::Overtaken`]. The grace counts by the repository's own time too: a snapshot
//! begun after it must exist, so a clock that jumps ahead deletes nothing.
//!
//! Order, so that it may be killed anywhere: packs written again and their index, the mark, snapshots; then the index
//! without the packs that go, the old index, the packs, and last the earlier marks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fetch::{Ids, NextId};
use super::format::index::{Indexed, PENDING};
use super::format::pack::{PackEntry, pack_name};
use super::format::{ChunkId, Content};
use super::load::{Loaded, Mark, Purpose, snapshot_names};
use super::pipeline::{Lane, Pipeline};
use super::repository::Repository;
use super::retention::{Retention, SKEW};
use super::snapshot::{SnapshotInfo, SnapshotName};
use super::{BackupError, Progress, listing};
use crate::base::Timestamp;
use crate::base::ids::hex;

/// How long a pack stays marked before it is deleted.
pub(super) const GRACE: Duration = Duration::from_hours(24);

/// A clock so far past the newest snapshot is not believed.
const STALE: Duration = Duration::from_hours(45 * 24);

/// A pack with less than this percentage still needed is written again.
const LITTLE: u64 = 30;

/// Packs below this are small; several of them are written again as one.
const SMALL_PACK: u64 = 2 << 20;

/// So many small packs are worth it.
const MANY_SMALL: usize = 16;

/// What a prune would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunePlan {
    /// Snapshots that would go.
    pub drop: Vec<SnapshotInfo>,
    /// Snapshots that stay.
    pub keep: Vec<SnapshotName>,
    /// Snapshots dated in the future: neither counted nor dropped.
    pub future: Vec<SnapshotName>,
    /// Packs nothing would need any more: marked now, deleted by a prune at least a day later.
    pub mark: BTreeSet<String>,
    /// Packs with little left in them, or small, whose chunks would be written again together first.
    pub repack: BTreeSet<String>,
    /// Packs marked at least a day ago that nothing needs: deleted now.
    pub delete: BTreeSet<String>,
    /// Bytes freed now.
    pub bytes_freed: u64,
    /// Bytes freed by a later prune.
    pub bytes_marked: u64,
    /// Packs that stay marked, and since when.
    waiting: BTreeMap<[u8; 32], Timestamp>,
    deleted: BTreeSet<[u8; 32]>,
    repacked: BTreeSet<[u8; 32]>,
    marked: BTreeSet<[u8; 32]>,
    made: Timestamp,
}

impl PrunePlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.mark.is_empty() && self.repack.is_empty() && self.delete.is_empty()
    }
}

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Snapshots dropped.
    pub dropped: u64,
    /// Packs marked.
    pub marked: u64,
    /// Packs written again.
    pub repacked: u64,
    /// Packs deleted.
    pub deleted: u64,
    /// Bytes deleted.
    pub bytes_freed: u64,
}

impl Repository {
    /// What [`Repository::prune`] would do under `policy` now. Changes nothing. Blocks.
    ///
    /// # Errors
    /// [`BackupError::ClockBehind`], [`BackupError::ClockAhead`]; damage of any snapshot, since what it needs is unknown.
    pub fn plan_prune(&self, policy: &Retention, progress: &Progress) -> Result<PrunePlan, BackupError> {
        let snapshots = self.snapshots()?;
        let now = self.0.clock.now();
        let mut plan = PrunePlan { made: now, ..PrunePlan::default() };
        let Some(repository_time) = believable(&snapshots, now)? else { return Ok(plan) };
        let sorted = policy.sort(&snapshots, now);
        let (stay, drop): (Vec<_>, Vec<_>) = snapshots
            .into_iter()
            .partition(|snapshot| sorted.keep.contains(&snapshot.name) || sorted.future.contains(&snapshot.name));
        plan.drop = drop;
        plan.keep = sorted.keep.into_iter().collect();
        plan.future = sorted.future.into_iter().collect();
        let loaded = self.0.load(Purpose::Read, progress)?;
        let live = self.live(&loaded, &stay, progress)?;
        self.judge_packs(&mut plan, &loaded, &live, repository_time)?;
        Ok(plan)
    }

    /// Does what the plan says. Safe beside a running backup, and at any point it is killed. Blocks.
    ///
    /// # Errors
    /// [`BackupError::StalePlan`]; [`BackupError::Target`]: what was done so far stays done.
    pub fn prune(&self, plan: PrunePlan, progress: &Progress) -> Result<PruneReport, BackupError> {
        let mut report = PruneReport::default();
        if plan.is_empty() {
            return Ok(report);
        }
        self.forget_table();
        let inner = &self.0;
        self.check_fresh(&plan)?;
        let loaded = inner.load(Purpose::Read, progress)?;
        report.repacked = self.repack(&plan, &loaded, progress)?;
        progress.go_on()?;
        let (snapshots, _) = self.survey()?;
        let dropped: BTreeSet<SnapshotName> = plan.drop.iter().map(|snapshot| snapshot.name.clone()).collect();
        let staying = snapshots.iter().filter(|snapshot| !dropped.contains(&snapshot.name));
        let predecessors = staying.flat_map(|snapshot| &snapshot.previous).map(|head| head.name.clone()).collect();
        let earlier = inner.marks()?;
        let now = inner.clock.now();
        let mut mark = Mark { made: now, dropped, packs: BTreeMap::new() };
        mark.dropped.extend(earlier.iter().flat_map(|(_, mark)| mark.dropped.clone()));
        mark.packs.extend(plan.waiting.iter().map(|(hash, since)| (hex(hash), *since)));
        mark.packs.extend(plan.marked.iter().chain(&plan.repacked).map(|hash| (hex(hash), now)));
        // Those that go now stay marked until they are gone: a new snapshot must not rely on them meanwhile.
        mark.packs.extend(plan.deleted.iter().map(|hash| (hex(hash), plan.made)));
        inner.put_mark(mark, &predecessors)?;
        report.marked = (plan.marked.len() + plan.repacked.len()) as u64;
        // Again, as near to the deletions as can be: a snapshot that appeared since may need what would go.
        self.check_fresh(&plan)?;
        for snapshot in &plan.drop {
            inner.target.delete(&format!("snapshots/{}", snapshot.name))?;
            report.dropped += 1;
        }
        if !plan.deleted.is_empty() {
            self.drop_from_index(&loaded, &plan.deleted)?;
            for hash in plan.deleted {
                progress.go_on()?;
                inner.target.delete(&pack_name(&hash))?;
                report.deleted += 1;
                report.bytes_freed += loaded.present.get(&hash).copied().unwrap_or(0);
            }
        }
        for (name, _) in earlier {
            inner.target.delete(&name)?;
        }
        self.forget_table();
        Ok(report)
    }

    /// The snapshots must be those the plan was made for.
    fn check_fresh(&self, plan: &PrunePlan) -> Result<(), BackupError> {
        let planned: BTreeSet<&SnapshotName> =
            plan.drop.iter().map(|snapshot| &snapshot.name).chain(&plan.keep).chain(&plan.future).collect();
        let there = snapshot_names(self.0.target.as_ref())?;
        if there.iter().collect::<BTreeSet<_>>() == planned { Ok(()) } else { Err(BackupError::StalePlan) }
    }

    /// Which chunks of the table `snapshots` need, by number.
    fn live(&self, loaded: &Loaded, snapshots: &[SnapshotInfo], progress: &Progress) -> Result<Vec<bool>, BackupError> {
        let mut walk = Live { live: vec![false; loaded.table.len()], loaded, fetcher: self.fetcher() };
        for snapshot in snapshots {
            walk.listing(&snapshot.listing, progress)?;
        }
        Ok(walk.live)
    }

    fn judge_packs(
        &self,
        plan: &mut PrunePlan,
        loaded: &Loaded,
        live: &[bool],
        repository_time: Timestamp,
    ) -> Result<(), BackupError> {
        let mut needed: BTreeMap<u32, u64> = BTreeMap::new();
        for ((pack, sealed), live) in loaded.table.sizes().zip(live) {
            if *live && pack != PENDING {
                *needed.entry(pack).or_default() += u64::from(sealed);
            }
        }
        let since = self.0.marked()?;
        let mut small = Vec::new();
        for (number, info) in loaded.table.packs().iter().enumerate() {
            let needed = u32::try_from(number).ok().and_then(|number| needed.get(&number)).copied().unwrap_or(0);
            if !loaded.present.contains_key(&info.hash) {
                // Only its line in the index is left; it goes with the next rewriting.
                continue;
            }
            if needed == 0 {
                plan.judge_dead(info.hash, info.size, since.get(&info.hash).copied(), repository_time);
            } else if needed * 100 < info.size * LITTLE {
                plan.repacked.insert(info.hash);
                plan.bytes_marked += info.size - needed.min(info.size);
            } else if info.size < SMALL_PACK {
                small.push(info.hash);
            }
        }
        // Packs of another kind: not readable, so nothing can need them. They are left for a person to look at.
        if small.len() >= MANY_SMALL {
            plan.repacked.extend(small);
        }
        plan.mark = plan.marked.iter().map(pack_name).collect();
        plan.repack = plan.repacked.iter().map(pack_name).collect();
        plan.delete = plan.deleted.iter().map(pack_name).collect();
        Ok(())
    }

    /// Writes what is still needed of the packs to be repacked into new ones. All their chunks are taken: which of them
    /// are needed may change, what a pack holds does not.
    fn repack(&self, plan: &PrunePlan, loaded: &Loaded, progress: &Progress) -> Result<u64, BackupError> {
        if plan.repacked.is_empty() {
            return Ok(0);
        }
        let inner = &self.0;
        let stay: Vec<SnapshotInfo> = self
            .snapshots()?
            .into_iter()
            .filter(|snapshot| !plan.drop.iter().any(|dropped| dropped.name == snapshot.name))
            .collect();
        let live = self.live(loaded, &stay, progress)?;
        let mut fetcher = self.fetcher();
        let mut pipeline = Pipeline::start(&inner.keys, &inner.target, &inner.random, progress)?;
        for (hash, entries) in self.lines_of(loaded, &plan.repacked)? {
            // Chunks of lists are never as large as most of a file's.
            let lists = entries.iter().all(|entry| entry.plain < (1 << 20));
            for entry in &entries {
                progress.go_on()?;
                let place = loaded.table.find(&entry.id);
                let here = place.and_then(|place| loaded.table.pack(place.pack)).is_some_and(|pack| pack.hash == hash);
                let needed = loaded.table.number(&entry.id).and_then(|n| live.get(n)).copied().unwrap_or(false);
                if here && needed {
                    let lane = if lists { Lane::List } else { Lane::Data };
                    pipeline.send(entry.id, lane, &fetcher.chunk(&loaded.table, &entry.id)?)?;
                }
            }
        }
        let mut packs: Vec<Indexed> = pipeline.finish()?;
        inner.put_index(&mut packs)?;
        Ok(plan.repacked.len() as u64)
    }

    /// What the index says of these packs.
    fn lines_of(
        &self,
        loaded: &Loaded,
        packs: &BTreeSet<[u8; 32]>,
    ) -> Result<BTreeMap<[u8; 32], Vec<PackEntry>>, BackupError> {
        let mut out = BTreeMap::new();
        for (name, told) in &loaded.files {
            if told.iter().any(|hash| packs.contains(hash)) {
                let lines = self.0.index_file(name)?.into_iter().filter(|(info, _)| packs.contains(&info.hash));
                out.extend(lines.map(|(info, entries)| (info.hash, entries)));
            }
        }
        let adopted = loaded.adopted.iter().filter(|(info, _)| packs.contains(&info.hash));
        out.extend(adopted.map(|(info, entries)| (info.hash, entries.clone())));
        Ok(out)
    }

    /// Writes the index files that tell of `gone` again without them, then deletes the old ones.
    fn drop_from_index(&self, loaded: &Loaded, gone: &BTreeSet<[u8; 32]>) -> Result<(), BackupError> {
        let inner = &self.0;
        let tells = |told: &Vec<[u8; 32]>| {
            told.iter().any(|hash| gone.contains(hash) || !loaded.present.contains_key(hash)) || told.len() < 8
        };
        let old: Vec<&String> = loaded.files.iter().filter(|(_, told)| tells(told)).map(|(name, _)| name).collect();
        let mut rest: Vec<Indexed> = Vec::new();
        for name in &old {
            let stays = |(info, _): &Indexed| !gone.contains(&info.hash) && loaded.present.contains_key(&info.hash);
            rest.extend(inner.index_file(name)?.into_iter().filter(stays));
        }
        inner.put_index(&mut rest)?;
        for name in old {
            inner.target.delete(name)?;
        }
        Ok(())
    }
}

impl PrunePlan {
    fn judge_dead(&mut self, hash: [u8; 32], size: u64, since: Option<Timestamp>, repository_time: Timestamp) {
        match since {
            None => {
                self.marked.insert(hash);
                self.bytes_marked += size;
            }
            Some(since) if self.made.since(since) >= GRACE && repository_time.since(since) >= GRACE => {
                self.deleted.insert(hash);
                self.bytes_freed += size;
            }
            Some(since) => {
                self.waiting.insert(hash, since);
                self.bytes_marked += size;
            }
        }
    }
}

/// When the newest snapshot that is not of the future was begun; `None` when there is none.
fn believable(snapshots: &[SnapshotInfo], now: Timestamp) -> Result<Option<Timestamp>, BackupError> {
    let newest_written = snapshots.iter().max_by_key(|snapshot| snapshot.name.clone());
    let Some(newest_written) = newest_written else { return Ok(None) };
    let newest = newest_written.started;
    if newest > now.after(SKEW) {
        return Err(BackupError::ClockBehind { now: now.to_string(), newest: newest.to_string() });
    }
    let past = snapshots.iter().map(|snapshot| snapshot.started).filter(|started| *started <= now.after(SKEW)).max();
    if past.is_some_and(|newest| now.since(newest) > STALE) {
        return Err(BackupError::ClockAhead { now: now.to_string(), newest: newest.to_string() });
    }
    Ok(past)
}

/// Finds the chunks snapshots need. A list seen once is not read again.
struct Live<'a> {
    live: Vec<bool>,
    loaded: &'a Loaded,
    fetcher: super::fetch::Fetcher,
}

impl Live<'_> {
    /// Notes a chunk as needed; says whether it was not before.
    fn needs(&mut self, id: &ChunkId) -> Result<bool, BackupError> {
        let missing = || BackupError::MissingChunk { chunk: id.to_string() };
        let number = self.loaded.table.number(id).ok_or_else(missing)?;
        let live = self.live.get_mut(number).ok_or_else(missing)?;
        Ok(!std::mem::replace(live, true))
    }

    fn listing(&mut self, content: &Content, progress: &Progress) -> Result<(), BackupError> {
        for id in self.fresh_chunks(content)? {
            progress.go_on()?;
            let bytes = self.fetcher.chunk(&self.loaded.table, &id)?;
            let entries = listing::decode(&bytes)
                .ok_or_else(|| BackupError::damaged(format!("chunk {id}"), "it is no list of entries"))?;
            for entry in entries {
                self.content(&entry.content)?;
            }
        }
        Ok(())
    }

    /// Notes all chunks of a file; of a file that misses some, those that are there.
    fn content(&mut self, content: &Content) -> Result<(), BackupError> {
        match self.fresh_chunks(content) {
            Err(BackupError::MissingChunk { .. }) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The chunks of bytes of `content` that were not needed so far; lists are noted on the way.
    fn fresh_chunks(&mut self, content: &Content) -> Result<Vec<ChunkId>, BackupError> {
        let mut ids = Ids::new(content);
        let mut out = Vec::new();
        let mut missing = None;
        while let Some(next) = ids.step() {
            let (NextId::Bytes(id) | NextId::List(id, _)) = next;
            match (self.needs(&id), next) {
                (Ok(true), NextId::Bytes(id)) => out.push(id),
                (Ok(true), NextId::List(id, depth)) => {
                    let bytes = self.fetcher.chunk(&self.loaded.table, &id)?;
                    let entered = ids.enter(depth, &bytes);
                    entered.ok_or_else(|| BackupError::damaged(format!("chunk {id}"), "it is no list of ids"))?;
                }
                (Ok(false), _) => {}
                (Err(error), _) => missing = Some(error),
            }
        }
        missing.map_or(Ok(out), Err)
    }
}
