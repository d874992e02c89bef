//! The thread that reads cold files, so that the loop never waits for the disk.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

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
    done: Arc<Mutex<Vec<Done>>>,
}

impl Loader {
    /// Starts the thread `kv-cold`; `wake` makes the loop look at [`Loader::done`].
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start(supervisor: &Supervisor, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (jobs, received) = channel();
        let done = Arc::new(Mutex::new(Vec::new()));
        let out = Arc::clone(&done);
        supervisor.thread("kv-cold", Role::Critical, Priority::Normal, move || run(&received, &out, &wake))?;
        Ok(Self { jobs, done })
    }

    /// Reads values for a client.
    pub fn read(&self, client: ClientId, values: Vec<Wanted>) {
        // The thread ends only by a panic, which ends the server.
        let _ = self.jobs.send(Job::Values(client, values));
    }

    /// Reads a part of a segment.
    pub fn scan(&self, scan: Scan) {
        let _ = self.jobs.send(Job::Scan(scan));
    }

    /// What was done since the last call.
    pub fn done(&self) -> Vec<Done> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn run(jobs: &Receiver<Job>, out: &Mutex<Vec<Done>>, wake: &impl Fn()) {
    for job in jobs {
        let done = match job {
            Job::Values(client, values) => {
                let read = values.into_iter().map(|wanted| {
                    let record = wanted.read();
                    (wanted, record)
                });
                Done::Values(client, read.collect())
            }
            Job::Scan(scan) => Done::Part(scan.run()),
        };
        let mut waiting = out.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(done);
        let first = waiting.len() == 1;
        drop(waiting);
        if first {
            wake();
        }
    }
}
