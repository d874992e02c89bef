//! The index: tables, keys and rows.
//!
//! Keys are made so that their byte order is the order wanted (integers big endian); values are
//! [records](crate::store::record), so each row carries its version. Ids are 16 bytes.
//!
//! | table | key | value |
//! |---|---|---|
//! | `objects.buckets` | bucket name | [`BucketRow`] |
//! | `objects.settings` | bucket id | [`BucketSettings`](super::settings::BucketSettings), when anything is set |
//! | `objects.usage` | bucket id | [`UsageRow`](super::usage::UsageRow) |
//! | `objects.current` | bucket id ‖ object key | [`ObjectRow`] |
//! | `objects.versions` | bucket id ‖ object key, escaped ‖ 00 01 ‖ inverted sequence (8) | [`VersionRow`]: older versions, and delete markers |
//! | `objects.nulls` | bucket id ‖ object key | sequence (8) of the key's `null` version, while it is in `objects.versions` |
//! | `objects.inline` | content id | a whole small blob (see [`super::blob`]), not a record |
//! | `objects.manifests` | content id ‖ offset of the first part (8) | [`ManifestRow`]: parts of a multipart object |
//! | `objects.joined` | content id | blob id (16) of the blob that tells which parts a multipart object has (`joined.rs`) |
//! | `objects.blobs` | blob id | [`BlobRow`]: every blob something refers to that is not in the index, and where it is |
//! | `objects.uploads` | bucket id ‖ object key, escaped ‖ 00 01 ‖ upload id | [`UploadRow`] |
//! | `objects.parts` | upload id ‖ part number (2) | [`PartRow`] |
//! | `objects.garbage` | kind (1) ‖ id | [`Garbage`](super::garbage::Garbage): what waits to be removed |
//! | `objects.orphans` | blob id | [`OrphanRow`]: blob files a sweep found without a row in `objects.blobs` |
//! | `objects.quarantined` | blob id | [`OrphanRow`]: blob files that a sweep put aside |
//! | `objects.rotations` | bucket id | [`RotationRow`](super::key_change::RotationRow): how far a change of the bucket's key is |
//! | `objects.rewraps` | blob id | the wrapped data key (60) that is to be in the blob's header (`key_change.rs`), not a record |
//! | `objects.scrub` | `pass` | how scrubbing stands (`scrub.rs`) |
//! | `objects.damage` | id of the content, upload or bucket | what a scrub has found damaged (`damage.rs`) |
//! | `objects.backends` | name of a backend | [`HeldRow`](super::place::HeldRow): how much is there |
//! | `objects.sending` | blob id ‖ nonce (8) | [`SendingRow`](super::place::SendingRow): blobs on their way to a backend |
//! | `objects.moves` | bucket id | [`MoveRow`](super::moving::MoveRow): how moving the bucket's bodies stands |
//!
//! Escaped: the byte 00 is written 00 FF, so that the end mark 00 01 sorts before every longer key.
//!
//! Bodies are not in `objects.current`, so a page of a listing reads no bodies. A manifest is cut into rows of at most
//! [`MANIFEST_PARTS`] parts, each found by the offset it starts at: a range of an object of 10,000 parts reads one row.
//!
//! `objects.current` keeps the newest version of each key that is an object; a delete marker takes the row away. All else
//! is in `objects.versions`, each key's newest first, since its sequence (rising with each version of the key) is
//! written inverted. A row of either table says itself which version it is.
//!
//! Room for what is to come: a copy by reference is a count in [`BlobRow`].

use serde::{Deserialize, Serialize};

use super::backends::BackendName;
use super::error::ObjectError;
use super::names::{ObjectKey, VersionId};
use super::place::Placed;
use super::types::{Checksum, Etag, Metadata, ObjectInfo, ObjectSummary, Versioning};
use crate::base::{Id128, Timestamp};
use crate::store::{ReadTx, Record, StoreError, Table, record};

