//! What blobs say that the export does not name, here and at backends.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::there::Local;
use super::{Job, NAMED, why};
use crate::base::Id128;
use crate::objects::blob::{BlobFile, BlobFolder, Footer, Named, OpenFault, Record, Source, describe};
use crate::objects::error::ObjectError;
use crate::objects::index::{BLOBS, BlobRow, GARBAGE, ORPHANS, decode, part_key, versions_of};
use crate::objects::joined;
use crate::objects::place::{Placed, settle_in};
use crate::objects::types::{Checksum, Metadata};
use crate::store::{Row, StoreError, Table, WriteTx, record};

/// Objects found, by bucket and key, then by time. Empty but during a rebuild.
pub(super) const FOUND: Table = Table::new("objects.found");

/// Parts found, by upload and number, then by time. Empty but during a rebuild.
pub(super) const FOUND_PARTS: Table = Table::new("objects.found_parts");

/// Blobs looked at in one step.
const PAGE: usize = 256;

/// How long before its commit an upload may have been whole, at most: what is not in the export and older than this was not
/// on its way when the export was made.
const ON_ITS_WAY: u64 = 10 * 60 * 1000;

/// A blob that is an object, or tells the parts of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FoundRow {
    pub bucket: Id128,
    pub key: String,
    pub blob: Id128,
    /// Where it is.
    pub placed: Placed,
    /// The upload whose parts it tells.
    pub joined: Option<Id128>,
    pub size: u64,
    pub md5: [u8; 16],
    pub finished: u64,
    pub metadata: Metadata,
}

/// A blob that is a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FoundPart {
    pub bucket: Id128,
    pub key: String,
    pub blob: Id128,
    /// Where it is.
    pub placed: Placed,
    pub upload: Id128,
    pub number: u16,
    pub size: u64,
    pub md5: [u8; 16],
    pub finished: u64,
    pub checksum: Option<Checksum>,
    pub metadata: Metadata,
}

/// A blob that was looked at.
struct Looked {
    id: Id128,
    bucket: Id128,
    placed: Placed,
}

impl record::Record for FoundRow {
    const VERSION: u8 = 1;
}

impl record::Record for FoundPart {
    const VERSION: u8 = 1;
}

