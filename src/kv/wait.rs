//! Clients blocked in `BLPOP` and its kin: who waits for what, until when, and who is served first.
//!
//! Readers of streams wait for entries; they are also told when what they wait for is gone.
//!
//! The first to wait for a key is the first to be served. A command that creates a list or sorted set somebody waits
//! for notes the key; at the end of the command (for a transaction: after all of it) the waiting clients are served, as
//! long as there are elements. A served list may fill another (`BLMOVE`), so serving goes on until no key is left.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use super::client::ClientId;
use super::commands::stream_reads::Reading;
use super::deliver::{Delivery, Message};
use super::effect::End;
use super::keyspace::Keyspace;
use super::reply::Value;

/// What a blocked client wants.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// `BLPOP`, `BRPOP`: an element of the first list that has one.
    Pop(End),
    /// `BLMOVE`, `BRPOPLPUSH`: an element moved to another list.
    Move { from: End, to: End, target: Box<[u8]> },
    /// `BZPOPMIN` (head), `BZPOPMAX` (tail).
    ZPop(End),
    /// `BLMPOP`: up to so many elements.
    Pops(End, usize),
    /// `BZMPOP`: up to so many members.
    ZPops(End, usize),
    /// `XREAD`, `XREADGROUP`: entries of streams.
    Read(Arc<Reading>),
}

impl Want {
    /// The command that serves it.
    pub const fn command(&self) -> &'static str {
        match self {
            Self::Pop(End::Head) => "blpop",
            Self::Pop(End::Tail) => "brpop",
            Self::Move { .. } => "blmove",
            Self::Pops(..) => "blmpop",
            Self::ZPop(End::Head) | Self::ZPops(End::Head, _) => "bzpopmin",
            Self::ZPop(End::Tail) | Self::ZPops(End::Tail, _) => "bzpopmax",
            Self::Read(_) => "xreadgroup",
        }
    }
}

/// One blocked client.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    pub db: u8,
    pub keys: Vec<Box<[u8]>>,
    pub want: Want,
    /// Monotonic; `None` waits for ever.
    pub deadline: Option<Duration>,
}

/// All blocked clients.
#[derive(Debug, Default)]
pub(super) struct Waits {
    clients: HashMap<ClientId, Wait>,
    keys: HashMap<(u8, Box<[u8]>), VecDeque<ClientId>>,
    deadlines: BTreeSet<(Duration, ClientId)>,
    ready: VecDeque<(u8, Box<[u8]>)>,
    noted: HashSet<(u8, Box<[u8]>)>,
}

impl Waits {
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    pub fn holds(&self, client: ClientId) -> bool {
        self.clients.contains_key(&client)
    }

    /// A key has come to life; remembered only if somebody waits for it.
    #[inline]
    pub fn note(&mut self, db: u8, key: &[u8]) {
        if self.keys.is_empty() {
            return;
        }
        let key = (db, Box::from(key));
        if self.keys.contains_key(&key) && self.noted.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// The keys of a database somebody waits for.
    pub fn keys_of(&self, db: u8) -> Vec<Box<[u8]>> {
        self.keys.keys().filter(|key| key.0 == db).map(|key| key.1.clone()).collect()
    }

    pub fn add(&mut self, client: ClientId, wait: Wait) {
        for key in &wait.keys {
            let line = self.keys.entry((wait.db, key.clone())).or_default();
            // A key named twice in one command: its first place in line is the one just taken.
            if line.back() != Some(&client) {
                line.push_back(client);
            }
        }
        if let Some(deadline) = wait.deadline {
            self.deadlines.insert((deadline, client));
        }
        self.clients.insert(client, wait);
    }

    pub fn remove(&mut self, client: ClientId) -> Option<Wait> {
        let wait = self.clients.remove(&client)?;
        if let Some(deadline) = wait.deadline {
            self.deadlines.remove(&(deadline, client));
        }
        for key in &wait.keys {
            let key = (wait.db, key.clone());
            if let Some(line) = self.keys.get_mut(&key) {
                line.retain(|other| *other != client);
                if line.is_empty() {
                    self.keys.remove(&key);
                }
            }
        }
        Some(wait)
    }

    /// Takes the next key that came to life.
    pub fn next_ready(&mut self) -> Option<(u8, Box<[u8]>)> {
        let key = self.ready.pop_front()?;
        self.noted.remove(&key);
        Some(key)
    }

    /// Who is `nth` in line for a key; the line may change while it is served.
    pub fn nth(&self, key: &(u8, Box<[u8]>), nth: usize) -> Option<ClientId> {
        self.keys.get(key)?.get(nth).copied()
    }

    pub fn get(&self, client: ClientId) -> Option<&Wait> {
        self.clients.get(&client)
    }
}

impl Keyspace {
    /// When the next blocked client has waited long enough, on the monotonic clock of [`Keyspace::set_now`].
    pub fn next_deadline(&self) -> Option<Duration> {
        self.waits.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Answers blocked clients whose time is up, by deliveries. Call it once a loop turn, after [`Keyspace::set_now`].
    pub fn end_waits(&mut self) {
        while let Some((deadline, client)) = self.waits.deadlines.first().copied() {
            if deadline > self.clock.monotonic {
                break;
            }
            self.end_wait(client);
        }
    }

    /// Answers one blocked client as if its time were up (`CLIENT UNBLOCK id TIMEOUT`); says whether it was waiting.
    pub fn end_wait(&mut self, client: ClientId) -> bool {
        let Some(wait) = self.waits.remove(client) else { return false };
        let value = match wait.want {
            Want::Move { .. } => Value::Null,
            Want::Pop(_) | Want::ZPop(_) | Want::Pops(..) | Want::ZPops(..) | Want::Read(_) => Value::NullArray,
        };
        self.deliveries.push(Delivery { client, message: Message::Served(value) });
        true
    }

    /// Takes a client out of its wait with an error (`CLIENT UNBLOCK id ERROR`, shutdown); says whether it was waiting.
    pub fn unblock(&mut self, client: ClientId, error: &str) -> bool {
        let waited = self.waits.remove(client).is_some();
        if waited {
            self.deliveries
                .push(Delivery { client, message: Message::Served(Value::Error(error.as_bytes().to_vec())) });
        }
        waited
    }
}
