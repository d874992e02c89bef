//! Clients that come and go, and what they may hold meanwhile.

use std::io::{self, Write};

use mio::Token;

use super::connection::{Cold, Connection, KEEP};
use super::listen::Stream;
use super::server::{FIRST, Server};
use super::tls::TlsStream;
use crate::kv::Client;

/// Connections accepted from one listener in one turn.
const ACCEPTS: usize = 64;
/// Reply buffers kept for the next turn.
const POOL: usize = 128;

impl Server {
    pub(super) fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let Some(Some(listener)) = self.listeners.get(index) else { return };
            match listener.accept(|peer| self.bans.shuts_out(peer)) {
                Ok(Some((stream, peer, local))) => self.admit(stream, (peer, local)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // No descriptor left, or a peer gone already; the edge-triggered event will not come again for
                    // those still waiting, so the tick looks again.
                    self.stats.accept_failed(&error);
                    return;
                }
            }
        }
        // More may wait than one turn takes.
        self.stats.accept_again = true;
    }

    /// Takes the clients from the TLS listener.
    pub(super) fn take_arrivals(&mut self) {
        for arrival in self.arrivals.take() {
            let stream = TlsStream::new(arrival.socket, arrival.session);
            self.admit(Stream::Tls(Box::new(stream)), arrival.addresses);
        }
    }

    /// Tells the TLS listener how many more clients there may be.
    pub(super) fn show_places(&self) {
        self.arrivals.set_places((self.config.max_clients as usize).saturating_sub(self.by_id.len()));
    }

    fn admit(&mut self, mut stream: Stream, addresses: (String, String)) {
        if self.by_id.len() >= self.config.max_clients as usize {
            // A courtesy that must not block: a fresh socket has room for it.
            let _ = stream.write(b"-ERR max number of clients reached\r\n");
            stream.close(self.poll.registry());
            self.stats.rejected.inc();
            return;
        }
        let slot = self.free.pop().unwrap_or(self.connections.len());
        let token = Token(slot + FIRST);
        if stream.register(self.poll.registry(), token).is_err() {
            self.free.push(slot);
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        let mut connection = Box::new(Connection::new(stream, token, Client::new(id), addresses, self.now));
        connection.authenticated = self.password.is_none();
        connection.listed = true;
        if slot == self.connections.len() {
            self.connections.push(None);
        }
        if let Some(place) = self.connections.get_mut(slot) {
            *place = Some(connection);
        }
        self.by_id.insert(id, slot);
        self.ready.push_back(slot);
        self.stats.accepted(self.by_id.len());
        self.show_places();
    }

    pub(super) fn drop_connection(&mut self, slot: usize, mut connection: Box<Connection>) {
        if connection.watches {
            self.watchers.retain(|id| *id != connection.client.id);
        }
        connection.stream.close(self.poll.registry());
        if connection.cold == Cold::Wanted {
            self.loader.forget(connection.client.id);
        }
        self.by_id.remove(&connection.client.id);
        self.depart(std::mem::replace(&mut connection.client, Client::new(0)));
        if let Some(place) = self.connections.get_mut(slot) {
            *place = None;
        }
        self.free.push(slot);
        self.stats.closed(self.by_id.len());
        self.show_places();
    }

    /// Once a second: clients that idle too long, or leave too much unread for too long.
    pub(super) fn look_at_clients(&mut self) {
        let timeout = self.config.timeout.duration();
        for slot in 0..self.connections.len() {
            let Some(Some(connection)) = self.connections.get_mut(slot) else { continue };
            let subscribed = connection.client.subscriptions() > 0;
            let idle = !timeout.is_zero() && self.now.saturating_sub(connection.active) > timeout;
            let soft = subscribed && connection.pending() as u64 > self.config.pubsub_soft_limit.bytes();
            connection.over_soft = soft.then(|| connection.over_soft.unwrap_or(self.now));
            let slow = connection
                .over_soft
                .is_some_and(|since| self.now.saturating_sub(since) > self.config.pubsub_soft_span.duration());
            if (slow || idle && !connection.blocked && !subscribed)
                && let Some(connection) = self.connections.get_mut(slot).and_then(Option::take)
            {
                if slow {
                    self.stats.closed_slow(&connection, "output buffer");
                }
                self.drop_connection(slot, connection);
            }
        }
    }

    /// Whether a client has left more replies unread than it may.
    pub(super) fn is_over_limit(&self, connection: &Connection) -> bool {
        let limit = if connection.client.subscriptions() > 0 || connection.watches {
            self.config.pubsub_output_limit
        } else {
            self.config.output_limit
        };
        limit.bytes() > 0 && connection.pending() as u64 > limit.bytes()
    }

    /// A buffer for the replies of a client that has none.
    pub(super) fn lend(&mut self, connection: &mut Connection) {
        if connection.out.capacity() == 0
            && let Some(buffer) = self.pool.pop()
        {
            connection.out = buffer;
        }
    }

    /// Keeps a sent buffer for the next client, unless it has grown large.
    pub(super) fn take_back(&mut self, connection: &mut Connection) {
        let buffer = std::mem::take(&mut connection.out);
        if buffer.capacity() <= KEEP && self.pool.len() < POOL {
            self.pool.push(buffer);
        }
    }
}