pub(super) const BUCKETS: Table = Table::new("objects.buckets");
pub(super) const SETTINGS: Table = Table::new("objects.settings");
pub(super) const USAGE: Table = Table::new("objects.usage");
pub(super) const USAGE_DAYS: Table = Table::new("objects.usage_days");
pub(super) const CURRENT: Table = Table::new("objects.current");
pub(super) const VERSIONS: Table = Table::new("objects.versions");
pub(super) const NULLS: Table = Table::new("objects.nulls");
pub(super) const INLINE: Table = Table::new("objects.inline");
pub(super) const MANIFESTS: Table = Table::new("objects.manifests");
pub(super) const JOINED: Table = Table::new("objects.joined");
pub(super) const BLOBS: Table = Table::new("objects.blobs");
pub(super) const UPLOADS: Table = Table::new("objects.uploads");
pub(super) const PARTS: Table = Table::new("objects.parts");
pub(super) const GARBAGE: Table = Table::new("objects.garbage");
pub(super) const ORPHANS: Table = Table::new("objects.orphans");
pub(super) const QUARANTINED: Table = Table::new("objects.quarantined");
pub(super) const ROTATIONS: Table = Table::new("objects.rotations");
pub(super) const REWRAPS: Table = Table::new("objects.rewraps");
pub(super) const SCRUB: Table = Table::new("objects.scrub");
pub(super) const DAMAGE: Table = Table::new("objects.damage");
pub(super) const BACKENDS: Table = Table::new("objects.backends");
pub(super) const SENDING: Table = Table::new("objects.sending");
pub(super) const MOVES: Table = Table::new("objects.moves");

/// Most parts in one row of a manifest.
pub(super) const MANIFEST_PARTS: usize = 256;

/// A bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BucketRow {
    /// Its id, never used again.
    pub id: Id128,
    /// Milliseconds since the Unix epoch.
    pub created: u64,
    /// Its key, wrapped by the keyring; while it is being changed, the one before behind it.
    pub wrapped_key: Vec<u8>,
    /// Whether it keeps versions. Version 1 of the row did not know.
    pub versioning: Versioning,
    /// The backend that its new bodies go to; `None` for the local disk. Version 2 of the row knew no other.
    pub home: Option<BackendName>,
}

/// Version 2 of a bucket.
#[derive(Deserialize)]
struct BucketRowV2 {
    id: Id128,
    created: u64,
    wrapped_key: Vec<u8>,
    versioning: Versioning,
}

/// Version 1 of a bucket.
#[derive(Deserialize)]
struct BucketRowV1 {
    id: Id128,
    created: u64,
    wrapped_key: Vec<u8>,
}

/// Which version of its key a row is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VersionTag {
    /// Rises with each version of the key; 0 for what was stored before the bucket kept versions.
    pub sequence: u64,
    /// Random.
    pub nonce: u64,
    /// Whether it is S3's `null` version.
    pub null: bool,
}

impl VersionTag {
    /// Of what is stored where no versions are kept.
    pub const UNVERSIONED: Self = Self { sequence: 0, nonce: 0, null: true };

    /// As clients know it.
    pub const fn id(self) -> VersionId {
        if self.null { VersionId::Null } else { self.place() }
    }

    /// Its place among the key's versions, also for a `null` one.
    pub const fn place(self) -> VersionId {
        VersionId::Made { sequence: self.sequence, nonce: self.nonce }
    }
}

/// Where an object's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Content {
    /// In `objects.inline`.
    Inline(Id128),
    /// In one blob file.
    Blob(Id128),
    /// In several, listed in `objects.manifests`. The id is that of the upload.
    Parts(Id128),
}

/// An object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ObjectRow {
    /// Milliseconds since the Unix epoch.
    pub modified: u64,
    /// Plaintext bytes.
    pub size: u64,
    /// Its tag.
    pub etag: Etag,
    /// Where its bytes are.
    pub content: Content,
    /// What the client said about it.
    pub metadata: Metadata,
    /// Which version of its key it is. Version 1 of the row did not know: all were `null`.
    pub version: VersionTag,
}

/// Version 1 of an object.
#[derive(Deserialize)]
struct ObjectRowV1 {
    modified: u64,
    size: u64,
    etag: Etag,
    content: Content,
    metadata: Metadata,
}

