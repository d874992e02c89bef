//! How other threads reach the keyspace: by sending it a closure.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tokio::sync::oneshot;

use super::keyspace::Keyspace;

/// Most closures that wait for the keyspace's thread at once.
const WAITING: usize = 1024;

/// Most closures run in one loop turn, so that they cannot hold up the clients.
pub const PER_TURN: usize = 128;

/// Why a closure did not run, or its result is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Too many wait already; nothing was done.
    #[error("the keyspace is busy")]
    Busy,
    /// The keyspace's thread has ended; it is not known whether the closure ran.
    #[error("the keyspace is closed")]
    Closed,
}

type Work = Box<dyn FnOnce(&mut Keyspace) + Send>;

/// Sends closures to the keyspace. Clones reach the same one.
#[derive(Clone)]
pub struct Handle {
    work: SyncSender<Work>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// Where the closures arrive; the loop empties it once a turn.
#[derive(Debug)]
pub struct Mailbox(Receiver<Work>);

/// A mailbox and the way to it. `wake` makes the loop look into it.
pub fn mailbox(wake: impl Fn() + Send + Sync + 'static) -> (Handle, Mailbox) {
    let (sender, receiver) = sync_channel(WAITING);
    (Handle { work: sender, wake: Arc::new(wake) }, Mailbox(receiver))
}

impl Handle {
    /// Runs `work` on the keyspace's thread, between two turns of its loop, and returns what it returns. What it
    /// changes is journaled with the turn, but the result may come back before that.
    ///
    /// `work` must be short: every client waits for it.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Dropping the future does not call the work off.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keyspace) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let (sender, receiver) = oneshot::channel();
        let boxed: Work = Box::new(move |keyspace| {
            // Nobody waits for the result any more: then it is of no use.
            let _ = sender.send(work(keyspace));
        });
        self.work.try_send(boxed).map_err(|error| match error {
            TrySendError::Full(_) => CallError::Busy,
            TrySendError::Disconnected(_) => CallError::Closed,
        })?;
        (self.wake)();
        receiver.await.map_err(|_closed| CallError::Closed)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Mailbox {
    /// Runs what has arrived, at most [`PER_TURN`] closures; says whether more may wait.
    pub fn run(&self, keyspace: &mut Keyspace) -> bool {
        for _ in 0..PER_TURN {
            match self.0.try_recv() {
                Ok(work) => work(keyspace),
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::KvConfig;
    use crate::testing::TestRandom;

    #[tokio::test]
    async fn a_closure_runs_when_the_loop_looks_and_its_result_comes_back() {
        let (handle, mailbox) = mailbox(|| {});
        let mut keyspace = Keyspace::new(KvConfig::default(), Arc::new(TestRandom::new(1)));
        let call = handle.call(|keyspace| keyspace.database_info(0).keys);
        let (result, ()) = tokio::join!(call, async {
            tokio::task::yield_now().await;
            mailbox.run(&mut keyspace);
        });
        assert_eq!(result, Ok(0));
    }

    #[tokio::test]
    async fn a_closed_keyspace_says_so() {
        let (handle, mailbox) = mailbox(|| {});
        drop(mailbox);
        assert_eq!(handle.call(|_| ()).await, Err(CallError::Closed));
    }
}
