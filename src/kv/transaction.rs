//! `EXEC`: queued commands as one unit.

use super::client::{Client, Due, Running};
use super::error::Fault;
use super::execute::Flow;
use super::keyspace::Keyspace;
use super::memory::Means;
use super::reply::Reply;
use super::script::Host;

impl Keyspace {
    /// Runs what `client` queued, or refuses to. Its effects stand between a begin and an end mark.
    pub(super) fn exec(
        &mut self,
        client: &mut Client,
        reply: &mut dyn Reply,
        host: &mut dyn Host,
    ) -> Result<Flow, Fault> {
        let Some(queue) = client.queue.take() else { return Err(Fault::Text("ERR EXEC without MULTI")) };
        let broken = self.is_broken(client);
        self.unwatch(client);
        if queue.refused {
            return Err(Fault::ExecAborted);
        }
        if broken {
            reply.null_array();
            return Ok(Flow::Done);
        }
        let before = self.effects.mark();
        self.effects.begin();
        let begun = self.effects.mark();
        reply.array(queue.commands.len());
        client.running = Some(Running { commands: queue.commands.into_iter(), due: None, before, begun });
        Ok(self.steps(client, reply, host))
    }

    /// Goes on with the transaction of `client` after the door has run a command of its own in it ([`Flow::Within`]).
    /// Between the two calls nothing else may use the keyspace, and nothing may take its effects.
    pub fn proceed(&mut self, client: &mut Client, reply: &mut dyn Reply, host: &mut dyn Host) -> Flow {
        let flow = self.steps(client, reply, host);
        if flow != Flow::Within {
            self.serve_waits();
        }
        flow
    }

    fn steps(&mut self, client: &mut Client, reply: &mut dyn Reply, host: &mut dyn Host) -> Flow {
        let Some(mut running) = client.running.take() else { return Flow::Done };
        for (command, args) in running.commands.by_ref() {
            if command.run.is_none() {
                running.due = Some((command, args));
                client.running = Some(running);
                return Flow::Within;
            }
            let args: Vec<&[u8]> = args.iter().map(|arg| &**arg).collect();
            // The user's rights may have changed since the command was queued.
            let denied = client.acl.as_ref().and_then(|acl| acl.check(command, client.db, &args).err());
            if let Some(denied) = denied {
                reply.error(&denied.to_string());
            } else if command.flags.contains(super::Flags::DENYOOM)
                // Nothing is deleted between the commands of a transaction.
                && let Err(fault) = self.make_room_for_more(Means::Move)
            {
                reply.error_bytes(&fault.bytes());
            } else if self.run(command, client, &args, reply, false, host) != Flow::Done {
                // Nothing may block here; keep the reply well-formed.
                reply.null();
            }
        }
        if self.effects.mark() == running.begun {
            self.effects.truncate(running.before);
        } else {
            self.effects.end();
        }
        Flow::Done
    }
}

impl Client {
    /// The command of a transaction that is the door's to run now; see [`Flow::Within`].
    pub fn take_due(&mut self) -> Option<Due> {
        self.running.as_mut().and_then(|running| running.due.take())
    }

    /// Whether `EXEC` is under way.
    pub const fn is_executing(&self) -> bool {
        self.running.is_some()
    }
}
