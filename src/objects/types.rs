//! What goes into and comes out of the service.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::body::ObjectBody;
use super::error::ObjectError;
use super::names::{BucketName, ObjectKey, PartNumber, UploadId, VersionId};
use crate::base::{Timestamp, ids};

/// An entity tag: the MD5 of the plaintext, or for a multipart object the MD5 of its parts' MD5s and their number.
///
/// Written without quotes: `9e107d9d372bb6826bd81d3542a419d6`, `9e107d9d372bb6826bd81d3542a419d6-3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Etag {
    /// The digest.
    pub md5: [u8; 16],
    /// Number of parts; 0 for an object stored in one piece.
    pub parts: u16,
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ids::hex(&self.md5))?;
        if self.parts > 0 { write!(f, "-{}", self.parts) } else { Ok(()) }
    }
}

/// A text is not an entity tag of this server, so no object has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no etag of this server")]
pub struct EtagError;

impl FromStr for Etag {
    type Err = EtagError;

    /// With or without the quotes.
    fn from_str(text: &str) -> Result<Self, EtagError> {
        let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        let (digest, parts) = match text.split_once('-') {
            Some((digest, parts)) => (digest, parts.parse().ok().filter(|parts| *parts > 0).ok_or(EtagError)?),
            None => (text, 0),
        };
        let mut md5 = [0; 16];
        ids::hex_decode(digest.to_ascii_lowercase().as_bytes(), &mut md5).ok_or(EtagError)?;
        Ok(Self { md5, parts })
    }
}

/// An additional checksum a client sent and the door verified; kept and handed back as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Its algorithm as S3 writes it: `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1`, `SHA256`.
    pub algorithm: String,
    /// Its value as S3 writes it: base64, for a composite one with `-N` behind.
    pub value: String,
}

/// What a client says about an object beside its bytes. Names and values are kept as given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Expires`.
    pub expires: Option<String>,
    /// `x-amz-meta-*`: names in lower case without that prefix.
    pub user: Vec<(String, String)>,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// A checksum known before the body; one that comes in a trailer goes through [`PutExpect::late_checksum`].
    pub checksum: Option<Checksum>,
}

impl Metadata {
    /// Most bytes of all names and values together (Amazon S3 allows 2 KiB of user metadata in 8 KiB of headers).
    pub const BYTES_MAX: usize = 16 << 10;

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        let single = [
            &self.content_type,
            &self.cache_control,
            &self.content_disposition,
            &self.content_encoding,
            &self.content_language,
            &self.expires,
        ];
        let pairs = self.user.iter().chain(&self.tags);
        single.into_iter().flatten().map(String::len).sum::<usize>()
            + pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>()
            + self.checksum.as_ref().map_or(0, |checksum| checksum.algorithm.len() + checksum.value.len())
    }
}

/// What a key must hold for a change to happen; decided in the transaction that makes the change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// No matter what.
    #[default]
    Any,
    /// The key must be free (`If-None-Match: *`).
    Absent,
    /// The key must hold an object (`If-Match: *`).
    Present,
    /// The key must hold an object with this tag (`If-Match`).
    Matches(Etag),
}

/// What an upload must turn out to be before it becomes visible.
#[derive(Clone, Debug, Default)]
pub struct PutExpect {
    /// Its length in bytes.
    pub length: Option<u64>,
    /// Its MD5 (`Content-MD5`).
    pub md5: Option<[u8; 16]>,
    /// A checksum that is known when the body's stream has ended: whoever makes the stream fills the slot before the
    /// stream's end, and it becomes the object's [`Metadata::checksum`].
    pub late_checksum: Option<Arc<OnceLock<Checksum>>>,
    /// What the key must hold at that moment. Not looked at for parts.
    pub condition: Condition,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: BucketName,
    /// When it was created.
    pub created: Timestamp,
}

/// Whether a bucket keeps what is overwritten or deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// It never did.
    #[default]
    Off,
    /// It does: every write makes a version, a deletion a delete marker.
    Enabled,
    /// It did: versions made stay, what is written now replaces the key's `null` version.
    Suspended,
}

/// Whether a bucket was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New,
    /// It was there and is as it was.
    Already,
}

