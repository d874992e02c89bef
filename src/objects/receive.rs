//! From a body's stream to a blob: the shared first half of storing an object or a part.
//!
//! Two batches of segments take turns: while one is hashed, sealed and written off the async threads, the stream fills
//! the other. So a request holds at most twice [`super::blob::BATCH_SEGMENTS`] segments, whatever the body's length, and
//! a large body costs one hop to a blocking thread per 256 KiB. A body that fits the index costs none.
//!
//! The bytes of a body that is not large are made durable while its transaction is on the way already, which counts only
//! once they are (see [`crate::store::Prerequisite`]).
//!
//! What goes to a backend grows as a file all the same, which is neither synced nor named and goes out when the body has
//! ended: a slow or broken client holds no memory and nothing of the backend's, and a failed request is tried again.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::backends::BackendName;
use super::blob::{Batch, BlobWriter, INLINE_MAX, Record, Written, seal_inline};
use super::error::{BodyError, ObjectError};
use super::guards::Hold;
use super::keys::OpenBucket;
use super::place::Placed;
use super::reader::Threads;
use super::service::{Objects, blocking};
use super::types::{Checksum, Metadata, PutExpect};
use crate::base::{Id128, Random, Timestamp};
use crate::store::{Prerequisite, WriteTx, prerequisite};

/// Where a small body may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placing {
    /// Into the index.
    SmallInline,
    /// Always into a file.
    File,
}

/// A body received, checked and sealed; nothing refers to it yet.
#[derive(Debug)]
pub(super) struct Received {
    pub blob: Id128,
    /// The blob's bytes, for the index; `None`: it is a file, or at a backend, whole, and synced unless that is `syncing`.
    pub inline: Option<Vec<u8>>,
    /// The file's sync under way.
    pub syncing: Option<Syncing>,
    /// Where it is, when it is not in the index.
    pub placed: Placed,
    pub size: u64,
    pub md5: [u8; 16],
    pub finished: Timestamp,
    /// The checksum that came with the body's end.
    pub checksum: Option<Checksum>,
    /// Keeps sweeps away until the index row is committed.
    pub _hold: Arc<Hold>,
}

/// A blob's file being made durable, on a thread that is at it already.
#[derive(Debug)]
pub(super) struct Syncing {
    task: JoinHandle<Result<(), ObjectError>>,
    first: Prerequisite,
}

impl Syncing {
    /// Waits for the end of it.
    async fn ended(task: JoinHandle<Result<(), ObjectError>>) -> Result<(), ObjectError> {
        task.await.unwrap_or(Err(ObjectError::Unavailable("the server is stopping")))
    }
}

/// Most bytes of a body whose sync may hold up a commit. Syncing more takes longer than the commit it would save.
const TOGETHER_MAX: u64 = 2 << 20;

impl Objects {
    /// Reads `body` to its end into a blob that fulfils `expect`.
    ///
    /// Dropped before its end, or on an error, it leaves nothing: the temporary file removes itself.
    pub(super) async fn receive(
        &self,
        bucket: &Arc<OpenBucket>,
        record: Record,
        expect: &PutExpect,
        placing: Placing,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Send,
    ) -> Result<Received, ObjectError> {
        let bytes = record.metadata.bytes();
        if bytes > Metadata::BYTES_MAX {
            return Err(ObjectError::MetadataTooLarge { bytes, limit: Metadata::BYTES_MAX });
        }
        let rules = &bucket.settings.files;
        rules.admit(&record.key, &record.metadata)?;
        let most = rules.max_bytes.unwrap_or(u64::MAX).min(self.0.config.max_put.bytes());
        let announced = expect.length.unwrap_or(0);
        if announced > most {
            return Err(ObjectError::TooLarge { limit: most });
        }
        // What an upload in parts begins with is most likely its part 1; its completion looks for certain.
        let is_first = record.part.is_none_or(|(_, number)| number == 1);
        let mut look = rules.look(&record.metadata).filter(|_| is_first);
        // The commit tells for certain; what can never fit need not be sent before.
        if let Some(limit) = bucket.settings.quota.max_bytes.filter(|limit| announced > *limit) {
            return Err(ObjectError::QuotaExceeded { what: "bytes", limit });
        }
        self.admit(announced).await?;
        let blob = Id128::random(self.0.random.as_ref());
        let hold = Arc::new(self.0.writing.hold(blob));
        let mut pipe = Pipe::Empty(Box::new(Fresh { objects: self.clone(), bucket: Arc::clone(bucket), blob, record }));
        let mut batch = Batch::default();
        let mut size = 0u64;
        let mut body = pin!(body);
        while let Some(chunk) = body.next().await {
            let mut chunk = chunk.map_err(ObjectError::Body)?;
            size = size.saturating_add(chunk.len() as u64);
            check_length(size, expect.length, most)?;
            if look.as_mut().is_some_and(|look| look.see(&chunk))
                && let Some(look) = look.take()
            {
                look.judge()?;
            }
            batch.fill(&mut chunk);
            while !chunk.is_empty() {
                // More bytes are at hand, so none of the batch's segments is the last.
                batch = pipe.push(batch).await?;
                batch.fill(&mut chunk);
            }
        }
        if let Some(expected) = expect.length.filter(|expected| *expected != size) {
            return Err(ObjectError::WrongLength { expected, got: size });
        }
        if let Some(look) = look {
            look.judge()?;
        }
        let checksum = expect.late_checksum.as_ref().and_then(|slot| slot.get().cloned());
        let finished = self.0.clock.now();
        let small = batch.only().filter(|plain| plain.len() <= INLINE_MAX && placing == Placing::SmallInline);
        let (id, inline, md5, syncing, placed) = if let (Pipe::Empty(fresh), Some(plain)) = (&pipe, small) {
            let random = self.0.random.as_ref();
            let id = id_by_time(finished, random);
            let sealed = seal_inline(id, &bucket.key, &fresh.record, random, plain, finished, checksum.clone());
            if expect.md5.is_some_and(|md5| md5 != sealed.md5) {
                return Err(ObjectError::BadDigest);
            }
            (id, Some(sealed.bytes), sealed.md5, None, Placed::Here)
        } else {
            let end = End { md5: expect.md5, finished, checksum: checksum.clone(), hold: Arc::clone(&hold) };
            if let Some(home) = &bucket.home {
                let (written, placed) = pipe.finish_there(batch, end, blob, home.clone()).await?;
                (blob, None, written.md5, None, placed)
            } else {
                let (written, syncing) = pipe.finish(batch, end).await?;
                let together = placing == Placing::SmallInline && size <= TOGETHER_MAX;
                let syncing =
                    if together { Some(syncing) } else { Syncing::ended(syncing.task).await.map(|()| None)? };
                (blob, None, written.md5, syncing, Placed::Here)
            }
        };
        self.0.metrics.received.add(size);
        Ok(Received { blob: id, inline, syncing, placed, size, md5, finished, checksum, _hold: hold })
    }

