//! `EXEC`: queued commands as one unit.

use super::client::Client;
use super::error::Fault;
use super::execute::Flow;
use super::keyspace::Keyspace;
use super::reply::Reply;

impl Keyspace {
    /// Runs what `client` queued, or refuses to. Its effects stand between a begin and an end mark.
    pub(super) fn exec(&mut self, client: &mut Client, reply: &mut dyn Reply) -> Result<(), Fault> {
        let Some(queue) = client.queue.take() else { return Err(Fault::Text("ERR EXEC without MULTI")) };
        let broken = self.is_broken(client);
        self.unwatch(client);
        if queue.refused {
            return Err(Fault::ExecAborted);
        }
        if broken {
            reply.null_array();
            return Ok(());
        }
        let before = self.effects.mark();
        self.effects.begin();
        let begun = self.effects.mark();
        reply.array(queue.commands.len());
        for (command, args) in &queue.commands {
            let args: Vec<&[u8]> = args.iter().map(|arg| &**arg).collect();
            if command.flags.contains(super::Flags::DENYOOM) && self.is_full() {
                reply.error(&Fault::Full.to_string());
            } else if self.run(command, client, &args, reply, false) != Flow::Done {
                // The queue takes neither the door's commands nor may anything block; keep the reply well-formed.
                reply.null();
            }
        }
        if self.effects.mark() == begun {
            self.effects.truncate(before);
        } else {
            self.effects.end();
        }
        Ok(())
    }
}
