//! From bytes to commands: what a client may say now, and what becomes of it.

use super::commands;
use super::connection::{Cold, Connection, Replies};
use super::figures::Outcome;
use super::protocol::Step;
use super::server::{Paused, REPLIES, REQUESTS, Server};
use crate::kv::commands::lookup;
use crate::kv::{Command, Flags, Flow, Keyspace, Reply, up_to_zero};

/// Bytes of arguments an error about an unknown command repeats.
const REPEATED: usize = 128;

impl Server {
    /// Runs every whole request at the start of `input`, within the bounds of a turn; bytes dealt with.
    pub(super) fn requests(&mut self, connection: &mut Connection, input: &[u8]) -> usize {
        self.lend(connection);
        let mut decoder = std::mem::take(&mut connection.decoder);
        let mut kept = std::mem::take(&mut self.arguments);
        let replies_end = connection.out.len() + REPLIES;
        let mut used = 0;
        let mut left = REQUESTS;
        self.began = self.clock.monotonic();
        connection.more = false;
        loop {
            if connection.waits() || left == 0 || connection.out.len() > replies_end {
                connection.more = true;
                break;
            }
            if connection.closing {
                break;
            }
            let rest = input.get(used..).unwrap_or_default();
            let limits = connection.limits(self.config.max_bulk.bytes());
            let length = match decoder.next(rest, &limits) {
                Ok(Step::Request(length)) => length,
                Ok(Step::Incomplete) => break,
                Err(error) => {
                    connection.encoder().error(&format!("ERR {error}"));
                    connection.closing = true;
                    self.stats.protocol_errors.inc();
                    used = input.len();
                    break;
                }
            };
            let mut arguments = recycle(kept);
            decoder.arguments(rest, &mut arguments);
            let runs = !self.waits(&arguments) && !self.is_set_aside(connection, &arguments);
            if runs {
                used += length;
                left -= 1;
                self.request(connection, &arguments);
            }
            kept = recycle(arguments);
            if !runs {
                connection.more = true;
                break;
            }
        }
        self.arguments = kept;
        connection.decoder = decoder;
        used
    }

    /// Whether `CLIENT PAUSE` holds this request back.
    fn waits(&self, arguments: &[&[u8]]) -> bool {
        match self.pause {
            None => false,
            Some((_, Paused::All)) => true,
            Some((_, Paused::Writes)) => arguments.first().and_then(|name| lookup(name)).is_some_and(|command| {
                let runs = command.flags.contains(Flags::SCRIPT) && !command.flags.contains(Flags::READONLY);
                command.flags.contains(Flags::WRITE) || runs || command.name == "function"
            }),
        }
    }

    /// Whether this request waits until values it needs are read from disk. It is decoded again then.
    fn is_set_aside(&self, connection: &mut Connection, arguments: &[&[u8]]) -> bool {
        if std::mem::take(&mut connection.cold) == Cold::Read || !connection.authenticated {
            return false;
        }
        let Some(command) = arguments.first().and_then(|name| lookup(name)) else { return false };
        // Who may not see a value does not make the disk read it; the refusal follows when the request runs.
        let acl = connection.client.acl.as_ref();
        if acl.is_some_and(|acl| acl.check(command, connection.client.db, arguments).is_err()) {
            return false;
        }
        let values = self.keyspace.wanted(command, &connection.client, arguments);
        if values.is_empty() {
            return false;
        }
        connection.cold = Cold::Wanted;
        self.loader.read(connection.client.id, values);
        true
    }

    /// Runs one request.
    fn request(&mut self, connection: &mut Connection, arguments: &[&[u8]]) {
        let Some(name) = arguments.first() else { return };
        self.stats.commands += 1;
        connection.active = self.now;
        let start = connection.out.len();
        match lookup(name) {
            Some(command) => {
                connection.last_command = command.name;
                if !self.watchers.is_empty() && connection.authenticated {
                    self.show(connection, command, arguments);
                }
                let before = self.keyspace.effects().bytes().len();
                let refused = self.stats.errors;
                self.command(connection, command, arguments);
                if self.keyspace.effects().bytes().len() != before {
                    self.tells.push((connection.client.id, start, connection.out.len()));
                }
                let outcome = match connection.out.get(start) {
                    Some(b'-') if self.stats.errors != refused => Outcome::Rejected,
                    Some(b'-') => Outcome::Failed,
                    _ => Outcome::Done,
                };
                let micros = self.time(connection, command, arguments);
                let reply = connection.out.get(start..).unwrap_or_default();
                self.figures.count(command, arguments, micros, outcome, reply);
            }
            None if connection.authenticated => self.unknown(connection, arguments),
            None => self.refuse(connection, "NOAUTH Authentication required."),
        }
        match connection.replies {
            Replies::On => {}
            Replies::SkipNext => connection.replies = Replies::Skip,
            Replies::Off => self.take_replies_back(connection, start),
            Replies::Skip => {
                self.take_replies_back(connection, start);
                connection.replies = Replies::On;
            }
        }
    }

