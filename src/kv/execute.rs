//! How a command is run: checks, transaction queue, the command itself, and then those who waited for its outcome.

use super::client::{Client, Queue};
use super::commands::{Command, Flags};
use super::error::Fault;
use super::keyspace::Keyspace;
use super::memory::Means;
use super::reply::Reply;
use super::script::{Alone, Host};

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The reply is written.
    Done,
    /// No reply yet: the client is blocked, and the door reads no further command of it until a
    /// [`Served`](super::Message::Served) delivery brings the reply.
    Blocked,
    /// Checked, but the door's own to run (see [`Command::run`]).
    Door,
    /// `EXEC` has come to a command that is the door's own: the door takes it with [`Client::take_due`], runs it, and
    /// goes on with [`Keyspace::proceed`].
    Within,
}

/// A command being run.
pub struct Call<'a> {
    /// The keyspace.
    pub keyspace: &'a mut Keyspace,
    /// The client it came from.
    pub client: &'a mut Client,
    /// Name and arguments.
    pub args: &'a [&'a [u8]],
    /// Where the answer goes.
    pub reply: &'a mut (dyn Reply + 'a),
    /// Whether it may block; not inside of a transaction.
    pub may_block: bool,
    /// What became of it.
    pub flow: Flow,
    /// Whom a long script asks whether to go on.
    pub host: &'a mut (dyn Host + 'a),
}

impl<'a> Call<'a> {
    /// The argument at `index`; 0 is the command's name.
    ///
    /// # Errors
    /// [`Fault::Syntax`] when there is none, since the number of arguments was checked before.
    pub fn arg(&self, index: usize) -> Result<&'a [u8], Fault> {
        self.args.get(index).copied().ok_or(Fault::Syntax)
    }

    /// The arguments from `index` on.
    pub fn rest(&self, index: usize) -> &'a [&'a [u8]] {
        self.args.get(index..).unwrap_or_default()
    }

    /// The argument at `index` as an integer.
    ///
    /// # Errors
    /// [`Fault::NotInteger`], or [`Fault::Syntax`] when there is none.
    pub fn integer(&self, index: usize) -> Result<i64, Fault> {
        super::number::integer(self.arg(index)?).ok_or(Fault::NotInteger)
    }
}

impl Keyspace {
    /// Runs one command of `client`; `args` starts with its name as sent. What the command changed is in
    /// [`Keyspace::effects`] afterwards, what it sends to others in [`Keyspace::deliveries`].
    ///
    /// Checks the number of arguments, `SUBSCRIBE` mode, `kv.max_memory`, and queues inside of `MULTI`; whether the
    /// client may say anything at all (`NOAUTH`) is the door's to check before.
    pub fn execute(
        &mut self,
        command: &'static Command,
        client: &mut Client,
        args: &[&[u8]],
        reply: &mut dyn Reply,
    ) -> Flow {
        self.execute_with(command, client, args, reply, true, &mut Alone::default())
    }

    /// As [`Keyspace::execute`]; a script that takes long asks `host` whether to go on.
    pub fn execute_under(
        &mut self,
        command: &'static Command,
        client: &mut Client,
        args: &[&[u8]],
        reply: &mut dyn Reply,
        host: &mut dyn Host,
    ) -> Flow {
        self.execute_with(command, client, args, reply, true, host)
    }

