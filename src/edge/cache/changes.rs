//! Places whose kept answers are no longer good, noted for another process: the one that has the data folder by now, and with
//! it what is kept on disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::key::{Key, LONGEST, Parts};

/// Most places noted at once; with more, it is everything.
const MOST: usize = 4_096;

/// What is no longer good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// Everything: there was too much to be noted.
    All,
    /// One place.
    Place {
        /// Its site.
        site: String,
        /// The place.
        place: Parts,
    },
}

/// The notes.
#[derive(Debug, Default)]
pub struct Changes {
    /// `None` while nobody wants them.
    noted: Mutex<Option<Noted>>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Noted {
    all: bool,
    places: Vec<Arc<Key>>,
}

impl Changes {
    /// From now on places are noted.
    pub fn begin(&self) {
        self.noted().get_or_insert_default();
    }

    /// Notes that what is at `key` has changed.
    pub fn note(&self, key: &Arc<Key>) {
        let mut noted = self.noted();
        let Some(noted) = noted.as_mut() else { return };
        if key.target.len() > LONGEST {
            // Nothing is kept under such a name.
            return;
        }
        if noted.places.len() >= MOST || key.bytes() > 2 * LONGEST as u64 {
            *noted = Noted { all: true, places: Vec::new() };
        }
        if !noted.all {
            noted.places.push(Arc::clone(key));
        }
        self.bell.notify_one();
    }

    /// Notes that nothing that is kept is good.
    pub fn note_all(&self) {
        if let Some(noted) = self.noted().as_mut() {
            *noted = Noted { all: true, places: Vec::new() };
            self.bell.notify_one();
        }
    }

    /// Waits until something is noted.
    ///
    /// # Cancel safety
    /// Nothing is missed.
    pub async fn some(&self) {
        self.bell.notified().await;
    }

    /// At most `most` notes, which are gone then; fewer are all.
    pub fn take(&self, most: usize) -> Vec<Changed> {
        let mut noted = self.noted();
        let Some(noted) = noted.as_mut() else { return Vec::new() };
        if std::mem::take(&mut noted.all) {
            return vec![Changed::All];
        }
        let taken = noted.places.drain(..most.min(noted.places.len()));
        taken.map(|key| Changed::Place { site: key.site.to_string(), place: key.parts() }).collect()
    }

    fn noted(&self) -> MutexGuard<'_, Option<Noted>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn key(target: &str) -> Arc<Key> {
        Arc::new(Key::of(&"a.example/".into(), true, &"a.example".parse().unwrap(), None, target))
    }

    #[test]
    fn places_are_noted_once_somebody_wants_them() {
        let changes = Changes::default();
        changes.note(&key("/a"));
        changes.begin();
        assert!(changes.take(9).is_empty() && changes.some().now_or_never().is_none());
        for target in ["/b", "/c", &"/d".repeat(LONGEST)] {
            changes.note(&key(target));
        }
        assert!(changes.some().now_or_never().is_some());
        let place = |target| Changed::Place { site: "a.example/".to_owned(), place: key(target).parts() };
        assert_eq!((changes.take(1), changes.take(9)), (vec![place("/b")], vec![place("/c")]));
    }

    #[test]
    fn too_many_places_are_everything() {
        let changes = Changes::default();
        changes.begin();
        (0..=MOST).for_each(|at| changes.note(&key(&format!("/{at}"))));
        assert_eq!((changes.take(9), changes.take(9)), (vec![Changed::All], Vec::new()));
        changes.note(&key("/a"));
        assert_eq!(changes.take(9).len(), 1);
    }
}
