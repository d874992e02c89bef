//! How long commands take: the slow log, and the spikes that `LATENCY` tells of.

use std::collections::{BTreeMap, VecDeque};

use super::connection::Connection;
use crate::kv::{Command, Flags};

/// Most arguments an entry shows, and most bytes of each, as in Redis.
const ARGUMENTS: usize = 32;
const ARGUMENT: usize = 128;

/// Most entries `slowlog-max-len` allows.
pub const SLOW_MAX: usize = 10_000;

/// Seconds with a spike that are remembered of each event.
const HISTORY: usize = 160;

/// One slow command.
#[derive(Debug)]
pub struct Slow {
    /// Its number; later ones have higher ones.
    pub id: u64,
    /// When, in seconds since 1970.
    pub at: u64,
    /// How long it ran, in microseconds.
    pub micros: u64,
    /// Name and arguments, shortened.
    pub arguments: Vec<Vec<u8>>,
    /// The client's address.
    pub peer: String,
    /// The client's name.
    pub name: String,
}

/// The spikes of one event.
#[derive(Debug, Default)]
pub struct Spikes {
    /// Second since 1970 and longest time in it, in milliseconds; the oldest first.
    pub history: VecDeque<(u64, u64)>,
    /// The longest time ever, in milliseconds.
    pub longest: u64,
}

/// What was slow.
#[derive(Debug)]
pub struct Timing {
    /// `slowlog-log-slower-than`, in microseconds; negative logs nothing.
    pub slower_than: i64,
    /// `slowlog-max-len`.
    pub most: usize,
    /// `latency-monitor-threshold`, in milliseconds; 0 watches nothing.
    pub spike: u64,
    /// The newest first.
    pub slow: VecDeque<Slow>,
    /// By event.
    pub spikes: BTreeMap<&'static str, Spikes>,
    next: u64,
}

impl Default for Timing {
    /// As Redis is by default.
    fn default() -> Self {
        let (slow, spikes) = (VecDeque::new(), BTreeMap::new());
        Self { slower_than: 10_000, most: 128, spike: 0, slow, spikes, next: 0 }
    }
}

impl Timing {
    /// Whether anybody wants to know how long commands take.
    #[inline]
    pub const fn watches(&self) -> bool {
        self.slower_than >= 0 || self.spike > 0
    }

    /// A command has run for `micros`; `seconds` is the time of day.
    #[inline]
    pub fn took(
        &mut self,
        connection: &Connection,
        command: &Command,
        arguments: &[&[u8]],
        micros: u64,
        seconds: impl FnOnce() -> u64,
    ) {
        let is_slow = self.slower_than >= 0 && micros >= self.slower_than.unsigned_abs();
        let is_spike = self.spike > 0 && micros / 1000 >= self.spike;
        if is_slow || is_spike {
            self.note(connection, command, arguments, micros, (is_slow, is_spike), seconds());
        }
    }

    #[cold]
    fn note(
        &mut self,
        connection: &Connection,
        command: &Command,
        arguments: &[&[u8]],
        micros: u64,
        (is_slow, is_spike): (bool, bool),
        at: u64,
    ) {
        if is_slow && self.most > 0 {
            let (peer, name) = (connection.peer.clone(), connection.name.clone());
            let arguments = shortened(command, arguments);
            self.slow.truncate(self.most - 1);
            self.slow.push_front(Slow { id: self.next, at, micros, arguments, peer, name });
            self.next += 1;
        }
        if is_spike {
            let event = if command.flags.contains(Flags::FAST) { "fast-command" } else { "command" };
            let (millis, spikes) = (micros / 1000, self.spikes.entry(event).or_default());
            spikes.longest = spikes.longest.max(millis);
            if let Some((_, longest)) = spikes.history.back_mut().filter(|(second, _)| *second == at) {
                *longest = (*longest).max(millis);
            } else {
                if spikes.history.len() == HISTORY {
                    spikes.history.pop_front();
                }
                spikes.history.push_back((at, millis));
            }
        }
    }
}

/// From which argument on nothing is shown, since there may be a password: `None` when everything is.
pub fn secret_from(command: &Command, arguments: &[&[u8]]) -> Option<usize> {
    match command.name {
        "auth" | "hello" => Some(1),
        "acl" if arguments.get(1).is_some_and(|part| part.eq_ignore_ascii_case(b"setuser")) => Some(3),
        _ => None,
    }
}

fn shortened(command: &Command, arguments: &[&[u8]]) -> Vec<Vec<u8>> {
    let secret = secret_from(command, arguments).unwrap_or(usize::MAX);
    let shown = if arguments.len() > ARGUMENTS { ARGUMENTS - 1 } else { arguments.len() };
    let mut out: Vec<Vec<u8>> = Vec::with_capacity(shown + 1);
    for (at, argument) in arguments.iter().take(shown).enumerate() {
        if at >= secret {
            out.push(b"(redacted)".to_vec());
            continue;
        }
        let mut text = argument.get(..ARGUMENT).unwrap_or(argument).to_vec();
        if argument.len() > ARGUMENT {
            text.extend_from_slice(format!("... ({} more bytes)", argument.len() - ARGUMENT).as_bytes());
        }
        out.push(text);
    }
    if shown < arguments.len() {
        out.push(format!("... ({} more arguments)", arguments.len() - shown).into_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::commands::lookup;

    fn shown(line: &[&[u8]]) -> Vec<String> {
        let command = lookup(line[0]).unwrap();
        shortened(command, line).into_iter().map(|text| String::from_utf8(text).unwrap()).collect()
    }

    #[test]
    fn an_entry_is_short_and_tells_no_password() {
        let long = [b'x'; 200];
        let entry = shown(&[b"SET", b"k", &long]);
        assert_eq!(entry[2], format!("{}... (72 more bytes)", "x".repeat(128)));
        let many: Vec<&[u8]> = [&b"mget"[..]].into_iter().chain([&b"k"[..]; 50]).collect();
        let entry = shown(&many);
        assert_eq!((entry.len(), entry[31].as_str()), (32, "... (20 more arguments)"));
        assert_eq!(shown(&[b"AUTH", b"user", b"secret"]), ["AUTH", "(redacted)", "(redacted)"]);
        assert_eq!(shown(&[b"acl", b"SETUSER", b"u", b">secret"])[3], "(redacted)");
    }
}