/// A version that is not the newest, or a delete marker. Holds [`ObjectRow`] as it is: a change of that one's shape is
/// one of this one's too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "one a row, moved once or twice")]
pub(super) enum VersionRow {
    /// An object.
    Object(ObjectRow),
    /// A deletion.
    Marker {
        /// Milliseconds since the Unix epoch.
        modified: u64,
        /// Which version of its key it is.
        version: VersionTag,
    },
}

impl VersionRow {
    /// Which version of its key it is.
    pub const fn version(&self) -> VersionTag {
        match self {
            Self::Object(object) => object.version,
            Self::Marker { version, .. } => *version,
        }
    }
}

/// A part of a multipart object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartRef {
    /// Its number.
    pub number: u16,
    /// Its blob file.
    pub blob: Id128,
    /// Plaintext bytes.
    pub size: u64,
}

/// Consecutive parts of a multipart object; the first begins at the offset in the row's key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ManifestRow {
    /// The parts.
    pub parts: Vec<PartRef>,
    /// The checksum the client sent with each, in the same order; empty when there is none at all.
    pub checksums: Vec<Option<Checksum>>,
}

/// Version 1, which did not keep checksums.
#[derive(Serialize, Deserialize)]
struct ManifestRowV1 {
    parts: Vec<PartRef>,
}

/// A blob something refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlobRow {
    /// The bucket whose key wraps its data key.
    pub bucket: Id128,
    /// Where it is. Version 1 of the row knew the local disk alone.
    pub placed: Placed,
}

/// Version 1 of a blob.
#[derive(Deserialize)]
struct BlobRowV1 {
    bucket: Id128,
}

/// An upload in progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UploadRow {
    /// Milliseconds since the Unix epoch.
    pub initiated: u64,
    /// Counts the parts stored so far, replaced ones too: unchanged means that no part has changed.
    pub revision: u64,
    /// What the client said about the object to be.
    pub metadata: Metadata,
}

/// A part of an upload in progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PartRow {
    /// Its blob file.
    pub blob: Id128,
    /// Plaintext bytes.
    pub size: u64,
    /// MD5 of the plaintext.
    pub md5: [u8; 16],
    /// Milliseconds since the Unix epoch.
    pub modified: u64,
    /// The checksum the client sent with it.
    pub checksum: Option<Checksum>,
}

/// A blob file that a sweep found without a reference, or put aside.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct OrphanRow {
    /// When it was first found so, or put aside; milliseconds since the Unix epoch.
    pub seen: u64,
}

macro_rules! records {
    ($($row:ty),+ $(,)?) => { $( impl Record for $row { const VERSION: u8 = 1; } )+ };
}
records!(VersionRow, UploadRow, PartRow, OrphanRow);

impl Record for BucketRow {
    const VERSION: u8 = 3;

    fn decode_old(version: u8, bytes: &[u8]) -> Option<Self> {
        if version == 2 {
            let (old, rest): (BucketRowV2, _) = postcard::take_from_bytes(bytes).ok()?;
            let BucketRowV2 { id, created, wrapped_key, versioning } = old;
            return rest.is_empty().then_some(Self { id, created, wrapped_key, versioning, home: None });
        }
        let (old, rest): (BucketRowV1, _) = postcard::take_from_bytes(bytes).ok().filter(|_| version == 1)?;
        let BucketRowV1 { id, created, wrapped_key } = old;
        rest.is_empty().then_some(Self { id, created, wrapped_key, versioning: Versioning::Off, home: None })
    }
}

impl Record for BlobRow {
    const VERSION: u8 = 2;

    fn decode_old(version: u8, bytes: &[u8]) -> Option<Self> {
        let (old, rest): (BlobRowV1, _) = postcard::take_from_bytes(bytes).ok().filter(|_| version == 1)?;
        rest.is_empty().then_some(Self { bucket: old.bucket, placed: Placed::Here })
    }
}

impl Record for ManifestRow {
    const VERSION: u8 = 2;

    fn decode_old(version: u8, bytes: &[u8]) -> Option<Self> {
        let (old, rest): (ManifestRowV1, _) = postcard::take_from_bytes(bytes).ok().filter(|_| version == 1)?;
        rest.is_empty().then_some(Self { parts: old.parts, checksums: Vec::new() })
    }
}

impl Record for ObjectRow {
    const VERSION: u8 = 2;

