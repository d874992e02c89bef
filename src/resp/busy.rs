//! While a script takes long: the other clients are answered `BUSY`, and may end it.
//!
//! A script runs on the loop's own thread, in the middle of a request. It gets the keyspace for that time, and an empty
//! stand-in takes its place in the server; every few instructions the script calls back ([`Host::pulse`]), and past
//! `kv.script_busy` each call is a small turn of the loop: read, answer, send. Nobody's command reaches the stand-in but
//! the few that need no keyspace. Who is owed the reply to a change of this very turn waits for its end, since the change is
//! not in the journal yet.

use std::time::Duration;

use mio::{Events, Token};

use super::commands;
use super::connection::{Connection, READ};
use super::server::{FIRST, Server, WAKER};
use crate::kv::commands::functions::answer_engines;
use crate::kv::{Client, Command, Flags, Flow, Host, Keyspace, Progress, Reply, Verdict};

const BUSY_SCRIPT: &str = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";
const BUSY_FUNCTION: &str = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";
const UNKILLABLE: &str = "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.";

/// Events taken in one small turn.
const EVENTS: usize = 128;
/// Arguments of the command under way that `FUNCTION STATS` shows, and bytes of each.
const SHOWN: (usize, usize) = (32, 128);
/// Longest time a script that has changed something goes on after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// The script that runs.
#[derive(Debug, Default)]
pub struct Script {
    /// It has run for so long that the others are answered here.
    pub active: bool,
    started: Duration,
    busy_after: Duration,
    /// Zero is no limit.
    limit: Duration,
    kill: bool,
    dirty: bool,
    /// The function that runs, when it is one: its name, and the command that called it.
    function: Option<(String, Vec<Vec<u8>>)>,
    /// Libraries and functions there are.
    functions: (usize, usize, usize),
    /// Clients that went meanwhile, whom the keyspace has yet to forget.
    departed: Vec<Client>,
    events: Option<Events>,
}

impl Server {
    /// Runs a command on the keyspace; if it may run a script, with this server as its host.
    pub(super) fn execute(
        &mut self,
        connection: &mut Connection,
        command: &'static Command,
        arguments: &[&[u8]],
    ) -> Flow {
        let Connection { client, out, protocol, .. } = connection;
        let mut encoder = super::encoder::Encoder::new(out, *protocol);
        if !command.flags.contains(Flags::SCRIPT) || client.queued().is_some() && command.name != "exec" {
            return self.keyspace.execute(command, client, arguments, &mut encoder);
        }
        self.lend_keyspace(|keyspace, host| keyspace.execute_under(command, client, arguments, &mut encoder, host))
    }

    /// Goes on with a transaction behind a command of the door's.
    pub(super) fn proceed(&mut self, connection: &mut Connection) {
        let Connection { client, out, protocol, .. } = connection;
        let mut encoder = super::encoder::Encoder::new(out, *protocol);
        self.lend_keyspace(|keyspace, host| keyspace.proceed(client, &mut encoder, host));
    }

    fn lend_keyspace<R>(&mut self, work: impl FnOnce(&mut Keyspace, &mut Self) -> R) -> R {
        let stand_in = self.stand_in.take().unwrap_or_else(|| Box::new(self.keyspace.stand_in()));
        let mut keyspace = std::mem::replace(&mut self.keyspace, stand_in);
        self.script.busy_after = keyspace.config().script_busy.duration();
        self.script.limit = keyspace.config().script_limit.duration();
        self.script.functions = keyspace.function_info();
        let result = work(&mut keyspace, self);
        self.stand_in = Some(std::mem::replace(&mut self.keyspace, keyspace));
        if std::mem::take(&mut self.script.active) {
            for mut client in std::mem::take(&mut self.script.departed) {
                self.keyspace.disconnect(&mut client);
            }
            let ran = self.clock.monotonic().saturating_sub(self.script.started);
            tracing::warn!(ran_ms = ran.as_millis() as u64, "a script has held up the Redis door");
        }
        result
    }

    /// Forgets a client that goes: at once, or when the keyspace is back.
    pub(super) fn depart(&mut self, mut client: Client) {
        if self.script.active {
            self.script.departed.push(client);
        } else {
            self.keyspace.disconnect(&mut client);
        }
    }

