//! What the keyspace keeps about a connection.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::acl::Acl;
use super::commands::Command;

/// Names a connection for the life of the server.
pub type ClientId = u64;

/// State of one connection: its database, transaction and subscriptions. The door owns it and passes it along with each
/// command; when the connection ends, the door must call [`Keyspace::disconnect`](super::Keyspace::disconnect).
#[derive(Debug)]
pub struct Client {
    /// The connection's name.
    pub id: ClientId,
    /// The database its commands act on, below [`DATABASES`](super::config::DATABASES).
    pub db: u8,
    /// What it may do; `None` when everything.
    pub acl: Option<Arc<Acl>>,
    pub(super) queue: Option<Queue>,
    pub(super) running: Option<Running>,
    pub(super) watched: BTreeSet<(u8, Box<[u8]>)>,
    pub(super) channels: BTreeSet<Box<[u8]>>,
    pub(super) patterns: BTreeSet<Box<[u8]>>,
    pub(super) sharded: BTreeSet<Box<[u8]>>,
}

/// A queued command: what it is, then its name and arguments as sent.
pub type Due = (&'static Command, Vec<Box<[u8]>>);

/// A transaction that `EXEC` has begun to run.
#[derive(Debug)]
pub(super) struct Running {
    pub commands: std::vec::IntoIter<Due>,
    /// The door's to run next.
    pub due: Option<Due>,
    /// Marks of the effects before and behind the begin mark.
    pub before: usize,
    pub begun: usize,
}

/// Commands between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub commands: Vec<Due>,
    pub bytes: usize,
    /// A command was refused, so `EXEC` must refuse too.
    pub refused: bool,
}

impl Client {
    /// A connection that has said nothing yet.
    pub const fn new(id: ClientId) -> Self {
        Self {
            id,
            db: 0,
            acl: None,
            queue: None,
            running: None,
            watched: BTreeSet::new(),
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            sharded: BTreeSet::new(),
        }
    }

    /// Commands queued since `MULTI`; `None` outside of a transaction (`CLIENT LIST` shows -1).
    pub fn queued(&self) -> Option<usize> {
        self.queue.as_ref().map(|queue| queue.commands.len())
    }

    /// Channels it is subscribed to.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Patterns it is subscribed to.
    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Sharded channels it is subscribed to.
    pub fn sharded_channels(&self) -> usize {
        self.sharded.len()
    }

    /// Channels, patterns and sharded channels together. In RESP2 a client with any may only use the subscribe family,
    /// `PING`, `QUIT` and `RESET`.
    pub fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len() + self.sharded.len()
    }

    /// Keys watched for the next `EXEC`.
    pub fn watching(&self) -> usize {
        self.watched.len()
    }
}