    /// Commits `op`, which names the blob `received`, so that it counts only once the blob is durable.
    ///
    /// # Errors
    /// What `op` says; the store; the disk, and then no row names the blob.
    pub(super) async fn commit_received<T: Send + 'static>(
        &self,
        received: &mut Received,
        op: impl Fn(&mut dyn WriteTx) -> Result<T, ObjectError> + Send + Sync + 'static,
    ) -> Result<T, ObjectError> {
        let Some(Syncing { task, first }) = received.syncing.take() else { return self.0.store.write(op).await };
        let committed = self.0.store.write_after(first, op).await;
        // Ended whatever became of the transaction, so that nobody removes the file before it has its name.
        Syncing::ended(task).await.and(committed)
    }

    /// Removes the blob that nothing refers to, since what should have failed for certain.
    pub(super) async fn take_back(&self, received: Received) {
        if received.inline.is_some() {
            return;
        }
        let this = self.clone();
        let removed = blocking(move || {
            if let Placed::There(remote) = &received.placed {
                let (objects, blob, remote) = (this.clone(), received.blob, remote.clone());
                let unsend = move |tx: &mut dyn WriteTx| objects.unsend(tx, blob, &remote);
                return this.0.store.write_blocking(unsend);
            }
            let freed = this.0.blobs.remove(received.blob)?;
            this.0.metrics.used.add(-(freed as i64));
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "an upload that was not accepted stays until a sweep finds it");
        }
    }

    async fn admit(&self, bytes: u64) -> Result<(), ObjectError> {
        if self.0.room.is_fresh() {
            return self.0.room.admit(bytes);
        }
        let this = self.clone();
        blocking(move || this.0.room.admit_now(bytes)).await
    }
}

/// An id for a body that lies in the index. It begins with the time, so that bodies stored one after the other lie side by
/// side there: a commit changes few of the index's pages, and they are filled.
fn id_by_time(now: Timestamp, random: &dyn Random) -> Id128 {
    let mut bytes = *Id128::random(random).as_bytes();
    let [_, _, millis @ ..] = now.millis().to_be_bytes();
    bytes[..millis.len()].copy_from_slice(&millis);
    Id128::from_bytes(bytes)
}

fn check_length(size: u64, announced: Option<u64>, most: u64) -> Result<(), ObjectError> {
    match announced {
        Some(expected) if size > expected => Err(ObjectError::WrongLength { expected, got: size }),
        _ if size > most => Err(ObjectError::TooLarge { limit: most }),
        _ => Ok(()),
    }
}

/// What is needed to start a blob's file.
struct Fresh {
    objects: Objects,
    bucket: Arc<OpenBucket>,
    blob: Id128,
    record: Record,
}

impl Fresh {
    fn create(&self) -> Result<BlobWriter, ObjectError> {
        let inner = &self.objects.0;
        BlobWriter::create(inner.blobs.clone(), self.blob, &self.bucket.key, &self.record, inner.random.as_ref())
            .map_err(|error| inner.room.explain(error))
    }
}

/// The blocking half of an upload.
enum Pipe {
    /// No file yet.
    Empty(Box<Fresh>),
    /// A batch is being written.
    Busy(Objects, JoinHandle<Result<(Box<BlobWriter>, Batch), ObjectError>>),
    /// An error or a dropped future ended it.
    Ended,
}

