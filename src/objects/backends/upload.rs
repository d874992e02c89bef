//! Writing a body to a backend: in one request, or as an upload in parts that is noted before it has any.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};

use super::{Backend, PART};
use crate::objects::error::ObjectError;

/// Where the bytes to be written come from.
pub(in crate::objects) trait Pieces {
    /// The bytes from `offset` on, `len` of them. Blocks.
    fn piece(&self, offset: u64, len: usize) -> Result<Vec<u8>, ObjectError>;
}

impl Backend {
    /// Writes the `stored` bytes of `from` as `path`, holding one part of them at a time. `begun` is told the id of an
    /// upload in parts before its first one goes out; once it has returned, the id must survive a power cut.
    ///
    /// Returns when the service says that it has everything.
    ///
    /// # Errors
    /// The body may be there, or parts of an upload.
    pub(in crate::objects) fn write(
        &self,
        path: &Path,
        stored: u64,
        from: &dyn Pieces,
        begun: &dyn Fn(&str) -> Result<(), ObjectError>,
    ) -> Result<(), ObjectError> {
        if stored <= PART as u64 {
            let len = usize::try_from(stored).unwrap_or(PART);
            let _room = self.room_for(len)?;
            let bytes = Bytes::from(from.piece(0, len)?);
            self.run("writing a body", self.store.put(path, PutPayload::from(bytes)))?;
            return Ok(());
        }
        let upload = self.run("beginning an upload", self.store.create_multipart(path))?;
        begun(&upload)?;
        let mut parts = Vec::new();
        let mut offset = 0;
        while offset < stored {
            let len = usize::try_from(stored - offset).unwrap_or(PART).min(part_of(stored));
            let _room = self.room_for(len)?;
            let bytes = Bytes::from(from.piece(offset, len)?);
            let part = self.store.put_part(path, &upload, parts.len(), PutPayload::from(bytes));
            parts.push(self.run("writing a part of a body", part)?);
            offset += len as u64;
        }
        self.run("completing an upload", self.store.complete_multipart(path, &upload, parts))?;
        Ok(())
    }
}

/// Bytes of a part: larger for what would have more than the 10,000 parts that S3 takes.
fn part_of(stored: u64) -> usize {
    let least = stored.div_ceil(10_000);
    PART.max(usize::try_from(least).unwrap_or(PART))
}
