//! What is at backends: all of it is listed before blobs are looked at, so that none is taken for lost that is only elsewhere.
//!
//! A backend that cannot be asked ends the rebuild: what is there must neither be dropped nor guessed. Nothing is removed
//! there, and what nothing names stays, since no sweep searches backends: it is told.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Job;
use crate::base::Id128;
use crate::objects::backends::{BackendName, Backends, Listed, Listing};
use crate::objects::blob::{BlobFile, OpenFault};
use crate::objects::error::ObjectError;
use crate::objects::garbage::Garbage;
use crate::objects::index::{BACKENDS, BLOBS, BUCKETS, BlobRow, BucketRow, GARBAGE, SENDING, decode, row};
use crate::objects::place::{HeldRow, Placed, Remote, SendingRow};
use crate::store::recover::clear;
use crate::store::{Table, WriteTx, record};

/// Bodies at backends, by blob id and nonce. Empty but during a rebuild.
pub(super) const FOUND_THERE: Table = Table::new("objects.found_there");

impl record::Record for Listed {
    const VERSION: u8 = 1;
}

impl Listed {
    fn is(&self, remote: &Remote) -> bool {
        (&self.backend, self.nonce, self.stored) == (&remote.backend, remote.nonce, remote.stored)
    }
}

/// Names of a blob on this disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// Its own, so it is whole.
    Final,
    /// That of one in the making.
    Temporary,
    /// None.
    Missing,
}

/// Is shown key and value of each row.
type Look<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), ObjectError> + 'a;