impl Pipe {
    /// Hands in a full batch and gives an empty one back, as soon as the batch before is written.
    async fn push(&mut self, mut batch: Batch) -> Result<Batch, ObjectError> {
        let (objects, writer, empty) = match std::mem::replace(self, Self::Ended) {
            Self::Empty(fresh) => (fresh.objects.clone(), Writer::New(fresh), Batch::default()),
            Self::Busy(objects, task) => {
                let (writer, empty) = joined(task).await?;
                (objects, Writer::Open(writer), empty)
            }
            Self::Ended => return Err(ObjectError::Unavailable("the upload has ended")),
        };
        let room = objects.clone();
        let task = tokio::task::spawn_blocking(move || {
            let inner = &room.0;
            inner.room.admit_now(0)?;
            let mut writer = writer.open()?;
            writer.write(&mut batch, false).map_err(|error| inner.room.explain(error))?;
            Ok((writer, batch))
        });
        *self = Self::Busy(objects, task);
        Ok(empty)
    }

    /// Writes the last batch and checks the digest; the blob is whole then, and its sync begun.
    async fn finish(self, batch: Batch, end: End) -> Result<(Written, Syncing), ObjectError> {
        let (objects, writer) = self.writer().await?;
        let (told, whole) = oneshot::channel();
        let (fulfilment, first) = prerequisite();
        // One hop for both, so that whoever waits for the sync waits for a thread that is at it.
        let task = tokio::task::spawn_blocking(move || {
            let explain = |error| objects.0.room.explain(error);
            let mut writer = writer.with_last(&objects, batch, end.md5)?;
            let End { finished, checksum, hold: _hold, .. } = end;
            let written = writer.end(finished, checksum).map_err(explain)?;
            // Dropped meanwhile: then the writer removes its file.
            told.send(written).map_err(|_dropped| ObjectError::Unavailable("the upload was given up"))?;
            writer.finish().map_err(explain)?;
            objects.0.metrics.used.add(written.stored as i64);
            fulfilment.done();
            Ok(())
        });
        match whole.await {
            Ok(written) => Ok((written, Syncing { task, first })),
            Err(_ended) => Err(match Syncing::ended(task).await {
                Err(error) => error,
                Ok(()) => ObjectError::Unavailable("the server is stopping"),
            }),
        }
    }

    /// Writes the last batch, checks the digest and sends the blob to the backend `home`; it is durable there.
    async fn finish_there(
        self,
        batch: Batch,
        end: End,
        blob: Id128,
        home: BackendName,
    ) -> Result<(Written, Placed), ObjectError> {
        let (objects, writer) = self.writer().await?;
        let backends = objects.clone();
        let send = move || {
            let writer = writer.with_last(&objects, batch, end.md5)?;
            // The upload goes on when the caller has gone, and must not be swept under its hands.
            let End { finished, checksum, hold: _hold, .. } = end;
            let staged = writer.stage(finished, checksum);
            let (staged, written) = staged.map_err(|error| objects.0.room.explain(error))?;
            let sent = objects.send(blob, (written.stored, written.size), &staged.source, &home)?;
            Ok((written, Placed::There(sent)))
        };
        backends.0.backends.start_on(Threads::Backends, send).await
    }

    /// What writes the rest, once the batch before is written.
    async fn writer(self) -> Result<(Objects, Writer), ObjectError> {
        match self {
            Self::Empty(fresh) => Ok((fresh.objects.clone(), Writer::New(fresh))),
            Self::Busy(objects, task) => Ok((objects, Writer::Open(joined(task).await?.0))),
            Self::Ended => Err(ObjectError::Unavailable("the upload has ended")),
        }
    }
}

/// What ends a blob.
struct End {
    md5: Option<[u8; 16]>,
    finished: Timestamp,
    checksum: Option<Checksum>,
    hold: Arc<Hold>,
}

/// A blob's file, or what it takes to start it on a blocking thread.
enum Writer {
    New(Box<Fresh>),
    Open(Box<BlobWriter>),
}

impl Writer {
    fn open(self) -> Result<Box<BlobWriter>, ObjectError> {
        match self {
            Self::New(fresh) => fresh.create().map(Box::new),
            Self::Open(writer) => Ok(writer),
        }
    }

    /// The blob with its last batch, if it is the one that was announced. Blocks.
    fn with_last(
        self,
        objects: &Objects,
        mut batch: Batch,
        md5: Option<[u8; 16]>,
    ) -> Result<Box<BlobWriter>, ObjectError> {
        let mut writer = self.open()?;
        writer.write(&mut batch, true).map_err(|error| objects.0.room.explain(error))?;
        if md5.is_some_and(|md5| md5 != writer.md5()) {
            return Err(ObjectError::BadDigest);
        }
        Ok(writer)
    }
}

async fn joined(
    task: JoinHandle<Result<(Box<BlobWriter>, Batch), ObjectError>>,
) -> Result<(Box<BlobWriter>, Batch), ObjectError> {
    task.await.unwrap_or(Err(ObjectError::Unavailable("the server is stopping")))
}