    /// One look at the clock a command: the end of one is the beginning of the next.
    fn time(&mut self, connection: &Connection, command: &Command, arguments: &[&[u8]]) -> u64 {
        let now = self.clock.monotonic();
        let took = now.saturating_sub(std::mem::replace(&mut self.began, now));
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let clock = &self.clock;
        if self.timing.watches() {
            self.timing.took(connection, command, arguments, micros, || clock.now().seconds());
        }
        micros
    }

    fn take_replies_back(&mut self, connection: &mut Connection, start: usize) {
        connection.out.truncate(start);
        if let Some(tell) = self.tells.last_mut().filter(|tell| tell.0 == connection.client.id && tell.2 > start) {
            tell.2 = start;
        }
    }

    fn command(&mut self, connection: &mut Connection, command: &'static Command, arguments: &[&[u8]]) {
        if !connection.authenticated && !command.flags.contains(Flags::NO_AUTH) {
            return self.refuse(connection, "NOAUTH Authentication required.");
        }
        if let Some(denied) = self.denies(connection, command, arguments) {
            return self.refuse(connection, denied.to_string());
        }
        if self.script.active {
            return self.command_while_busy(connection, command, arguments);
        }
        if let Some(refusal) = &self.refusal {
            let executes = command.name == "exec" && connection.client.queued().is_some_and(|count| count > 0);
            if command.flags.contains(Flags::WRITE) || executes {
                let text = refusal.told();
                return self.refuse_write(connection, executes, &text);
            }
        }
        match self.execute(connection, command, arguments) {
            Flow::Done => {}
            Flow::Blocked => connection.blocked = true,
            Flow::Door => commands::run(self, connection, command, arguments),
            Flow::Within => self.run_due(connection),
        }
    }

    /// Runs the door's commands of a transaction where they stand in it, and the rest of it.
    fn run_due(&mut self, connection: &mut Connection) {
        while let Some((command, arguments)) = connection.client.take_due() {
            let arguments: Vec<&[u8]> = arguments.iter().map(|argument| &**argument).collect();
            let start = connection.out.len();
            commands::run(self, connection, command, &arguments);
            if connection.out.len() == start {
                // `CLIENT REPLY OFF` says nothing, but the head of the array has counted it.
                connection.encoder().null();
            }
            self.proceed(connection);
        }
    }

    /// Refuses a command that would change keys; a transaction is discarded.
    pub(super) fn refuse_write(&mut self, connection: &mut Connection, executes: bool, text: &str) {
        if !executes {
            return self.refuse(connection, text);
        }
        if let Some(discard) = lookup(b"discard") {
            let start = connection.out.len();
            let mut encoder = super::encoder::Encoder::new(&mut connection.out, connection.protocol);
            self.keyspace.execute(discard, &mut connection.client, &[b"discard"], &mut encoder);
            connection.out.truncate(start);
        }
        self.refuse(connection, format!("EXECABORT Transaction discarded because of: {text}"));
    }

    /// Answers with an error that keeps a transaction under way from running.
    pub(super) fn refuse(&mut self, connection: &mut Connection, text: impl AsRef<[u8]>) {
        Keyspace::refuse(&mut connection.client);
        self.stats.errors += 1;
        connection.encoder().error_bytes(text.as_ref());
    }

    /// In the words of Redis, which clients look for to fall back.
    fn unknown(&mut self, connection: &mut Connection, arguments: &[&[u8]]) {
        let name = arguments.first().copied().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            // A browser was made to speak to us; whatever follows was not meant for Redis.
            tracing::warn!(peer = connection.peer, "an HTTP request on the Redis door; the client is closed");
            connection.closing = true;
            return;
        }
        let mut text =
            [&b"ERR unknown command '"[..], repeated(name, REPEATED), b"', with args beginning with: "].concat();
        let mut left = REPEATED;
        for argument in arguments.iter().skip(1) {
            if left == 0 {
                break;
            }
            text.push(b'\'');
            text.extend_from_slice(repeated(argument, left));
            text.extend_from_slice(b"' ");
            left = left.saturating_sub(argument.len() + 3);
        }
        self.refuse(connection, text);
    }
}

/// At most `limit` bytes of `argument`, as Redis repeats them.
pub fn repeated(argument: &[u8], limit: usize) -> &[u8] {
    up_to_zero(argument.get(..limit).unwrap_or(argument))
}

/// At most `limit` bytes of `argument`, as text.
pub fn shown(argument: &[u8], limit: usize) -> String {
    String::from_utf8_lossy(argument.get(..limit).unwrap_or(argument)).into_owned()
}

/// The same allocation for references of another lifetime.
fn recycle<'b>(mut arguments: Vec<&[u8]>) -> Vec<&'b [u8]> {
    arguments.clear();
    if arguments.capacity() > 1024 {
        return Vec::new();
    }
    // The standard library collects in place when both types have one layout; there is nothing to convert.
    arguments.into_iter().map(|_| -> &'b [u8] { &[] }).collect()
}
