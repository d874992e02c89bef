//! Looking whether what the index names is there and whole.
//!
//! The index is walked row by row: buckets, newest versions, older versions, uploads in progress. Of each row the blobs
//! are opened, which proves header, record, footer and length; [`Depth::Whole`] reads every segment besides. An object of
//! several parts has one more, which tells a rebuild of the index which they are (`joined.rs`). One call
//! looks at a piece and says where the next begins, so whoever asks decides how fast it goes, and may go on after a
//! restart. The walk takes no snapshot: what was replaced or deleted meanwhile is passed over. `scrub.rs` walks the same
//! way by itself.

use std::collections::HashMap;
use std::ops::Bound;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::backends::BackendError;
use super::blob::{BlobFile, BucketKey, Fault, OpenFault, open_inline};
use super::error::ObjectError;
use super::index::{
    BUCKETS, BucketRow, CURRENT, Content, INLINE, MANIFESTS, ManifestRow, ObjectRow, UPLOADS, VERSIONS, VersionRow,
    VersionTag, decode, parse_upload_key, parse_version_key,
};
use super::joined::{JoinedRow, joined_blob};
use super::names::PART_NUMBER_MAX;
use super::place::Placed;
use super::service::{Objects, blocking};
use super::uploads::scan_parts;
use crate::base::Id128;
use crate::crypto::stream::SEGMENT;
use crate::store::{Direction, ReadTx, StoreError, Table, after_prefix};

/// Rows read in one step.
const PAGE: usize = 100;

/// Rows looked at in one piece at most.
const PIECE_ROWS: u64 = 1000;

/// Blob files opened in one piece, about: the parts of one object are not parted.
const PIECE_BLOBS: u64 = 1000;

/// How long a piece may take, but for its last request: at a backend a body takes as long as the line does, and whoever asked for
/// the piece waits for no more than a control command's time.
const PIECE_TIME: Duration = Duration::from_secs(4);

/// Bytes read in one piece at most.
pub(super) const PIECE_BYTES: u64 = 32 << 20;

/// Damaged objects told in one piece at most: a key of 1,024 bytes takes up to six times as many as JSON.
const PIECE_DAMAGED: usize = 100;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Head, end and length of each blob.
    Ends,
    /// Every byte.
    Whole,
}

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Somebody who asked for it.
    BySomebody,
    /// The scrub, which reads whole at a backend only where the settings say so.
    ByScrub,
}

/// Why a body is not as it should be, or why that cannot be told.
enum NotWell {
    Damaged(String),
    Unknown(BackendError),
}

impl From<String> for NotWell {
    fn from(what: String) -> Self {
        Self::Damaged(what)
    }
}

impl From<OpenFault> for NotWell {
    fn from(fault: OpenFault) -> Self {
        Self::Damaged(match fault {
            OpenFault::Missing => "its file is missing".to_owned(),
            OpenFault::Corrupt(fault) => fault.0.to_owned(),
            OpenFault::Disk(error) => format!("its file cannot be read: {error}"),
            OpenFault::Backend(error) => return Self::Unknown(error),
        })
    }
}

/// Where a piece begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    stage: Stage,
    /// Where in the stage's table.
    #[serde(serialize_with = "encoded", deserialize_with = "decoded")]
    key: Vec<u8>,
    /// Blobs of the row there that were looked at.
    blob: usize,
    /// Segments of the next blob that were read.
    segment: u32,
}

/// What is walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    #[default]
    Buckets,
    Newest,
    Older,
    Uploads,
}

impl Stage {
    const fn table(self) -> Table {
        match self {
            Self::Buckets => BUCKETS,
            Self::Newest => CURRENT,
            Self::Older => VERSIONS,
            Self::Uploads => UPLOADS,
        }
    }

    const fn next(self) -> Option<Self> {
        match self {
            Self::Buckets => Some(Self::Newest),
            Self::Newest => Some(Self::Older),
            Self::Older => Some(Self::Uploads),
            Self::Uploads => None,
        }
    }
}