    fn decode_old(version: u8, bytes: &[u8]) -> Option<Self> {
        let (old, rest): (ObjectRowV1, _) = postcard::take_from_bytes(bytes).ok().filter(|_| version == 1)?;
        let ObjectRowV1 { modified, size, etag, content, metadata } = old;
        let version = VersionTag::UNVERSIONED;
        rest.is_empty().then_some(Self { modified, size, etag, content, metadata, version })
    }
}

impl ObjectRow {
    /// The object as callers see it.
    pub fn info(self) -> ObjectInfo {
        ObjectInfo {
            etag: self.etag,
            size: self.size,
            modified: Timestamp(self.modified),
            version: self.version.id(),
            versioned: !self.version.null || self.version.sequence > 0,
            metadata: self.metadata,
        }
    }

    /// The object as a listing shows it.
    pub fn summary(&self, key: String) -> ObjectSummary {
        ObjectSummary { key, etag: self.etag, size: self.size, modified: Timestamp(self.modified) }
    }
}

/// The row in `bytes`.
pub(super) fn decode<T: Record>(table: Table, bytes: &[u8]) -> Result<T, ObjectError> {
    record::decode(bytes)
        .map_err(|error| ObjectError::Store(StoreError::Corrupt { table: table.name(), reason: error.to_string() }))
}

/// The row at `key`.
pub(super) fn row<T: Record>(tx: &dyn ReadTx, table: Table, key: &[u8]) -> Result<Option<T>, ObjectError> {
    tx.get(table, key)?.map(|bytes| decode(table, &bytes)).transpose()
}

/// A key that is not of its table's form.
pub(super) fn malformed_key(table: Table) -> ObjectError {
    ObjectError::Store(StoreError::Corrupt { table: table.name(), reason: "a key is malformed".to_owned() })
}

/// Key of an object.
pub(super) fn object_key(bucket: Id128, key: &ObjectKey) -> Vec<u8> {
    [&bucket.as_bytes()[..], key.as_str().as_bytes()].concat()
}

/// What all rows of a key in `objects.versions` start with.
pub(super) fn versions_of(bucket: Id128, key: &str) -> Vec<u8> {
    let mut out = bucket.as_bytes().to_vec();
    out.extend_from_slice(&escaped(key));
    out.extend_from_slice(&END);
    out
}

/// Key of a version.
pub(super) fn version_key(bucket: Id128, key: &str, sequence: u64) -> Vec<u8> {
    let mut out = versions_of(bucket, key);
    out.extend_from_slice(&(!sequence).to_be_bytes());
    out
}

/// Object key and sequence of a version's key.
pub(super) fn parse_version_key(key: &[u8]) -> Result<(String, u64), ObjectError> {
    let (rest, inverted) = key.split_last_chunk::<8>().ok_or_else(|| malformed_key(VERSIONS))?;
    Ok((unescaped(VERSIONS, rest)?, !u64::from_be_bytes(*inverted)))
}

/// Key of a part.
pub(super) fn part_key(upload: Id128, number: u16) -> Vec<u8> {
    [&upload.as_bytes()[..], &number.to_be_bytes()].concat()
}

/// Key of a manifest row.
pub(super) fn manifest_key(content: Id128, offset: u64) -> Vec<u8> {
    [&content.as_bytes()[..], &offset.to_be_bytes()].concat()
}

