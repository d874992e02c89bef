//! How other threads reach the keyspace: by sending it a closure.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::client::Client;
use super::collect::Collector;
use super::commands::{Flags, lookup};
use super::glimpse::{Cut, Glimpse};
use super::keyspace::Keyspace;
use super::persist::Refusal;
use super::reply::Value;
use crate::base::Timestamp;

/// Most closures that wait for the keyspace's thread at once.
const WAITING: usize = 1024;

/// Most closures run in one loop turn, so that they cannot hold up the clients.
pub const PER_TURN: usize = 128;

/// Most views of the door that are waited for at once.
const VIEWS: usize = 16;

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

/// Why what a closure changed is not kept, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It did not run, or it is not known whether it did.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The journal takes nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Names the clients of [`Handle::ask`]; no socket's connection is ever called so.
const ASKING: u64 = u64::MAX - 1;

/// Why [`Handle::ask`] has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The command's own error, as a client reads it.
    #[error("{0}")]
    Command(String),
    /// It is not done, or not known to be kept.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl From<CallError> for AskError {
    fn from(error: CallError) -> Self {
        Self::Change(error.into())
    }
}

/// Who is connected, and what was slow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorView {
    /// Connections, in the order of their numbers.
    pub clients: Vec<ClientLine>,
    /// Slow commands, the newest first.
    pub slow: Vec<SlowLine>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLine {
    /// Its number.
    pub id: u64,
    /// Where from.
    pub peer: String,
    /// Its name, and what library it says it is; both may be empty.
    pub name: String,
    /// As it says.
    pub library: String,
    /// As whom it is logged in.
    pub user: String,
    /// Its database.
    pub db: u8,
    /// Since it came.
    pub age: Duration,
    /// Since its last command.
    pub idle: Duration,
    /// The last command.
    pub command: String,
    /// Whether it waits in a blocking command.
    pub blocked: bool,
    /// Channels and patterns it listens to.
    pub subscriptions: usize,
    /// Bytes of replies it has not taken yet.
    pub pending: usize,
}

/// A slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowLine {
    /// When.
    pub at: Timestamp,
    /// How long.
    pub took: Duration,
    /// Name and arguments, shortened, without secrets.
    pub command: String,
    /// Who asked.
    pub peer: String,
}

/// Told whether the turn in which a closure ran is in the journal.
type Settle = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// A closure, given the keyspace and why its journal takes nothing, if so.
type Work = Box<dyn FnOnce(&mut Keyspace, Option<&Refusal>) -> Option<Settle> + Send>;

/// Sends closures to the keyspace. Clones reach the same one.
#[derive(Clone)]
pub struct Handle {
    work: SyncSender<Work>,
    views: SyncSender<oneshot::Sender<DoorView>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// Where the closures arrive; the loop empties it once a turn, and settles them when the turn is in the journal.
pub struct Mailbox {
    work: Receiver<Work>,
    views: Receiver<oneshot::Sender<DoorView>>,
    unsettled: Vec<Settle>,
}

/// A mailbox and the way to it. `wake` makes the loop look into it.
pub fn mailbox(wake: impl Fn() + Send + Sync + 'static) -> (Handle, Mailbox) {
    let (sender, receiver) = sync_channel(WAITING);
    let (asks, asked) = sync_channel(VIEWS);
    let handle = Handle { work: sender, views: asks, wake: Arc::new(wake) };
    (handle, Mailbox { work: receiver, views: asked, unsettled: Vec::new() })
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
        self.send(Box::new(move |keyspace, _| {
            // Nobody waits for the result any more: then it is of no use.
            let _ = sender.send(work(keyspace));
            None
        }))?;
        receiver.await.map_err(|_closed| CallError::Closed)
    }

