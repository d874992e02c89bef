//! A large object, part by part.
//!
//! Where the source tells its parts, the server gets the same ones: then the ETag stays what it was, and so does a
//! checksum of the parts' checksums. Where it does not, the parts are even. One connection reads, part after part; a
//! part that fails is read again by itself.

use http::Method;

use super::answers::{Head, Listed, Sum, etag_of, range};
use super::feed::{Claims, Digests};
use super::service::{Ask, Failure, Kind, Sent};
use super::transfer::{Outcome, Transfer, Write, chunked, conditional, is_still, settle, stored_etag, tags_of};
use crate::base::ids::hex;
use crate::s3::checksum::Algorithm;
use crate::s3::xml::Writer;

/// Bytes of an even part; more where 10,000 of them would not do.
const PART: u64 = 16 << 20;
/// Most parts of an upload, and least bytes of one that is not the last (S3 user guide, "Multipart upload limits").
const PARTS_MAX: u64 = 10_000;
const PART_MIN: u64 = 5 << 20;

/// How an object is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Into so many parts, as the source has it.
    Source(u16),
    /// Into parts of so many bytes.
    Even(u64),
}

impl Layout {
    fn even(size: u64) -> Self {
        const MIB: u64 = 1 << 20;
        Self::Even(PART.max(size.div_ceil(PARTS_MAX).div_ceil(MIB).saturating_mul(MIB)))
    }
}

/// A part that the server has.
struct Part {
    md5: [u8; 16],
    sum: String,
    bytes: u64,
}

/// An upload under way.
struct Upload<'a> {
    object: &'a Listed,
    id: String,
    layout: Layout,
    /// The source's checksum, where it follows from those of the parts.
    sum: Option<Sum>,
    /// The tags that the object gets.
    tags: String,
}

impl Upload<'_> {
    /// The checksum each part gets.
    fn algorithm(&self) -> Algorithm {
        self.sum.as_ref().map_or(Algorithm::Crc64Nvme, |sum| sum.algorithm)
    }
}

impl Transfer {
    pub(super) async fn in_parts(&self, object: &Listed, write: Write, again: bool) -> Result<Outcome, Failure> {
        let ask = Ask::new(Method::HEAD, &object.key, &[]).with("if-match", &format!("\"{}\"", object.etag))?;
        let mut head = Head::parse(&self.source.ask(ask.with("x-amz-checksum-mode", "ENABLED")?).await?)?;
        is_still(object, &head)?;
        let headers = self.described(object, &mut head).await?;
        let mut layouts = vec![Layout::even(object.size)];
        layouts.extend(head.parts().map(Layout::Source));
        while let Some(layout) = layouts.pop() {
            let mut ask = Ask::new(Method::POST, &object.key, &[("uploads", "")]);
            ask.headers = headers.clone();
            let started = self.target.document(ask, "InitiateMultipartUploadResult").await?;
            let id = started.word_of("UploadId").unwrap_or_default().to_owned();
            let as_there = matches!(layout, Layout::Source(_));
            let follows = |sum: &Sum| if sum.composite { as_there } else { is_crc(sum.algorithm) };
            let tags = tags_of(&headers);
            let upload = Upload { object, id, layout, sum: head.sum.clone().filter(follows), tags };
            let done = self.upload(&upload, &head, write).await;
            if done.is_err() {
                // The server removes it by itself too, a week later.
                let query = [("uploadId", upload.id.as_str())];
                let _ = self.target.ask(Ask::new(Method::DELETE, &object.key, &query)).await;
            }
            match done {
                Err(failure) if failure.kind == Kind::Layout => {}
                Err(failure) if failure.kind == Kind::Taken => return self.there(object, again, upload.tags).await,
                done => return done,
            }
        }
        Err(Failure::new(Kind::Refused, "its parts cannot be read"))
    }

    async fn upload(&self, upload: &Upload<'_>, head: &Head, write: Write) -> Result<Outcome, Failure> {
        let (object, claims) = (upload.object, self.claims(head));
        let whole_sum = claims.sum.as_ref().filter(|sum| !sum.composite).map(|sum| sum.algorithm);
        let claimed = claims.md5.is_some() || whole_sum.is_some();
        let mut whole = claimed.then(|| Digests::new(whole_sum.unwrap_or(Algorithm::Crc64Nvme)));
        let mut parts: Vec<Part> = Vec::new();
        let mut at = 0_u64;
        while at < object.size || parts.is_empty() {
            let number = parts.len().saturating_add(1);
            let before = &whole;
            let part = self.source.patiently(async || self.part(upload, number, at, before.clone()).await);
            let (part, passed) = part.await?;
            at = at.saturating_add(part.bytes);
            whole = passed;
            parts.push(part);
        }
        if let Some(whole) = &whole {
            whole.check(&claims)?;
        }
        self.complete(upload, write, &parts).await
    }