/// What a piece came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where the next one begins; `None` when this was the last.
    pub next: Option<Place>,
    /// Buckets whose keys were looked at.
    pub buckets: u64,
    /// Objects looked at, older versions too.
    pub objects: u64,
    /// Uploads in progress looked at.
    pub uploads: u64,
    /// Plaintext bytes of what was looked at; with [`Depth::Whole`], that were read.
    pub bytes: u64,
    /// What is damaged.
    pub damaged: Vec<Damaged>,
    /// Of the objects and uploads, those with bytes at a backend that could not be asked.
    #[serde(default)]
    pub unknown: u64,
}

/// Something the index names and that is not there as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// The bucket's name; its id when no bucket of that id is there.
    pub bucket: String,
    /// The object's key; none when the bucket's own key is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Which version, when it is not the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The number of the first damaged part of an upload in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_part: Option<u16>,
    /// What is wrong.
    pub what: String,
}

/// One body that a row names.
#[derive(Clone, Copy)]
struct Stored {
    at: Content,
    /// Plaintext bytes; none of what tells which parts an object has.
    size: Option<u64>,
    /// Its number within an upload.
    part: u16,
}

/// The row that names something damaged, so that a transaction can tell whether it still does.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub table: Table,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// Of the content, the upload, or the bucket whose key is damaged. Stays with the bytes, whatever row names them.
    pub id: Id128,
}

/// A row, understood.
struct Understood {
    id: Id128,
    bucket: Id128,
    key: String,
    version: Option<VersionTag>,
    upload: bool,
    /// Where its bytes are, or why that cannot be told.
    bodies: Result<Vec<Stored>, Fault>,
}

/// Buckets by id.
struct Buckets(HashMap<Id128, Known>);

/// A bucket.
struct Known {
    name: String,
    wrapped_key: Vec<u8>,
    /// Its key, or why there is none; from when it was first needed.
    opened: Option<Result<BucketKey, String>>,
}

impl Objects {
    /// Looks at the piece that begins at `from`. Reads only. Cancel safe.
    ///
    /// # Errors
    /// The index cannot be read, or says of itself that it is damaged; the same piece may be asked for again.
    pub async fn check(&self, from: Place, depth: Depth) -> Result<Piece, ObjectError> {
        let this = self.clone();
        blocking(move || Ok(this.check_piece(from, depth, Asked::BySomebody, PIECE_BYTES)?.0)).await
    }

    /// [`check`](Self::check) of a piece of about `most` bytes, with the row of each thing that is damaged. Blocks.
    pub(super) fn check_piece(
        &self,
        from: Place,
        depth: Depth,
        asked: Asked,
        most: u64,
    ) -> Result<(Piece, Vec<Named>), ObjectError> {
        let mut buckets = Buckets::read(self)?;
        let (piece, named) = (Piece::default(), Vec::new());
        let mut look = Look {
            objects: self,
            depth,
            asked,
            most,
            piece,
            named,
            blobs: 0,
            read: 0,
            began: self.0.clock.monotonic(),
        };
        let mut place = from;
        loop {
            let (table, start) = (place.stage.table(), place.key.clone());
            let rows = self.0.store.read_blocking(|tx| {
                tx.scan(table, Bound::Included(start.as_slice()), Bound::Unbounded, Direction::Forward, PAGE)
            });
            let rows = rows.map_err(ObjectError::Store)?;
            let more = rows.len() == PAGE;
            for (key, value) in rows {
                if place.key != key {
                    place = Place { stage: place.stage, key, blob: 0, segment: 0 };
                }
                if look.is_full() {
                    return Ok(look.ends_at(place));
                }
                if !look.row(&mut place, &value, &mut buckets)? {
                    return Ok(look.ends_at(place));
                }
                // The key that follows at once.
                place.key.push(0);
                (place.blob, place.segment) = (0, 0);
            }
            if !more {
                let Some(stage) = place.stage.next() else { return Ok((look.piece, look.named)) };
                place = Place { stage, ..Place::default() };
            }
        }
    }
}

/// A piece in the making.
struct Look<'a> {
    objects: &'a Objects,
    depth: Depth,
    asked: Asked,
    most: u64,
    piece: Piece,
    named: Vec<Named>,
    blobs: u64,
    read: u64,
    /// The monotonic time at its beginning.
    began: Duration,
}