/// The number after the id in a part's or manifest's key.
pub(super) fn number_after_id(table: Table, key: &[u8]) -> Result<u64, ObjectError> {
    let digits = key.get(16..).filter(|digits| digits.len() <= 8).ok_or_else(|| malformed_key(table))?;
    Ok(digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Key of an upload.
pub(super) fn upload_key(bucket: Id128, key: &str, upload: Id128) -> Vec<u8> {
    let mut out = bucket.as_bytes().to_vec();
    out.extend_from_slice(&escaped(key));
    out.extend_from_slice(&END);
    out.extend_from_slice(upload.as_bytes());
    out
}

const END: [u8; 2] = [0, 1];

/// `key` in escaped form, without its end mark: what it is a prefix of starts with this.
pub(super) fn escaped(key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + END.len());
    for byte in key.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out
}

/// Object key and upload id of an upload's key.
pub(super) fn parse_upload_key(key: &[u8]) -> Result<(String, Id128), ObjectError> {
    let (rest, upload) = key.split_last_chunk::<16>().ok_or_else(|| malformed_key(UPLOADS))?;
    Ok((unescaped(UPLOADS, rest)?, Id128::from_bytes(*upload)))
}

/// The object key of bucket id ‖ object key, escaped ‖ 00 01.
fn unescaped(table: Table, rest: &[u8]) -> Result<String, ObjectError> {
    let malformed = || malformed_key(table);
    let escaped = rest.get(16..).and_then(|rest| rest.strip_suffix(&END)).ok_or_else(malformed)?;
    let mut plain = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        plain.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return Err(malformed());
        }
    }
    String::from_utf8(plain).map_err(|_not_utf8| malformed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn upload_keys_come_back_and_sort_by_key_then_id(
            keys in proptest::collection::vec(("[a\0\u{1}ÿ/]{1,6}", any::<[u8; 16]>()), 2)
        ) {
            let bucket = Id128::from_bytes([7; 16]);
            let encode = |(key, id): &(String, [u8; 16])| upload_key(bucket, key, Id128::from_bytes(*id));
            for pair in &keys {
                let back = parse_upload_key(&encode(pair)).unwrap();
                prop_assert_eq!(back, (pair.0.clone(), Id128::from_bytes(pair.1)));
            }
            prop_assert_eq!(keys[0].cmp(&keys[1]), encode(&keys[0]).cmp(&encode(&keys[1])));
        }
    }

    #[test]
    fn manifests_of_the_first_release_are_read() {
        let parts = vec![PartRef { number: 3, blob: Id128::from_bytes([7; 16]), size: 5 }];
        let old = [&[1], postcard::to_allocvec(&ManifestRowV1 { parts: parts.clone() }).unwrap().as_slice()].concat();
        let row: ManifestRow = record::decode(&old).unwrap();
        assert_eq!((row.parts, row.checksums), (parts, Vec::new()));
    }

    #[test]
    fn version_keys_sort_by_key_and_newest_first() {
        let bucket = Id128::from_bytes([7; 16]);
        let keys = [("a", 9), ("a", 2), ("a\0b", 1), ("b", 5)].map(|(key, at)| version_key(bucket, key, at));
        assert!(keys.is_sorted());
        assert_eq!(parse_version_key(&keys[2]).unwrap(), ("a\0b".to_owned(), 1));
        assert!(parse_version_key(b"short").is_err());
    }

    #[test]
    fn rows_of_the_first_release_read_as_null_versions_of_buckets_without_versions() {
        let etag = Etag { md5: [1; 16], parts: 0 };
        let content = Content::Inline(Id128::from_bytes([2; 16]));
        let old = postcard::to_extend(&(7_u64, 5_u64, etag, content, Metadata::default()), vec![1]).unwrap();
        let object: ObjectRow = record::decode(&old).unwrap();
        assert_eq!((object.modified, object.size, object.content), (7, 5, content));
        assert_eq!(object.version.id(), VersionId::Null);
        assert!(!object.info().versioned);
        let old = postcard::to_extend(&(Id128::from_bytes([3; 16]), 7_u64, vec![1_u8, 2]), vec![1]).unwrap();
        let bucket: BucketRow = record::decode(&old).unwrap();
        assert_eq!((bucket.created, bucket.versioning), (7, Versioning::Off));
        let old = (Id128::from_bytes([3; 16]), 7_u64, vec![1_u8, 2], Versioning::Enabled);
        let bucket: BucketRow = record::decode(&postcard::to_extend(&old, vec![2]).unwrap()).unwrap();
        assert_eq!((bucket.versioning, bucket.home), (Versioning::Enabled, None));
    }

    #[test]
    fn numbers_after_ids_come_back() {
        let id = Id128::from_bytes([9; 16]);
        assert_eq!(number_after_id(PARTS, &part_key(id, 10_000)).unwrap(), 10_000);
        assert_eq!(number_after_id(MANIFESTS, &manifest_key(id, 5 << 40)).unwrap(), 5 << 40);
    }
}