    /// Copies the part that begins at `at`.
    async fn part(
        &self,
        upload: &Upload<'_>,
        number: usize,
        at: u64,
        whole: Option<Digests>,
    ) -> Result<(Part, Option<Digests>), Failure> {
        let (object, number) = (upload.object, number.to_string());
        let answer = match upload.layout {
            Layout::Source(_) => {
                let read = self.read(object, &[("partNumber", number.as_str())], None).await;
                let unknown = |failure: &Failure| failure.kind == Kind::Refused;
                read.map_err(|failure| Failure {
                    kind: if unknown(&failure) { Kind::Layout } else { failure.kind },
                    ..failure
                })?
            }
            Layout::Even(_) if object.size == 0 => self.read(object, &[], None).await?,
            Layout::Even(bytes) => {
                let last = at.saturating_add(bytes).min(object.size).saturating_sub(1);
                self.read(object, &[], Some(&format!("bytes={at}-{last}"))).await?
            }
        };
        let head = Head::parse(answer.headers())?;
        if head.etag != object.etag {
            return Err(Failure::new(Kind::Condition, "it has changed"));
        }
        let bytes = head.length;
        let end = at.saturating_add(bytes);
        let placed = match range(answer.headers()) {
            Some(place) => place == (at, object.size),
            None => at == 0 && bytes == object.size,
        };
        let expected = match upload.layout {
            Layout::Source(parts) => {
                let last = end == object.size;
                last == (number == parts.to_string()) && (last || bytes >= PART_MIN)
            }
            Layout::Even(each) => bytes == each.min(object.size.saturating_sub(at)),
        };
        if !placed || !expected || end > object.size {
            return Err(Failure::new(Kind::Layout, "the source sends another part than was asked for"));
        }
        let algorithm = upload.algorithm();
        let (digests, claims) = (Digests::new(algorithm), Claims::default());
        let (feed, verdict) = self.feed(answer, bytes, digests, whole, claims);
        let query = [("partNumber", number.as_str()), ("uploadId", upload.id.as_str())];
        let mut ask = Ask::new(Method::PUT, &object.key, &query);
        chunked(&mut ask, algorithm, bytes);
        ask.body = Sent::Chunked(feed.into_body());
        let (headers, passed) = settle(self.target.ask(ask).await, &verdict)?;
        let md5 = passed.digests.md5();
        if stored_etag(&headers) != hex(&md5) {
            return Err(Failure::new(Kind::Passing, "the server has stored other bytes than were sent"));
        }
        Ok((Part { md5, sum: passed.digests.sum(), bytes }, passed.whole))
    }

    async fn complete(&self, upload: &Upload<'_>, write: Write, parts: &[Part]) -> Result<Outcome, Failure> {
        let mut xml = Writer::new("CompleteMultipartUpload");
        for (number, part) in (1_u32..).zip(parts) {
            xml.start("Part").leaf("PartNumber", number).leaf("ETag", format_args!("\"{}\"", hex(&part.md5)));
            xml.leaf(upload.algorithm().element(), &part.sum).end();
        }
        let document = xml.finish();
        let query = [("uploadId", upload.id.as_str())];
        let mut ask = Ask::new(Method::POST, &upload.object.key, &query);
        conditional(&mut ask.headers, write);
        if let Some(sum) = &upload.sum {
            let kind = if sum.composite { "COMPOSITE" } else { "FULL_OBJECT" };
            ask = ask.with("x-amz-checksum-type", kind)?.with(sum.algorithm.header(), &sum.value)?;
        }
        ask.body = Sent::Whole(document.into());
        let etag = etag_of(&parts.iter().map(|part| part.md5).collect::<Vec<_>>());
        let taken = |failure: Failure| match failure.kind {
            Kind::Condition => Failure { kind: Kind::Taken, ..failure },
            _ => failure,
        };
        let done = self.target.document(ask, "CompleteMultipartUploadResult").await.map_err(taken)?;
        if done.word_of("ETag").map(|etag| etag.trim_matches('"')) != Some(etag.as_str()) {
            return Err(Failure::new(Kind::Passing, "the server has joined other parts than were sent"));
        }
        Ok(Outcome::Copied { bytes: upload.object.size, etag, tags: upload.tags.clone() })
    }
}

/// Whether the checksum of a whole follows from its parts'.
const fn is_crc(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::Crc32 | Algorithm::Crc32C | Algorithm::Crc64Nvme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_parts_grow_where_ten_thousand_would_not_do() {
        assert_eq!(Layout::even(70 << 20), Layout::Even(16 << 20));
        let Layout::Even(bytes) = Layout::even(5 << 40) else { panic!("not even") };
        assert!(bytes.is_multiple_of(1 << 20) && (5_u64 << 40).div_ceil(bytes) <= PARTS_MAX);
    }
}
