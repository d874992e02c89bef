//! From chunks to packs at the target, on threads of their own.
//!
//! chunks -> two threads that compress -> one that seals into packs -> one that stores them. Each step undoes what it did
//! and compares before it hands on: a chunk is decompressed, a seal opened, so that no broken library or memory makes a
//! pack nobody can read (it has happened to others). Queues are short: a full target slows the reader down.
//!
//! Chunks of files and of lists (entries, ids) go into packs of their own, so that looking at a list reads little.
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

/// Chunks waiting at most before each step; a chunk has up to 4 MiB, a MiB in the mean.
const QUEUE: usize = 3;

/// zstd's own scale: its default.
const LEVEL: i32 = 3;

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

struct Squeezed {
    id: ChunkId,
    lane: Lane,
    packing: Packing,
    plain: u32,
    body: Vec<u8>,
}

/// A pack that is stored, durably.
pub(super) type Stored = (PackInfo, Vec<PackEntry>);

/// The threads and the ends of their queues.
pub(super) struct Pipeline {
    entrance: Option<SyncSender<Raw>>,
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
        let (squeezed_in, squeezed) = sync_channel::<Squeezed>(QUEUE);
        let (packs_in, packs) = sync_channel::<Pack>(1);
        let (stored, exit) = channel::<Stored>();
        let raw = Arc::new(Mutex::new(raw));
        let mut pipeline = Self { entrance: Some(entrance), exit, threads: Vec::new(), shared };
        for _ in 0..SQUEEZERS {
            let (raw, out) = (Arc::clone(&raw), squeezed_in.clone());
            pipeline.thread("backup-squeeze", move |shared| squeeze(&raw, &out, shared))?;
        }
        drop(squeezed_in);
        let (keys, random) = (Arc::clone(keys), Arc::clone(random));
        pipeline.thread("backup-pack", move |shared| pack(&squeezed, &packs_in, &keys, random.as_ref(), shared))?;
        let target = Arc::clone(target);
        pipeline.thread("backup-store", move |_| store(&packs, &stored, target.as_ref()))?;
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
    pub(super) fn send(&self, id: ChunkId, lane: Lane, bytes: Vec<u8>) -> Result<(), BackupError> {
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

fn squeeze(raw: &Mutex<Receiver<Raw>>, out: &SyncSender<Squeezed>, shared: &Shared) -> Result<(), BackupError> {
    let broken = |what: &str| BackupError::Thread { reason: format!("zstd did not {what}; check the memory") };
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(|_refused| broken("start"))?;
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(|_refused| broken("start"))?;
    let mut scratch = Vec::new();
    loop {
        let next = raw.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Raw { id, lane, bytes }) = next else { return Ok(()) };
        if shared.abandoned.load(Ordering::Relaxed) {
            return Ok(());
        }
        let plain = u32::try_from(bytes.len()).map_err(|_too_large| broken("get a chunk that fits"))?;
        let compressed = compressor.compress(&bytes).map_err(|_refused| broken("compress"))?;
        // Hardly smaller is not worth the work of every read.
        let (packing, body) = if compressed.len() < bytes.len() - bytes.len() / 50 {
            scratch.clear();
            scratch.reserve(bytes.len());
            decompressor.decompress_to_buffer(&compressed, &mut scratch).map_err(|_refused| broken("decompress"))?;
            if scratch != bytes {
                return Err(broken("give back what it was given"));
            }
            (Packing::Zstd, compressed)
        } else {
            (Packing::Raw, bytes)
        };
        if out.send(Squeezed { id, lane, packing, plain, body }).is_err() {
            return Ok(());
        }
    }
}

fn pack(
    squeezed: &Receiver<Squeezed>,
    out: &SyncSender<Pack>,
    keys: &Arc<RepositoryKeys>,
    random: &dyn Random,
    shared: &Shared,
) -> Result<(), BackupError> {
    let fresh = || PackBuilder::new(Arc::clone(keys), random);
    let (mut data, mut list) = (fresh(), fresh());
    for Squeezed { id, lane, packing, plain, body } in squeezed {
        let builder = match lane {
            Lane::Data => &mut data,
            Lane::List => &mut list,
        };
        let sealed = builder.push(id, packing, plain, &body).map_err(|_broken| BackupError::Thread {
            reason: "a sealed chunk did not open again; check the memory".to_owned(),
        })?;
        shared.progress.stored(u64::from(sealed));
        if builder.is_full() && out.send(std::mem::replace(builder, fresh()).finish()).is_err() {
            return Ok(());
        }
    }
    if !shared.abandoned.load(Ordering::Relaxed) {
        for builder in [data, list] {
            if !builder.is_empty() && out.send(builder.finish()).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn store(packs: &Receiver<Pack>, out: &Sender<Stored>, target: &dyn Target) -> Result<(), BackupError> {
    for Pack { info, bytes, entries } in packs {
        match target.put(&info.name(), &bytes) {
            Ok(()) => {}
            // Its name is its hash: what is there is this.
            Err(error) if error.trouble == Trouble::Exists => {}
            Err(error) => return Err(error.into()),
        }
        if out.send((info, entries)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
