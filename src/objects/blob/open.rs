//! Opening a blob: everything is checked before a byte comes out. No I/O.

use std::ops::Range;

use super::{
    BOUND, BucketKey, FOOTER_NONCE, Fault, Footer, HEADER, MAGIC, RECORD_MAX, RECORD_NONCE, Record, SEGMENT_LOG2,
    SUITE, VERSION, record_key,
};
use crate::base::Id128;
use crate::crypto::aead::{NONCE, TAG};
use crate::crypto::stream::{self, PREFIX, SEGMENT};
use crate::crypto::{Aead, StreamKey, keyring, mac};

const TAMPERED: Fault = Fault("a segment does not verify");

/// A blob whose header is proven.
#[derive(Debug)]
pub(in crate::objects) struct Opened {
    bound: [u8; BOUND],
    record_len: usize,
    stream: StreamKey,
    record: Aead,
    size: u64,
}

impl Opened {
    /// Proves the first [`HEADER`] bytes of the blob `blob`, which the index says has `size` plaintext bytes.
    pub fn new(header: &[u8; HEADER], blob: Id128, key: &BucketKey, size: u64) -> Result<Self, Fault> {
        let (bound, wrapped) = header.split_at(BOUND);
        let short = Fault("its header is malformed");
        let bound = <[u8; BOUND]>::try_from(bound).map_err(|_other_length| short)?;
        let wrapped = <[u8; keyring::WRAPPED]>::try_from(wrapped).map_err(|_other_length| short)?;
        let mut rest = &bound[..];
        let magic: [u8; 8] = take(&mut rest)?;
        let version = u16::from_be_bytes(take(&mut rest)?);
        let [suite, segment_log2] = take(&mut rest)?;
        let record_len = u32::from_be_bytes(take(&mut rest)?) as usize;
        let named: [u8; 16] = take(&mut rest)?;
        let bucket: [u8; 16] = take(&mut rest)?;
        let salt: [u8; 32] = take(&mut rest)?;
        let prefix: [u8; PREFIX] = take(&mut rest)?;
        let [_zero] = take(&mut rest)?;
        let commitment: [u8; 32] = take(&mut rest)?;
        if &magic != MAGIC {
            return Err(Fault("it does not begin as a blob"));
        }
        if (version, suite, segment_log2) != (VERSION, SUITE, SEGMENT_LOG2) {
            return Err(Fault("its format is of a later release, or its header was changed"));
        }
        if &named != blob.as_bytes() || &bucket != key.bucket.as_bytes() {
            return Err(Fault("it is another blob, or another bucket's"));
        }
        if !(TAG..=RECORD_MAX).contains(&record_len) {
            return Err(Fault("its record's length is out of range"));
        }
        let data_key = key.unwrap(&bound, &wrapped)?;
        let stream = StreamKey::new(&data_key, &salt, prefix, blob.as_bytes());
        if !mac::equal(stream.commitment(), &commitment) {
            return Err(Fault("its key commitment does not hold"));
        }
        let record = record_key(&data_key, &salt, blob);
        Ok(Self { bound, record_len, stream, record, size })
    }

    /// Where the segment `index` begins.
    pub fn segment_offset(&self, index: u32) -> u64 {
        self.body_offset() + u64::from(index) * stream::SEALED_SEGMENT as u64
    }

    /// Bytes of the sealed segment `index`.
    pub fn segment_len(&self, index: u32) -> usize {
        let before = u64::from(index) * SEGMENT as u64;
        self.size.saturating_sub(before).min(SEGMENT as u64) as usize + TAG
    }

    /// Where the footer begins.
    pub fn body_end(&self) -> u64 {
        self.body_offset() + stream::sealed_len(self.size)
    }

    /// Opens the sealed segment `index` in place.
    pub fn segment(&self, index: u32, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        let last = u64::from(index) + 1 == stream::segments(self.size);
        self.stream.open_segment(index, last, buffer).map_err(|_tampered| TAMPERED)
    }

    /// Opens the sealed segments from `first` on that lie one behind the other in `bytes`, in place; tells where in `bytes`
    /// the plaintext of each is.
    pub fn segments(&self, first: u32, bytes: &mut [u8]) -> Result<Vec<Range<usize>>, Fault> {
        let (mut plain, mut at, mut rest, mut index) = (Vec::new(), 0, bytes, first);
        while !rest.is_empty() {
            let len = self.segment_len(index);
            let (segment, behind) = std::mem::take(&mut rest).split_at_mut_checked(len).ok_or(Fault::CUT)?;
            let last = u64::from(index) + 1 == stream::segments(self.size);
            let opened = self.stream.open_in_place(index, last, segment).map_err(|_tampered| TAMPERED)?;
            plain.push(at..at + opened.len());
            at += len;
            rest = behind;
            index = index.checked_add(1).ok_or(TAMPERED)?;
        }
        Ok(plain)
    }

