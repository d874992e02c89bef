//! The process that takes over, until every door answers.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::channel::{Channel, ChannelError};
use super::message::{Manifest, News, Past, Word};
use crate::app::StartError;
use crate::app::inherited::Inherited;
use crate::app::status::VERSION;

/// Longest wait for the sockets: they are sent before the program is started.
const SOCKETS: Duration = Duration::from_secs(20);

/// Takes the socket that this process was started with as its standard input, and puts nothing in its place.
///
/// # Errors
/// What the operating system says.
pub fn standard_input() -> io::Result<OwnedFd> {
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(channel)
}

/// The way back to the process before.
#[derive(Debug)]
pub struct Successor {
    channel: Arc<Channel>,
    /// Upgrades before, this one included.
    pub past: Past,
}

impl Successor {
    /// Takes the listening sockets over. Blocks.
    ///
    /// # Errors
    /// [`StartError::Handover`].
    pub fn begin(socket: OwnedFd) -> Result<(Self, Inherited), StartError> {
        let channel = Channel::of(socket);
        let (word, descriptors) = channel.receive(Some(SOCKETS)).map_err(|error| lost(&error))?;
        let Word::Sockets(manifest) = word else {
            return Err(StartError::Handover { reason: "the process before sent no sockets".to_owned() });
        };
        let past = manifest.past;
        let sockets = Manifest::with(manifest, descriptors)
            .ok_or_else(|| StartError::Handover { reason: "sockets were lost on their way".to_owned() })?;
        Ok((Self { channel: Arc::new(channel), past }, Inherited::handed_over(sockets)))
    }

    /// Says that all is prepared, and waits until the data folder is free. Blocks: the process before finishes what it has.
    ///
    /// # Errors
    /// [`StartError::Handover`]: the process before has thought better of it, or has ended.
    pub fn wait_for_turn(&self) -> Result<(), StartError> {
        let waiting = News::Waiting { release: VERSION.to_owned(), pid: std::process::id() };
        self.channel.send(&waiting, &[]).map_err(|error| lost(&error.into()))?;
        match self.channel.receive(None).map_err(|error| lost(&error))? {
            (Word::Go, _) => Ok(()),
            (Word::Sockets(_) | Word::Learned(_), _) => {
                Err(StartError::Handover { reason: "the process before did not wait for an answer".to_owned() })
            }
        }
    }

    /// The way on which the process before goes on telling what it learns.
    pub fn channel(&self) -> Arc<Channel> {
        Arc::clone(&self.channel)
    }

    /// Says that every door answers.
    pub fn ready(&self) {
        if let Err(error) = self.channel.send(&News::Ready, &[]) {
            // It was killed meanwhile. Its place is taken all the same.
            tracing::warn!(%error, "the process before cannot be told that this one serves");
        }
    }

    /// Says why this process ends.
    pub fn failed(&self, reason: &str) {
        // Who is gone has no use for it.
        let _ = self.channel.send(&News::Failed(reason.to_owned()), &[]);
    }
}

fn lost(error: &ChannelError) -> StartError {
    StartError::Handover { reason: format!("the process before: {error}") }
}