impl Look<'_> {
    fn is_full(&self) -> bool {
        self.piece.buckets + self.piece.objects + self.piece.uploads >= PIECE_ROWS
            || self.blobs >= PIECE_BLOBS
            || self.read >= self.most
            || self.piece.damaged.len() >= PIECE_DAMAGED
            || (self.blobs > 0 && self.is_late())
    }

    fn is_late(&self) -> bool {
        self.objects.0.clock.monotonic().saturating_sub(self.began) >= PIECE_TIME
    }

    fn ends_at(self, place: Place) -> (Piece, Vec<Named>) {
        (Piece { next: Some(place), ..self.piece }, self.named)
    }

    /// Looks at the row `value` at `place`. False when the piece is full before the row's end, with `place` where it is.
    fn row(&mut self, place: &mut Place, value: &[u8], buckets: &mut Buckets) -> Result<bool, ObjectError> {
        if place.stage == Stage::Buckets {
            self.piece.buckets += 1;
            self.bucket(place, value, buckets)?;
            return Ok(true);
        }
        let Some(named) = self.understand(place, value)? else { return Ok(true) };
        let key = buckets.key(self.objects, named.bucket)?;
        let bodies = match (&key, named.bodies) {
            (Err(what), _) => Err(what.clone()),
            (_, Err(fault)) => Err(fault.0.to_owned()),
            (Ok(_), Ok(bodies)) => Ok(bodies),
        };
        let mut found = None;
        match (key, bodies) {
            (Ok(key), Ok(bodies)) => {
                for body in bodies.into_iter().skip(place.blob) {
                    if self.read >= self.most {
                        return Ok(false);
                    }
                    match self.body(body, &key, &mut place.segment) {
                        Ok(true) => (place.blob, place.segment) = (place.blob + 1, 0),
                        Ok(false) => return Ok(false),
                        // A backend that does not answer says nothing about what it holds.
                        Err(NotWell::Unknown(error)) => {
                            tracing::debug!(%error, "a body cannot be looked at");
                            self.piece.unknown += 1;
                            break;
                        }
                        Err(NotWell::Damaged(what)) => {
                            found = Some((body.part, what));
                            break;
                        }
                    }
                }
            }
            (_, Err(what)) | (Err(what), _) => found = Some((0, what)),
        }
        *(if named.upload { &mut self.piece.uploads } else { &mut self.piece.objects }) += 1;
        if let Some((part, what)) = found {
            let damaged = Damaged {
                bucket: buckets.name(named.bucket),
                key: Some(named.key),
                version: named.version.map(|version| version.id().to_string()),
                upload_part: named.upload.then_some(part),
                what,
            };
            self.note(place, value, named.id, damaged)?;
        }
        Ok(true)
    }

    /// The row `value` at `place`; `None` when it has no bytes.
    fn understand(&self, place: &Place, value: &[u8]) -> Result<Option<Understood>, ObjectError> {
        let malformed = || super::index::malformed_key(place.stage.table());
        let bucket = Id128::from_bytes(*place.key.first_chunk::<16>().ok_or_else(malformed)?);
        let (key, version, object) = match place.stage {
            Stage::Newest => {
                let key = String::from_utf8_lossy(place.key.get(16..).unwrap_or_default()).into_owned();
                (key, None, decode::<ObjectRow>(CURRENT, value)?)
            }
            Stage::Older => match decode(VERSIONS, value)? {
                VersionRow::Object(object) => (parse_version_key(&place.key)?.0, Some(object.version), object),
                VersionRow::Marker { .. } => return Ok(None),
            },
            Stage::Uploads | Stage::Buckets => {
                let (key, upload) = parse_upload_key(&place.key)?;
                let parts = self.objects.0.store.read_blocking(|tx| scan_parts(tx, upload, 0, PARTS_MOST))?;
                let stored = |(part, row): (u16, super::index::PartRow)| Stored {
                    at: Content::Blob(row.blob),
                    size: Some(row.size),
                    part,
                };
                let bodies = Ok(parts.into_iter().map(stored).collect());
                return Ok(Some(Understood { id: upload, bucket, key, version: None, upload: true, bodies }));
            }
        };
        let bodies = match object.content {
            Content::Parts(id) => self.parts(id, object.size)?,
            at => Ok(vec![Stored { at, size: Some(object.size), part: 0 }]),
        };
        let (Content::Inline(id) | Content::Blob(id) | Content::Parts(id)) = object.content;
        Ok(Some(Understood { id, bucket, key, version, upload: false, bodies }))
    }

    /// The parts of a multipart object of `size` bytes.
    fn parts(&self, content: Id128, size: u64) -> Result<Result<Vec<Stored>, Fault>, ObjectError> {
        let end = after_prefix(content.as_bytes());
        let (from, to) = (Bound::Included(content.as_bytes().as_slice()), end.as_ref().map(Vec::as_slice));
        let (rows, joined) = self.objects.0.store.read_blocking(|tx| {
            let rows = tx.scan(MANIFESTS, from, to, Direction::Forward, PARTS_MOST)?;
            Ok::<_, ObjectError>((rows, joined_blob(tx, content)?))
        })?;
        let (mut out, mut listed) = (Vec::new(), 0_u64);
        for (_, value) in rows {
            let row: ManifestRow = decode(MANIFESTS, &value)?;
            out.extend(row.parts.iter().map(|part| Stored {
                at: Content::Blob(part.blob),
                size: Some(part.size),
                part: part.number,
            }));
            listed = row.parts.iter().fold(listed, |sum, part| sum.saturating_add(part.size));
        }
        // Last, since it is what is needed last.
        out.extend(joined.map(|blob| Stored { at: Content::Blob(blob), size: None, part: 0 }));
        Ok(if listed == size { Ok(out) } else { Err(Fault("its list of parts is not whole")) })
    }

    /// Looks at one body, from `segment` on; false when the piece is full before its end.
    fn body(&mut self, body: Stored, key: &BucketKey, segment: &mut u32) -> Result<bool, NotWell> {
        let id = match body.at {
            Content::Inline(id) => {
                let bytes = self.objects.0.store.read_blocking(|tx| tx.get(INLINE, id.as_bytes()));
                let bytes = bytes.map_err(|error: StoreError| error.to_string())?;
                let bytes = bytes.ok_or_else(|| "its bytes are missing from the index".to_owned())?;
                let size = body.size.unwrap_or_default();
                open_inline(&bytes, id, key, size).map_err(|fault| fault.0.to_owned())?;
                self.piece.bytes += size;
                return Ok(true);
            }
            Content::Blob(id) | Content::Parts(id) => id,
        };
        // Every piece comes further than the one before.
        if self.blobs > 0 && self.is_late() {
            return Ok(false);
        }
        self.blobs += 1;
        let Some(size) = body.size else { return self.joined(id, key) };
        let (file, depth) = self.open(id, key)?;
        if file.size() != size {
            return Err(format!("its blob has {} bytes, the index says {size}", file.size()).into());
        }
        if depth == Depth::Ends {
            self.piece.bytes += size;
            return Ok(true);
        }
        while *segment < file.segments() {
            if self.read >= self.most || (self.read > 0 && self.is_late()) {
                return Ok(false);
            }
            let plain = file.segment(*segment)?;
            self.piece.bytes += plain.len() as u64;
            // An empty body has a segment, too.
            self.read += plain.len().max(SEGMENT / 16) as u64;
            *segment += 1;
        }
        Ok(true)
    }

    /// Looks at the blob `id`, which tells which parts an object has. It is small, and none of the object's bytes.
    fn joined(&mut self, id: Id128, key: &BucketKey) -> Result<bool, NotWell> {
        let what = |what: String| NotWell::Damaged(format!("what tells a rebuild of the index its parts: {what}"));
        let looked = self.open(id, key).and_then(|(file, depth)| {
            // Every byte only where every byte is asked for.
            if depth == Depth::Whole { JoinedRow::read(&file).map(|_row| file.size()) } else { Ok(0) }
        });
        match looked.map_err(NotWell::from) {
            Ok(read) => self.read += read,
            Err(NotWell::Damaged(fault)) => return Err(what(fault)),
            Err(unknown @ NotWell::Unknown(_)) => return Err(unknown),
        }
        Ok(true)
    }

    /// Opens the blob `id`, wherever it is, and says how much of it is to be looked at.
    fn open(&self, id: Id128, key: &BucketKey) -> Result<(BlobFile, Depth), OpenFault> {
        let mut placed = self.objects.placed(id).map_err(std::io::Error::other)?;
        loop {
            let whole = match (&placed, self.asked) {
                (Placed::There(remote), Asked::ByScrub) => {
                    self.objects.0.backends.find(&remote.backend).is_ok_and(|backend| backend.config().scrub)
                }
                _ => true,
            };
            let depth = if whole { self.depth } else { Depth::Ends };
            let opened = self.objects.source(id, &placed).and_then(|mut file| {
                if depth == Depth::Ends {
                    file.will_end_at(0);
                }
                BlobFile::open_whole(file, id, |_| Some(key.clone()))
            });
            match opened {
                Err(OpenFault::Missing) => {
                    // It may have been moved in between.
                    let now = self.objects.placed(id).map_err(std::io::Error::other)?;
                    if now == placed {
                        return Err(OpenFault::Missing);
                    }
                    placed = now;
                }
                opened => return Ok((opened?.0, depth)),
            }
        }
    }

    /// Looks at a bucket's key, in its row and beside the blobs.
    fn bucket(&mut self, place: &Place, value: &[u8], buckets: &mut Buckets) -> Result<(), ObjectError> {
        let row: BucketRow = decode(BUCKETS, value)?;
        let what = match (buckets.key(self.objects, row.id)?, self.objects.0.keys.beside_blobs(row.id)) {
            (Err(what), _) => what,
            (Ok(_), Err(error)) => format!("its key beside the blobs: {error}"),
            (Ok(_), Ok(None)) => "its key is missing beside the blobs".to_owned(),
            (Ok(_), Ok(Some(_))) => return Ok(()),
        };
        let bucket = String::from_utf8_lossy(&place.key).into_owned();
        self.note(place, value, row.id, Damaged { bucket, key: None, version: None, upload_part: None, what })
    }

    /// Notes `damaged`, unless its row is no longer `value`: then it was replaced or deleted meanwhile.
    fn note(&mut self, place: &Place, value: &[u8], id: Id128, damaged: Damaged) -> Result<(), ObjectError> {
        let table = place.stage.table();
        let now = self.objects.0.store.read_blocking(|tx| tx.get(table, &place.key)).map_err(ObjectError::Store)?;
        if now.as_deref() != Some(value) {
            return Ok(());
        }
        self.objects.0.metrics.integrity_failures.inc();
        let Damaged { bucket, key, what, .. } = &damaged;
        tracing::error!(bucket, key, what, "a check has found damage");
        self.piece.damaged.push(damaged);
        self.named.push(Named { table, key: place.key.clone(), value: value.to_vec(), id });
        Ok(())
    }
}

