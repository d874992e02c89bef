//! The bytes of journal segments and checkpoints. The layout is told in [`super`].
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use super::error::PersistError;
use crate::base::{Random, random};
use crate::crypto::aead::{NONCE, TAG};
use crate::crypto::{Aead, Key, derive};

/// The newest format this code knows, and the one it writes.
pub const VERSION: u32 = 1;

/// Bytes of a file's header.
pub const HEADER: usize = 80;

/// Bytes in front of a sealed body: mark, length, index.
pub const PREFIX: usize = 16;

/// Bytes of a frame's body in front of the effects, when there is no marker.
pub const BODY: usize = 17;

/// Bytes a marker adds to a frame's body.
pub const MARKER: usize = 12;

const HAS_MARKER: u8 = 1;

/// Which of the two kinds of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `journal-…`
    Journal,
    /// `checkpoint-…`
    Checkpoint,
}

impl Kind {
    const fn magic(self) -> [u8; 8] {
        match self {
            Self::Journal => *b"MAINKVJ\n",
            Self::Checkpoint => *b"MAINKVC\n",
        }
    }

    const fn purpose(self) -> &'static [u8] {
        match self {
            Self::Journal => b"kv/journal/v1",
            Self::Checkpoint => b"kv/checkpoint/v1",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// The path of the file with `number` in `folder`.
    pub fn path(self, folder: &Path, number: u64) -> PathBuf {
        folder.join(format!("{}-{number:010}", self.word()))
    }

    /// The number in a file's name, if it is a name of this kind.
    pub fn number(self, path: &Path) -> Option<u64> {
        let digits = path.file_name()?.to_str()?.strip_prefix(self.word())?.strip_prefix('-')?;
        let plain = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    }
}

/// A place in the journal: everything before byte `offset` of segment `segment`, and all segments before that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The segment's number.
    pub segment: u64,
    /// The byte in it.
    pub offset: u64,
}

/// A moment in the journal at which a block of a checkpoint was the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The checkpoint's number.
    pub checkpoint: u64,
    /// The block's index in it.
    pub block: u32,
}

/// One file's seals: its own key, and the mark its frames start with.
#[derive(Clone, Debug)]
pub struct Seals {
    aead: Aead,
    number: u64,
    previous: u64,
    mark: [u8; 4],
}

impl Seals {
    /// Seals for a new file, and the header that lets it be opened again. `previous`: bytes of the segment before it.
    pub fn create(kind: Kind, number: u64, previous: u64, key: &Key, random: &dyn Random) -> (Self, [u8; HEADER]) {
        let salt: [u8; 32] = random::bytes(random);
        let seals = Self::derived(kind, number, previous, key, &salt);
        let mut header = [0; HEADER];
        let (clear, tag) = header.split_at_mut(HEADER.saturating_sub(TAG));
        let [magic_at, version_at, number_at, previous_at, salt_at] = [0, 8, 16, 24, 32];
        place(clear, magic_at, &kind.magic());
        place(clear, version_at, &VERSION.to_le_bytes());
        place(clear, number_at, &number.to_le_bytes());
        place(clear, previous_at, &previous.to_le_bytes());
        place(clear, salt_at, &salt);
        tag.copy_from_slice(&seals.aead.seal(&[0xff; NONCE], clear, &mut []));
        (seals, header)
    }

    /// The seals of the file that starts with `header`; `None` when that is no header at all.
    ///
    /// # Errors
    /// [`PersistError::Newer`], [`PersistError::WrongKey`].
    pub fn open(kind: Kind, path: &Path, header: &[u8], key: &Key) -> Result<Option<Self>, PersistError> {
        let Some((clear, tag)) = header.first_chunk::<HEADER>().and_then(|header| header.split_last_chunk::<TAG>())
        else {
            return Ok(None);
        };
        let Some(rest) = clear.strip_prefix(&kind.magic()) else { return Ok(None) };
        let mut rest = rest;
        let (Some(version), Some(_zero)) = (take_u32(&mut rest), take_u32(&mut rest)) else { return Ok(None) };
        let (Some(number), Some(previous)) = (take_u64(&mut rest), take_u64(&mut rest)) else { return Ok(None) };
        let Some(salt) = take::<32>(&mut rest) else { return Ok(None) };
        if version > VERSION {
            return Err(PersistError::Newer { path: path.to_owned(), version });
        }
        let seals = Self::derived(kind, number, previous, key, &salt);
        // Header and salt lie in one sector, so they are torn together or not at all: a bad tag is the wrong key.
        let verified = seals.aead.open(&[0xff; NONCE], clear, &mut [], tag).is_ok();
        if verified { Ok(Some(seals)) } else { Err(PersistError::WrongKey { path: path.to_owned() }) }
    }

