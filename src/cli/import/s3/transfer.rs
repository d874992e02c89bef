//! One object from the source to the server, whole and verified, tried again while that may help.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::answers::{Head, Listed, Page, content_md5, parts, tagging};
use super::feed::{Claims, Digests, Feed, Passed, Verdict};
use super::service::{Ask, Failure, Kind, Sent, Service};
use crate::http::origin::Exchange;
use crate::s3::checksum::Algorithm;

/// Objects above this go in parts.
const LARGE: u64 = 64 << 20;
/// The header that sets tags.
const TAGGING: HeaderName = HeaderName::from_static("x-amz-tagging");
/// How often an object may turn out to have changed while it is read.
const CHANGES: u32 = 5;

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server has it: its bytes, the ETag it has at the server, and the tags it has at the source.
    Copied { bytes: u64, etag: String, tags: String },
    /// The source does not have it any more.
    Gone,
    /// The server had an object of this name, which stays.
    There,
}

/// What a write needs the key to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// Nothing.
    New,
    /// Whatever it holds.
    Over,
}

/// The way from one bucket to the other.
pub(super) struct Transfer {
    pub source: Service,
    pub target: Service,
    /// Whether plain `ETags` are MD5s of the bytes.
    pub etags: bool,
    /// Whether to note when objects were last changed.
    pub mtime: bool,
    /// Bytes that have come in.
    pub meter: Arc<AtomicU64>,
}

impl Transfer {
    /// A page of the source's keys.
    pub async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page, Failure> {
        list(&self.source, prefix, token).await
    }

