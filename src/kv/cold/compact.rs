//! Giving back the room that garbage takes in cold files.
//!
//! Ten times a second the loop looks for the segment with the most garbage. Where that is more than half, the loader's
//! thread reads it part by part, and the loop puts what is still used behind the segment being written. A part is small
//! enough that nobody notices, and the parts of one tick have a bound, so that compaction leaves the disk to others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ColdError, Record, SegmentFile, Spot};
use crate::kv::entry::Entry;
use crate::kv::keyspace::Keyspace;

/// Bytes of records read, and looked through by the loop, at a time.
const PART: u64 = 256 << 10;

/// Parts between two ticks: 40 MiB a second.
const PARTS: u32 = 16;

/// Where compaction stands.
#[derive(Debug, Default)]
pub struct State {
    running: Option<Running>,
    parts: u32,
    /// Segments that could not be read to their end: what is in them stays where it is.
    given_up: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    segment: u32,
    next: u32,
    end: u64,
    /// A part is being read.
    reading: bool,
}

/// A part of a segment to be read.
#[derive(Debug)]
pub struct Scan {
    file: Arc<SegmentFile>,
    segment: u32,
    from: u32,
    end: u64,
}

/// A part that was read.
#[derive(Debug)]
pub struct Part {
    segment: u32,
    records: Vec<(u32, Record)>,
    next: u32,
    failed: Option<ColdError>,
}

impl Scan {
    /// Reads it. Blocks.
    pub fn run(self) -> Part {
        let mut part = Part { segment: self.segment, records: Vec::new(), next: self.from, failed: None };
        while u64::from(part.next) < self.end && u64::from(part.next - self.from) < PART {
            match self.file.read_next(part.next, self.end) {
                Ok(Some((record, next))) => {
                    part.records.push((part.next, record));
                    part.next = next;
                }
                Ok(None) => break,
                Err(error) => {
                    part.failed = Some(error);
                    break;
                }
            }
        }
        part
    }
}

impl Keyspace {
    /// Removes segments nobody has anything in, and says what compaction wants read, if anything. Call it once a tick.
    pub fn tidy_cold(&mut self) -> Option<Scan> {
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        for database in &self.databases {
            for (segment, bytes) in &database.cold.segments {
                *live.entry(*segment).or_default() += bytes;
            }
        }
        let cold = self.cold.as_mut()?;
        let finished: Vec<(u32, u64, u64)> =
            cold.finished().map(|(number, bytes)| (number, bytes, live.get(&number).copied().unwrap_or(0))).collect();
        for (number, ..) in finished.iter().filter(|(.., live)| *live == 0) {
            cold.remove(*number);
            cold.compaction.given_up.remove(number);
            if cold.compaction.running.is_some_and(|running| running.segment == *number) {
                cold.compaction.running = None;
            }
        }
        cold.compaction.parts = 0;
        if cold.compaction.running.is_none() && !cold.is_failing() {
            let worst = finished
                .iter()
                .filter(|(number, bytes, live)| {
                    *live > 0 && live * 2 < *bytes && !cold.compaction.given_up.contains(number)
                })
                .max_by_key(|(_, bytes, live)| bytes - live);
            cold.compaction.running =
                worst.map(|(segment, end, _)| Running { segment: *segment, next: 0, end: *end, reading: false });
        }
        self.next_scan()
    }

    /// What to read next, unless a part is being read already or enough was.
    fn next_scan(&mut self) -> Option<Scan> {
        let cold = self.cold.as_mut()?;
        let running = cold.compaction.running.as_mut().filter(|running| !running.reading)?;
        if cold.compaction.parts >= PARTS {
            return None;
        }
        let Running { segment, next, end, .. } = *running;
        let file = Arc::clone(&cold.segments.get(&segment)?.file);
        running.reading = true;
        cold.compaction.parts += 1;
        Some(Scan { file, segment, from: next, end })
    }

    /// Takes a part: what is still used of it is written anew. Says what to read next.
    pub fn compact(&mut self, part: &Part) -> Option<Scan> {
        let now = self.clock.monotonic;
        let Self { databases, hashing, cold: Some(cold), .. } = self else { return None };
        let running = cold.compaction.running.as_mut().filter(|running| running.segment == part.segment)?;
        running.reading = false;
        running.next = part.next;
        let done = u64::from(part.next) >= running.end;
        let mut moved = Vec::new();
        let mut stopped = false;
        for (offset, record) in &part.records {
            let Some(database) = databases.get_mut(usize::from(record.store)) else { continue };
            let Some(place) = database.find(hashing, record.key()) else { continue };
            let here = |spot: Spot| spot.segment == part.segment && spot.offset == *offset;
            let Some(entry) = database.entries.get(place).filter(|entry| entry.spot().is_some_and(here)) else {
                continue;
            };
            if !entry.is_cold() {
                // It is in memory: writing it again can wait until it has to leave.
                database.change(place, Entry::forget_spot);
                continue;
            }
            match cold.put(record.store, record.key(), record.dump(), now) {
                Ok(Some(spot)) => moved.push((record.store, place, spot)),
                Ok(None) => {}
                Err(_) => stopped = true,
            }
        }
        let written = cold.flush(now).is_ok();
        for (store, place, spot) in moved.into_iter().filter(|_| written) {
            if let Some(database) = databases.get_mut(usize::from(store)) {
                database.change(place, |entry| entry.chill(spot));
            }
        }
        if let Some(error) = &part.failed {
            tracing::warn!(%error, "a cold file of the keyspace cannot be read to its end; it stays");
        }
        if stopped || !written || part.failed.is_some() || done {
            if done && written && !stopped {
                cold.counts.compacted += 1;
            }
            // After its end nothing is left in it, and the next tick removes it; what is not is not tried twice.
            if part.failed.is_some() || done {
                cold.compaction.given_up.insert(part.segment);
            }
            cold.compaction.running = None;
            return None;
        }
        self.next_scan()
    }
}