    /// The file's number.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the segment before this one.
    pub const fn previous(&self) -> u64 {
        self.previous
    }

    /// The four bytes every frame of this file starts with.
    pub const fn mark(&self) -> &[u8; 4] {
        &self.mark
    }

    /// Seals `buffer[PREFIX..]` in place as frame `index`, fills in the prefix and appends the tag. Never twice with one
    /// index.
    pub fn seal(&self, index: u64, buffer: &mut Vec<u8>) {
        let Some((prefix, body)) = buffer.split_first_chunk_mut::<PREFIX>() else { return };
        place(prefix, 0, &self.mark);
        place(prefix, 4, &u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        place(prefix, 8, &index.to_le_bytes());
        let tag = self.aead.seal(&nonce(index), &self.associated(prefix), body);
        buffer.extend_from_slice(&tag);
    }

    /// The frame at the start of `bytes`: its length in all, once the prefix is there.
    pub fn frame_length(&self, bytes: &[u8], index: u64) -> Option<u64> {
        let mut prefix: &[u8] = bytes.first_chunk::<PREFIX>()?;
        let mark = take::<4>(&mut prefix)?;
        let length = take_u32(&mut prefix)?;
        let named = take_u64(&mut prefix)?;
        let whole = u64::from(length).saturating_add(const { (PREFIX + TAG) as u64 });
        (mark == self.mark && named == index).then_some(whole)
    }

    /// The index the frame at the start of `bytes` claims.
    pub fn frame_index(bytes: &[u8]) -> Option<u64> {
        let mut rest = bytes.first_chunk::<PREFIX>()?.get(8..)?;
        take_u64(&mut rest)
    }

    /// Opens a whole frame in place: the body's bytes are then in the clear behind the prefix. Whether it verified.
    pub fn open_frame(&self, index: u64, frame: &mut [u8]) -> bool {
        let Some((prefix, rest)) = frame.split_first_chunk_mut::<PREFIX>() else { return false };
        let Some((body, tag)) = rest.split_last_chunk_mut::<TAG>() else { return false };
        let associated = self.associated(prefix);
        self.aead.open(&nonce(index), &associated, body, tag).is_ok()
    }

    fn derived(kind: Kind, number: u64, previous: u64, key: &Key, salt: &[u8; 32]) -> Self {
        let mark = salt.first_chunk().copied().unwrap_or_default();
        Self { aead: Aead::new(&derive(key, salt, kind.purpose())), number, previous, mark }
    }

    fn associated(&self, prefix: &[u8; PREFIX]) -> [u8; 24] {
        let mut out = [0; 24];
        place(&mut out, 0, &self.number.to_le_bytes());
        place(&mut out, 8, prefix);
        out
    }
}

/// What stands in a journal frame in front of its effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// How far the journal was known to be durable when the frame was written.
    pub durable: Position,
    /// The block of a checkpoint that was taken right behind this frame's effects.
    pub marker: Option<Marker>,
}

impl FrameHead {
    /// Appends the head to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.durable.segment.to_le_bytes());
        out.extend_from_slice(&self.durable.offset.to_le_bytes());
        match self.marker {
            None => out.push(0),
            Some(marker) => {
                out.push(HAS_MARKER);
                out.extend_from_slice(&marker.checkpoint.to_le_bytes());
                out.extend_from_slice(&marker.block.to_le_bytes());
            }
        }
    }

    /// The head at the start of a frame's body, and its length.
    pub fn read(body: &[u8]) -> Option<(Self, usize)> {
        let mut rest = body;
        let durable = Position { segment: take_u64(&mut rest)?, offset: take_u64(&mut rest)? };
        let [flags] = take::<1>(&mut rest)?;
        let marker = match flags {
            0 => None,
            HAS_MARKER => Some(Marker { checkpoint: take_u64(&mut rest)?, block: take_u32(&mut rest)? }),
            _ => return None,
        };
        Some((Self { durable, marker }, body.len().saturating_sub(rest.len())))
    }
}

fn nonce(index: u64) -> [u8; NONCE] {
    let mut out = [0; NONCE];
    place(&mut out, 0, &index.to_le_bytes());
    out
}

/// Copies `bytes` to `at` in `target`; both come from this file's constants.
fn place(target: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(there) = target.get_mut(at..at.saturating_add(bytes.len())) {
        there.copy_from_slice(bytes);
    }
}

/// Takes `N` bytes from the front of `rest`.
pub fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*chunk)
}

/// Takes a little-endian number from the front of `rest`.
pub fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_le_bytes)
}

/// Takes a little-endian number from the front of `rest`.
pub fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}