    fn execute_with(
        &mut self,
        command: &'static Command,
        client: &mut Client,
        args: &[&[u8]],
        reply: &mut dyn Reply,
        may_block: bool,
        host: &mut dyn Host,
    ) -> Flow {
        let room = if command.flags.contains(Flags::DENYOOM) { self.make_room_for_more(Means::Evict) } else { Ok(()) };
        let flow = match room.and_then(|()| self.admit(command, client, args, reply.resp3())) {
            Ok(true) => {
                reply.simple("QUEUED");
                return Flow::Done;
            }
            Ok(false) => match self.run(command, client, args, reply, may_block, host) {
                // The transaction is not over: nobody else may be served from its half.
                Flow::Within => return Flow::Within,
                flow => flow,
            },
            Err(fault) if command.name == "exec" => {
                client.queue = None;
                self.unwatch(client);
                let text = fault.to_string();
                let said = text.split_once(' ').map_or("", |(_, said)| said);
                reply.error(&format!("EXECABORT Transaction discarded because of: {said}"));
                Flow::Done
            }
            Err(fault) => {
                Self::refuse(client);
                reply.error_bytes(&fault.bytes());
                Flow::Done
            }
        };
        self.serve_waits();
        flow
    }

    /// As [`Keyspace::execute`], for a client that cannot wait: a command that would block it answers as if its time
    /// were up.
    pub fn execute_at_once(
        &mut self,
        command: &'static Command,
        client: &mut Client,
        args: &[&[u8]],
        reply: &mut dyn Reply,
    ) -> Flow {
        self.execute_with(command, client, args, reply, false, &mut Alone::default())
    }

    /// Notes that `client` sent something that is no command, so that its transaction, if any, must not run.
    pub fn refuse(client: &mut Client) {
        if let Some(queue) = &mut client.queue {
            queue.refused = true;
        }
    }

    /// Ends everything that hangs on a connection: transaction, watches, subscriptions, waits. For `RESET` and for
    /// connections that end.
    pub fn disconnect(&mut self, client: &mut Client) {
        client.queue = None;
        client.running = None;
        client.db = 0;
        self.unwatch(client);
        self.unsubscribe_all(client);
        self.waits.remove(client.id);
    }

    /// The checks before a command runs; `true` when it was queued instead.
    fn admit(
        &self,
        command: &'static Command,
        client: &mut Client,
        args: &[&[u8]],
        resp3: bool,
    ) -> Result<bool, Fault> {
        command.check(args)?;
        if client.subscriptions() > 0 && !resp3 && !command.flags.contains(Flags::SUBSCRIBED) {
            return Err(Fault::Told(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                command.name
            )));
        }
        let Some(queue) = &mut client.queue else { return Ok(false) };
        if command.flags.contains(Flags::AT_ONCE) {
            return Ok(false);
        }
        if command.flags.contains(Flags::NO_MULTI) {
            return Err(Fault::Text("ERR Command not allowed inside a transaction"));
        }
        queue.add(command, args, self.config.queue_commands, self.config.queue_bytes.as_usize())?;
        Ok(true)
    }

    /// Runs a command that was admitted.
    pub(super) fn run(
        &mut self,
        command: &'static Command,
        client: &mut Client,
        args: &[&[u8]],
        reply: &mut dyn Reply,
        may_block: bool,
        host: &mut dyn Host,
    ) -> Flow {
        let Some(run) = command.run else { return Flow::Door };
        let mut call = Call { keyspace: self, client, args, reply, may_block, flow: Flow::Done, host };
        let flow = match run(&mut call) {
            Ok(()) => call.flow,
            Err(fault) => {
                call.reply.error_bytes(&fault.bytes());
                Flow::Done
            }
        };
        if flow != Flow::Within {
            self.announce(command.name, args);
        }
        flow
    }
}

impl Queue {
    fn add(&mut self, command: &'static Command, args: &[&[u8]], commands: u32, bytes: usize) -> Result<(), Fault> {
        // 32 bytes stand for what each argument takes besides its text.
        self.bytes += args.iter().map(|arg| arg.len() + 32).sum::<usize>();
        if self.commands.len() >= commands as usize || self.bytes > bytes {
            self.commands = Vec::new();
            return Err(Fault::Text("ERR transaction is too large (kv.queue_commands, kv.queue_bytes)"));
        }
        self.commands.push((command, args.iter().map(|arg| Box::from(*arg)).collect()));
        Ok(())
    }
}