    /// Copies `listed`.
    ///
    /// # Errors
    /// [`Kind::Refused`] when this object cannot be had or stored, [`Kind::Fatal`] when none can.
    pub async fn copy(&self, listed: &Listed, write: Write) -> Result<Outcome, Failure> {
        let mut object = Cow::Borrowed(listed);
        let mut tried = 0_u32;
        for _ in 0..CHANGES {
            let done = self.source.patiently(async || {
                tried = tried.saturating_add(1);
                self.once(&object, write, tried > 1).await
            });
            match done.await {
                Err(failure) if failure.kind == Kind::Missing => return Ok(Outcome::Gone),
                Err(failure) if failure.kind == Kind::Condition => {}
                Err(failure) => {
                    let ends = matches!(failure.kind, Kind::Unreachable | Kind::Fatal);
                    return Err(Failure { kind: if ends { Kind::Fatal } else { Kind::Refused }, ..failure });
                }
                done => return done,
            }
            // It has changed since it was listed.
            match self.look(&listed.key).await {
                Ok(head) => object = Cow::Owned(listed_again(&listed.key, &head)),
                Err(failure) if failure.kind == Kind::Missing => return Ok(Outcome::Gone),
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::new(Kind::Refused, "it changes whenever it is read"))
    }

    async fn once(&self, object: &Listed, write: Write, again: bool) -> Result<Outcome, Failure> {
        if object.size <= LARGE && parts(&object.etag).is_none() {
            self.whole(object, write, again).await
        } else {
            self.in_parts(object, write, again).await
        }
    }

    /// In one piece.
    async fn whole(&self, object: &Listed, write: Write, again: bool) -> Result<Outcome, Failure> {
        let answer = self.read(object, &[], None).await?;
        let mut head = Head::parse(answer.headers())?;
        is_still(object, &head)?;
        let length = head.length;
        let mut ask = Ask::new(Method::PUT, &object.key, &[]);
        ask.headers = self.described(object, &mut head).await?;
        conditional(&mut ask.headers, write);
        let (claims, tags) = (self.claims(&head), tags_of(&ask.headers));
        if let Some(md5) = claims.md5 {
            ask = ask.with("content-md5", &content_md5(md5))?;
        }
        let algorithm =
            head.sum.as_ref().filter(|sum| !sum.composite).map_or(Algorithm::Crc64Nvme, |sum| sum.algorithm);
        let (feed, verdict) = self.feed(answer, length, Digests::new(algorithm), None, claims);
        chunked(&mut ask, algorithm, length);
        ask.body = Sent::Chunked(feed.into_body());
        let stored = self.target.ask(ask).await;
        let passed = match settle(stored, &verdict) {
            // Nothing is asked of the source by then: it is the server's.
            Err(failure) if failure.kind == Kind::Condition => return self.there(object, again, tags).await,
            settled => settled?,
        };
        let (headers, Passed { digests, .. }) = passed;
        let etag = stored_etag(&headers);
        if etag != crate::base::ids::hex(&digests.md5()) {
            return Err(Failure::new(Kind::Passing, "the server has stored other bytes than were sent"));
        }
        Ok(Outcome::Copied { bytes: object.size, etag, tags })
    }

    /// The server has an object of this name: its own, unless an earlier try has written it and its answer was lost.
    pub(super) async fn there(&self, object: &Listed, again: bool, tags: String) -> Result<Outcome, Failure> {
        let ask = || Ask::new(Method::HEAD, &object.key, &[]);
        let headers = self.target.patiently(async || self.target.ask(ask()).await).await;
        let head = match headers {
            // It went meanwhile.
            Err(failure) if failure.kind == Kind::Missing => return Err(Failure { kind: Kind::Passing, ..failure }),
            headers => Head::parse(&headers?)?,
        };
        if again && head.length == object.size && head.etag == object.etag {
            return Ok(Outcome::Copied { bytes: object.size, etag: head.etag, tags });
        }
        Ok(Outcome::There)
    }

    /// Whether the server has an object under `key`.
    pub async fn is_there(&self, key: &str) -> Result<bool, Failure> {
        let there = self.target.patiently(async || self.target.ask(Ask::new(Method::HEAD, key, &[])).await);
        match there.await {
            Ok(_) => Ok(true),
            Err(failure) if failure.kind == Kind::Missing => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// What the source says of an object now.
    pub async fn look(&self, key: &str) -> Result<Head, Failure> {
        let head = self.source.patiently(async || self.source.ask(Ask::new(Method::HEAD, key, &[])).await);
        Head::parse(&head.await?)
    }

    /// Asks the source for an object as it was listed, or for a part of it.
    pub(super) async fn read(
        &self,
        object: &Listed,
        query: &[(&str, &str)],
        range: Option<&str>,
    ) -> Result<Exchange, Failure> {
        let ask = Ask::new(Method::GET, &object.key, query).with("if-match", &format!("\"{}\"", object.etag))?;
        let mut ask = ask.with("x-amz-checksum-mode", "ENABLED")?;
        if let Some(range) = range {
            ask = ask.with("range", range)?;
        }
        self.source.open(ask).await
    }

    /// The headers that make a stored object what the source's is, its tags among them.
    pub(super) async fn described(&self, object: &Listed, head: &mut Head) -> Result<HeaderMap, Failure> {
        if self.mtime {
            head.note_mtime();
        }
        let mut headers = head.kept.clone();
        if head.tags > 0 {
            let value = HeaderValue::try_from(self.tags(&object.key).await?);
            headers.insert(TAGGING, value.map_err(|_no_text| unclear())?);
        }
        Ok(headers)
    }

    /// The tags that the source has of an object, as the header that sets them.
    pub async fn tags(&self, key: &str) -> Result<String, Failure> {
        let ask = Ask::new(Method::GET, key, &[("tagging", "")]);
        let document = self.source.document(ask, "Tagging").await?;
        tagging(&document).ok_or_else(unclear)
    }

    /// What must hold for the bytes of an object.
    pub(super) fn claims(&self, head: &Head) -> Claims {
        Claims { md5: head.md5().filter(|_| self.etags), sum: head.sum.clone() }
    }

    /// The body of `answer` on its way, and where its verdict will be.
    pub(super) fn feed(
        &self,
        answer: Exchange,
        left: u64,
        digests: Digests,
        whole: Option<Digests>,
        claims: Claims,
    ) -> (Feed, Verdict) {
        let verdict = Verdict::default();
        let meter = Arc::clone(&self.meter);
        (Feed { answer, left, digests, whole, claims, meter, verdict: Arc::clone(&verdict) }, verdict)
    }
}

/// A page of the keys of a bucket.
pub(super) async fn list(service: &Service, prefix: &str, token: Option<&str>) -> Result<Page, Failure> {
    let mut query = vec![("list-type", "2"), ("encoding-type", "url"), ("max-keys", "1000")];
    if !prefix.is_empty() {
        query.push(("prefix", prefix));
    }
    if let Some(token) = token {
        query.push(("continuation-token", token));
    }
    let ask = || Ask::new(Method::GET, "", &query);
    let document = service.patiently(async || service.document(ask(), "ListBucketResult").await).await?;
    let page = Page::parse(&document)?;
    if page.next.is_some() && page.next.as_deref() == token {
        return Err(Failure::new(Kind::Fatal, "the source answers every page with the same one"));
    }
    Ok(page)
}

fn unclear() -> Failure {
    Failure::new(Kind::Refused, "its tags cannot be read")
}

/// The tags that headers set.
pub(super) fn tags_of(headers: &HeaderMap) -> String {
    let value = headers.get(TAGGING).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// An object as a head tells of it.
fn listed_again(key: &str, head: &Head) -> Listed {
    Listed {
        key: key.to_owned(),
        etag: head.etag.clone(),
        size: head.length,
        modified: head.modified.saturating_mul(1000),
    }
}

/// Fails when the answer is of another object than was listed. Not every source knows `If-Match`.
pub(super) fn is_still(object: &Listed, head: &Head) -> Result<(), Failure> {
    if head.etag == object.etag && head.length == object.size {
        return Ok(());
    }
    Err(Failure::new(Kind::Condition, "it has changed"))
}

/// Has a write fail when there is an object, where that must not be.
pub(super) fn conditional(headers: &mut HeaderMap, write: Write) {
    if write == Write::New {
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
    }
}

/// Says of a request that its body has `length` bytes in chunks, with a checksum behind them.
pub(super) fn chunked(ask: &mut Ask<'_>, algorithm: Algorithm, length: u64) {
    let headers = &mut ask.headers;
    let codings = match headers.get(header::CONTENT_ENCODING) {
        Some(coding) => HeaderValue::from_bytes(&[coding.as_bytes(), b",aws-chunked"].concat()).ok(),
        None => None,
    };
    headers.insert(header::CONTENT_ENCODING, codings.unwrap_or(HeaderValue::from_static("aws-chunked")));
    headers.insert(HeaderName::from_static("x-amz-decoded-content-length"), length.into());
    headers.insert(HeaderName::from_static("x-amz-trailer"), HeaderValue::from_static(algorithm.header()));
}

/// What came of an upload: what went wrong with the body explains what went wrong with the request.
pub(super) fn settle(stored: Result<HeaderMap, Failure>, verdict: &Verdict) -> Result<(HeaderMap, Passed), Failure> {
    let verdict = verdict.get();
    match (stored, verdict) {
        (_, Some(Err(failure))) => Err(failure.clone()),
        (Ok(headers), Some(Ok(Passed { digests, whole }))) => {
            Ok((headers, Passed { digests: digests.clone(), whole: whole.clone() }))
        }
        (Err(failure), _) => Err(failure),
        (Ok(_), None) => Err(Failure::new(Kind::Passing, "the server answered before it had all bytes")),
    }
}

/// The ETag of what was stored, without quotes.
pub(super) fn stored_etag(headers: &HeaderMap) -> String {
    let etag = headers.get(header::ETAG).and_then(|value| value.to_str().ok()).unwrap_or_default();
    etag.trim_matches('"').to_owned()
}
