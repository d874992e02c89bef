//! From chunks to packs at the target, on threads of their own.
//!
//! chunks -> two threads that compress and seal them into packs -> one that stores the packs. Each step undoes what it did
//! and compares before it goes on: a chunk is decompressed, a seal opened, so that no broken library or memory makes a
//! pack nobody can read (it has happened to others).
//!
//! Chunks of files and of lists (entries, ids) go into packs of their own, so that looking at a list reads little.
//!
//! Memory is what is in flight, and all of it is used again instead of given back: a buffer for each chunk waiting or in
//! work, three packs (of files one being filled and one being stored, of lists one), and what each compressing thread
//! keeps. A slow target therefore slows the reader down.
//! The threads are the writer's: they end with it, and it waits for them, so they are not the supervisor's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::format::ChunkId;
use super::format::keys::RepositoryKeys;
use super::format::pack::{Pack, PackBuilder, PackEntry, PackInfo, Packing};
use super::target::{Target, Trouble};
use super::{BackupError, Progress};
use crate::base::Random;

/// Threads that compress.
const SQUEEZERS: usize = 2;

/// Chunks waiting at most; a chunk has up to 4 MiB, a MiB in the mean.
const QUEUE: usize = 2;

/// A buffer that has become larger than this is given back; few chunks need it.
const KEPT_BUFFER: usize = 2 << 20;

/// zstd's own scale. Measured 2026-11-25 on chunks of logs and dumps: 3, its default, takes twice the processor time and
/// saves nothing.
const LEVEL: i32 = 1;

/// Packs of files under way: one being filled, one being stored.
const DATA_PACKS: usize = 2;

/// Packs of lists under way: few are ever full.
const LIST_PACKS: usize = 1;

/// What a chunk belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The content of a file.
    Data,
    /// A list of entries or of ids.
    List,
}

struct Raw {
    id: ChunkId,
    lane: Lane,
    bytes: Vec<u8>,
}

/// A pack that is stored, durably.
pub(super) type Stored = (PackInfo, Vec<PackEntry>);

/// The threads and the ends of their queues.
pub(super) struct Pipeline {
    entrance: Option<SyncSender<Raw>>,
    /// Buffers of chunks that are done.
    spare: Receiver<Vec<u8>>,
    exit: Receiver<Stored>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    failure: Mutex<Option<BackupError>>,
    /// Drop what is not in a full pack yet.
    abandoned: AtomicBool,
    progress: Progress,
}

impl Shared {
    fn fail(&self, error: BackupError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn failure(&self) -> BackupError {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.unwrap_or_else(|| BackupError::Thread { reason: "it gave no reason".to_owned() })
    }
}

impl Pipeline {
    /// Starts the threads.
    pub(super) fn start(
        keys: &Arc<RepositoryKeys>,
        target: &Arc<dyn Target>,
        random: &Arc<dyn Random>,
        progress: &Progress,
    ) -> Result<Self, BackupError> {
        let shared = Arc::new(Shared {
            failure: Mutex::new(None),
            abandoned: AtomicBool::new(false),
            progress: progress.clone(),
        });
        let (entrance, raw) = sync_channel::<Raw>(QUEUE);
        let (emptied, spare) = channel();
        let (packs_in, packs) = sync_channel(0);
        let (stored, exit) = channel::<Stored>();
        let (data, data_room) = Filling::new(DATA_PACKS);
        let (list, list_room) = Filling::new(LIST_PACKS);
        let packer = Packer { keys: Arc::clone(keys), random: Arc::clone(random), data, list, out: packs_in };
        let (raw, packer) = (Arc::new(Mutex::new(raw)), Arc::new(packer));
        let mut pipeline = Self { entrance: Some(entrance), spare, exit, threads: Vec::new(), shared };
        for _ in 0..SQUEEZERS {
            let (raw, packer, emptied) = (Arc::clone(&raw), Arc::clone(&packer), emptied.clone());
            pipeline.thread("backup-squeeze", move |shared| {
                squeeze(&raw, &packer, &emptied, shared)?;
                // The last one to end closes what is not full.
                match Arc::into_inner(packer) {
                    Some(packer) if !shared.abandoned.load(Ordering::Relaxed) => packer.close(),
                    _ => {}
                }
                Ok(())
            })?;
        }
        // Only the threads hold on to these, so that they notice each other's end.
        drop((raw, packer));
        let target = Arc::clone(target);
        pipeline.thread("backup-store", move |_| store(&packs, &stored, &data_room, &list_room, target.as_ref()))?;
        Ok(pipeline)
    }