/// An object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its tag.
    pub etag: Etag,
    /// Bytes of plaintext.
    pub size: u64,
    /// When it was stored.
    pub modified: Timestamp,
    /// What the client said about it.
    pub metadata: Metadata,
    /// Which version of its key it is.
    pub version: VersionId,
    /// Whether it was stored in a bucket that keeps versions, or once did, so that a client wants to know its id.
    pub versioned: bool,
}

/// What a deletion did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The version that is gone, or the delete marker that was made; `None` where no versions are kept.
    pub version: Option<VersionId>,
    /// Whether that is a delete marker.
    pub marker: bool,
}

/// A key, and one version of it when that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The key.
    pub key: ObjectKey,
    /// The version; `None` for the newest.
    pub version: Option<VersionId>,
}

/// Which versions to list.
#[derive(Clone, Debug, Default)]
pub struct VersionQuery {
    /// Only keys that start with this.
    pub prefix: String,
    /// As in [`ListQuery::delimiter`].
    pub delimiter: Option<String>,
    /// Only keys behind this (or this key's versions behind `after_version`, when given).
    pub after_key: Option<String>,
    /// With `after_key`: only its versions older than this one, then the keys behind.
    pub after_version: Option<VersionId>,
    /// Most entries; more than 1000 count as 1000.
    pub max_keys: usize,
}

/// A version as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionSummary {
    /// Its key.
    pub key: String,
    /// Its id.
    pub version: VersionId,
    /// Whether it is the key's newest.
    pub latest: bool,
    /// When it was made.
    pub modified: Timestamp,
    /// Tag and bytes of plaintext; `None` for a delete marker.
    pub object: Option<(Etag, u64)>,
}

/// A page of versions: by key, each key's newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// Versions and delete markers.
    pub versions: Vec<VersionSummary>,
    /// Common prefixes, delimiter included.
    pub common_prefixes: Vec<String>,
    /// When more follow: the `after_key` and `after_version` of the next page. The id is never `null`, so that the next
    /// page is found even when that version is gone by then.
    pub next: Option<(String, Option<VersionId>)>,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSummary {
    /// Its key.
    pub key: String,
    /// Its tag.
    pub etag: Etag,
    /// Bytes of plaintext.
    pub size: u64,
    /// When it was stored.
    pub modified: Timestamp,
}

/// A single range of bytes as RFC 9110 section 14.1.2 writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// `first-last`, both included.
    FromTo(u64, u64),
    /// `first-`.
    From(u64),
    /// `-count`: the last `count` bytes.
    Last(u64),
}

impl RangeSpec {
    /// The bytes meant, of an object of `size` bytes; never empty.
    ///
    /// # Errors
    /// [`ObjectError::InvalidRange`] when none of the object's bytes is meant.
    pub fn resolve(self, size: u64) -> Result<Range<u64>, ObjectError> {
        let range = match self {
            Self::FromTo(first, last) => first..last.saturating_add(1).min(size),
            Self::From(first) => first..size,
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        if range.is_empty() { Err(ObjectError::InvalidRange { size }) } else { Ok(range) }
    }
}

/// An object, or a range of it, ready to be sent.
#[derive(Debug)]
pub struct Found {
    /// The object.
    pub info: ObjectInfo,
    /// The bytes `body` gives; `0..size` for all.
    pub range: Range<u64>,
    /// For `Objects::get_part` on a multipart object: how many parts it has. Else 0.
    pub parts: u16,
    /// The bytes.
    pub body: ObjectBody,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only keys that start with this.
    pub prefix: String,
    /// Keys that contain this behind the prefix are rolled up into one common prefix. Empty is the same as none.
    pub delimiter: Option<String>,
    /// Only what comes behind this: a key, or a common prefix as [`ListPage::next`] gave it, which is then passed over
    /// with all it stands for. Serves as `marker`, `start-after` and (wrapped by the door) `continuation-token`.
    pub after: Option<String>,
    /// Most entries (objects and common prefixes together); more than 1000 count as 1000.
    pub max_keys: usize,
}

/// A page of a listing, in the byte order of UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects.
    pub objects: Vec<ObjectSummary>,
    /// Common prefixes, delimiter included.
    pub common_prefixes: Vec<String>,
    /// The last entry of this page, when more follow: the [`ListQuery::after`] of the next page.
    pub next: Option<String>,
}

