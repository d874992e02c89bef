//! Backends: places for bodies of objects beside the local disk.
//!
//! A body at a backend is the same sealed blob as in a file ([`super::blob`]), under `<prefix>/<blob id>-<nonce>`, 32 and 16
//! hexadecimal digits. No name is ever used again: a blob that comes back to a backend gets another nonce, so that a
//! deletion that is carried out late, or twice, never meets a body in use. The row of each blob says where it is
//! ([`super::place`]); the server deletes only names that it wrote itself and noted before.
//!
//! Network is waited for on threads of this room's own ([`Backends::blocking`]), so that a backend that hangs takes none
//! from those who work on the disk. At each backend at most `concurrency` requests are under way, each for at most
//! `timeout`; failed ones are tried again [`RETRIES`] times, as long as not more than that time has passed. One that does not
//! answer at all is soon not asked any more, but for a request now and then (`health.rs`); at the start each is tried out
//! (`watch.rs`). Reading holds a window of at most [`WINDOW_MAX`] bytes, all windows together [`WINDOWS_MAX`] beyond the first
//! [`WINDOW_FREE`] of each; writing holds a part of [`PART`] bytes, at most [`PARTS`] of them at once.
//!
//! Start reading at [`Backend`]; `upload.rs` writes, `super::blob::source` reads.

mod client;
mod config;
mod error;
mod health;
mod upload;
mod watch;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, SemaphorePermit, watch as signal};

pub use self::client::{S3Client, secret_in};
pub use self::config::{BackendConfig, BackendKind, contradictions};
#[cfg(test)]
pub(super) use self::error::trouble as told;
pub use self::error::{BackendError, BackendNameError, BackendsError, Trouble};
use self::health::Health;
pub(super) use self::upload::Pieces;
use super::error::ObjectError;
use super::place::Remote;
use super::reader::Threads as On;
use crate::base::{Clock, Disk, Id128};
use crate::crypto::stream::SEALED_SEGMENT;
use crate::telemetry::{Counter, Gauge, Metrics};

/// Bytes of a part of an upload; what is not longer goes in one request.
pub(super) const PART: usize = if cfg!(test) { 100 << 10 } else { 8 << 20 };

/// Bytes of a body, or a part of one, that many may hold at once.
const LITTLE: usize = 1 << 20;

/// How many may hold more.
const PARTS: usize = 8;

/// Most bytes read ahead in one request.
pub(super) const WINDOW_MAX: u64 = 64 * SEALED_SEGMENT as u64;

/// Bytes of a window that nobody has to ask for: four segments and what is before them.
pub(super) const WINDOW_FREE: u64 = 4 * SEALED_SEGMENT as u64 + 4096;

/// Most bytes of all windows on one backend that are larger than that. Thousands of clients that read slowly would hold
/// [`WINDOW_MAX`] each.
const WINDOWS_MAX: u64 = 128 << 20;

/// Bodies listed in one go.
const LISTED: usize = if cfg!(test) { 3 } else { 1_000 };

/// Some of the bodies at a backend.
pub(super) struct Listing {
    /// They, with their blobs.
    pub bodies: Vec<(Id128, Listed)>,
    /// Where the next begin; none when these are the last.
    pub next: Option<Path>,
}

/// A body as a listing tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Where it is.
    pub backend: BackendName,
    /// Makes its name there one that was never used before.
    pub nonce: u64,
    /// Its bytes there.
    pub stored: u64,
}

impl Listed {
    /// As an index names it, with `size` plaintext bytes.
    pub fn named(self, size: u64) -> Remote {
        let Self { backend, nonce, stored } = self;
        Remote { backend, nonce, stored, size, head: nonce.to_be_bytes().to_vec() }
    }
}

/// Further tries of a request.
const RETRIES: usize = 3;

/// Threads that may wait for backends.
const THREADS: usize = 64;

/// The name of a backend: up to 32 small letters, digits and `-`. Part of the stored format.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BackendName(String);