    fn thread(
        &mut self,
        name: &str,
        work: impl FnOnce(&Shared) -> Result<(), BackupError> + Send + 'static,
    ) -> Result<(), BackupError> {
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Linux keeps `nice` per thread; a refusal only costs the courtesy.
            let _ = rustix::process::nice(10);
            if let Err(error) = work(&shared) {
                shared.fail(error);
            }
        });
        self.threads.push(started.map_err(|error| BackupError::Thread { reason: error.to_string() })?);
        Ok(())
    }

    /// Hands a chunk in; waits while the queue is full.
    pub(super) fn send(&self, id: ChunkId, lane: Lane, chunk: &[u8]) -> Result<(), BackupError> {
        let mut bytes = self.spare.try_recv().unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(if chunk.len() <= KEPT_BUFFER { KEPT_BUFFER } else { chunk.len() });
        bytes.extend_from_slice(chunk);
        let sent = self.entrance.as_ref().is_some_and(|entrance| entrance.send(Raw { id, lane, bytes }).is_ok());
        if sent { Ok(()) } else { Err(self.shared.failure()) }
    }

    /// The packs stored since the last call.
    pub(super) fn stored(&self) -> impl Iterator<Item = Stored> + '_ {
        self.exit.try_iter()
    }

    /// Waits until everything handed in is stored.
    pub(super) fn finish(&mut self) -> Result<Vec<Stored>, BackupError> {
        self.entrance = None;
        self.join()?;
        let failed = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or_else(|| Ok(self.exit.try_iter().collect()), Err)
    }

    fn join(&mut self) -> Result<(), BackupError> {
        let mut panicked = false;
        for thread in self.threads.drain(..) {
            panicked |= thread.join().is_err();
        }
        if panicked { Err(BackupError::Thread { reason: "it panicked".to_owned() }) } else { Ok(()) }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
        self.entrance = None;
        // Nobody is left to hear of a failure.
        let _ = self.join();
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

/// What a compressing thread keeps.
struct Squeezer {
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    compressed: Vec<u8>,
    scratch: Vec<u8>,
}

fn broken(what: &str) -> BackupError {
    BackupError::Thread { reason: format!("zstd did not {what}; check the memory") }
}

impl Squeezer {
    fn new() -> Result<Self, BackupError> {
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(LEVEL).map_err(|_refused| broken("start"))?,
            decompressor: zstd::bulk::Decompressor::new().map_err(|_refused| broken("start"))?,
            compressed: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// How `bytes` are best kept, and as what.
    fn squeeze<'a>(&'a mut self, bytes: &'a [u8]) -> Result<(Packing, &'a [u8], &'a mut Vec<u8>), BackupError> {
        let Self { compressor, decompressor, compressed, scratch } = self;
        compressed.clear();
        compressed.reserve_exact(zstd::zstd_safe::compress_bound(bytes.len()));
        compressor.compress_to_buffer(bytes, compressed).map_err(|_refused| broken("compress"))?;
        // Hardly smaller is not worth the work of every read.
        if compressed.len() >= bytes.len() - bytes.len() / 50 {
            return Ok((Packing::Raw, bytes, scratch));
        }
        scratch.clear();
        scratch.reserve_exact(bytes.len());
        decompressor.decompress_to_buffer(compressed, scratch).map_err(|_refused| broken("decompress"))?;
        if scratch != bytes {
            return Err(broken("give back what it was given"));
        }
        Ok((Packing::Zstd, compressed, scratch))
    }
}

fn squeeze(
    raw: &Mutex<Receiver<Raw>>,
    packer: &Packer,
    emptied: &Sender<Vec<u8>>,
    shared: &Shared,
) -> Result<(), BackupError> {
    let mut squeezer = Squeezer::new()?;
    loop {
        let next = raw.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Raw { id, lane, bytes }) = next else { return Ok(()) };
        if shared.abandoned.load(Ordering::Relaxed) {
            return Ok(());
        }
        let plain = u32::try_from(bytes.len()).map_err(|_too_large| broken("get a chunk that fits"))?;
        let (packing, body, scratch) = squeezer.squeeze(&bytes)?;
        let line = Line { id, packing, plain };
        let Some(sealed) = packer.push(lane, &line, body, scratch)? else { return Ok(()) };
        shared.progress.stored(u64::from(sealed));
        if bytes.capacity() <= KEPT_BUFFER {
            // Nobody wants it any more when the last chunk is in.
            let _ = emptied.send(bytes);
        }
    }
}