    /// What the blob says it is, from its sealed record (the bytes behind the header).
    pub fn record(&self, sealed: &[u8]) -> Result<Record, Fault> {
        let sealed = sealed.get(..self.record_len).ok_or(Fault::CUT)?;
        let plain = self.open_sealed(&RECORD_NONCE, sealed).ok_or(Fault("its record does not verify"))?;
        postcard::from_bytes(&plain).map_err(|_malformed| Fault("its record is malformed"))
    }

    /// What the blob says about its end, from its last bytes.
    pub fn footer(&self, tail: &[u8]) -> Result<Footer, Fault> {
        let (rest, len) = tail.split_last_chunk::<4>().ok_or(Fault::CUT)?;
        let start = rest.len().checked_sub(u32::from_be_bytes(*len) as usize).ok_or(Fault::CUT)?;
        let sealed = rest.get(start..).ok_or(Fault::CUT)?;
        let plain = self.open_sealed(&FOOTER_NONCE, sealed).ok_or(Fault("its footer does not verify"))?;
        postcard::from_bytes(&plain).map_err(|_malformed| Fault("its footer is malformed"))
    }

    /// The same blob, now that its size is known.
    pub fn sized(self, size: u64) -> Self {
        Self { size, ..self }
    }

    /// Plaintext bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn body_offset(&self) -> u64 {
        (HEADER + self.record_len) as u64
    }

    fn open_sealed(&self, nonce: &[u8; NONCE], sealed: &[u8]) -> Option<Vec<u8>> {
        let (sealed, tag) = sealed.split_last_chunk::<TAG>()?;
        let mut plain = sealed.to_vec();
        self.record.open(nonce, &self.bound, &mut plain, tag).ok().map(|()| plain)
    }
}

/// Makes a blob's bytes again from its head and its plaintext: for restoring a backup.
#[derive(Debug)]
pub(in crate::objects) struct Reseal(Opened);

impl Reseal {
    /// For the blob `blob` of `size` plaintext bytes that begins with `head`.
    pub fn new(head: &[u8], blob: Id128, key: &BucketKey, size: u64) -> Result<Self, Fault> {
        let (header, record) = head.split_first_chunk::<HEADER>().ok_or(Fault::CUT)?;
        let opened = Opened::new(header, blob, key, size)?;
        opened.record(record)?;
        if head.len() as u64 != opened.body_offset() {
            return Err(Fault("its head is too long"));
        }
        Ok(Self(opened))
    }

    /// Segments of the body.
    pub fn segments(&self) -> u32 {
        u32::try_from(stream::segments(self.0.size)).unwrap_or(u32::MAX)
    }

    /// Seals the segment `index` in place, as it was.
    pub fn segment(&self, index: u32, buffer: &mut Vec<u8>) {
        let last = u64::from(index) + 1 == stream::segments(self.0.size);
        self.0.stream.seal_segment(index, last, buffer);
    }

    /// Proves that `tail` is the end of this blob.
    pub fn check_tail(&self, tail: &[u8]) -> Result<(), Fault> {
        if self.0.footer(tail)?.size != self.0.size || footer_len(tail) != Some(tail.len()) {
            return Err(Fault("its end is not that of its body"));
        }
        Ok(())
    }
}

/// Bytes of the footer at the end of `tail`, its length included.
pub(super) fn footer_len(tail: &[u8]) -> Option<usize> {
    let len = u32::from_be_bytes(*tail.last_chunk::<4>()?);
    usize::try_from(len).ok()?.checked_add(4)
}

/// Opens a blob kept in the index as a whole.
pub(in crate::objects) fn open_inline(bytes: &[u8], blob: Id128, key: &BucketKey, size: u64) -> Result<Vec<u8>, Fault> {
    let header = bytes.first_chunk::<HEADER>().ok_or(Fault::CUT)?;
    let opened = Opened::new(header, blob, key, size)?;
    let start = usize::try_from(opened.segment_offset(0)).unwrap_or(usize::MAX);
    let end = start.saturating_add(opened.segment_len(0));
    let mut segment = bytes.get(start..end).ok_or(Fault::CUT)?.to_vec();
    opened.segment(0, &mut segment)?;
    Ok(segment)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Fault("its header is malformed"))?;
    *rest = tail;
    Ok(*head)
}
