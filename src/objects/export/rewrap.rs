//! The heads of exports under another master key.
//!
//! A head's wrapped key lies within the first sector of its file and is the only thing that depends on the master key, so it
//! is written in place: a sector is there as it was or as it is wanted.

use std::io;
use std::path::Path;

use super::{BOUND, CONTEXT, Exports, HEAD, MAGIC};
use crate::base::{OpenMode, disk};
use crate::objects::rewrap::Rewrapped;

/// Where a head has its wrapped key.
const WRAPPED_AT: usize = BOUND + 32;

impl Exports {
    /// Has the heads of all exports be wrapped by the master key in use, durably.
    pub fn rewrap(&self, done: &mut Rewrapped) -> io::Result<()> {
        // One that is being written may have been begun under the key before.
        let mut settled = self.writing();
        let exports = self.list()?;
        settled.retain(|number| exports.iter().any(|export| export.number == *number));
        for export in exports {
            // Once a process also what is wrapped already: a failed sync leaves bytes that look written.
            if settled.contains(&export.number) {
                continue;
            }
            self.rewrap_head(&export.path, done)?;
            settled.insert(export.number);
        }
        Ok(())
    }

    fn rewrap_head(&self, path: &Path, done: &mut Rewrapped) -> io::Result<()> {
        let file = self.disk.open(path, OpenMode::ReadWrite)?;
        let mut head = [0; HEAD];
        match disk::read_exact_at(file.as_ref(), 0, &mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let (bound, wrapped) = head.split_at(WRAPPED_AT);
        if !bound.starts_with(MAGIC) {
            return Ok(());
        }
        let outcome = self.keyring.rewrap(CONTEXT, wrapped);
        let opens = outcome.is_ok();
        let again = done.exports.of(outcome);
        if opens {
            file.write_at(WRAPPED_AT as u64, again.as_deref().unwrap_or(wrapped))?;
            file.sync_data()?;
        }
        Ok(())
    }
}