impl BackendName {
    /// What the local disk is called where a backend could be named.
    pub const LOCAL: &'static str = "local";

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The backend meant by `text`; `None` for the local disk, by its name or an empty text.
    ///
    /// # Errors
    /// It is neither.
    pub fn or_local(text: &str) -> Result<Option<Self>, BackendNameError> {
        if text.is_empty() || text == Self::LOCAL { Ok(None) } else { text.parse().map(Some) }
    }

    /// What a place is called: a backend by its name, the local disk `local`.
    pub fn home(name: Option<&Self>) -> &str {
        name.map_or(Self::LOCAL, Self::as_str)
    }
}

impl FromStr for BackendName {
    type Err = BackendNameError;

    fn from_str(text: &str) -> Result<Self, BackendNameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=32).contains(&text.len()) && text.bytes().all(plain) && text != Self::LOCAL;
        if fits { Ok(Self(text.to_owned())) } else { Err(BackendNameError(text.escape_debug().take(64).collect())) }
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is asked of a service: single requests, and uploads whose parts go by themselves.
pub trait BodyStore: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> BodyStore for T {}

/// All backends of the settings.
#[derive(Debug, Default)]
pub struct Backends {
    all: Vec<Arc<Backend>>,
    threads: Option<Arc<Threads>>,
}

