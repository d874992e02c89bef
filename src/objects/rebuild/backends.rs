//! Bodies at backends: which of them the index names, and what the others say.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Job, PAGE};
use crate::base::Id128;
use crate::objects::backends::Backend;
use crate::objects::error::ObjectError;
use crate::objects::garbage::Garbage;
use crate::objects::index::{BACKENDS, BLOBS, BlobRow, GARBAGE, SENDING, decode};
use crate::objects::place::{HeldRow, Placed, Remote, SendingRow};
use crate::objects::service::Objects;
use crate::store::recover::clear;
use crate::store::{Direction, ReadTx, Table, WriteTx, record};

impl Job<'_> {
    /// Looks through all backends: notes what the index names and is not there, and what is there and not in the index.
    pub(super) fn scan_backends(&mut self) -> Result<(), ObjectError> {
        for backend in self.objects.0.backends.all().to_vec() {
            self.scan_backend(&backend)?;
        }
        Ok(())
    }

    fn scan_backend(&mut self, backend: &Arc<Backend>) -> Result<(), ObjectError> {
        let mut there: HashMap<(Id128, u64), u64> = HashMap::new();
        let mut last = None;
        loop {
            let (found, next) = backend.list(last)?;
            there.extend(found.into_iter().map(|(blob, nonce, stored)| ((blob, nonce), stored)));
            (self.show)("bodies at backends", there.len() as u64);
            last = next;
            if last.is_none() {
                break;
            }
        }
        let mut after = Vec::new();
        loop {
            let rows = self.page(BLOBS, &[], &after)?;
            let Some((last, _)) = rows.last() else { break };
            after.clone_from(last);
            for (key, value) in &rows {
                let Some(id) = key.first_chunk::<16>().map(|id| Id128::from_bytes(*id)) else { continue };
                let Placed::There(remote) = decode::<BlobRow>(BLOBS, value)?.placed else { continue };
                if remote.backend == *backend.name() && there.remove(&(id, remote.nonce)).is_none() {
                    self.missing.insert(id);
                }
            }
        }
        let mut unknown: Vec<(Id128, Placed)> = there
            .into_iter()
            .map(|((blob, nonce), stored)| {
                // How large its body is, it says itself.
                (blob, Placed::There(Remote { backend: backend.name().clone(), nonce, stored, size: 0 }))
            })
            .collect();
        unknown.sort_unstable_by_key(|(blob, _)| *blob);
        unknown.chunks(PAGE).try_for_each(|page| self.look_at(page))
    }
}

/// Counts anew what is at each backend.
pub(super) fn place_held(objects: &Objects) -> Result<(), ObjectError> {
    let store = &objects.0.store;
    let mut held: HashMap<String, HeldRow> = HashMap::new();
    let mut count = |remote: &Remote| {
        let place = objects.0.backends.find(&remote.backend).map(|backend| backend.place()).unwrap_or_default();
        let row = held.entry(remote.backend.to_string()).or_insert(HeldRow { held: 0, bytes: 0, place });
        row.held = row.held.saturating_add(1);
        row.bytes = row.bytes.saturating_add(remote.stored);
    };
    each(objects, BLOBS, &mut |value| {
        if let Placed::There(remote) = decode::<BlobRow>(BLOBS, value)?.placed {
            count(&remote);
        }
        Ok(())
    })?;
    each(objects, GARBAGE, &mut |value| {
        if let Garbage::There { remote, .. } = decode(GARBAGE, value)? {
            count(&remote);
        }
        Ok(())
    })?;
    each(objects, SENDING, &mut |value| {
        count(&decode::<SendingRow>(SENDING, value)?.remote);
        Ok(())
    })?;
    clear(store, BACKENDS)?;
    let put = move |tx: &mut dyn WriteTx| {
        held.iter().try_for_each(|(name, row)| tx.put(BACKENDS, name.as_bytes(), &record::encode(row)))
    };
    store.write_blocking(put).map_err(ObjectError::Store)
}

/// Shows the value of each row of `table` to `look`.
fn each(
    objects: &Objects,
    table: Table,
    look: &mut dyn FnMut(&[u8]) -> Result<(), ObjectError>,
) -> Result<(), ObjectError> {
    let mut from = std::ops::Bound::Unbounded;
    loop {
        let rows = objects.0.store.read_blocking(|tx: &dyn ReadTx| {
            tx.scan(table, from.as_ref().map(Vec::as_slice), std::ops::Bound::Unbounded, Direction::Forward, PAGE)
        });
        let rows = rows.map_err(ObjectError::Store)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = std::ops::Bound::Excluded(last.clone());
        rows.iter().try_for_each(|(_, value)| look(value))?;
    }
}
