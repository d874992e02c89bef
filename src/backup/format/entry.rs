//! What a snapshot lists: one record for each file, folder and link.
//!
//! A record, all numbers little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 4 | bytes of the rest of the record |
//! | 1 | kind: 1 file, 2 folder, 3 symbolic link, 4 hard link |
//! | 1 | flags: 1 sparse, 2 changed while it was read |
//! | 2 + n | path |
//! | 4, 4, 4 | mode (permission bits), owner, group |
//! | 8, 4 | modified: seconds since 1970 (signed), nanoseconds |
//! | 8 | size of the content |
//! | 2 + n | identity: what tells an unchanged file, empty when nothing does |
//! | 2 + n | link: target of a symbolic link, path of the first name for a hard link |
//! | 1, 2, 32 each | content: depth, number of ids, chunk ids (`content.rs`) |
//!
//! Bytes after that belong to later versions and are skipped. Records stand in the order of [`EntryPath`].

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::cmp::Ordering;
use std::fmt;

use super::codec::{Cursor, put_counted};
use super::{ChunkId, Content, MOST_IDS};
use crate::backup::BackupError;

/// Most bytes of a path.
pub const LONGEST_PATH: usize = 4096;

/// Most bytes of a symbolic link's target.
pub const LONGEST_LINK: usize = 4096;

/// Most bytes of an identity.
pub const LONGEST_IDENTITY: usize = 256;

/// Most bytes of a record.
pub(crate) const LONGEST_RECORD: usize = 128 << 10;

const SPARSE: u8 = 1;
const CHANGED: u8 = 2;

/// A path in a snapshot: bytes, parts divided by `/`, none empty, `.` or `..`, no zero byte.
///
/// Ordered part by part, so that a folder's content follows it directly.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// The path, if it is one.
    ///
    /// # Errors
    /// [`BackupError::Path`].
    pub fn new(path: impl Into<Vec<u8>>) -> Result<Self, BackupError> {
        let path = path.into();
        let fits = path.len() <= LONGEST_PATH
            && !path.contains(&0)
            && path.split(|b| *b == b'/').all(|part| !part.is_empty() && part != b"." && part != b"..");
        if fits {
            Ok(Self(path))
        } else {
            let mut path = String::from_utf8_lossy(&path).into_owned();
            path.truncate(path.floor_char_boundary(200));
            Err(BackupError::Path { path, limit: LONGEST_PATH })
        }
    }

    /// The path's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its parts in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// The path of `name` below this one.
    ///
    /// # Errors
    /// [`BackupError::Path`] when `name` is no part, or the whole too long.
    pub fn join(&self, name: &[u8]) -> Result<Self, BackupError> {
        Self::new([&self.0, &b"/"[..], name].concat())
    }

    /// Whether this is `folder` or below it.
    pub fn is_in(&self, folder: &Self) -> bool {
        self.0.strip_prefix(folder.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // As if `/` were the smallest byte; a zero byte is in no path.
        let key = |b: &u8| if *b == b'/' { 0 } else { *b };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Printable: what is no UTF-8, and control characters, are escaped.
impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    write!(f, "{character}")?;
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has content.
    File,
    /// Holds other entries.
    Folder,
    /// Points to `target`, kept as it is and never followed.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// Another name of a file earlier in the same snapshot.
    HardLink {
        /// The file's first name.
        first: EntryPath,
    },
}

/// A moment as file systems keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Seconds since 1970; before it when negative.
    pub seconds: i64,
    /// Nanoseconds past that second, below 10^9.
    pub nanos: u32,
}

/// All about an entry but its path and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of content.
    pub modified: Moment,
    /// Bytes of content: a guess when added (0 when unknown), the truth when read back.
    pub size: u64,
    /// What is the same as long as the content is, such as inode and time of change, at most [`LONGEST_IDENTITY`] bytes.
    /// Empty: never taken as unchanged.
    pub identity: Vec<u8>,
    /// Had holes, which a restore makes again.
    pub sparse: bool,
}