    /// A small turn in the middle of a script.
    fn busy_turn(&mut self) {
        let mut events = self.script.events.take().unwrap_or_else(|| Events::with_capacity(EVENTS));
        // Whatever fails here fails in the next whole turn too, and is told there.
        if self.poll.poll(&mut events, Some(Duration::ZERO)).is_ok() {
            for event in &events {
                match event.token() {
                    WAKER => {}
                    Token(token) if token < FIRST => self.accept(token - 1),
                    Token(token) => self.notice(token - FIRST, event.is_read_closed(), event.is_writable()),
                }
            }
        }
        self.script.events = Some(events);
        self.take_arrivals();
        if self.scratch.len() < READ {
            // The request under way holds the usual one.
            self.scratch = vec![0; READ];
        }
        self.ready.append(&mut self.next);
        while let Some(slot) = self.ready.pop_front() {
            self.serve(slot);
        }
        self.persistence.tick();
        self.send_all();
    }

    /// Answers a command while a script runs.
    pub(super) fn command_while_busy(
        &mut self,
        connection: &mut Connection,
        command: &'static Command,
        arguments: &[&[u8]],
    ) {
        let is = |index: usize, word: &str| {
            arguments.get(index).is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
        };
        let busy = if self.script.function.is_some() { BUSY_FUNCTION } else { BUSY_SCRIPT };
        match command.name {
            _ if !command.takes(arguments.len()) => self.refuse(connection, busy),
            "auth" | "hello" | "quit" => commands::run(self, connection, command, arguments),
            "shutdown" if is(1, "nosave") => commands::run(self, connection, command, arguments),
            "function" if is(1, "stats") && arguments.len() == 2 && self.script.function.is_some() => {
                self.tell_of_function(connection);
            }
            "script" | "function"
                if is(1, "kill")
                    && arguments.len() == 2
                    && (command.name == "function") == self.script.function.is_some() =>
            {
                if self.script.dirty {
                    connection.encoder().error(UNKILLABLE);
                } else {
                    self.script.kill = true;
                    tracing::info!(client = connection.client.id, peer = connection.peer, "a client ends the script");
                    connection.encoder().simple("OK");
                }
            }
            // Their watches are in the keyspace, which is not here.
            _ if connection.client.watching() > 0 => self.refuse(connection, busy),
            "multi" | "discard" => {
                let mut encoder = super::encoder::Encoder::new(&mut connection.out, connection.protocol);
                self.keyspace.execute(command, &mut connection.client, arguments, &mut encoder);
            }
            "exec" if connection.client.queued().is_some() => self.refuse_write(connection, true, busy),
            _ => self.refuse(connection, busy),
        }
    }

    /// `FUNCTION STATS` while a function runs.
    fn tell_of_function(&self, connection: &mut Connection) {
        let Some((name, command)) = &self.script.function else { return };
        let ran = self.now.saturating_sub(self.script.started).as_millis();
        let mut reply = connection.encoder();
        reply.map(2);
        reply.bulk(b"running_script");
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(name.as_bytes());
        reply.bulk(b"command");
        reply.array(command.len());
        for argument in command {
            reply.bulk(argument);
        }
        reply.bulk(b"duration_ms");
        reply.integer(i64::try_from(ran).unwrap_or(i64::MAX));
        answer_engines(self.script.functions, &mut reply);
    }
}

impl Host for Server {
    fn begin(&mut self, function: Option<(&str, &[&[u8]])>) {
        self.script.function = function.map(|(name, command)| {
            let shown = command.iter().take(SHOWN.0);
            (name.to_owned(), shown.map(|argument| argument.get(..SHOWN.1).unwrap_or(argument).to_vec()).collect())
        });
        self.script.started = self.clock.monotonic();
        self.script.kill = false;
        self.script.dirty = false;
    }

    fn pulse(&mut self, script: Progress) -> Verdict {
        let now = self.clock.monotonic();
        let ran = now.saturating_sub(self.script.started);
        self.script.dirty = script.dirty;
        if self.shutdown.is_draining() && (!script.dirty || ran > DRAIN) {
            return Verdict::Stop;
        }
        if ran < self.script.busy_after {
            return Verdict::Go;
        }
        if !self.script.limit.is_zero() && ran > self.script.limit {
            return Verdict::Stop;
        }
        self.now = now;
        if !self.script.active {
            self.script.active = true;
            tracing::warn!(ran_ms = ran.as_millis() as u64, "a script runs for long; other clients are told BUSY");
        }
        self.busy_turn();
        if self.script.kill { Verdict::Kill } else { Verdict::Go }
    }

    fn refusal(&self) -> Option<String> {
        self.refusal.as_ref().map(crate::kv::persist::Refusal::told)
    }
}