    /// As [`Handle::call`], for work that changes keys: its result comes back once the changes are in the journal, synced
    /// where the settings say so, as a client's reply does. Not run while the journal takes nothing.
    ///
    /// # Errors
    /// [`ChangeError`]. When the journal refuses afterwards, the change stands in memory and may be gone after a
    /// restart.
    ///
    /// # Cancel safety
    /// Dropping the future does not call the work off.
    pub async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keyspace) -> T + Send + 'static,
    ) -> Result<T, ChangeError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Box::new(move |keyspace, refusal| {
            if let Some(refusal) = refusal {
                let _ = sender.send(Err(refusal.clone()));
                return None;
            }
            let result = work(keyspace);
            Some(Box::new(move |kept| {
                let _ = sender.send(kept.map(|()| result));
            }))
        }))?;
        Ok(receiver.await.map_err(|_closed| CallError::Closed)??)
    }

    /// Runs one command on database `db`, as a client that may do everything and cannot wait. Of a command that changes
    /// keys the answer comes as [`Handle::change`] says. Maps are flat arrays.
    ///
    /// # Errors
    /// [`AskError`]; `ERR unknown command` for what only a connection can say.
    ///
    /// # Cancel safety
    /// Dropping the future does not call the command off.
    pub async fn ask(&self, db: u8, words: Vec<Vec<u8>>) -> Result<Value, AskError> {
        let command = words.first().and_then(|name| lookup(name)).filter(|command| command.run.is_some());
        let command = command.ok_or_else(|| AskError::Command(String::from("ERR unknown command")))?;
        let work = move |keyspace: &mut Keyspace| {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let (mut client, mut reply) = (Client::new(ASKING), Collector::new(false));
            client.db = db;
            keyspace.execute_at_once(command, &mut client, &words, &mut reply);
            keyspace.disconnect(&mut client);
            reply.value()
        };
        let reads = command.flags.contains(Flags::READONLY);
        let answer = if reads { self.call(work).await? } else { self.change(work).await? };
        match answer {
            Some(Value::Error(text)) => Err(AskError::Command(String::from_utf8_lossy(&text).into_owned())),
            Some(value) => Ok(value),
            None => Err(AskError::Command(String::from("ERR no answer"))),
        }
    }

    /// The beginning of what `key` of database `db` holds; `None` when there is no such key.
    ///
    /// # Errors
    /// [`AskError`]; its value is on disk and cannot be read, for one.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn glimpse(&self, db: u8, key: Vec<u8>, cut: Cut) -> Result<Option<Glimpse>, AskError> {
        let seen = self.call(move |keyspace| keyspace.glimpse(db, &key, cut)).await?;
        seen.map_err(|fault| AskError::Command(fault.to_string()))
    }

    /// Who is connected to the Redis door, and what was slow there.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn door(&self) -> Result<DoorView, CallError> {
        let (sender, receiver) = oneshot::channel();
        self.views.try_send(sender).map_err(|error| match error {
            TrySendError::Full(_) => CallError::Busy,
            TrySendError::Disconnected(_) => CallError::Closed,
        })?;
        (self.wake)();
        receiver.await.map_err(|_closed| CallError::Closed)
    }

    fn send(&self, work: Work) -> Result<(), CallError> {
        self.work.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => CallError::Busy,
            TrySendError::Disconnected(_) => CallError::Closed,
        })?;
        (self.wake)();
        Ok(())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Mailbox {
    /// Runs what has arrived, at most [`PER_TURN`] closures; says whether more may wait. `refusal` is why the journal
    /// takes nothing now, if so.
    pub fn run(&mut self, keyspace: &mut Keyspace, refusal: Option<&Refusal>) -> bool {
        for _ in 0..PER_TURN {
            match self.work.try_recv() {
                Ok(work) => self.unsettled.extend(work(keyspace, refusal)),
                Err(_) => return false,
            }
        }
        true
    }

    /// Who waits for a view of the door.
    pub fn asked(&self) -> Option<oneshot::Sender<DoorView>> {
        self.views.try_recv().ok()
    }

    /// Tells those who wait for it what became of the turn's changes.
    pub fn settle(&mut self, refusal: Option<&Refusal>) {
        for settle in self.unsettled.drain(..) {
            settle(refusal.map_or(Ok(()), |refusal| Err(refusal.clone())));
        }
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("unsettled", &self.unsettled.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::KvConfig;
    use crate::testing::TestRandom;

    #[tokio::test]
    async fn a_closure_runs_when_the_loop_looks_and_its_result_comes_back() {
        let (handle, mut mailbox) = mailbox(|| {});
        let mut keyspace = Keyspace::new(KvConfig::default(), Arc::new(TestRandom::new(1)));
        let call = handle.call(|keyspace| keyspace.database_info(0).keys);
        let (result, ()) = tokio::join!(call, async {
            tokio::task::yield_now().await;
            mailbox.run(&mut keyspace, None);
        });
        assert_eq!(result, Ok(0));
    }

    #[tokio::test]
    async fn a_change_comes_back_when_it_is_kept_and_not_before() {
        let (handle, mut mailbox) = mailbox(|| {});
        let mut keyspace = Keyspace::new(KvConfig::default(), Arc::new(TestRandom::new(1)));
        let mut change = std::pin::pin!(handle.change(|_| 7));
        assert!(futures_util::poll!(change.as_mut()).is_pending());
        mailbox.run(&mut keyspace, None);
        assert!(futures_util::poll!(change.as_mut()).is_pending());
        mailbox.settle(None);
        assert_eq!(change.await, Ok(7));
    }

    #[tokio::test]
    async fn a_change_is_not_made_while_the_journal_refuses_and_not_told_when_it_did() {
        let (handle, mut mailbox) = mailbox(|| {});
        let mut keyspace = Keyspace::new(KvConfig::default(), Arc::new(TestRandom::new(1)));
        let mut change = std::pin::pin!(handle.change(|_| panic!("it ran")));
        assert!(futures_util::poll!(change.as_mut()).is_pending());
        mailbox.run(&mut keyspace, Some(&Refusal::Full));
        assert_eq!(change.await, Err(ChangeError::Refused(Refusal::Full)));
        let mut change = std::pin::pin!(handle.change(|_| ()));
        assert!(futures_util::poll!(change.as_mut()).is_pending());
        mailbox.run(&mut keyspace, None);
        mailbox.settle(Some(&Refusal::Full));
        assert_eq!(change.await, Err(ChangeError::Refused(Refusal::Full)));
    }

    #[tokio::test]
    async fn a_command_is_answered_with_a_value_or_its_own_error() {
        let (handle, mut mailbox) = mailbox(|| {});
        let mut keyspace = Keyspace::new(KvConfig::default(), Arc::new(TestRandom::new(1)));
        let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        let mut run = async |line: &str| {
            let (answer, ()) = tokio::join!(handle.ask(3, words(line)), async {
                tokio::task::yield_now().await;
                mailbox.run(&mut keyspace, None);
                mailbox.settle(None);
            });
            answer
        };
        assert_eq!(run("HSET ada age 36").await, Ok(Value::Integer(1)));
        let pair = Value::Array(vec![Value::Bulk(b"age".to_vec()), Value::Bulk(b"36".to_vec())]);
        assert_eq!(run("HGETALL ada").await, Ok(pair));
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(run("GET ada").await, Err(AskError::Command(wrong.to_owned())));
        assert_eq!(run("NOSUCH").await, Err(AskError::Command("ERR unknown command".to_owned())));
        assert_eq!(keyspace.database_info(3).keys, 1);
    }

    #[tokio::test]
    async fn a_closed_keyspace_says_so() {
        let (handle, mailbox) = mailbox(|| {});
        drop(mailbox);
        assert_eq!(handle.call(|_| ()).await, Err(CallError::Closed));
    }
}