/// Where the bytes of a copy come from.
#[derive(Clone, Debug)]
pub struct CopySource {
    /// The bucket.
    pub bucket: BucketName,
    /// The object, or one version of it.
    pub target: Target,
    /// The tag it must still have, when the caller has looked before and relies on it.
    pub etag: Option<Etag>,
    /// Only these bytes (parts only).
    pub range: Option<RangeSpec>,
}

/// What a copy says about itself (`x-amz-metadata-directive`).
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one a request, moved twice")]
pub enum CopyMetadata {
    /// What the source says.
    Keep,
    /// This instead.
    Replace(Metadata),
}

/// A part as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Its number.
    pub number: PartNumber,
    /// Its MD5 as a tag.
    pub etag: Etag,
    /// Bytes of plaintext.
    pub size: u64,
    /// When it was stored.
    pub modified: Timestamp,
    /// The checksum the client sent with it.
    pub checksum: Option<Checksum>,
}

/// A part of an object that was stored in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPart {
    /// Its number.
    pub number: PartNumber,
    /// Bytes of plaintext.
    pub size: u64,
    /// The checksum the client sent with it; objects of earlier releases have none.
    pub checksum: Option<Checksum>,
}

/// A part as a client names it at completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartChoice {
    /// Its number.
    pub number: PartNumber,
    /// The tag it must have.
    pub etag: Etag,
}

/// A page of an upload's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPage {
    /// Parts in ascending order.
    pub parts: Vec<PartInfo>,
    /// The last part of this page, when more follow: the `after` of the next page.
    pub next: Option<PartNumber>,
}

/// An upload in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInfo {
    /// The key it will become.
    pub key: String,
    /// Its id.
    pub upload: UploadId,
    /// When it was started.
    pub initiated: Timestamp,
}

/// Which uploads to list.
#[derive(Clone, Debug, Default)]
pub struct UploadQuery {
    /// Only keys that start with this.
    pub prefix: String,
    /// As in [`ListQuery::delimiter`].
    pub delimiter: Option<String>,
    /// Only keys behind this (or this key's uploads behind `after_upload`, when given).
    pub after_key: Option<String>,
    /// With `after_key`: only its uploads behind this one, then the keys behind.
    pub after_upload: Option<UploadId>,
    /// Most entries; more than 1000 count as 1000.
    pub max_uploads: usize,
}

/// A page of uploads, by key, then by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// Uploads.
    pub uploads: Vec<UploadInfo>,
    /// Common prefixes, delimiter included.
    pub common_prefixes: Vec<String>,
    /// When more follow: the `after_key` and `after_upload` of the next page.
    pub next: Option<(String, Option<UploadId>)>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_written_as_s3_writes_them() {
        let whole = Etag { md5: [0xab; 16], parts: 0 };
        let parts = Etag { md5: [0x01; 16], parts: 3 };
        assert_eq!(whole.to_string(), "ab".repeat(16));
        assert_eq!(parts.to_string(), format!("{}-3", "01".repeat(16)));
        for tag in [whole, parts] {
            assert_eq!(tag.to_string().parse(), Ok(tag));
            assert_eq!(format!("\"{tag}\"").parse(), Ok(tag));
        }
        for text in ["", "\"", "abc", &format!("{}-0", "01".repeat(16)), &format!("{}-x", "01".repeat(16))] {
            assert_eq!(text.parse::<Etag>(), Err(EtagError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ranges_mean_the_bytes_a_loop_would_pick(size in 0u64..40, a in 0u64..50, b in 0u64..50, kind in 0..3) {
            let (spec, picked): (_, Vec<u64>) = match kind {
                0 => (RangeSpec::FromTo(a, b), (0..size).filter(|at| (a..=b).contains(at)).collect()),
                1 => (RangeSpec::From(a), (0..size).filter(|at| *at >= a).collect()),
                _ => (RangeSpec::Last(a), (0..size).filter(|at| at + a >= size).collect()),
            };
            match spec.resolve(size) {
                Ok(range) => prop_assert_eq!(range.collect::<Vec<u64>>(), picked),
                Err(_) => prop_assert!(picked.is_empty()),
            }
        }
    }
}
