//! An upgrade asked for over the control socket, and what is told of it.
//!
//! Like a backup, it takes its time: lines of progress, then the answer.
//!
//! ```text
//! {"version":1,"release":"0.1.0","progress":{"step":"…"}}
//! {"version":1,"release":"0.1.0","answer":{"from":"0.1.0","to":"0.2.0","pid":4711,"linger_seconds":86400}}      or "error"
//! ```
//!
//! The exchange belongs to nobody who ends with the data folder's change of hands: the server's main task has it. Command
//! and server may be of different releases, since the command is often the new program already.

use std::io::{self, BufRead as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::message::Past;
use crate::app::control::{ANSWER_LIMIT, Ask, ControlError, Reply, connect, socket};
use crate::telemetry::{Counter, Metrics};

/// Longest time a line may take to reach the command.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest wait of the command for the next line: longer than each of the server's own waits.
const SILENCE: Duration = Duration::from_mins(15);

/// What an upgrade came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// The release before.
    pub from: String,
    /// The release from now on.
    pub to: String,
    /// The process id from now on.
    pub pid: u32,
    /// Seconds for which the process before may go on carrying what is open.
    pub linger_seconds: u64,
}

/// The way to the task that makes upgrades, one at a time.
#[derive(Clone, Debug)]
pub struct Upgrades(mpsc::Sender<Wanted>);

impl Upgrades {
    /// A way, and its end.
    pub fn new() -> (Self, mpsc::Receiver<Wanted>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Asks for an upgrade; the answer goes to `wanted`'s command.
    pub async fn ask(&self, wanted: Wanted) {
        if let Err(refused) = self.0.try_send(wanted) {
            let (mpsc::error::TrySendError::Full(wanted) | mpsc::error::TrySendError::Closed(wanted)) = refused;
            wanted.told.end(Err("an upgrade or a stop is under way already".to_owned())).await;
        }
    }
}

/// An upgrade somebody wants.
#[derive(Debug)]
pub struct Wanted {
    /// The program; the one at this process's own path when none is named.
    pub program: Option<PathBuf>,
    /// Who wants to hear of it.
    pub told: Teller,
}

/// The way back to the command. That it has gone stops nothing.
#[derive(Debug)]
pub struct Teller(Option<UnixStream>);

impl Teller {
    /// To the command at the other end of `stream`.
    pub const fn new(stream: UnixStream) -> Self {
        Self(Some(stream))
    }

    /// Tells how far it is. Cancel safe.
    pub async fn step(&mut self, step: &str) {
        let progress = Some(serde_json::json!({ "step": step }));
        self.line(&Reply { progress, ..Reply::new() }).await;
    }

    /// Tells what it came to.
    pub async fn end(mut self, outcome: Result<Upgraded, String>) {
        let reply = match outcome {
            Ok(upgraded) => Reply { answer: serde_json::to_value(upgraded).ok(), ..Reply::new() },
            Err(error) => Reply { error: Some(error), ..Reply::new() },
        };
        self.line(&reply).await;
    }

    async fn line(&mut self, reply: &Reply) {
        let Some(stream) = &mut self.0 else { return };
        let written = async {
            stream.write_all(&reply.line()?).await?;
            stream.flush().await
        };
        if !matches!(tokio::time::timeout(PATIENCE, written).await, Ok(Ok(()))) {
            self.0 = None;
        }
    }
}

/// Upgrades so far, over all processes of the service.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Those that were made.
    pub done: Counter,
    /// Those that were refused or failed.
    pub failed: Counter,
}

impl Counts {
    /// Counted in `metrics`, beginning at `past`.
    pub fn new(metrics: &Metrics, past: Past) -> Self {
        let counted = |outcome, before| {
            let help = "Upgrades of the running server, since its service was started.";
            let counter = metrics.counter("mainstay_server_upgrades_total", help, &[("outcome", outcome)]);
            counter.add(before);
            counter
        };
        Self { done: counted("done", past.done), failed: counted("failed", past.failed) }
    }

    /// As they are, with one more of those that were made, for the process that comes.
    pub fn next(&self) -> Past {
        Past { done: self.done.value() + 1, failed: self.failed.value() }
    }

    /// As they are, with one more of those that failed, for the process that comes.
    pub fn again(&self) -> Past {
        Past { done: self.done.value(), failed: self.failed.value() + 1 }
    }
}

/// Has the server on `folder` replaced by `program`, or by what is at its own path now; `seen` is called with how far it is.
/// Blocks until it is done.
///
/// # Errors
/// [`ControlError`]: it was refused or failed, and a server of the release before serves on, unless the text says otherwise.
pub fn upgrade(folder: &Path, program: Option<PathBuf>, seen: &mut dyn FnMut(&str)) -> Result<Upgraded, ControlError> {
    let failed = |source| ControlError::Io { path: socket(folder), source };
    let stream = connect(folder, Ask::Upgrade { program })?;
    stream.set_read_timeout(Some(SILENCE)).map_err(failed)?;
    let mut reading = io::BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut reading).take(ANSWER_LIMIT).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        let reply: Reply = serde_json::from_slice(&line)?;
        match &reply.progress {
            Some(progress) => seen(progress.get("step").and_then(|step| step.as_str()).unwrap_or_default()),
            None => return reply.taken_of_any_release(),
        }
    }
}
