//! The process that is replaced: what it does until another one serves. [`run`](crate::app::run) says when.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::channel::Channel;
use super::launch::{Life, Program};
use super::message::{Manifest, News, Past, Word};
use super::request::{Counts, Teller};
use crate::app::control::private_socket;
use crate::app::inherited::Kept;
use crate::base::{Clock, Disk};

/// Longest time the new program may take to read the settings and take the sockets.
const WAITING: Duration = Duration::from_mins(1);

/// Longest time the new program may take to open the data folder and answer at every door. As in the systemd unit: replaying
/// a large journal takes its time.
const READY: Duration = Duration::from_mins(10);

/// The socket at which a process that was replaced reaches the one in its place, and what it is called on its way there.
pub const BACK_DOOR: &str = "handover.sock";

/// What is needed to start another process in the place of this one.
#[derive(Clone, Debug)]
pub struct Predecessor {
    /// This process's program.
    pub program: Program,
    /// The listening sockets.
    pub kept: Kept,
    /// How many upgrades there were.
    pub counts: Counts,
    /// The data folder.
    pub data: PathBuf,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// For waits.
    pub clock: Arc<dyn Clock>,
}

/// Another process, which has the sockets and waits for its turn. Dropped, it ends.
#[derive(Debug)]
pub struct Prepared {
    channel: Arc<Channel>,
    life: Life,
    /// Its release.
    pub release: String,
    /// Its process id.
    pub pid: u32,
}

/// Another process that serves.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its release.
    pub release: String,
    /// Its process id.
    pub pid: u32,
}

impl Predecessor {
    /// Where the process that takes over is reached by this one.
    pub fn back_door(&self) -> PathBuf {
        self.data.join(BACK_DOOR)
    }

    /// Checks `program`, or what is at this process's own path now, and starts it.
    ///
    /// # Errors
    /// Why it cannot take over, for people. Nothing has changed.
    ///
    /// # Cancel safety
    /// Dropped before its end, a process that was started ends by itself.
    pub async fn prepare(&self, program: Option<PathBuf>, told: &mut Teller) -> Result<Prepared, String> {
        if std::process::id() == 1 {
            let text = "this server is process 1 of its container, which ends with it: start a container with the new image in its place";
            return Err(text.to_owned());
        }
        let file = program.unwrap_or_else(|| self.program.path.clone());
        if !file.is_absolute() {
            return Err(format!("{:?} is no absolute path of a program", file.display().to_string()));
        }
        told.step(&format!("checking {}", file.display())).await;
        let (this, checked) = (self.clone(), file.clone());
        let release = blocking(move || {
            this.program
                .check(&checked, this.clock.as_ref())
                .and_then(|release| this.open_back_door().map(|()| release))
        })
        .await?;
        told.step(&format!("it is Mainstay {release} and can use the settings; starting it")).await;
        let this = self.clone();
        blocking(move || this.waiting(this.program.start(&file)?, this.counts.next())).await
    }

    /// Starts the program of this process again.
    ///
    /// # Errors
    /// Why it does not start, for people.
    pub async fn prepare_same(&self) -> Result<Prepared, String> {
        let this = self.clone();
        blocking(move || this.waiting(this.program.start_same()?, this.counts.again())).await
    }

    /// Makes the socket for requests that this process will pass on. One that it has from the process before is good for the
    /// next one too: processes before that may still use it.
    fn open_back_door(&self) -> Result<(), String> {
        if self.kept.all().iter().any(|kept| kept.key == BACK_DOOR) {
            return Ok(());
        }
        let listener = private_socket(self.disk.as_ref(), &self.back_door()).map_err(|error| error.to_string())?;
        self.kept.keep(BACK_DOOR, true, Some(String::new()), &listener).map_err(|error| error.to_string())
    }

    /// Hands the sockets over and hears that the process at the other end of `channel` has them. Blocks.
    fn waiting(&self, channel: Channel, past: Past) -> Result<Prepared, String> {
        let sent = {
            let sockets = self.kept.all();
            let manifest = Manifest::of(&sockets, past);
            let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|kept| kept.socket.as_fd()).collect();
            channel.send(&Word::Sockets(manifest), &descriptors)
        };
        // Who is gone already may have said why.
        if let Err(error) = sent.as_ref()
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(format!("the sockets cannot be handed over: {error}"));
        }
        let (news, _) = channel.receive(Some(WAITING)).map_err(|error| format!("the new program: {error}"))?;
        match news {
            News::Waiting { release, pid } => {
                let life = Life::of(pid).map_err(|error| format!("the new process {pid} cannot be found: {error}"))?;
                Ok(Prepared { channel: Arc::new(channel), life, release, pid })
            }
            News::Failed(reason) => Err(reason),
            News::Ready => Err("the new program serves before its turn".to_owned()),
        }
    }
}

impl Prepared {
    /// The way to it, for what this process learns from its turn on.
    pub fn channel(&self) -> Arc<Channel> {
        Arc::clone(&self.channel)
    }

    /// Tells it that the data folder is free, and hears that it serves. The process is gone when it does not.
    ///
    /// # Errors
    /// Why it does not serve, for people. The data folder is free then.
    pub async fn give_turn(self) -> Result<Taken, String> {
        blocking(move || {
            let heard = match self.channel.send(&Word::Go, &[]) {
                Ok(()) => self.channel.receive(Some(READY)).map_err(|error| error.to_string()),
                Err(error) => Err(format!("it is gone ({error})")),
            };
            let reason = match heard {
                Ok((News::Ready, _)) => return Ok(Taken { release: self.release, pid: self.pid }),
                Ok((News::Failed(reason), _)) | Err(reason) => reason,
                Ok((News::Waiting { .. }, _)) => "it waits a second time".to_owned(),
            };
            if self.life.end() {
                Err(reason)
            } else {
                Err(format!("{reason}; its process {} cannot be ended, and may hold the data folder", self.pid))
            }
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(_panic) => Err("an internal error; the log has it".to_owned()),
    }
}
