//! Writing an export.

use std::io;

use super::rows::Exported;
use super::{BOUND, CONTEXT, Export, ExportReader, Exports, FRAME_MAX, HEAD, Head, MAGIC, TEMPORARY, VERSION};
use crate::base::{DiskFile, OpenMode, Timestamp, random};
use crate::crypto::Key;
use crate::objects::blob::remove_if_there;
use crate::objects::error::ObjectError;
use crate::store::Snapshot;
use crate::store::dump::Dump;

/// How much the pieces are compressed: as much as costs less than reading the rows.
const LEVEL: i32 = 1;

impl Exports {
    /// Writes the rows of `snapshot`, which was taken inside of [`Exports::writing`] and right after the moment `taken`, and lets go of exports beyond the two
    /// newest; durable when it returns. `None` when `go_on` said no in between.
    ///
    /// # Errors
    /// The snapshot, the disk, or what was written does not read back: then nothing has changed.
    pub fn write(
        &self,
        snapshot: Box<dyn Snapshot>,
        taken: Timestamp,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Export>, ObjectError> {
        let number = self.list()?.first().map_or(1, |newest| newest.number.saturating_add(1));
        let path = self.path(number);
        let temporary = path.with_extension(TEMPORARY);
        let bytes = match self.fill(&temporary, snapshot, (number, taken), go_on) {
            Ok(Some(bytes)) => bytes,
            other => {
                // A failure is no harm: the next export removes what is left.
                drop(remove_if_there(self.disk.as_ref(), &temporary));
                return other.map(|_stopped| None);
            }
        };
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(&self.folder)?;
        self.prune()?;
        Ok(Some(Export { number, path, bytes }))
    }

    /// Writes, syncs and reads back the file at `temporary`; gives its length.
    fn fill(
        &self,
        temporary: &std::path::Path,
        snapshot: Box<dyn Snapshot>,
        (number, taken): (u64, Timestamp),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<u64>, ObjectError> {
        let file = self.disk.open(temporary, OpenMode::OpenOrCreate)?;
        file.set_len(0)?;
        let (head, bytes) = self.head(number, taken);
        let mut out = Out::new(file, head, &bytes)?;
        let mut dump = Dump::new(Box::new(Exported(snapshot)))?;
        let mut next = dump.next_piece()?;
        while let Some(piece) = next {
            if !go_on() {
                return Ok(None);
            }
            next = dump.next_piece()?;
            out.piece(&piece, next.is_none())?;
        }
        out.file.sync_data()?;
        let bytes = out.at;
        drop(out);
        let whole =
            ExportReader::open(self.disk.as_ref(), temporary, &self.keyring).is_ok_and(ExportReader::reads_whole);
        if !whole {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the export just written does not read back").into());
        }
        Ok(Some(bytes))
    }

    pub(super) fn head(&self, number: u64, taken: Timestamp) -> (Head, Vec<u8>) {
        let data_key = Key::random(self.random.as_ref());
        let mut bound = [0; BOUND];
        bound[..8].copy_from_slice(MAGIC);
        bound[8..10].copy_from_slice(&VERSION.to_be_bytes());
        bound[16..24].copy_from_slice(&number.to_be_bytes());
        bound[24..32].copy_from_slice(&taken.millis().to_be_bytes());
        bound[32..71].copy_from_slice(&random::bytes::<39>(self.random.as_ref()));
        let stream = Head::stream(&data_key, &bound);
        let wrapped = self.keyring.wrap(CONTEXT, &data_key);
        let bytes = [&bound[..], stream.commitment(), &wrapped].concat();
        debug_assert_eq!(bytes.len(), HEAD);
        (Head { number, taken, stream }, bytes)
    }
}

/// A file being written.
pub(super) struct Out {
    file: Box<dyn DiskFile>,
    at: u64,
    head: Head,
    index: u32,
}

impl Out {
    /// An empty file that begins with `start`, the bytes of `head`.
    pub fn new(file: Box<dyn DiskFile>, head: Head, start: &[u8]) -> io::Result<Self> {
        let mut out = Self { file, at: 0, head, index: 0 };
        out.append(start)?;
        Ok(out)
    }

    /// Bytes written.
    #[cfg(any(test, feature = "testing"))]
    pub fn len(&self) -> u64 {
        self.at
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes a piece.
    pub fn piece(&mut self, piece: &[u8], last: bool) -> io::Result<()> {
        let len = u32::try_from(piece.len()).map_err(|_over_4_gib| too_large())?;
        let mut packed = len.to_be_bytes().to_vec();
        packed.extend_from_slice(&zstd::bulk::compress(piece, LEVEL)?);
        self.frame(packed, last)
    }

    /// Seals what a frame holds and writes it.
    pub fn frame(&mut self, mut sealed: Vec<u8>, last: bool) -> io::Result<()> {
        self.head.stream.seal_segment(self.index, last, &mut sealed);
        if sealed.len() > FRAME_MAX {
            return Err(too_large());
        }
        // 2^32 pieces are hundreds of terabytes of rows.
        self.index = self.index.wrapping_add(1);
        self.append(&(sealed.len() as u32).to_be_bytes())?;
        self.append(&sealed)
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a piece of the index is too large for an export")
}