impl Meta {
    /// A file of `size` bytes (0 when unknown) that nobody owns and mode 0600; for what is no file on a disk.
    pub fn plain_file(size: u64, modified: crate::base::Timestamp) -> Self {
        let millis = modified.millis();
        let nanos = u32::try_from(millis.wrapping_rem(1000)).unwrap_or(0).saturating_mul(1_000_000);
        Self {
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            modified: Moment { seconds: i64::try_from(modified.seconds()).unwrap_or(i64::MAX), nanos },
            size,
            identity: Vec::new(),
            sparse: false,
        }
    }
}

/// An entry of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: EntryPath,
    /// What it is.
    pub meta: Meta,
    /// Whether the file changed while it was read, so that its content may be of two moments.
    pub changed: bool,
    /// Where its bytes are; empty for all but files.
    pub content: Content,
}

impl Entry {
    /// Appends the record.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let (kind, link): (u8, &[u8]) = match &self.meta.kind {
            Kind::File => (1, b""),
            Kind::Folder => (2, b""),
            Kind::Symlink { target } => (3, target),
            Kind::HardLink { first } => (4, first.as_bytes()),
        };
        let sparse = if self.meta.sparse { SPARSE } else { 0 };
        let changed = if self.changed { CHANGED } else { 0 };
        out.extend_from_slice(&[kind, sparse | changed]);
        put_counted(out, self.path.as_bytes());
        for number in [self.meta.mode, self.meta.uid, self.meta.gid] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.meta.modified.seconds.to_le_bytes());
        out.extend_from_slice(&self.meta.modified.nanos.to_le_bytes());
        out.extend_from_slice(&self.meta.size.to_le_bytes());
        put_counted(out, &self.meta.identity);
        put_counted(out, link);
        self.content.encode(out);
        let len = out.len().saturating_sub(start).saturating_sub(4);
        if let Some(field) = out.get_mut(start..).and_then(|record| record.first_chunk_mut::<4>()) {
            *field = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        }
    }

    /// Reads one record; `None` when it is none.
    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let len = usize::try_from(cursor.u32()?).ok().filter(|len| *len <= LONGEST_RECORD)?;
        let mut record = Cursor::new(cursor.take(len)?);
        let kind = record.u8()?;
        let flags = record.u8()?;
        let path = EntryPath::new(record.counted()?).ok()?;
        let (mode, uid, gid) = (record.u32()?, record.u32()?, record.u32()?);
        let modified = Moment { seconds: record.i64()?, nanos: record.u32()? };
        let size = record.u64()?;
        let identity = record.counted()?.to_vec();
        let link = record.counted()?;
        let content = Content::decode(&mut record)?;
        let kind = match kind {
            1 => Kind::File,
            2 => Kind::Folder,
            3 if link.len() <= LONGEST_LINK && !link.is_empty() && !link.contains(&0) => {
                Kind::Symlink { target: link.to_vec() }
            }
            4 => Kind::HardLink { first: EntryPath::new(link).ok()? },
            _ => return None,
        };
        if mode > 0o7777 || modified.nanos >= 1_000_000_000 || identity.len() > LONGEST_IDENTITY {
            return None;
        }
        let meta = Meta { kind, mode, uid, gid, modified, size, identity, sparse: flags & SPARSE != 0 };
        Some(Self { path, meta, changed: flags & CHANGED != 0, content })
    }
}

impl Content {
    fn encode(&self, out: &mut Vec<u8>) {
        let count = u16::try_from(self.ids.len()).unwrap_or(u16::MAX);
        out.push(self.depth);
        out.extend_from_slice(&count.to_le_bytes());
        for id in self.ids.iter().take(usize::from(count)) {
            out.extend_from_slice(&id.0);
        }
    }

    fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let depth = cursor.u8().filter(|depth| *depth <= super::DEEPEST)?;
        let count = usize::from(cursor.u16()?);
        if count > MOST_IDS {
            return None;
        }
        let ids = (0..count).map(|_| cursor.array().map(ChunkId)).collect::<Option<Vec<_>>>()?;
        Some(Self { depth, ids })
    }
}
