//! `MONITOR`: every command as it arrives, shown to who asks.

use std::fmt::Write as _;

use super::connection::Connection;
use super::server::Server;
use super::timing::secret_from;
use crate::kv::{Command, Flags, Reply as _};

/// Most arguments a line shows, and most bytes of each: what a client sends once is kept for every watcher.
const ARGUMENTS: usize = 64;
const ARGUMENT: usize = 1024;

impl Server {
    /// Shows a command to those who watch.
    #[cold]
    pub(super) fn show(&mut self, connection: &Connection, command: &Command, arguments: &[&[u8]]) {
        if command.flags.contains(Flags::ADMIN) {
            return;
        }
        let line = self.line(connection, command, arguments);
        for id in self.watchers.clone() {
            let Some(slot) = self.by_id.get(&id).copied() else { continue };
            // The client's own connection is out of its place while it is served: it is not told of its own commands.
            let Some(mut watcher) = self.connections.get_mut(slot).and_then(Option::take) else { continue };
            self.lend(&mut watcher);
            watcher.encoder().simple(&line);
            if self.is_over_limit(&watcher) {
                self.stats.closed_slow(&watcher, "output buffer");
                self.drop_connection(slot, watcher);
            } else {
                self.put_back(slot, watcher);
            }
        }
    }

    fn line(&self, connection: &Connection, command: &Command, arguments: &[&[u8]]) -> String {
        let millis = self.clock.now().millis();
        let micros = millis % 1000 * 1000;
        let mut line = format!("{}.{micros:06} [{} {}]", millis / 1000, connection.client.db, connection.peer);
        let secret = secret_from(command, arguments).unwrap_or(usize::MAX);
        for (at, argument) in arguments.iter().take(ARGUMENTS).enumerate() {
            if at >= secret {
                line.push_str(" \"(redacted)\"");
                continue;
            }
            line.push_str(" \"");
            quote(argument.get(..ARGUMENT).unwrap_or(argument), &mut line);
            line.push_str(if argument.len() > ARGUMENT { "...\"" } else { "\"" });
        }
        if arguments.len() > ARGUMENTS {
            line.push_str(" ...");
        }
        line
    }
}

/// `bytes` as Redis quotes them.
fn quote(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        match byte {
            b'\\' | b'"' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            7 => out.push_str("\\a"),
            8 => out.push_str("\\b"),
            b' '..=b'~' => out.push(char::from(*byte)),
            other => {
                // Writing into a String cannot fail.
                let _ = write!(out, "\\x{other:02x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_redis_quotes_them() {
        let mut out = String::new();
        quote(b"a\"\\\n\r\t\x07\x08\x00\xff~", &mut out);
        assert_eq!(out, "a\\\"\\\\\\n\\r\\t\\a\\b\\x00\\xff~");
    }
}