impl Job<'_> {
    /// Notes every body at every backend.
    pub(super) fn list_backends(&mut self) -> Result<(), ObjectError> {
        let objects = self.objects.clone();
        for backend in objects.0.backends.all() {
            let (mut seen, mut behind) = (0, None);
            loop {
                let Listing { bodies: found, next } = backend.list(behind.as_ref())?;
                seen += found.len() as u64;
                let put = move |tx: &mut dyn WriteTx| {
                    found.iter().try_for_each(|(blob, row)| {
                        let at = [&blob.as_bytes()[..], &row.nonce.to_be_bytes()].concat();
                        tx.put(FOUND_THERE, &at, &record::encode(row))
                    })
                };
                self.store.write_blocking(put).map_err(ObjectError::Store)?;
                (self.show)("bodies at backends", seen);
                behind = next;
                if behind.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The bodies at backends whose blob ids begin with `prefix`.
    pub(super) fn there(&self, prefix: &[u8]) -> Result<HashMap<Id128, Vec<Listed>>, ObjectError> {
        let mut out: HashMap<Id128, Vec<Listed>> = HashMap::new();
        let mut after = Vec::new();
        loop {
            let rows = self.page(FOUND_THERE, prefix, &after)?;
            let Some((last, _)) = rows.last() else { return Ok(out) };
            after.clone_from(last);
            for (key, value) in rows {
                if let Some(id) = key.first_chunk::<16>() {
                    out.entry(Id128::from_bytes(*id)).or_default().push(decode(FOUND_THERE, &value)?);
                }
            }
        }
    }

    /// Where the blob `id` is, which the export has in `row`; `None`: nowhere. It may have been moved since.
    pub(super) fn whereabouts(
        &self,
        id: Id128,
        row: &BlobRow,
        local: Local,
        copies: &[Listed],
    ) -> Result<Option<Placed>, ObjectError> {
        match &row.placed {
            // Synced before it was named, also under its first name.
            Placed::Here if local != Local::Missing => return Ok(Some(Placed::Here)),
            Placed::There(remote) if copies.iter().any(|copy| copy.is(remote)) => return Ok(Some(row.placed.clone())),
            _ if local == Local::Final || (local == Local::Temporary && self.is_whole(id)) => {
                return Ok(Some(Placed::Here));
            }
            Placed::Here | Placed::There(_) => {}
        }
        for copy in copies {
            if let Some(size) = self.size_there(id, row.bucket, copy)? {
                return Ok(Some(Placed::There(copy.clone().named(size))));
            }
        }
        Ok(None)
    }

    /// Plaintext bytes of the blob `id` at a backend; `None` when its head or its end do not verify.
    fn size_there(&self, id: Id128, bucket: Id128, copy: &Listed) -> Result<Option<u64>, ObjectError> {
        let Some(known) = self.known.get(&bucket) else { return Ok(None) };
        let source = self.objects.source(id, &Placed::There(copy.clone().named(0)));
        let opened = source.and_then(|mut source| {
            source.will_end_at(0);
            BlobFile::open_whole(source, id, |_| Some(known.key.clone()))
        });
        match opened {
            Ok((file, _, _)) => Ok(Some(file.size())),
            Err(OpenFault::Missing | OpenFault::Corrupt(_)) => Ok(None),
            Err(OpenFault::Backend(error)) => Err(error.into()),
            Err(OpenFault::Disk(error)) => Err(error.into()),
        }
    }

    /// Where the blob `id` of `size` plaintext bytes is, that another blob names; `None`: nowhere.
    pub(super) fn place_of(&self, id: Id128, size: u64) -> Result<Option<Placed>, ObjectError> {
        // What has a row was looked for already.
        if let Some(row) = self.store.read_blocking(|tx| row::<BlobRow>(tx, BLOBS, id.as_bytes()))? {
            return Ok((!self.missing.contains(&id)).then_some(row.placed));
        }
        let blobs = &self.objects.0.blobs;
        if blobs.disk().entry(&blobs.path(id))?.is_some() || blobs.disk().entry(&blobs.temporary(id))?.is_some() {
            return Ok(Some(Placed::Here));
        }
        let copies = self.there(id.as_bytes())?.remove(&id).unwrap_or_default();
        Ok(copies.into_iter().next().map(|copy| Placed::There(copy.named(size))))
    }

    /// Has the index say how much it has at each backend, and tells what it does not name there, and which buckets have
    /// bodies elsewhere than they keep them.
    pub(super) fn settle_backends(&mut self) -> Result<(), ObjectError> {
        if self.objects.0.backends.is_empty() {
            return Ok(());
        }
        let objects = self.objects.clone();
        let mut held = Held { backends: &objects.0.backends, rows: BTreeMap::new() };
        let mut at: HashMap<Id128, HashSet<Option<BackendName>>> = HashMap::new();
        self.each(BLOBS, &mut |_, value| {
            let BlobRow { bucket, placed } = decode(BLOBS, value)?;
            at.entry(bucket).or_default().insert(placed.backend().cloned());
            if let Placed::There(remote) = &placed { held.count(remote) } else { Ok(()) }
        })?;
        self.each(GARBAGE, &mut |_, value| match decode(GARBAGE, value)? {
            Garbage::There { remote, .. } => held.count(&remote),
            _ => Ok(()),
        })?;
        let mut arrived = Vec::new();
        self.each(SENDING, &mut |key, value| {
            // A sweep deletes what is on its way: what has arrived may be all there is of an object.
            if self.store.read_blocking(|tx| tx.get(FOUND_THERE, key)).map_err(ObjectError::Store)?.is_some() {
                arrived.push(key.to_vec());
                return Ok(());
            }
            held.count(&decode::<SendingRow>(SENDING, value)?.remote)
        })?;
        let mut left: BTreeMap<String, u64> = BTreeMap::new();
        self.each(FOUND_THERE, &mut |key, value| {
            let found: Listed = decode(FOUND_THERE, value)?;
            if !self.is_named(key, &found)? {
                *left.entry(found.backend.as_str().to_owned()).or_default() += 1;
            }
            Ok(())
        })?;
        let rows: Vec<_> =
            held.rows.iter().map(|(name, row)| (name.clone().into_bytes(), record::encode(row))).collect();
        clear(self.store, BACKENDS)?;
        let put = move |tx: &mut dyn WriteTx| {
            arrived.iter().try_for_each(|key| tx.delete(SENDING, key).map(drop))?;
            rows.iter().try_for_each(|(key, value)| tx.put(BACKENDS, key, value))
        };
        self.store.write_blocking(put).map_err(ObjectError::Store)?;
        for (backend, count) in left {
            self.note(format!("backend {backend}: {count} bodies that nothing names stay there"));
        }
        self.tell_elsewhere(&at)
    }

    /// Whether the index names what was `found` at a backend under `key`, also as what is to be deleted.
    fn is_named(&self, key: &[u8], found: &Listed) -> Result<bool, ObjectError> {
        let Some(id) = key.first_chunk::<16>().map(|id| Id128::from_bytes(*id)) else { return Ok(false) };
        let garbage = Placed::There(found.clone().named(0)).let_go(id).key();
        self.store.read_blocking(|tx| {
            let named = row::<BlobRow>(tx, BLOBS, id.as_bytes())?;
            let is_there = matches!(&named, Some(BlobRow { placed: Placed::There(remote), .. }) if found.is(remote));
            Ok(is_there || tx.get(GARBAGE, &garbage)?.is_some())
        })
    }

    /// Shows each row of `table` to `look`.
    fn each(&self, table: Table, look: &mut Look<'_>) -> Result<(), ObjectError> {
        let mut after = Vec::new();
        loop {
            let rows = self.page(table, &[], &after)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after.clone_from(last);
            rows.iter().try_for_each(|(key, value)| look(key, value))?;
        }
    }

    fn tell_elsewhere(&mut self, at: &HashMap<Id128, HashSet<Option<BackendName>>>) -> Result<(), ObjectError> {
        let mut elsewhere = Vec::new();
        self.each(BUCKETS, &mut |name, value| {
            let bucket: BucketRow = decode(BUCKETS, value)?;
            if at.get(&bucket.id).is_some_and(|places| places.iter().any(|place| *place != bucket.home)) {
                let (home, name) = (BackendName::home(bucket.home.as_ref()).to_owned(), String::from_utf8_lossy(name));
                elsewhere.push(format!(
                    "bucket {name}: some of its bodies are not at {home}; `mainstay objects move {name} --to {home}` takes them there"
                ));
            }
            Ok(())
        })?;
        for note in elsewhere {
            self.note(note);
        }
        Ok(())
    }
}

/// How much there is at each backend.
struct Held<'a> {
    backends: &'a Backends,
    rows: BTreeMap<String, HeldRow>,
}

impl Held<'_> {
    fn count(&mut self, remote: &Remote) -> Result<(), ObjectError> {
        let place = self.backends.find(&remote.backend)?.place();
        let row = self.rows.entry(remote.backend.as_str().to_owned()).or_insert(HeldRow { held: 0, bytes: 0, place });
        row.held = row.held.saturating_add(1);
        row.bytes = row.bytes.saturating_add(remote.stored);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::place::sending_key;

    #[test]
    fn what_is_listed_lies_under_the_key_that_tells_what_is_on_its_way() {
        let row = Listed { backend: "cold".parse().unwrap(), nonce: 300, stored: 7 };
        let (id, remote) = (Id128::from_bytes([2; 16]), row.clone().named(5));
        assert!(row.is(&remote) && !row.is(&Remote { stored: 8, ..remote.clone() }));
        assert_eq!(sending_key(id, &remote), [&id.as_bytes()[..], &300_u64.to_be_bytes()].concat());
    }
}
