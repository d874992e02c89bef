//! The thread that reads cold files, so that the loop never waits for the disk.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashSet;

use super::compact::{Part, Scan};
use super::{ColdError, Record, SegmentFile, Spot};
use crate::base::Supervisor;
use crate::base::supervise::{Priority, Role};
use crate::kv::client::ClientId;

/// A cold value somebody wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub(super) store: u8,
    pub(super) key: Box<[u8]>,
    pub(super) spot: Spot,
    pub(super) file: Arc<SegmentFile>,
}

impl Wanted {
    /// Reads it. Blocks.
    ///
    /// # Errors
    /// As [`SegmentFile::read`].
    pub fn read(&self) -> Result<Record, ColdError> {
        self.file.read(self.spot, self.store, &self.key)
    }
}

/// A value that was wanted, and what was read.
pub type Read = (Wanted, Result<Record, ColdError>);

/// What the thread has done.
#[derive(Debug)]
pub enum Done {
    /// The values a client waits for.
    Values(ClientId, Vec<Read>),
    /// Records of a segment that is mostly garbage.
    Part(Part),
}

#[derive(Debug)]
enum Job {
    Values(ClientId, Vec<Wanted>),
    Scan(Scan),
}

/// The way to the thread. What waits there is bounded by the clients, each of whom waits for one command's values.
#[derive(Debug)]
pub struct Loader {
    jobs: Sender<Job>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    done: Vec<Done>,
    /// Clients that went while something was read for them. Each has one job here, so there are never more than jobs.
    gone: HashSet<ClientId>,
}

impl Loader {
    /// Starts the thread `kv-cold`; `wake` makes the loop look at [`Loader::done`].
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start(supervisor: &Supervisor, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (jobs, received) = channel();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let out = Arc::clone(&shared);
        supervisor.thread("kv-cold", Role::Critical, Priority::Normal, move || run(&received, &out, &wake))?;
        Ok(Self { jobs, shared })
    }

    /// Reads values for a client.
    pub fn read(&self, client: ClientId, values: Vec<Wanted>) {
        // The thread ends only by a panic, which ends the server.
        let _ = self.jobs.send(Job::Values(client, values));
    }

    /// What is read for a client, who waits for it, is not wanted any more.
    pub fn forget(&self, client: ClientId) {
        locked(&self.shared).gone.insert(client);
    }

    /// The values of a client were taken.
    pub fn settled(&self, client: ClientId) {
        locked(&self.shared).gone.remove(&client);
    }

    /// Reads a part of a segment.
    pub fn scan(&self, scan: Scan) {
        let _ = self.jobs.send(Job::Scan(scan));
    }

    /// What was done since the last call.
    pub fn done(&self) -> Vec<Done> {
        std::mem::take(&mut locked(&self.shared).done)
    }
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the values of a client; `None` when it has gone meanwhile.
fn values(shared: &Mutex<Shared>, client: ClientId, values: Vec<Wanted>) -> Option<Vec<Read>> {
    let mut read = Vec::with_capacity(values.len());
    for wanted in values {
        if locked(shared).gone.remove(&client) {
            return None;
        }
        let record = wanted.read();
        read.push((wanted, record));
    }
    Some(read)
}

fn run(jobs: &Receiver<Job>, shared: &Mutex<Shared>, wake: &impl Fn()) {
    for job in jobs {
        let done = match job {
            Job::Values(client, wanted) => match values(shared, client, wanted) {
                Some(read) => Done::Values(client, read),
                None => continue,
            },
            Job::Scan(scan) => Done::Part(scan.run()),
        };
        let mut waiting = locked(shared);
        waiting.done.push(done);
        let first = waiting.done.len() == 1;
        drop(waiting);
        if first {
            wake();
        }
    }
}
