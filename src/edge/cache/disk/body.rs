//! The body of an answer on disk, read and verified one piece at a time.

use std::io;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::format::Form;
use super::{Spot, Tier};
use crate::base::DiskFile;
use crate::base::disk::read_exact_at;
use crate::crypto::aead::TAG;
use crate::crypto::stream::{SEALED_SEGMENT, SEGMENT, segments};
use crate::edge::reading::{PIECE, Source};

/// Segments read at once.
const AT_ONCE: u64 = PIECE / SEGMENT as u64;

/// An answer's open file.
#[derive(Clone, Debug)]
pub struct Opened(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tier: Weak<Tier>,
    spot: Arc<Spot>,
    file: Box<dyn DiskFile>,
    form: Form,
}

impl Opened {
    /// The `file` of `spot`.
    pub fn new(tier: Weak<Tier>, spot: Arc<Spot>, file: Box<dyn DiskFile>, form: Form) -> Self {
        Self(Arc::new(Inner { tier, spot, file, form }))
    }

    /// Where it is.
    pub fn spot(&self) -> &Arc<Spot> {
        &self.0.spot
    }

    /// Bytes of the body.
    pub fn len(&self) -> u64 {
        self.0.spot.size
    }

    fn verified(&self, first: u64, end: u64) -> io::Result<Bytes> {
        let Inner { spot, file, form, .. } = &*self.0;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it does not verify");
        let (segment, sealed) = (SEGMENT as u64, SEALED_SEGMENT as u64);
        let all = segments(spot.size);
        let from = first / segment;
        let upto = all.min(end.div_ceil(segment).max(from.saturating_add(1))).min(from.saturating_add(AT_ONCE));
        let start = from.saturating_mul(sealed);
        let stop = spot.size.saturating_add(all.saturating_mul(TAG as u64)).min(upto.saturating_mul(sealed));
        let mut bytes = vec![0; usize::try_from(stop.saturating_sub(start)).map_err(io::Error::other)?];
        read_exact_at(file.as_ref(), form.body_at().saturating_add(start), &mut bytes)?;
        let mut out = Vec::with_capacity(bytes.len());
        for (number, chunk) in (from..upto).zip(bytes.chunks(SEALED_SEGMENT)) {
            let mut chunk = chunk.to_vec();
            let index = u32::try_from(number).map_err(io::Error::other)?;
            let last = number.saturating_add(1) == all;
            form.stream.open_segment(index, last, &mut chunk).map_err(|_tampered| damaged())?;
            out.extend_from_slice(&chunk);
        }
        let begin = from.saturating_mul(segment);
        let at = |number: u64| usize::try_from(number.saturating_sub(begin)).unwrap_or(usize::MAX).min(out.len());
        let (low, high) = (at(first), at(end));
        if low >= high && first < end {
            return Err(damaged());
        }
        Ok(Bytes::from(out).slice(low.min(high)..high))
    }
}

impl Source for Opened {
    /// A body that is not what was written is taken away.
    fn read(&self, first: u64, end: u64) -> io::Result<Bytes> {
        let read = self.verified(first, end);
        if let Err(error) = &read
            && let Some(tier) = self.0.tier.upgrade()
        {
            tier.damaged(&self.0.spot, error);
        }
        read
    }
}
