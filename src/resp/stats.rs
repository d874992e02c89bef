//! What the door counts, for `INFO` and the metrics.

use std::io;
use std::time::Duration;

use super::connection::Connection;
use crate::kv::Keyspace;
use crate::kv::persist::Persistence;
use crate::telemetry::metrics::{Counter, Gauge, Metrics};

/// Counters of the loop. Those changed for each command are plain numbers, told to the metrics once a turn.
#[derive(Debug)]
pub struct Stats {
    /// Commands run.
    pub commands: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Replies that were errors, of commands that never ran.
    pub errors: u64,
    /// A listener may have connections that no event will tell of.
    pub accept_again: bool,
    /// Monotonic time of the start.
    pub started: Duration,
    /// Wall-clock second of the last `SAVE` or `BGSAVE`, or of the start.
    pub last_save: u64,
    /// Commands run in the last whole second.
    pub per_second: u64,
    /// Most bytes keys and values have taken.
    pub peak: usize,
    /// Connections refused for want of a place.
    pub rejected: Counter,
    /// Turns the journal did not take.
    pub refused_turns: Counter,
    /// Requests that were none.
    pub protocol_errors: Counter,
    told: [u64; 4],
    /// Hits, misses, expired, evicted.
    told_keys: [u64; 4],
    key_counters: [Counter; 4],
    commands_total: Counter,
    errors_total: Counter,
    bytes_in_total: Counter,
    bytes_out_total: Counter,
    connections_total: Counter,
    slow_total: Counter,
    clients: Gauge,
    blocked: Gauge,
    keys: Gauge,
    memory: Gauge,
    journal: Gauge,
    next_second: Duration,
    commands_then: u64,
    last_accept_error: Option<Duration>,
}

impl Stats {
    /// Counters in `metrics`, from `started` (monotonic) and `wall` (seconds) on.
    pub fn new(metrics: &Metrics, started: Duration, wall: u64) -> Self {
        let counter = |name, help| metrics.counter(name, help, &[]);
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        Self {
            commands: 0,
            bytes_in: 0,
            bytes_out: 0,
            connections: 0,
            errors: 0,
            accept_again: false,
            started,
            last_save: wall,
            per_second: 0,
            peak: 0,
            rejected: counter("mainstay_redis_rejected_total", "Connections refused at redis.max_clients."),
            refused_turns: counter(
                "mainstay_redis_refused_writes_total",
                "Loop turns whose changes could not be journaled.",
            ),
            protocol_errors: counter(
                "mainstay_redis_protocol_errors_total",
                "Clients closed because their bytes were no request.",
            ),
            told: [0; 4],
            told_keys: [0; 4],
            key_counters: [
                counter("mainstay_redis_hits_total", "Reads that found their key."),
                counter("mainstay_redis_misses_total", "Reads that did not."),
                counter("mainstay_redis_expired_total", "Keys whose time had come."),
                counter("mainstay_redis_evicted_total", "Keys deleted to make room."),
            ],
            commands_total: counter("mainstay_redis_commands_total", "Commands run."),
            errors_total: counter("mainstay_redis_errors_total", "Commands refused before they ran."),
            bytes_in_total: counter("mainstay_redis_received_bytes_total", "Bytes received from clients."),
            bytes_out_total: counter("mainstay_redis_sent_bytes_total", "Bytes sent to clients."),
            connections_total: counter("mainstay_redis_connections_total", "Connections accepted."),
            slow_total: counter("mainstay_redis_slow_clients_total", "Clients closed for using too much memory."),
            clients: gauge("mainstay_redis_clients", "Clients connected."),
            blocked: gauge("mainstay_redis_blocked_clients", "Clients waiting in a blocking command."),
            keys: gauge("mainstay_redis_keys", "Keys in all databases."),
            memory: gauge("mainstay_redis_memory_bytes", "Bytes keys and values take."),
            journal: gauge("mainstay_redis_journal_bytes", "Bytes of journal since the last checkpoint."),
            next_second: started,
            commands_then: 0,
            last_accept_error: None,
        }
    }

    /// `CONFIG RESETSTAT`; the metrics go on.
    pub fn reset(&mut self) {
        self.turn();
        self.commands = 0;
        self.errors = 0;
        self.bytes_in = 0;
        self.bytes_out = 0;
        self.connections = 0;
        self.commands_then = 0;
        self.told = [0; 4];
    }

    /// Tells the metrics what the turn has counted.
    pub fn turn(&mut self) {
        let now = [self.commands, self.errors, self.bytes_in, self.bytes_out];
        let counters = [&self.commands_total, &self.errors_total, &self.bytes_in_total, &self.bytes_out_total];
        for ((counter, now), told) in counters.into_iter().zip(now).zip(&mut self.told) {
            if now > *told {
                counter.add(now - *told);
                *told = now;
            }
        }
    }

    /// A client came; so many are there now.
    pub fn accepted(&mut self, clients: usize) {
        self.connections += 1;
        self.connections_total.inc();
        self.clients.set(clients as i64);
    }

    /// A client went; so many are there now.
    pub fn closed(&self, clients: usize) {
        self.clients.set(clients as i64);
    }

    /// Accepting failed; said in the log once a minute at most.
    pub fn accept_failed(&mut self, error: &io::Error) {
        self.accept_again = true;
        let quiet =
            self.last_accept_error.is_some_and(|last| self.next_second.saturating_sub(last) < Duration::from_mins(1));
        if !quiet {
            self.last_accept_error = Some(self.next_second);
            tracing::warn!(%error, "the Redis door cannot accept a connection");
        }
    }

    /// A client is closed because it holds too much memory.
    pub fn closed_slow(&self, connection: &Connection, what: &'static str) {
        self.slow_total.inc();
        tracing::warn!(
            client = connection.client.id,
            peer = connection.peer,
            pending_bytes = connection.pending(),
            query_bytes = connection.input.len(),
            what,
            "a Redis client is closed: it holds more than it may"
        );
    }

    /// Once a second: the gauges. Says whether a second was over.
    pub fn second(&mut self, now: Duration, keyspace: &Keyspace, persistence: &Persistence) -> bool {
        if now < self.next_second {
            return false;
        }
        self.next_second = now + Duration::from_secs(1);
        self.per_second = self.commands - self.commands_then;
        self.commands_then = self.commands;
        let used = keyspace.used();
        self.peak = self.peak.max(used);
        self.memory.set(used as i64);
        let keys: usize = (0..crate::kv::config::DATABASES).map(|db| keyspace.database_info(db).keys).sum();
        self.keys.set(keys as i64);
        let counts = keyspace.counts();
        let now = [counts.hits, counts.misses, counts.expired, counts.evicted];
        for ((counter, now), told) in self.key_counters.iter().zip(now).zip(&mut self.told_keys) {
            // Fewer than before are those of a stand-in's.
            if now > *told {
                counter.add(now - *told);
                *told = now;
            }
        }
        self.blocked.set(keyspace.blocked_clients() as i64);
        self.journal.set(persistence.status().journal_bytes as i64);
        true
    }
}
