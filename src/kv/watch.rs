//! `WATCH`: which transactions a change breaks.

use hashbrown::{HashMap, HashSet};

use super::client::{Client, ClientId};
use super::keyspace::Keyspace;

/// A key of a database, by number.
type Key = (u8, Box<[u8]>);

/// Who watches what, and whose watched keys have changed.
#[derive(Debug, Default)]
pub(super) struct Watches {
    keys: HashMap<Key, Vec<ClientId>>,
    broken: HashSet<ClientId>,
}

impl Watches {
    /// A key has changed.
    #[inline]
    pub fn touch(&mut self, db: u8, key: &[u8]) {
        if !self.keys.is_empty()
            && let Some(clients) = self.keys.get(&(db, Box::from(key)))
        {
            self.broken.extend(clients);
        }
    }

    /// The watched keys of a database.
    pub fn keys_of(&self, db: u8) -> Vec<Box<[u8]>> {
        self.keys.keys().filter(|key| key.0 == db).map(|key| key.1.clone()).collect()
    }

    fn add(&mut self, client: ClientId, key: Key) {
        self.keys.entry(key).or_default().push(client);
    }

    fn remove(&mut self, client: ClientId, key: &Key) {
        if let Some(clients) = self.keys.get_mut(key) {
            clients.retain(|other| *other != client);
            if clients.is_empty() {
                self.keys.remove(key);
            }
        }
    }
}

impl Keyspace {
    /// Watches a key for `client`, once.
    pub(super) fn watch(&mut self, client: &mut Client, key: &[u8]) {
        // A key already past its time is deleted now, so that its deletion later breaks nothing.
        self.find(client.db, key);
        let key = (client.db, Box::from(key));
        if client.watched.insert(key.clone()) {
            self.watches.add(client.id, key);
        }
    }

    /// Forgets what `client` watches.
    pub(super) fn unwatch(&mut self, client: &mut Client) {
        for key in std::mem::take(&mut client.watched) {
            self.watches.remove(client.id, &key);
        }
        self.watches.broken.remove(&client.id);
    }

    /// Whether a watched key of `client` changed or expired since it was watched.
    pub(super) fn is_broken(&mut self, client: &Client) -> bool {
        for (db, key) in &client.watched {
            self.find(*db, key);
        }
        self.watches.broken.contains(&client.id)
    }
}
