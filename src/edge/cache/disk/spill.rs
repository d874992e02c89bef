//! An answer on its way to the disk while it goes to a client.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::super::entry::Head;
use super::super::flights::Lead;
use super::Tier;
use super::index::Ticket;
use super::store::Job;

/// An answer on its way to the disk. Dropped before [`Spill::end`], nothing is stored.
#[derive(Debug)]
pub struct Spill {
    tier: Arc<Tier>,
    ticket: Arc<Ticket>,
    ended: bool,
    /// Whether the disk did not keep up.
    is_behind: bool,
}

impl Spill {
    /// One that `ticket` allows.
    pub const fn new(tier: Arc<Tier>, ticket: Arc<Ticket>) -> Self {
        Self { tier, ticket, ended: false, is_behind: false }
    }

    /// Leave to hand in `bytes` more. `None`: nothing comes of it, or the disk does not keep up; with `wait` it is waited for.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn leave(&mut self, bytes: usize, wait: bool) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.tier.queue_bytes);
        let queue = Arc::clone(&self.tier.queue);
        let permit = if wait {
            queue.acquire_many_owned(permits).await.ok()
        } else {
            queue.try_acquire_many_owned(permits).ok()
        };
        let is_void = self.ticket.is_void();
        if permit.is_none() && !is_void {
            self.is_behind = true;
            self.tier.counts.passed.inc();
        }
        permit.filter(|_| !is_void)
    }

    /// Whether nothing comes of it only because the disk did not keep up.
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Hands in the next bytes; those that are in memory already need no leave.
    pub fn put(&self, data: Bytes, leave: Option<OwnedSemaphorePermit>) {
        self.tier.send(Job::Piece { number: self.ticket.number, data, permit: leave });
    }

    /// It is whole: it is stored, and then those who wait for `lead` hear of it.
    pub fn end(mut self, head: Head, lead: Option<Lead>) {
        self.ended = true;
        self.tier.send(Job::End { number: self.ticket.number, head: Box::new(head), lead });
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if !self.ended {
            self.ticket.give_up();
            self.tier.send(Job::Abort { number: self.ticket.number });
        }
    }
}
