//! One fetch for many: while one request fetches what belongs at a place, others wait for what comes of it.
//!
//! Who leads holds a [`Lead`]; whatever ends it, also a thread that stops, lets the others go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::key::Key;

/// Most fetches at once that others may wait for.
const MOST_FLIGHTS: usize = 4096;
/// Most requests that wait for one fetch; the rest ask the app themselves.
const MOST_WAITING: usize = 1024;

/// What came of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored.
    Stored,
    /// It is not.
    Apart,
    /// The app did not answer, or with an error that a stored answer may stand in for.
    Failed,
}

/// All fetches under way.
#[derive(Debug, Default)]
pub struct Flights(Mutex<HashMap<Arc<Key>, Flight>>);

#[derive(Debug)]
struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    waiting: watch::Sender<usize>,
}

/// A request's part in it.
#[derive(Debug)]
pub enum Turn {
    /// It fetches.
    Lead(Lead),
    /// Another does.
    Wait(Waiting),
    /// It neither waits nor is waited for.
    Alone,
}

/// The one who fetches.
#[derive(Debug)]
pub struct Lead {
    flights: Arc<Flights>,
    key: Arc<Key>,
    outcome: watch::Sender<Option<Outcome>>,
    waiting: watch::Receiver<usize>,
}

/// One of those who wait.
#[derive(Debug)]
pub struct Waiting {
    outcome: watch::Receiver<Option<Outcome>>,
    waiting: watch::Sender<usize>,
}

impl Flights {
    /// Takes part in what is fetched for `key`.
    pub fn join(self: &Arc<Self>, key: &Arc<Key>) -> Turn {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(key) {
            let joined = flight.waiting.send_if_modified(|waiting| {
                let has_place = *waiting < MOST_WAITING;
                *waiting += usize::from(has_place);
                has_place
            });
            if !joined {
                return Turn::Alone;
            }
            return Turn::Wait(Waiting { outcome: flight.outcome.clone(), waiting: flight.waiting.clone() });
        }
        if flights.len() >= MOST_FLIGHTS {
            return Turn::Alone;
        }
        let (outcome, receiver) = watch::channel(None);
        let (counted, waiting) = watch::channel(0);
        flights.insert(Arc::clone(key), Flight { outcome: receiver, waiting: counted });
        Turn::Lead(Lead { flights: Arc::clone(self), key: Arc::clone(key), outcome, waiting })
    }

    /// Leads, if nobody does.
    pub fn lead(self: &Arc<Self>, key: &Arc<Key>) -> Option<Lead> {
        match self.join(key) {
            Turn::Lead(lead) => Some(lead),
            Turn::Wait(_) | Turn::Alone => None,
        }
    }
}

impl Lead {
    /// Ends once somebody waits.
    pub fn others(&self) -> impl Future<Output = ()> + use<> {
        let mut waiting = self.waiting.clone();
        async move {
            if waiting.wait_for(|waiting| *waiting > 0).await.is_err() {
                // The flight is over: nobody will.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells those who wait. What they are to find must be stored by now.
    pub fn land(self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Who waits learns of it by the sender's end.
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Waiting {
    /// What came of it.
    ///
    /// # Cancel safety
    /// The fetch goes on.
    pub async fn outcome(mut self) -> Outcome {
        match self.outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.unwrap_or(Outcome::Apart),
            Err(_ended) => Outcome::Apart,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiting.send_modify(|waiting| *waiting = waiting.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn key(target: &str) -> Arc<Key> {
        Arc::new(Key::of(&"a.example/".into(), true, &"a.example".parse().unwrap(), None, target))
    }

    fn waiting(flights: &Arc<Flights>) -> Waiting {
        match flights.join(&key("/a")) {
            Turn::Wait(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_the_others_learn_what_came_of_it() {
        let flights = Arc::new(Flights::default());
        let lead = flights.lead(&key("/a")).unwrap();
        let (first, second) = (waiting(&flights), waiting(&flights));
        assert!(flights.lead(&key("/a")).is_none());
        assert!(flights.lead(&key("/b")).is_some());
        lead.land(Outcome::Stored);
        assert_eq!((first.outcome().await, second.outcome().await), (Outcome::Stored, Outcome::Stored));
        assert!(flights.lead(&key("/a")).is_some());
    }

    #[tokio::test]
    async fn a_lead_that_is_dropped_holds_nobody_up() {
        let flights = Arc::new(Flights::default());
        let lead = flights.lead(&key("/a")).unwrap();
        let other = waiting(&flights);
        drop(lead);
        assert_eq!(other.outcome().await, Outcome::Apart);
    }

    #[test]
    fn who_leads_learns_that_others_wait() {
        let flights = Arc::new(Flights::default());
        let lead = flights.lead(&key("/a")).unwrap();
        drop(waiting(&flights));
        assert!(lead.others().now_or_never().is_none());
        let _waiting = waiting(&flights);
        assert!(lead.others().now_or_never().is_some());
        let over = flights.lead(&key("/b")).unwrap().others();
        assert!(over.now_or_never().is_none());
    }

    #[test]
    fn only_so_many_wait() {
        let flights = Arc::new(Flights::default());
        let _lead = flights.lead(&key("/a")).unwrap();
        let mut all: Vec<_> = (0..MOST_WAITING).map(|_| waiting(&flights)).collect();
        assert!(matches!(flights.join(&key("/a")), Turn::Alone));
        all.pop();
        drop(waiting(&flights));
    }
}
