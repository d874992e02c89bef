//! The event loop: one thread that owns the keyspace and every connection.
//!
//! A turn: wait for sockets; read each ready one once; decode and run every whole request in it; write all changes of
//! the turn to the journal as one frame; only then send the replies, one write a client. No command hops threads, and
//! fifty clients share one journal write.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use mio::{Events, Poll, Token, Waker};

use super::busy::Script;
use super::commands::acl::AclLog;
use super::config::RedisConfig;
use super::connection::{Cold, Connection, READ, Received, Sent};
use super::figures::Figures;
use super::handshake::Arrivals;
use super::listen::Listener;
use super::stats::Stats;
use super::timing::Timing;
use crate::accounts::RedisUsers;
use crate::bans::Bans;
use crate::base::{Clock, Disk, Secret, Shutdown};
use crate::kv::acl::Acl;
use crate::kv::cold::loader::{Done, Loader};
use crate::kv::handle::Mailbox;
use crate::kv::memory::Means;
use crate::kv::persist::{Persistence, Refusal, Report};
use crate::kv::{ClientId, Delivery, Keyspace, Message};

/// The token of the waker; listeners follow from here, connections from [`FIRST`].
pub const WAKER: Token = Token(0);
/// First token of a connection.
pub const FIRST: usize = 64;
/// Events taken from the kernel in one turn.
const EVENTS: usize = 1024;
/// Requests of one client run in one turn; the rest waits until others had theirs.
pub const REQUESTS: usize = 1000;
/// Bytes of replies one client may cause in one turn before others have theirs.
pub const REPLIES: usize = 1 << 20;
/// Bytes of changes after which a turn ends early.
const EFFECTS: usize = 16 << 20;
/// Time between two ticks.
const TICK: Duration = Duration::from_millis(100);
/// Entries the active expiry looks at in one tick.
const EXPIRY: usize = 2_000;
/// Longest time the loop finishes work after it was told to stop.
const DRAIN: Duration = Duration::from_secs(2);
/// Which commands wait (`CLIENT PAUSE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// All.
    All,
    /// Those that change keys.
    Writes,
}

/// Everything the loop owns. `dispatch.rs` and `commands/` run requests on it.
pub struct Server {
    pub(super) poll: Poll,
    pub(super) waker: Arc<Waker>,
    pub(super) listeners: Vec<Option<Listener>>,
    pub(super) connections: Vec<Option<Box<Connection>>>,
    pub(super) free: Vec<usize>,
    pub(super) by_id: HashMap<ClientId, usize>,
    pub(super) next_id: ClientId,
    pub(super) keyspace: Box<Keyspace>,
    /// Takes the keyspace's place while a script has it.
    pub(super) stand_in: Option<Box<Keyspace>>,
    /// The script that runs.
    pub(super) script: Script,
    pub(super) persistence: Persistence,
    pub(super) config: RedisConfig,
    pub(super) password: Option<Secret<String>>,
    /// Users besides `default`.
    pub(super) users: BTreeMap<String, Arc<Acl>>,
    pub(super) user_store: Option<RedisUsers>,
    pub(super) acl_log: AclLog,
    /// Whom it lets in no more, and who hears of wrong passwords.
    pub(super) bans: Bans,
    /// What took long.
    pub(super) timing: Timing,
    /// How often which command ran.
    pub(super) figures: Figures,
    /// Monotonic time at which the command under way began, while anybody wants to know.
    pub(super) began: Duration,
    /// Clients in `MONITOR`.
    pub(super) watchers: Vec<ClientId>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shutdown: Shutdown,
    pub(super) mailbox: Mailbox,
    /// Clients from the TLS listener.
    pub(super) arrivals: Arc<Arrivals>,
    /// Reads values that are on disk only.
    pub(super) loader: Loader,
    pub(super) stats: Stats,
    pub(super) loaded: Report,
    /// Why writes are refused in this turn.
    pub(super) refusal: Option<Refusal>,
    /// Until when which commands wait.
    pub(super) pause: Option<(Duration, Paused)>,
    /// Monotonic time of this turn.
    pub(super) now: Duration,
    /// Clients to serve in this turn, and those whose turn comes next.
    pub(super) ready: VecDeque<usize>,
    pub(super) next: VecDeque<usize>,
    /// Clients with replies to send.
    dirty: Vec<usize>,
    /// Replies of this turn that tell of changes: client, start and end in its buffer.
    pub(super) tells: Vec<(ClientId, usize, usize)>,
    /// Why changes of this turn could not be written before its end (`SAVE`).
    failed: Option<Refusal>,
    deliveries: Vec<Delivery>,
    pub(super) scratch: Vec<u8>,
    pub(super) arguments: Vec<&'static [u8]>,
    pub(super) pool: Vec<Vec<u8>>,
    next_tick: Duration,
}

