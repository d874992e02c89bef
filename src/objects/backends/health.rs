//! Whether a backend answers, and what becomes of requests while it does not.
//!
//! One that swallows what it is sent costs every request its whole time. So after [`FAILURES`] requests in a row that got no
//! answer, all further ones fail at once, but for one every [`PAUSE`], which finds out whether it answers again. Any answer
//! ends that, a refusal too. A refusal is told, and is taken back only by a [trial](super::Backend::try_out) that succeeds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::BackendName;
use super::error::{BackendError, Trouble};
use crate::base::{Clock, Timestamp};

/// Requests without an answer, one after the other, after which further ones fail at once.
const FAILURES: u32 = 3;

/// How long they do, before one goes out again.
const PAUSE: Duration = Duration::from_secs(5);

/// How a backend does.
#[derive(Debug)]
pub(super) struct Health {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests without an answer since the last one with an answer.
    silent: u32,
    /// The monotonic time at which one goes out again, while it is silent.
    next: Duration,
    told: Option<Told>,
}

/// What is wrong with it.
#[derive(Debug)]
struct Told {
    since: Timestamp,
    what: String,
    /// Whether it refuses; otherwise it does not answer.
    refused: bool,
}

impl Health {
    /// Of a backend that nothing is known of yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request may go out.
    pub fn admits(&self) -> bool {
        let mut state = self.state();
        if state.silent < FAILURES {
            return true;
        }
        let now = self.clock.monotonic();
        let goes = now >= state.next;
        if goes {
            state.next = now.saturating_add(PAUSE);
        }
        goes
    }

    /// Takes note of what became of a request to the backend `name`.
    pub fn heard<T>(&self, name: &BackendName, done: &Result<T, BackendError>) {
        let error = match done {
            Err(error) if matches!(error.trouble, Trouble::Down | Trouble::Refused) => error,
            _ => return self.answers(name, false),
        };
        let refused = error.trouble == Trouble::Refused;
        let mut state = self.state();
        if refused {
            state.silent = 0;
        } else {
            state.silent = state.silent.saturating_add(1);
            state.next = self.clock.monotonic().saturating_add(PAUSE);
        }
        if state.told.as_ref().is_some_and(|told| told.refused == refused) {
            return;
        }
        let since = self.clock.now();
        state.told = Some(Told { since, what: error.to_string(), refused });
        drop(state);
        tracing::error!(%error, "a backend cannot be used");
    }

    /// Takes note of a trial that succeeded.
    pub fn is_well(&self, name: &BackendName) {
        self.answers(name, true);
    }

    fn answers(&self, name: &BackendName, refuses_nothing: bool) {
        let mut state = self.state();
        state.silent = 0;
        let over = state.told.take_if(|told| refuses_nothing || !told.refused);
        drop(state);
        if over.is_some() {
            tracing::info!(backend = %name, "a backend can be used again");
        }
    }

    /// What is wrong with it, and since when.
    pub fn trouble(&self) -> Option<String> {
        self.state().told.as_ref().map(|told| format!("{} (since {})", told.what, told.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;

    fn name() -> BackendName {
        "cold".parse().unwrap()
    }

    fn failed(trouble: Trouble) -> Result<(), BackendError> {
        Err(BackendError { backend: name(), doing: "reading a body", trouble, source: "no".into() })
    }

    fn silent() -> (Arc<TestClock>, Health) {
        let clock = Arc::new(TestClock::default());
        let health = Health::new(Arc::clone(&clock) as Arc<dyn Clock>);
        for _ in 0..FAILURES {
            assert!(health.admits());
            health.heard(&name(), &failed(Trouble::Down));
        }
        (clock, health)
    }

    #[test]
    fn one_that_does_not_answer_is_asked_now_and_then() {
        let (clock, health) = silent();
        assert!(!health.admits());
        assert!(health.trouble().unwrap().starts_with("backend `cold`: reading a body: no (since "));
        clock.advance(PAUSE);
        assert!(health.admits());
        assert!(!health.admits(), "one at a time");
        health.heard(&name(), &failed(Trouble::Down));
        assert!(!health.admits());
    }

    #[test]
    fn any_answer_lets_all_requests_out_again() {
        for answer in [Ok(()), failed(Trouble::Missing), failed(Trouble::Length)] {
            let (_clock, health) = silent();
            health.heard(&name(), &answer);
            assert!(health.admits());
            assert_eq!(health.trouble(), None);
        }
    }

    #[test]
    fn a_refusal_is_told_until_a_trial_succeeds() {
        let (_clock, health) = silent();
        health.heard(&name(), &failed(Trouble::Refused));
        assert!(health.admits());
        health.heard(&name(), &Ok(()));
        assert!(health.trouble().is_some());
        health.is_well(&name());
        assert_eq!(health.trouble(), None);
    }
}