impl Backends {
    /// The backends in `config`. Blocks; nothing is asked of them yet.
    ///
    /// # Errors
    /// [`BackendsError::SetUp`].
    pub fn open(
        config: &[BackendConfig],
        disk: &dyn Disk,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, BackendsError> {
        let mut stores: Vec<(BackendConfig, Arc<dyn BodyStore>)> = Vec::new();
        for backend in config {
            let wrong = |what: String| BackendsError::SetUp { name: backend.name.clone(), what };
            let secret = secret_in(disk, &backend.secret_access_key_file)
                .map_err(|what| wrong(format!("secret_access_key_file: {what}")))?;
            let limit = backend.timeout.duration();
            let client = S3Client {
                bucket: &backend.bucket,
                endpoint: &backend.endpoint,
                region: &backend.region,
                access_key_id: &backend.access_key_id,
                secret_access_key: &secret,
                path_style: backend.path_style,
                request: limit,
                retries: RETRIES,
                retry_for: limit,
            };
            let store = client.build().map_err(|error| wrong(error.to_string()))?;
            stores.push((backend.clone(), Arc::new(store)));
        }
        Self::over(stores, clock, metrics)
    }

    /// Backends over `stores`.
    pub(super) fn over(
        stores: Vec<(BackendConfig, Arc<dyn BodyStore>)>,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Self, BackendsError> {
        if stores.is_empty() {
            return Ok(Self::default());
        }
        let threads = Arc::new(Threads::start()?);
        let mut all = Vec::new();
        for (config, store) in stores {
            let wrong =
                |error: BackendNameError| BackendsError::SetUp { name: config.name.clone(), what: error.to_string() };
            let name: BackendName = config.name.parse().map_err(wrong)?;
            let counter = |metric, help| metrics.counter(metric, help, &[("backend", name.as_str())]);
            let gauge = |metric, help| metrics.gauge(metric, help, &[("backend", name.as_str())]);
            all.push(Arc::new(Backend {
                held: gauge("mainstay_objects_backend_bodies", "Bodies at a backend, as of the last sweep or move."),
                bytes: gauge("mainstay_objects_backend_bytes", "Their bytes, as of the last sweep or move."),
                requests: counter("mainstay_objects_backend_requests_total", "Requests to backends."),
                failures: counter("mainstay_objects_backend_failures_total", "Requests to backends that failed."),
                permits: Semaphore::new(config.concurrency as usize),
                parts: Semaphore::new(PARTS),
                name,
                config,
                store,
                threads: Arc::clone(&threads),
                health: Health::new(Arc::clone(clock)),
                windows: AtomicU64::new(0),
                #[cfg(test)]
                cut: Mutex::default(),
            }));
        }
        Ok(Self { all, threads: Some(threads) })
    }

    /// Whether there is only the local disk.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, in the order of the settings.
    pub fn all(&self) -> &[Arc<Backend>] {
        &self.all
    }

    /// The backend called `name`.
    ///
    /// # Errors
    /// [`BackendsError::Unknown`].
    pub fn find(&self, name: &BackendName) -> Result<&Arc<Backend>, BackendsError> {
        self.all.iter().find(|one| one.name == *name).ok_or_else(|| BackendsError::Unknown(name.clone()))
    }

    /// Runs `op`, which may wait for a backend, on a thread that is there for that.
    ///
    /// # Errors
    /// Those of `op`; the server is stopping.
    ///
    /// # Cancel safety
    /// `op` runs to its end even if the caller goes away.
    pub async fn blocking<T: Send + 'static>(
        &self,
        op: impl FnOnce() -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, ObjectError> {
        self.start_on(On::Backends, op).await
    }

    /// Starts `op`, which blocks, on a thread of `on`. It runs to its end, whoever waits for it.
    pub(super) fn start_on<T: Send + 'static, F: FnOnce() -> Result<T, ObjectError> + Send + 'static>(
        &self,
        on: On,
        op: F,
    ) -> impl Future<Output = Result<T, ObjectError>> + Send + use<T, F> {
        let threads = self.threads.as_deref().filter(|_| on == On::Backends);
        let task = match threads.and_then(Threads::handle) {
            Some(handle) => handle.spawn_blocking(op),
            None => tokio::task::spawn_blocking(op),
        };
        async move { task.await.unwrap_or(Err(ObjectError::Unavailable("the server is stopping"))) }
    }
}

/// The threads, and the network they wait for.
#[derive(Debug)]
struct Threads {
    runtime: Mutex<Option<Runtime>>,
    /// Whether nobody is to wait any more.
    given_up: signal::Sender<bool>,
}

impl Threads {
    fn start() -> Result<Self, BackendsError> {
        let built = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(THREADS)
            .thread_name("objects-remote")
            .enable_all()
            .build();
        let wrong = |error: std::io::Error| BackendsError::SetUp { name: "*".to_owned(), what: error.to_string() };
        Ok(Self { runtime: Mutex::new(Some(built.map_err(wrong)?)), given_up: signal::channel(false).0 })
    }

    fn handle(&self) -> Option<tokio::runtime::Handle> {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        runtime.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Ends all requests under way, and those to come.
    fn give_up(&self) {
        self.given_up.send_replace(true);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Dropped as it is, a runtime waits for its threads, and may not do so on an async one.
        if let Some(runtime) = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

/// When a wire is cut.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Requests that are answered before.
    pub after: u64,
    /// Whether the next one arrives and is carried out, without an answer.
    pub arrives: bool,
}

/// One backend. All that asks something of it blocks.
pub struct Backend {
    name: BackendName,
    config: BackendConfig,
    store: Arc<dyn BodyStore>,
    threads: Arc<Threads>,
    health: Health,
    /// Bytes of windows beyond what is free.
    windows: AtomicU64,
    permits: Semaphore,
    /// Parts of uploads that are held in memory.
    parts: Semaphore,
    requests: Counter,
    failures: Counter,
    held: Gauge,
    bytes: Gauge,
    /// When the wire to it is cut.
    #[cfg(test)]
    pub cut: Mutex<Option<Cut>>,
}

impl Backend {
    /// Its name.
    pub fn name(&self) -> &BackendName {
        &self.name
    }

    /// Its settings.
    pub fn config(&self) -> &BackendConfig {
        &self.config
    }

    /// Bucket and prefix, as people read them.
    pub fn place(&self) -> String {
        match self.config.prefix.as_str() {
            "" => self.config.bucket.clone(),
            prefix => format!("{}/{prefix}", self.config.bucket),
        }
    }

    /// Tells the metrics how much is there.
    pub(super) fn tell(&self, held: u64, bytes: u64) {
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// What is wrong with it, as far as is known, and since when.
    pub fn trouble(&self) -> Option<String> {
        self.health.trouble()
    }

    /// The name of a body there.
    pub(super) fn path(&self, blob: Id128, remote: &Remote) -> Path {
        self.named(&format!("{blob}-{:016x}", remote.nonce))
    }

    fn named(&self, name: &str) -> Path {
        match self.config.prefix.as_str() {
            "" => Path::from(name),
            prefix => Path::from(format!("{prefix}/{name}")),
        }
    }

    /// Lends room for a window of `bytes`, if there is any; to be given back.
    pub(super) fn lend(&self, bytes: u64) -> bool {
        let more = |lent: u64| lent.checked_add(bytes).filter(|lent| *lent <= WINDOWS_MAX);
        self.windows.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Waits for room to hold `len` bytes of an upload, until what is returned is dropped. Blocks.
    fn room_for(&self, len: usize) -> Result<Option<SemaphorePermit<'_>>, BackendError> {
        if len <= LITTLE {
            return Ok(None);
        }
        let doing = "writing a body";
        let Some(handle) = self.threads.handle() else {
            return Err(self.down(doing, NotSent("the server is stopping")));
        };
        let limit = self.config.timeout.duration();
        match handle.block_on(async { tokio::time::timeout(limit, self.parts.acquire()).await }) {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(self.down(doing, NotSent("too many uploads wait for it"))),
        }
    }

    /// Takes back what was [lent](Self::lend).
    pub(super) fn take_back(&self, bytes: u64) {
        self.windows.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The bytes `from..from + len` of a body that has `stored` bytes.
    pub(super) fn read(&self, path: &Path, from: u64, len: u64, stored: u64) -> Result<Bytes, BackendError> {
        let doing = "reading a body";
        // All of it needs no range, and some services answer a range that is everything as none.
        let whole = from == 0 && len == stored;
        let range = (!whole).then(|| GetRange::Bounded(from..from.saturating_add(len)));
        let (size, bytes) = self.run(doing, async {
            let answer = self.store.get_opts(path, GetOptions { range, ..GetOptions::default() }).await?;
            let size = answer.meta.size;
            // What is longer than it should be is not taken in.
            let bytes = if size == stored { answer.bytes().await? } else { Bytes::new() };
            Ok((size, bytes))
        })?;
        if size != stored || bytes.len() as u64 != len {
            return Err(BackendError {
                backend: self.name.clone(),
                doing,
                trouble: Trouble::Length,
                source: format!("it has {size} bytes, stored were {stored}").into(),
            });
        }
        Ok(bytes)
    }

    /// Bodies there with their blobs, some thousands at a time. Begins behind what an earlier call gave as its
    /// end, and gives none when there is no more.
    pub(super) fn list(&self, behind: Option<&Path>) -> Result<Listing, BackendError> {
        let folder = (!self.config.prefix.is_empty()).then(|| Path::from(self.config.prefix.as_str()));
        let page = self.run("listing bodies", async {
            let all = match behind {
                Some(behind) => self.store.list_with_offset(folder.as_ref(), behind),
                None => self.store.list(folder.as_ref()),
            };
            all.take(LISTED).try_collect::<Vec<_>>().await
        })?;
        let next = (page.len() == LISTED).then(|| page.iter().map(|one| one.location.clone()).max()).flatten();
        let ours = |one: &object_store::ObjectMeta| {
            let name = one.location.as_ref();
            let name = match &folder {
                Some(folder) => name.strip_prefix(folder.as_ref())?.strip_prefix('/')?,
                None => name,
            };
            let (blob, nonce) = name.split_once('-')?;
            let nonce = (nonce.len() == 16).then(|| u64::from_str_radix(nonce, 16).ok()).flatten()?;
            Some((blob.parse().ok()?, Listed { backend: self.name.clone(), nonce, stored: one.size }))
        };
        Ok(Listing { bodies: page.iter().filter_map(ours).collect(), next })
    }

    /// Deletes a body; fine when it is not there.
    pub(super) fn delete(&self, path: &Path) -> Result<(), BackendError> {
        match self.run("deleting a body", self.store.delete(path)) {
            Err(error) if error.trouble == Trouble::Missing => Ok(()),
            other => other,
        }
    }

    /// Lets go of the parts of an upload that was not completed; fine when there is none.
    pub(super) fn abort(&self, path: &Path, upload: &String) -> Result<(), BackendError> {
        match self.run("giving up an upload", self.store.abort_multipart(path, upload)) {
            Err(error) if matches!(error.trouble, Trouble::Missing) => Ok(()),
            // What has never been, or is no longer, is called a bad request by some.
            Err(error) if ["NoSuchUpload", "not found"].iter().any(|said| error.source.to_string().contains(said)) => {
                Ok(())
            }
            other => other,
        }
    }

    /// Carries a request out, when there is room for it and the backend answers others. Blocks.
    fn run<T>(
        &self,
        doing: &'static str,
        request: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, BackendError> {
        #[cfg(test)]
        let is_answered = self.is_answered().map_err(|why| self.down(doing, why))?;
        if !self.health.admits() {
            self.failures.inc();
            return Err(self.down(doing, "it did not answer others, and is asked again in some seconds"));
        }
        let done = self.ask(doing, request);
        // What has not been sent says nothing.
        if !done.as_ref().is_err_and(|error| error.source.is::<NotSent>()) {
            self.health.heard(&self.name, &done);
        }
        #[cfg(test)]
        let done = if is_answered { done } else { done.and(Err(self.down(doing, "the answer is lost"))) };
        done
    }

    /// Carries a request out when there is room for it, whatever became of others. Blocks.
    fn ask<T>(
        &self,
        doing: &'static str,
        request: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, BackendError> {
        let Some(handle) = self.threads.handle() else {
            return Err(self.down(doing, NotSent("the server is stopping")));
        };
        let limit = self.config.timeout.duration();
        let mut given_up = self.threads.given_up.subscribe();
        let request = async {
            let Ok(Ok(_permit)) = tokio::time::timeout(limit, self.permits.acquire()).await else {
                return Err(self.down(doing, NotSent("too many requests wait for it")));
            };
            self.requests.inc();
            // The client's own limits end it sooner; this is for what they do not see.
            match tokio::time::timeout(limit.saturating_mul(2) + Duration::from_secs(5), request).await {
                Ok(answer) => answer.map_err(|error| BackendError::new(&self.name, doing, &error)),
                Err(_elapsed) => Err(self.down(doing, "it does not answer in time")),
            }
        };
        let done = handle.block_on(async {
            tokio::select! {
                done = request => done,
                _ = given_up.wait_for(|given_up| *given_up) => Err(self.down(doing, NotSent("the server is stopping"))),
            }
        });
        if done.is_err() {
            self.failures.inc();
        }
        done
    }

    fn down(&self, doing: &'static str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BackendError {
        BackendError { backend: self.name.clone(), doing, trouble: Trouble::Down, source: why.into() }
    }

    /// Whether the next request is answered; an error when it does not even arrive.
    #[cfg(test)]
    fn is_answered(&self) -> Result<bool, &'static str> {
        match self.cut.lock().unwrap().as_mut() {
            None => Ok(true),
            Some(cut) if cut.after > 0 => {
                cut.after -= 1;
                Ok(true)
            }
            Some(cut) => {
                if std::mem::take(&mut cut.arrives) {
                    Ok(false)
                } else {
                    Err("the wire is cut")
                }
            }
        }
    }

    /// Requests so far.
    #[cfg(test)]
    pub fn requests(&self) -> u64 {
        self.requests.value()
    }
}

/// Why a request did not go out, or was not waited for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotSent(&'static str);

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("name", &self.name).field("place", &self.place()).finish_non_exhaustive()
    }
}
