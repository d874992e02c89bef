//! What must be durable before a commit counts.
//!
//! A commit in two phases syncs twice: first all it wrote, then the one byte that makes it the newest. Up to that byte it
//! is not there, whatever else of it is on disk. So a transaction that names bytes in another file need not begin when
//! these are synced: it is enough that the byte is not written before. Both syncs then run at the same time, and a lone
//! upload waits for two syncs in a row instead of three.
//!
//! The first sync of a commit waits, once it is over itself, for the prerequisites of all transactions in it. One that
//! fails takes the commit with it: redb sees a failed sync, its file is opened again at the commit before, and everybody
//! in the commit is told that nothing happened. Whoever fulfils a prerequisite must therefore be at it already, on a thread
//! of its own, and must need no transaction for it.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// What a transaction waits for; see [`prerequisite`].
#[derive(Debug)]
pub struct Prerequisite(oneshot::Receiver<()>);

/// Tells that a prerequisite is fulfilled. Dropped, it tells that it never will be.
#[derive(Debug)]
pub struct Fulfilment(oneshot::Sender<()>);

/// A prerequisite and how it is fulfilled.
pub fn prerequisite() -> (Fulfilment, Prerequisite) {
    let (sender, receiver) = oneshot::channel();
    (Fulfilment(sender), Prerequisite(receiver))
}

impl Fulfilment {
    /// It is fulfilled.
    pub fn done(self) {
        // Nobody waits when the transaction was given up.
        let _ = self.0.send(());
    }
}

impl Prerequisite {
    /// Waits until it is fulfilled; false when it never will be. Cancel safe.
    pub(crate) async fn fulfilled(self) -> bool {
        self.0.await.is_ok()
    }

    /// As [`Prerequisite::fulfilled`], on a plain thread.
    pub(super) fn fulfilled_blocking(self) -> bool {
        self.0.blocking_recv().is_ok()
    }
}

/// The prerequisites of the commit under way.
#[derive(Debug, Default)]
pub(super) struct Prerequisites(Mutex<Vec<Prerequisite>>);

impl Prerequisites {
    /// Has the next sync wait for `all`.
    pub(super) fn set(&self, all: Vec<Prerequisite>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Takes those that no sync has waited for.
    pub(super) fn take(&self) -> Vec<Prerequisite> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for all of them; an error when one was not fulfilled.
    pub(super) fn pass(&self) -> io::Result<()> {
        // All are waited for, also behind a failed one: what they stand for should not go on behind the commit's back.
        let failed = self.take().into_iter().map(Prerequisite::fulfilled_blocking).filter(|done| !done);
        match failed.count() {
            0 => Ok(()),
            _ => Err(io::Error::other("bytes that a transaction names could not be made durable")),
        }
    }
}