impl Job<'_> {
    /// Looks through all blob files, and what was listed at backends: notes what the index names and is not there, or is
    /// elsewhere, and what is there and not in the index.
    pub(super) fn scan(&mut self) -> Result<(), ObjectError> {
        let folder = self.objects.0.blobs.clone();
        let mut seen = 0;
        for (first, inner) in (0..=u8::MAX).zip(folder.inner()) {
            // What has no final name may be whole all the same: giving it is the last step, and a power cut may undo that.
            let (mut there, mut unnamed) = (HashSet::new(), HashSet::new());
            for entry in folder.disk().list(&inner)? {
                match BlobFolder::identify(&entry) {
                    Named::Blob(id) => drop(there.insert(id)),
                    Named::Temporary(id) => drop(unnamed.insert(id)),
                    Named::Foreign => {}
                }
            }
            seen += there.len() as u64;
            let mut copies = self.there(&[first])?;
            let mut after = Vec::new();
            loop {
                let rows = self.page(BLOBS, &[first], &after)?;
                let Some((last, _)) = rows.last() else { break };
                after.clone_from(last);
                let mut moved = Vec::new();
                for (key, value) in rows {
                    let Some(id) = key.first_chunk::<16>().map(|id| Id128::from_bytes(*id)) else { continue };
                    let row: BlobRow = decode(BLOBS, &value)?;
                    let local = match (there.remove(&id), unnamed.remove(&id)) {
                        (true, _) => Local::Final,
                        (false, true) => Local::Temporary,
                        (false, false) => Local::Missing,
                    };
                    let copies = copies.remove(&id).unwrap_or_default();
                    match self.whereabouts(id, &row, local, &copies)? {
                        Some(placed) if placed == row.placed => {}
                        Some(placed) => moved.push((id, row.bucket, placed)),
                        None => drop(self.missing.insert(id)),
                    }
                }
                let put = move |tx: &mut dyn WriteTx| {
                    moved.iter().try_for_each(|(id, bucket, placed)| settle_in(tx, *id, *bucket, placed))
                };
                self.store.write_blocking(put)?;
            }
            let whole = unnamed.into_iter().filter(|id| !there.contains(id) && self.is_whole(*id));
            let whole: Vec<Id128> = whole.collect();
            let here = there.into_iter().chain(whole).map(|id| (id, Placed::Here));
            let mut unknown: HashMap<Id128, Placed> = here.collect();
            for (id, mut found) in copies {
                // Of several copies that moves have made each is whole.
                if let Some(copy) = found.pop() {
                    unknown.entry(id).or_insert_with(|| Placed::There(copy.named(0)));
                }
            }
            let mut unknown: Vec<(Id128, Placed)> = unknown.into_iter().collect();
            unknown.sort_unstable_by_key(|(id, _)| *id);
            for page in unknown.chunks(PAGE) {
                self.look_at(page)?;
            }
            (self.show)("stored files", seen);
        }
        Ok(())
    }

    /// Whether every byte of a blob is there. Reads all of it.
    pub(super) fn is_whole(&self, id: Id128) -> bool {
        let key = |bucket| self.known.get(&bucket).map(|known| known.key.clone());
        let opened = Source::file(&self.objects.0.blobs, id).and_then(|file| BlobFile::open_whole(file, id, key));
        opened.is_ok_and(|(file, _, _)| (0..file.segments()).all(|index| file.segment(index).is_ok()))
    }

    /// Notes what `blobs` say, which no row names.
    fn look_at(&mut self, blobs: &[(Id128, Placed)]) -> Result<(), ObjectError> {
        let let_go: Vec<Vec<u8>> = blobs.iter().map(|(id, placed)| placed.let_go(*id).key()).collect();
        let let_go: Vec<&[u8]> = let_go.iter().map(Vec::as_slice).collect();
        let keys: Vec<&[u8]> = blobs.iter().map(|(id, _)| id.as_bytes().as_slice()).collect();
        let (let_go, orphans) = self
            .store
            .read_blocking(|tx| Ok::<_, StoreError>((tx.get_many(GARBAGE, &let_go)?, tx.get_many(ORPHANS, &keys)?)))
            .map_err(ObjectError::Store)?;
        let (mut found, mut parts) = (Vec::new(), Vec::new());
        for (((id, placed), let_go), orphan) in blobs.iter().zip(let_go).zip(orphans) {
            if let_go.is_some() || orphan.is_some() {
                self.rebuilt.left += 1;
                continue;
            }
            let (mut bucket, known) = (None, &self.known);
            let described = self.objects.source(*id, placed).and_then(|mut source| {
                source.will_end_at(0);
                describe(source, *id, |named| {
                    bucket = Some(named);
                    known.get(&named).map(|known| known.key.clone())
                })
            });
            match (described, bucket) {
                (Ok((record, footer)), Some(bucket)) => {
                    let placed = placed.clone().with_size(footer.size);
                    let blob = Looked { id: *id, bucket, placed };
                    self.take(blob, record, footer, &mut found, &mut parts);
                }
                (Err(OpenFault::Backend(error)), _) => return Err(error.into()),
                (Err(OpenFault::Corrupt(_)), Some(bucket)) if !self.known.contains_key(&bucket) => {
                    self.rebuilt.without_key += 1;
                }
                (Err(fault), _) if self.rebuilt.unreadable.len() < NAMED => {
                    self.rebuilt.unreadable.push(format!("{id}: {}", why(&fault)));
                }
                _ => self.rebuilt.unreadable_more += 1,
            }
        }
        let put = move |tx: &mut dyn WriteTx| {
            found.iter().try_for_each(|(key, value)| tx.put(FOUND, key, value))?;
            parts.iter().try_for_each(|(key, value)| tx.put(FOUND_PARTS, key, value))
        };
        self.store.write_blocking(put).map_err(ObjectError::Store)
    }

    fn take(
        &mut self,
        Looked { id: blob, bucket, placed }: Looked,
        record: Record,
        footer: Footer,
        found: &mut Vec<Row>,
        parts: &mut Vec<Row>,
    ) {
        let Footer { size, md5, finished, checksum } = footer;
        if self.since.is_some_and(|since| finished.saturating_add(ON_ITS_WAY) < since.millis()) {
            self.rebuilt.left += 1;
            return;
        }
        let Record { bucket: name, key, part, mut metadata } = record;
        if self.known.get(&bucket).is_some_and(|known| known.name.is_none()) {
            let named = self.unnamed.entry(bucket).or_insert((name, finished));
            named.1 = named.1.min(finished);
        }
        match part {
            Some((upload, number)) if number != joined::NUMBER => {
                metadata.checksum = None;
                let mut at = part_key(upload, number);
                at.extend_from_slice(&finished.to_be_bytes());
                at.extend_from_slice(blob.as_bytes());
                let row =
                    FoundPart { bucket, key, blob, placed, upload, number, size, md5, finished, checksum, metadata };
                parts.push((at, record::encode(&row)));
            }
            part => {
                metadata.checksum = checksum.or(metadata.checksum);
                let mut at = versions_of(bucket, &key);
                at.extend_from_slice(&finished.to_be_bytes());
                at.extend_from_slice(blob.as_bytes());
                let joined = part.map(|(upload, _)| upload);
                let row = FoundRow { bucket, key, blob, placed, joined, size, md5, finished, metadata };
                found.push((at, record::encode(&row)));
            }
        }
    }
}
