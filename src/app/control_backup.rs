//! Backups over the control socket: long answers, and streams sent along.
//!
//! After the question the server answers with lines that tell how far it is, one every [`BEAT`], and at last the answer:
//!
//! ```text
//! {"version":1,"release":"0.1.0","progress":{"run":…}}  any number of times, at least once
//! {"version":1,"release":"0.1.0","answer":{…}}          or "error"
//! ```
//!
//! For a stream the command waits for the first line, then sends frames, 4 bytes of length (big-endian, at most
//! [`FRAME`]) and as many bytes each, and listens again behind them; a length of 0 is the end mark. A connection that ends without it, because the
//! command was killed or what it read from failed, makes no snapshot.

use std::io::{self, BufRead as _, Read, Write as _};
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::control::{ANSWER_LIMIT, Ask, ControlError, Reply, connect, socket};
use crate::backup::service::{Backups, ServiceError};
use crate::backup::status::{RunProgress, RunReport, SnapshotLine};

/// Time between two lines of progress.
pub const BEAT: Duration = Duration::from_millis(500);

/// Most bytes of a frame.
pub const FRAME: usize = 256 << 10;

/// Frames on their way at once.
const FRAMES: usize = 4;

/// Answers a question that takes long.
pub(super) async fn exchange(stream: UnixStream, ask: Ask, backups: &Backups) -> io::Result<()> {
    let (from, mut to) = stream.into_split();
    match ask {
        Ask::BackupNow { target } => match backups.run(target) {
            Ok(outcome) => follow(&mut to, backups, outcome, None::<std::future::Ready<()>>).await,
            Err(error) => refuse(&mut to, &error).await,
        },
        Ask::BackupAdd { name, target } => {
            let (sender, frames) = mpsc::channel(FRAMES);
            let piped = Piped { frames, buffer: Vec::new(), at: 0, ended: false };
            match backups.add(&name, target, Box::new(piped)) {
                Ok(outcome) => {
                    let feeding = async {
                        tokio::select! {
                            () = feed(from, &sender) => {}
                            // A full channel has a reader that is busy, and hears of it by itself.
                            () = backups.stopping() => drop(sender.try_send(Piece::Stopping)),
                        }
                        drop(sender);
                    };
                    follow(&mut to, backups, outcome, Some(feeding)).await
                }
                Err(error) => refuse(&mut to, &error).await,
            }
        }
        _ => Err(io::Error::other("the question is answered elsewhere")),
    }
}

async fn refuse(to: &mut OwnedWriteHalf, error: &ServiceError) -> io::Result<()> {
    to.write_all(&Reply { error: Some(error.to_string()), ..Reply::new() }.line()?).await?;
    to.shutdown().await
}

/// Tells how far it is until `outcome` is there; at first `feeding` goes on, meanwhile the command does not listen.
async fn follow<T: serde::Serialize>(
    to: &mut OwnedWriteHalf,
    backups: &Backups,
    mut outcome: oneshot::Receiver<Result<T, ServiceError>>,
    feeding: Option<impl Future<Output = ()>>,
) -> io::Result<()> {
    let line = || {
        // Never null, which would be no progress.
        let progress = serde_json::json!({ "run": backups.progress() });
        Reply { progress: Some(progress), ..Reply::new() }.line()
    };
    to.write_all(&line()?).await?;
    let mut ended = None;
    if let Some(feeding) = feeding {
        tokio::select! {
            early = &mut outcome => ended = Some(early),
            () = feeding => {}
        }
    }
    while ended.is_none() {
        tokio::select! {
            last = &mut outcome => ended = Some(last),
            () = tokio::time::sleep(BEAT) => to.write_all(&line()?).await?,
        }
    }
    let reply = match ended {
        Some(Ok(Ok(answer))) => Reply { answer: serde_json::to_value(answer).ok(), ..Reply::new() },
        Some(Ok(Err(error))) => Reply { error: Some(error.to_string()), ..Reply::new() },
        _ => Reply { error: Some(ServiceError::Stopping.to_string()), ..Reply::new() },
    };
    to.write_all(&reply.line()?).await?;
    to.shutdown().await
}

/// What comes through the pipe.
enum Piece {
    Bytes(Vec<u8>),
    /// That was all.
    End,
    /// The server stops; more will not come.
    Stopping,
}

/// Hands frames on until the end mark; returns early when the connection ends or nobody takes them.
async fn feed(mut from: OwnedReadHalf, to: &mpsc::Sender<Piece>) {
    loop {
        let Ok(length) = from.read_u32().await.map(|length| length as usize) else { return };
        if length == 0 {
            // Whoever reads may have given up; it says why itself.
            let _ = to.send(Piece::End).await;
            return;
        }
        if length > FRAME {
            return;
        }
        let mut frame = vec![0; length];
        if from.read_exact(&mut frame).await.is_err() || to.send(Piece::Bytes(frame)).await.is_err() {
            return;
        }
    }
}

