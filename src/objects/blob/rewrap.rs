//! A blob's wrapped data key under another key of its bucket.
//!
//! The new one is written over the old one, bytes 120..180 of the blob, which lie within the first sector of a file. Its nonce is
//! the start of the SHA-256 of a fixed text and the blob's id: unlike a random one it tells that the header was written anew,
//! which a backup wants to know ([`is_rewrapped`]), and doing it twice gives the same bytes. Under one key it is used for one blob
//! alone, over the same data key and associated data.

use std::io;
use std::path::Path;

use super::file::{BlobFolder, OpenFault};
use super::open::Opened;
use super::{BOUND, BucketKey, Fault, HEADER, MAGIC};
use crate::base::{Id128, OpenMode};
use crate::crypto::aead::NONCE;
use crate::crypto::{keyring, mac};

/// A wrapped data key.
pub(in crate::objects) type Wrapped = [u8; keyring::WRAPPED];

/// What becomes of a header when its bucket's key is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::objects) enum Rewrap {
    /// The key in use has wrapped it.
    Current,
    /// It is to hold this.
    To(Wrapped),
    /// It is another bucket's.
    Elsewhere,
}

/// What becomes of the header at the start of `blob`'s bytes.
pub(in crate::objects) fn rewrap(bytes: &[u8], blob: Id128, key: &BucketKey) -> Result<Rewrap, Fault> {
    let header = bytes.first_chunk::<HEADER>().ok_or(Fault::CUT)?;
    if !header.starts_with(MAGIC) {
        return Err(Fault("it does not begin as a blob"));
    }
    if header.get(32..48) != Some(key.bucket.as_bytes().as_slice()) {
        return Ok(Rewrap::Elsewhere);
    }
    let (bound, wrapped) = header.split_first_chunk::<BOUND>().ok_or(Fault::CUT)?;
    let wrapped = Wrapped::try_from(wrapped).map_err(|_other_length| Fault::CUT)?;
    let (data_key, is_current) = key.unwrap_by(bound, &wrapped)?;
    if is_current {
        return Ok(Rewrap::Current);
    }
    Ok(Rewrap::To(key.wrap(&nonce(blob), bound, &data_key)))
}

/// Whether the header at the start of `blob`'s bytes opens with `wrapped` in the place of its own wrapped key.
pub(in crate::objects) fn fits(bytes: &[u8], key: &BucketKey, wrapped: &Wrapped) -> bool {
    bytes.first_chunk::<BOUND>().is_some_and(|bound| {
        bound.get(32..48) == Some(key.bucket.as_bytes().as_slice()) && key.unwrap(bound, wrapped).is_ok()
    })
}

/// Has the blob of these bytes hold `wrapped`.
pub(in crate::objects) fn put_wrapped(bytes: &mut [u8], wrapped: &Wrapped) {
    if let Some(place) = bytes.get_mut(BOUND..HEADER) {
        place.copy_from_slice(wrapped);
    }
}

/// The wrapped key in the header at the start of `blob`'s bytes, if it was written anew.
pub(in crate::objects) fn is_rewrapped(bytes: &[u8], blob: Id128) -> Option<&[u8]> {
    let wrapped = bytes.get(BOUND..HEADER)?;
    wrapped.starts_with(&nonce(blob)).then_some(wrapped)
}

/// How often a header that does not open is read again, while its bucket's key is being changed.
const TRIES: usize = 4;

/// `header` of `blob`, proven: see [`Opened::new`]. One that is just being written anew may have been seen as half of each, and is
/// read `again`.
pub(super) fn prove(
    mut header: [u8; HEADER],
    again: impl Fn(&mut [u8; HEADER]) -> Result<(), OpenFault>,
    blob: Id128,
    key: &BucketKey,
    size: u64,
) -> Result<([u8; HEADER], Opened), OpenFault> {
    for _ in 1..TRIES {
        match Opened::new(&header, blob, key, size) {
            Err(_half) if key.is_changing() => again(&mut header)?,
            proven => return Ok((header, proven?)),
        }
    }
    Ok((header, Opened::new(&header, blob, key, size)?))
}

impl BlobFolder {
    /// The first bytes of the blob `id`, which is here or at `aside`: its header, or what there is of one; `None` without a
    /// file. Blocks.
    pub fn header(&self, id: Id128, aside: &Path) -> io::Result<Option<Vec<u8>>> {
        let read = |path: &Path| {
            let file = self.disk().open(path, OpenMode::Read)?;
            let mut header = vec![0; HEADER];
            let len = file.read_at(0, &mut header)?;
            header.truncate(len);
            Ok(header)
        };
        self.first_there(id, aside, read)
    }

    /// Writes `wrapped` into the header of the blob `id`, which is here or at `aside`, durably; fine when it is gone. Blocks.
    pub fn write_wrapped(&self, id: Id128, aside: &Path, wrapped: &Wrapped) -> io::Result<()> {
        let write = |path: &Path| {
            let file = self.disk().open(path, OpenMode::ReadWrite)?;
            file.write_at(BOUND as u64, wrapped)?;
            file.sync_data()
        };
        self.first_there(id, aside, write).map(drop)
    }

    fn first_there<T>(&self, id: Id128, aside: &Path, op: impl Fn(&Path) -> io::Result<T>) -> io::Result<Option<T>> {
        let names = self.names(id);
        for path in names.iter().map(std::path::PathBuf::as_path).chain([aside]) {
            match op(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => return done.map(Some),
            }
        }
        Ok(None)
    }
}

fn nonce(blob: Id128) -> [u8; NONCE] {
    let hash = mac::sha256(&[&b"mainstay/blob-rewrap/v1\0"[..], blob.as_bytes()].concat());
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&hash[..NONCE]);
    nonce
}