/// Parts an object has at most.
const PARTS_MOST: usize = PART_NUMBER_MAX as usize;

impl Buckets {
    fn read(objects: &Objects) -> Result<Self, ObjectError> {
        let all =
            |tx: &dyn ReadTx| tx.scan(BUCKETS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX);
        let mut out = HashMap::new();
        for (name, value) in objects.0.store.read_blocking(all).map_err(ObjectError::Store)? {
            let row: BucketRow = decode(BUCKETS, &value)?;
            let name = String::from_utf8_lossy(&name).into_owned();
            out.insert(row.id, Known { name, wrapped_key: row.wrapped_key, opened: None });
        }
        Ok(Self(out))
    }

    /// The key of the bucket `id`, or why there is none.
    fn key(&mut self, objects: &Objects, id: Id128) -> Result<Result<BucketKey, String>, ObjectError> {
        if !self.0.contains_key(&id) {
            // Made since.
            let known = std::mem::take(&mut self.0);
            *self = Self::read(objects)?;
            self.0.extend(known);
        }
        let Some(Known { wrapped_key, opened, .. }) = self.0.get_mut(&id) else {
            return Ok(Err("its bucket is missing from the index".to_owned()));
        };
        let opening = || {
            let opened = objects.0.keys.of_row(id, wrapped_key);
            opened.map_err(|error| format!("its bucket's key does not open: {error}"))
        };
        Ok(opened.get_or_insert_with(opening).clone())
    }

    fn name(&self, id: Id128) -> String {
        self.0.get(&id).map_or_else(|| id.to_string(), |known| known.name.clone())
    }
}

fn encoded<S: Serializer>(key: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(key))
}

fn decoded<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(serde::de::Error::custom)
}
