//! How often each command ran, how long it took, and which errors were answered: `INFO commandstats`, `latencystats` and
//! `errorstats`, `LATENCY HISTOGRAM`.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::kv::Command;

/// Buckets of a histogram; bucket `n` counts what took at most `2^n` microseconds, the last one everything else.
const BUCKETS: usize = 32;

/// Code words of errors that are told apart; what comes later counts as `other`, since clients make them up in scripts.
const ERRORS: usize = 128;

/// What is known of one command.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// How often it ran.
    pub calls: u64,
    /// Microseconds in all.
    pub micros: u64,
    /// How often it was refused before it ran.
    pub rejected: u64,
    /// How often it answered with an error.
    pub failed: u64,
    histogram: [u64; BUCKETS],
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With whatever the command is for.
    Done,
    /// With an error of the command.
    Failed,
    /// It was refused.
    Rejected,
}

impl Figure {
    fn count(&mut self, micros: u64, outcome: Outcome) {
        if outcome == Outcome::Rejected {
            self.rejected += 1;
            return;
        }
        self.calls += 1;
        self.micros += micros;
        self.failed += u64::from(outcome == Outcome::Failed);
        let bucket = micros.max(1).next_power_of_two().trailing_zeros() as usize;
        if let Some(place) = self.histogram.get_mut(bucket.min(BUCKETS - 1)) {
            *place += 1;
        }
    }

    /// Microseconds and how many calls took no longer, for every bucket that has some.
    pub fn histogram(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut sum = 0;
        self.histogram.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(bucket, count)| {
            sum += count;
            (1 << bucket, sum)
        })
    }

    /// Microseconds that `thousandths` of all calls did not exceed.
    pub fn percentile(&self, thousandths: u64) -> u64 {
        let wanted = (self.calls * thousandths).div_ceil(1000);
        self.histogram().find(|(_, count)| *count >= wanted).map_or(0, |(micros, _)| micros)
    }
}

/// What is known of all commands since the start or `CONFIG RESETSTAT`.
#[derive(Debug, Default)]
pub struct Figures {
    commands: HashMap<&'static str, Figure>,
    errors: BTreeMap<String, u64>,
}

impl Figures {
    /// A request has ended; `reply` is what was answered.
    pub fn count(
        &mut self,
        command: &'static Command,
        arguments: &[&[u8]],
        micros: u64,
        outcome: Outcome,
        reply: &[u8],
    ) {
        self.commands.entry(name(command, arguments)).or_default().count(micros, outcome);
        if outcome != Outcome::Done {
            let word = reply.get(1..).unwrap_or_default().split(u8::is_ascii_whitespace).next();
            let word = String::from_utf8_lossy(word.unwrap_or_default()).into_owned();
            let known = self.errors.contains_key(&word) || self.errors.len() < ERRORS;
            *self.errors.entry(if known { word } else { "other".to_owned() }).or_default() += 1;
        }
    }

    /// By name, in order.
    pub fn commands(&self) -> Vec<(&'static str, &Figure)> {
        let mut all: Vec<_> = self.commands.iter().map(|(name, figure)| (*name, figure)).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// Errors by their code word.
    pub fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.errors.iter().map(|(word, count)| (word.as_str(), *count))
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// What a request is counted as: the subcommand where there is one.
fn name(command: &'static Command, arguments: &[&[u8]]) -> &'static str {
    let Some(given) = arguments.get(1).filter(|_| !command.subcommands.is_empty()) else { return command.name };
    let part = |name: &str| name.split_once('|').is_some_and(|(_, part)| part.as_bytes().eq_ignore_ascii_case(given));
    command.subcommands.iter().find(|(name, _)| part(name)).map_or(command.name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::commands::lookup;

    #[test]
    fn calls_times_and_errors_are_counted() {
        let mut figures = Figures::default();
        let get = lookup(b"get").unwrap();
        for micros in [0, 1, 3, 900] {
            figures.count(get, &[b"GET", b"k"], micros, Outcome::Done, b"$1\r\nv\r\n");
        }
        figures.count(get, &[b"GET", b"k"], 2, Outcome::Failed, b"-WRONGTYPE Operation\r\n");
        figures.count(get, &[b"GET"], 0, Outcome::Rejected, b"-ERR wrong\r\n");
        figures.count(lookup(b"object").unwrap(), &[b"object", b"FREQ", b"k"], 5, Outcome::Done, b"");
        let all = figures.commands();
        let (name, figure) = all[0];
        assert_eq!((name, all[1].0), ("get", "object|freq"));
        assert_eq!((figure.calls, figure.micros, figure.failed, figure.rejected), (5, 906, 1, 1));
        assert_eq!(figure.histogram().collect::<Vec<_>>(), [(1, 2), (2, 3), (4, 4), (1024, 5)]);
        assert_eq!((figure.percentile(500), figure.percentile(999)), (2, 1024));
        assert_eq!(figures.errors().collect::<Vec<_>>(), [("ERR", 1), ("WRONGTYPE", 1)]);
    }

    #[test]
    fn made_up_errors_do_not_grow_without_end() {
        let mut figures = Figures::default();
        for number in 0..1000 {
            let reply = format!("-E{number} text\r\n");
            figures.count(lookup(b"eval").unwrap(), &[b"eval"], 1, Outcome::Failed, reply.as_bytes());
        }
        assert_eq!(figures.errors().count(), ERRORS + 1);
    }
}
