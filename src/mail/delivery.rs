//! The delivery loop: due deliveries out of the queue, through the transport, outcome recorded.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::MailError;
use super::outbox::{Claim, Outbox, Outcome};
use super::rows::State;
use super::transport::Transport;
use crate::base::supervise::Role;
use crate::base::{Clock, Supervisor};
use crate::telemetry::{Counter, Metrics};

/// Longest sleep of the loop, so that a clock set forward by the operator is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Wait after the store refused, before asking it again.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// Messages forgotten in one transaction.
const FORGET_BATCH: usize = 100;

/// The delivery loop's parts.
#[derive(Clone, Debug)]
pub struct Delivery {
    outbox: Outbox,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    delivered: Counter,
    failed: Counter,
    deferred: Counter,
}

impl Delivery {
    /// A loop that hands the messages of `outbox` to `transport`.
    pub fn new(outbox: Outbox, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let attempts = |outcome| {
            metrics.counter("mainstay_mail_attempts_total", "Delivery attempts ended", &[("outcome", outcome)])
        };
        let (delivered, failed, deferred) = (attempts("delivered"), attempts("failed"), attempts("deferred"));
        Self { outbox, transport, clock, delivered, failed, deferred }
    }

    /// Starts the loop as a critical task: without it nothing leaves.
    pub fn start(self, supervisor: &Supervisor) {
        let shutdown = supervisor.shutdown().clone();
        supervisor.task("mail-delivery", Role::Critical, async move {
            if let Err(error) = self.outbox.recover().await {
                tracing::error!(%error, "mail deliveries of the last run could not be put back into the queue");
            }
            let stop = shutdown.draining();
            tokio::pin!(stop);
            loop {
                let wait = match self.step().await {
                    Ok(()) => self.until_next_due().await,
                    Err(error) => {
                        tracing::error!(%error, "the mail queue could not be read");
                        AFTER_ERROR
                    }
                };
                tokio::select! {
                    () = &mut stop => return,
                    () = tokio::time::sleep(wait) => {}
                    () = self.outbox.arrival() => {}
                }
                if shutdown.is_draining() {
                    return;
                }
            }
        });
    }

    /// Attempts everything that is due, `mail.concurrency` at once, and forgets what is old.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`]: what was claimed and not finished is tried again after a restart.
    pub async fn step(&self) -> Result<(), MailError> {
        let most = self.outbox.config().concurrency.max(1);
        let mut under_way = FuturesUnordered::new();
        loop {
            let free = most - under_way.len();
            let claims = if free > 0 { self.outbox.claim(free).await? } else { Vec::new() };
            under_way.extend(claims.into_iter().map(|claim| self.attempt(claim)));
            match under_way.next().await {
                Some(ended) => ended?,
                None => break,
            }
        }
        while self.outbox.forget_old(FORGET_BATCH).await? == FORGET_BATCH {}
        Ok(())
    }

    async fn attempt(&self, claim: Claim) -> Result<(), MailError> {
        let text = self.outbox.text(claim.id).await?;
        let limit = self.outbox.config().attempt_timeout.duration();
        let sending = self.transport.send(&claim.from, &claim.to, &text);
        let outcome = tokio::time::timeout(limit, sending)
            .await
            .unwrap_or_else(|_elapsed| Outcome::Retry(format!("no end within {} s", limit.as_secs())));
        match self.outbox.finish(&claim, outcome).await? {
            State::Delivered | State::Kept => self.delivered.inc(),
            State::Failed => {
                self.failed.inc();
                tracing::warn!(message = %claim.id, recipient = claim.index, "a mail delivery failed for good");
            }
            State::Queued | State::Sending => self.deferred.inc(),
            State::Cancelled => {}
        }
        Ok(())
    }

    async fn until_next_due(&self) -> Duration {
        match self.outbox.next_due().await {
            Ok(Some(due)) => due.since(self.clock.now()).min(SLEEP_MAX),
            Ok(None) => SLEEP_MAX,
            Err(_already_logged_by_the_next_step) => AFTER_ERROR,
        }
    }
}