/// What a pack says of a chunk.
struct Line {
    id: ChunkId,
    packing: Packing,
    plain: u32,
}

/// The pack of a lane being filled.
struct Filling {
    pack: Option<PackBuilder>,
    /// Memory for packs: waiting here is what keeps them few.
    room: Receiver<Vec<u8>>,
}

impl Filling {
    /// With memory for `packs`, and where it comes back to.
    fn new(packs: usize) -> (Mutex<Self>, Sender<Vec<u8>>) {
        let (back, room) = channel();
        for _ in 0..packs {
            // The other end is in this function's hands.
            let _ = back.send(Vec::new());
        }
        (Mutex::new(Self { pack: None, room }), back)
    }
}

/// Fills packs.
struct Packer {
    keys: Arc<RepositoryKeys>,
    random: Arc<dyn Random>,
    data: Mutex<Filling>,
    list: Mutex<Filling>,
    out: SyncSender<(Lane, Pack)>,
}

impl Packer {
    /// Seals a chunk into the pack of its lane, which is handed on when it is full. Returns the bytes taken; `None` when
    /// nobody stores packs any more.
    fn push(&self, lane: Lane, line: &Line, body: &[u8], scratch: &mut Vec<u8>) -> Result<Option<u32>, BackupError> {
        let filling = match lane {
            Lane::Data => &self.data,
            Lane::List => &self.list,
        };
        let mut filling = filling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pack = match filling.pack.take() {
            Some(pack) => pack,
            None => match filling.room.recv() {
                Ok(room) => PackBuilder::new(Arc::clone(&self.keys), self.random.as_ref(), room),
                Err(_ended) => return Ok(None),
            },
        };
        let sealed = pack.push(line.id, line.packing, line.plain, body, scratch).map_err(|_broken| {
            BackupError::Thread { reason: "a sealed chunk did not open again; check the memory".to_owned() }
        })?;
        if pack.is_full() {
            return Ok(self.out.send((lane, pack.finish())).is_ok().then_some(sealed));
        }
        filling.pack = Some(pack);
        Ok(Some(sealed))
    }

    /// Hands on what is not full.
    fn close(self) {
        for (lane, filling) in [(Lane::Data, self.data), (Lane::List, self.list)] {
            if let Some(pack) = filling.into_inner().unwrap_or_else(PoisonError::into_inner).pack {
                // When nobody stores it, the one that should says why.
                let _ = self.out.send((lane, pack.finish()));
            }
        }
    }
}

fn store(
    packs: &Receiver<(Lane, Pack)>,
    out: &Sender<Stored>,
    data: &Sender<Vec<u8>>,
    list: &Sender<Vec<u8>>,
    target: &dyn Target,
) -> Result<(), BackupError> {
    for (lane, Pack { info, bytes, entries }) in packs {
        match target.put(&info.name(), &bytes) {
            Ok(()) => {}
            // Its name is its hash: what is there is this.
            Err(error) if error.trouble == Trouble::Exists => {}
            Err(error) => return Err(error.into()),
        }
        let room = match lane {
            Lane::Data => data,
            Lane::List => list,
        };
        // The last packs leave nobody who wants their memory.
        let _ = room.send(bytes);
        if out.send((info, entries)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