/// The stream that frames make, for a thread that may block.
struct Piped {
    frames: mpsc::Receiver<Piece>,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Piped {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.buffer.len() && !self.ended {
            match self.frames.blocking_recv() {
                Some(Piece::Bytes(frame)) => {
                    self.buffer = frame;
                    self.at = 0;
                }
                Some(Piece::End) => self.ended = true,
                Some(Piece::Stopping) => return Err(io::Error::other("the server is stopping")),
                None => {
                    let what = "the command that sent it ended before it said that this was all";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
                }
            }
        }
        let left = self.buffer.get(self.at..).unwrap_or_default();
        let count = left.len().min(target.len());
        if let (Some(to), Some(from)) = (target.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

/// Has the server on `folder` make a backup; `seen` is called with how far it is. Blocks until it is made.
///
/// # Errors
/// [`ControlError`].
pub fn now(
    folder: &Path,
    target: Option<String>,
    seen: &mut dyn FnMut(&RunProgress),
) -> Result<RunReport, ControlError> {
    let stream = connect(folder, Ask::BackupNow { target })?;
    lines(folder, stream, seen, |_| Ok(()))
}

/// Sends `input` to the server on `folder`, as a snapshot called `name`. Blocks until it is made.
///
/// # Errors
/// [`ControlError`]; reading `input` failed: no snapshot is made then.
pub fn add(
    folder: &Path,
    name: &str,
    target: Option<String>,
    input: &mut dyn Read,
    seen: &mut dyn FnMut(&RunProgress),
) -> Result<SnapshotLine, ControlError> {
    let stream = connect(folder, Ask::BackupAdd { name: name.to_owned(), target })?;
    lines(folder, stream, seen, |stream| {
        // Backups before it may take long.
        stream.set_write_timeout(None)?;
        let mut frame = vec![0; FRAME];
        loop {
            let count = match input.read(&mut frame) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            stream.write_all(&u32::try_from(count).unwrap_or(0).to_be_bytes())?;
            stream.write_all(frame.get(..count).unwrap_or_default())?;
            if count == 0 {
                return Ok(());
            }
        }
    })
}

/// Reads lines of progress up to the answer; `send` runs after the first.
fn lines<T: DeserializeOwned>(
    folder: &Path,
    stream: std::os::unix::net::UnixStream,
    seen: &mut dyn FnMut(&RunProgress),
    send: impl FnOnce(&mut std::os::unix::net::UnixStream) -> io::Result<()>,
) -> Result<T, ControlError> {
    let failed = |source| ControlError::Io { path: socket(folder), source };
    let mut send = Some(send);
    let mut writing = stream.try_clone().map_err(failed)?;
    let mut reading = io::BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut reading).take(ANSWER_LIMIT).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        let reply: Reply = serde_json::from_slice(&line)?;
        let Some(progress) = &reply.progress else { return reply.taken() };
        let run = progress.get("run").cloned().unwrap_or_default();
        if let Ok(Some(run)) = serde_json::from_value::<Option<RunProgress>>(run) {
            seen(&run);
        }
        if let Some(send) = send.take()
            && let Err(error) = send(&mut writing)
        {
            // The server has said why it takes no more, unless reading is what failed.
            if error.kind() != io::ErrorKind::BrokenPipe {
                return Err(failed(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::config::BackupConfig;
    use crate::backup::server_tests;
    use crate::base::{Shutdown, Supervisor};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_pipe_that_says_nothing_does_not_hold_a_stop_up() {
        let (folder, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let supervisor = Supervisor::new(Shutdown::default());
        let backups = server_tests::on(folder.path(), BackupConfig::default(), &supervisor);
        backups.start().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let target = Some(target.path().display().to_string());
        let ask = Ask::BackupAdd { name: String::from("db.sql"), target };
        let command = async {
            let (from, mut to) = theirs.into_split();
            let mut lines = tokio::io::BufReader::new(from);
            loop {
                let mut line = String::new();
                tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await.unwrap();
                let reply: Reply = serde_json::from_str(&line).unwrap();
                if reply.progress.is_none() {
                    return reply;
                }
                if !supervisor.shutdown().is_draining() {
                    to.write_all(&3_u32.to_be_bytes()).await.unwrap();
                    to.write_all(b"abc").await.unwrap();
                    supervisor.shutdown().drain();
                }
            }
        };
        let (answered, reply) = tokio::join!(exchange(ours, ask, &backups), command);
        answered.unwrap();
        assert!(reply.error.unwrap().contains("stopping"));
    }
}