/// What a server is made of.
pub struct Parts {
    /// The keyspace, as recovery has left it.
    pub keyspace: Keyspace,
    /// Its journal.
    pub persistence: Persistence,
    /// Settings.
    pub config: RedisConfig,
    /// The password; `None` when clients need none.
    pub password: Option<Secret<String>>,
    /// Users besides `default`.
    pub users: BTreeMap<String, Arc<Acl>>,
    /// Where they are kept; `None` keeps them in memory.
    pub user_store: Option<RedisUsers>,
    /// Who is banned.
    pub bans: Bans,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For the socket's file.
    pub disk: Arc<dyn Disk>,
    /// The stop signal.
    pub shutdown: Shutdown,
    /// What recovery has brought back.
    pub loaded: Report,
}

impl Server {
    /// A server on `listeners`; `poll`, `waker` and `mailbox` belong together.
    ///
    /// # Errors
    /// The operating system refuses a registration.
    pub(super) fn new(
        parts: Parts,
        poll: Poll,
        waker: Arc<Waker>,
        mailbox: Mailbox,
        loader: Loader,
        mut listeners: Vec<Listener>,
        stats: Stats,
    ) -> io::Result<Self> {
        for (index, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(index + 1))?;
        }
        let now = parts.clock.monotonic();
        Ok(Self {
            poll,
            waker,
            listeners: listeners.into_iter().map(Some).collect(),
            connections: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            next_id: 1,
            keyspace: Box::new(parts.keyspace),
            stand_in: None,
            script: Script::default(),
            persistence: parts.persistence,
            config: parts.config,
            password: parts.password,
            users: parts.users,
            user_store: parts.user_store,
            acl_log: AclLog::default(),
            bans: parts.bans,
            timing: Timing::default(),
            figures: Figures::default(),
            began: now,
            watchers: Vec::new(),
            clock: parts.clock,
            shutdown: parts.shutdown,
            mailbox,
            arrivals: Arc::default(),
            loader,
            stats,
            loaded: parts.loaded,
            refusal: None,
            pause: None,
            now,
            ready: VecDeque::new(),
            next: VecDeque::new(),
            dirty: Vec::new(),
            tells: Vec::new(),
            failed: None,
            deliveries: Vec::new(),
            scratch: vec![0; READ],
            arguments: Vec::new(),
            pool: Vec::new(),
            next_tick: now,
        })
    }

    /// Where clients from the TLS listener are put.
    pub(super) fn arrivals(&self) -> Arc<Arrivals> {
        self.show_places();
        Arc::clone(&self.arrivals)
    }

    /// Serves until the stop signal, then finishes what has arrived and syncs the journal.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.shutdown.is_draining() {
            let wait = self.wait();
            if !self.turn(&mut events, wait) {
                break;
            }
        }
        self.drain(&mut events);
    }

    /// Port of the first TCP listener; 0 without one.
    pub(super) fn port(&self) -> u16 {
        self.listeners.iter().flatten().find_map(Listener::port).unwrap_or(0)
    }

    /// One turn; `false` when the operating system fails the loop.
    fn turn(&mut self, events: &mut Events, wait: Duration) -> bool {
        if let Err(error) = self.poll.poll(events, Some(wait))
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "the Redis door's event loop failed");
            return false;
        }
        self.now = self.clock.monotonic();
        self.keyspace.set_now(self.clock.now(), self.now);
        self.refusal = self.persistence.refusal();
        std::mem::swap(&mut self.ready, &mut self.next);
        for event in events.iter() {
            match event.token() {
                WAKER => {}
                Token(token) if token < FIRST => self.accept(token - 1),
                Token(token) => self.notice(token - FIRST, event.is_read_closed(), event.is_writable()),
            }
        }
        self.take_arrivals();
        if self.mailbox.run(&mut self.keyspace, self.refusal.as_ref()) {
            // More may wait: look again without sleeping.
            let _ = self.waker.wake();
        }
        self.show_door();
        self.take_loaded();
        self.keyspace.end_waits();
        self.deliver();
        while let Some(slot) = self.ready.pop_front() {
            self.serve(slot);
            if self.keyspace.effects().bytes().len() > EFFECTS {
                self.next.append(&mut self.ready);
            }
        }
        if self.now >= self.next_tick {
            self.tick();
        }
        // What is deleted for room is a change like any other, so not while none can be written.
        self.keyspace.keep_within(if self.refusal.is_none() { Means::Evict } else { Means::Move });
        let written = self.persistence.turn(&mut self.keyspace);
        let refusal = self.failed.take().or(written.err());
        if let Some(refusal) = &refusal {
            self.retract(refusal);
        }
        self.mailbox.settle(refusal.as_ref());
        self.tells.clear();
        self.send_all();
        self.stats.turn();
        true
    }

    /// How long the loop may sleep.
    fn wait(&self) -> Duration {
        if !self.next.is_empty() && self.pause.is_none() {
            return Duration::ZERO;
        }
        let now = self.clock.monotonic();
        let mut wait = self.next_tick.saturating_sub(now);
        if let Some(deadline) = self.keyspace.next_deadline() {
            wait = wait.min(deadline.saturating_sub(now));
        }
        self.persistence.wants_turn().map_or(wait, |soon| wait.min(soon))
    }

    /// The kernel has news of a connection.
    pub(super) fn notice(&mut self, slot: usize, ended: bool, writable: bool) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        connection.readable = true;
        connection.ended |= ended;
        if writable && connection.pending() > 0 && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
        if !connection.listed {
            connection.listed = true;
            self.ready.push_back(slot);
        }
    }

    /// Reads a client once and runs what it has sent.
    pub(super) fn serve(&mut self, slot: usize) {
        let Some(mut connection) = self.connections.get_mut(slot).and_then(Option::take) else { return };
        connection.listed = false;
        let alive = self.serve_taken(&mut connection);
        if alive {
            let again = !connection.waits() && !connection.closing && (connection.more || connection.readable);
            if again && !connection.listed {
                connection.listed = true;
                self.next.push_back(slot);
            }
            self.put_back(slot, connection);
        } else {
            self.drop_connection(slot, connection);
        }
        self.deliver();
    }

    fn serve_taken(&mut self, connection: &mut Connection) -> bool {
        if connection.closing {
            // What it still sends is not looked at; the end of it is.
            let mut scratch = std::mem::take(&mut self.scratch);
            let received = connection.receive(&mut scratch);
            self.scratch = scratch;
            return received != Received::End;
        }
        if connection.waits() {
            return self.read_while_blocked(connection);
        }
        if connection.more || !connection.readable {
            self.run_own(connection);
            return true;
        }
        if !connection.input.is_empty() {
            let received = connection.receive_behind();
            return match received {
                Received::End => false,
                Received::Nothing => true,
                Received::Bytes(count) => {
                    self.stats.bytes_in += count as u64;
                    self.run_own(connection);
                    true
                }
            };
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let received = connection.receive(&mut scratch);
        if let Received::Bytes(count) = received {
            self.stats.bytes_in += count as u64;
            let input = scratch.get(..count).unwrap_or_default();
            let used = self.requests(connection, input);
            connection.input.extend_from_slice(input.get(used..).unwrap_or_default());
        }
        self.scratch = scratch;
        received != Received::End
    }

    /// A blocked client may send more, within reason, and may end.
    fn read_while_blocked(&mut self, connection: &mut Connection) -> bool {
        if connection.input.len() - connection.start > READ {
            // Enough to go on with later; reading on would only collect. Its end is noticed when it is served.
            return true;
        }
        let received = connection.receive_behind();
        if let Received::Bytes(count) = received {
            self.stats.bytes_in += count as u64;
            connection.more = true;
        }
        received != Received::End
    }

    fn run_own(&mut self, connection: &mut Connection) {
        let input = std::mem::take(&mut connection.input);
        let used = self.requests(connection, input.get(connection.start..).unwrap_or_default());
        connection.input = input;
        connection.consume(used);
        if (connection.input.len() - connection.start) as u64 > self.config.max_query.bytes() {
            self.stats.closed_slow(connection, "query buffer");
            connection.closing = true;
        }
    }

    /// Takes what the loader has read, and goes on with the clients that waited for it.
    fn take_loaded(&mut self) {
        for done in self.loader.done() {
            match done {
                Done::Values(client, values) => {
                    for read in values {
                        self.keyspace.take_in(read);
                    }
                    self.loader.settled(client);
                    let Some(slot) = self.by_id.get(&client).copied() else { continue };
                    let Some(Some(connection)) = self.connections.get_mut(slot) else { continue };
                    connection.cold = Cold::Read;
                    if !connection.listed {
                        connection.listed = true;
                        self.ready.push_back(slot);
                    }
                }
                Done::Part(part) => {
                    if let Some(scan) = self.keyspace.compact(&part) {
                        self.loader.scan(scan);
                    }
                }
            }
        }
    }

    /// Puts a connection back into its place, and notes whether it has something to send.
    pub(super) fn put_back(&mut self, slot: usize, mut connection: Box<Connection>) {
        if !connection.dirty && (connection.pending() > 0 || connection.closing) {
            connection.dirty = true;
            self.dirty.push(slot);
        }
        if let Some(place) = self.connections.get_mut(slot) {
            *place = Some(connection);
        }
    }

    /// Encodes what the keyspace has for other clients.
    fn deliver(&mut self) {
        self.deliveries.extend(self.keyspace.deliveries());
        if self.deliveries.is_empty() {
            return;
        }
        let mut deliveries = std::mem::take(&mut self.deliveries);
        for Delivery { client, message } in deliveries.drain(..) {
            let Some(slot) = self.by_id.get(&client).copied() else { continue };
            let Some(mut connection) = self.connections.get_mut(slot).and_then(Option::take) else { continue };
            self.lend(&mut connection);
            let start = connection.out.len();
            if connection.replies != super::connection::Replies::Off {
                message.write(&mut connection.encoder());
            }
            if matches!(message, Message::Served(_)) {
                self.tells.push((client, start, connection.out.len()));
                connection.blocked = false;
                connection.active = self.now;
                if !connection.listed {
                    connection.listed = true;
                    self.ready.push_back(slot);
                }
            }
            if self.is_over_limit(&connection) {
                self.stats.closed_slow(&connection, "output buffer");
                self.drop_connection(slot, connection);
            } else {
                self.put_back(slot, connection);
            }
        }
        self.deliveries = deliveries;
    }

    /// Writes the changes of this turn so far and makes everything durable, in the middle of a turn.
    ///
    /// # Errors
    /// As [`Persistence::turn`]; the end of the turn then corrects the replies.
    pub(super) fn save(&mut self) -> Result<(), Refusal> {
        let saved = self.persistence.turn(&mut self.keyspace).and_then(|()| self.persistence.sync_now());
        if let Err(refusal) = &saved {
            self.failed = Some(refusal.clone());
        }
        saved
    }

    /// The journal did not take this turn: whoever was told of a change is told the truth instead.
    fn retract(&mut self, refusal: &Refusal) {
        let text = refusal.told();
        self.tells.sort_unstable();
        let tells = std::mem::take(&mut self.tells);
        for same in tells.chunk_by(|left, right| left.0 == right.0) {
            // A client may have gone since.
            let Some(slot) = same.first().and_then(|tell| self.by_id.get(&tell.0).copied()) else { continue };
            let ranges: Vec<(usize, usize)> = same.iter().map(|(_, start, end)| (*start, *end)).collect();
            if let Some(Some(connection)) = self.connections.get_mut(slot) {
                connection.retract(&ranges, &text);
            }
        }
        self.stats.refused_turns.inc();
    }

    pub(super) fn send_all(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut held = Vec::new();
        for slot in dirty.drain(..) {
            let Some(mut connection) = self.connections.get_mut(slot).and_then(Option::take) else { continue };
            if self.script.active && self.tells.iter().any(|tell| tell.0 == connection.client.id) {
                // Its change is not in the journal before the end of the turn.
                held.push(slot);
                if let Some(place) = self.connections.get_mut(slot) {
                    *place = Some(connection);
                }
                continue;
            }
            connection.dirty = false;
            let before = connection.pending();
            let sent = connection.send(self.poll.registry());
            self.stats.bytes_out += before.saturating_sub(connection.pending()) as u64;
            let gone = match sent {
                Sent::Failed => true,
                Sent::All => {
                    self.take_back(&mut connection);
                    connection.closing
                }
                Sent::Part => {
                    let over = self.is_over_limit(&connection);
                    if over {
                        self.stats.closed_slow(&connection, "output buffer");
                    }
                    over
                }
            };
            if gone {
                self.drop_connection(slot, connection);
            } else if let Some(place) = self.connections.get_mut(slot) {
                *place = Some(connection);
            }
        }
        dirty.append(&mut held);
        self.dirty = dirty;
    }

    /// What is due by time.
    fn tick(&mut self) {
        let busy = self.refusal.is_none() && self.keyspace.tick(EXPIRY);
        self.next_tick = self.now + if busy { TICK / 20 } else { TICK };
        self.persistence.tick();
        if let Some(scan) = self.keyspace.tidy_cold() {
            self.loader.scan(scan);
        }
        if self.pause.is_some_and(|(until, _)| until <= self.now) {
            self.pause = None;
        }
        if std::mem::take(&mut self.stats.accept_again) {
            (0..self.listeners.len()).for_each(|index| self.accept(index));
        }
        self.show_places();
        if self.stats.second(self.now, &self.keyspace, &self.persistence) {
            self.look_at_clients();
        }
    }

    /// Stops accepting, serves what has arrived, sends what is ready, and makes everything durable.
    fn drain(mut self, events: &mut Events) {
        for listener in self.listeners.drain(..).flatten() {
            listener.close(self.poll.registry());
        }
        let until = self.clock.monotonic() + DRAIN;
        self.pause = None;
        // One turn sees what has arrived; more only for those with requests or replies left.
        let mut first = true;
        while self.clock.monotonic() < until {
            let busy = |client: &Connection| client.pending() > 0 || client.cold == Cold::Wanted;
            let left = !self.next.is_empty() || self.connections.iter().flatten().any(|client| busy(client));
            if !(first || left) || !self.turn(events, Duration::from_millis(if first { 0 } else { 10 })) {
                break;
            }
            first = false;
        }
        if let Err(refusal) = self.persistence.sync_now() {
            tracing::error!(%refusal, "the last changes of the keyspace may not survive a power cut");
        }
        tracing::info!(clients = self.by_id.len(), "the Redis door is closed");
    }
}
