//! What the keyspace's tests share: a session that runs commands written as text and keeps the replies as values.

mod families;
mod functions;
mod large;
mod newer;
mod notifications;
mod places;
mod replay;
mod scripts;
mod sessions;
mod spilling;

use std::sync::Arc;
use std::time::Duration;

use super::collect::Collector;
use super::reply::Value;
use super::{Client, Flow, Keyspace, KvConfig, Message, commands};
use crate::base::Timestamp;
use crate::testing::TestRandom;

/// Where the tests' time begins: 2026-01-01T00:00:00Z.
pub(super) const START: u64 = 1_767_225_600_000;

/// A keyspace and a few clients.
pub(super) struct Session {
    pub keyspace: Keyspace,
    pub clients: Vec<Client>,
    pub resp3: bool,
    elapsed: Duration,
}

impl Session {
    pub fn new(config: KvConfig) -> Self {
        let mut session = Self {
            keyspace: Keyspace::new(config, Arc::new(TestRandom::new(7))),
            clients: (0..4).map(Client::new).collect(),
            resp3: false,
            elapsed: Duration::ZERO,
        };
        session.advance(0);
        session
    }

    /// Collections leave the packed form at once beyond eight elements.
    pub fn tiny() -> Self {
        Self::new(KvConfig { packed_bytes: 96, packed_elements: 8, ..KvConfig::default() })
    }

    /// Moves both clocks.
    pub fn advance(&mut self, millis: u64) {
        self.elapsed += Duration::from_millis(millis);
        let wall = START + u64::try_from(self.elapsed.as_millis()).unwrap();
        self.keyspace.set_now(Timestamp(wall), self.elapsed);
    }

    /// Runs words of one client; `None` when it blocks.
    pub fn say(&mut self, client: usize, args: &[&[u8]]) -> Option<Value> {
        let mut recorder = Collector::new(self.resp3);
        let command = commands::lookup(args[0]).expect("a known command");
        let flow = self.keyspace.execute(command, &mut self.clients[client], args, &mut recorder);
        assert_ne!(flow, Flow::Door);
        (flow == Flow::Done).then(|| recorder.value().expect("a reply"))
    }

    /// Runs a line of the first client; words are separated by single spaces.
    pub fn run(&mut self, line: &str) -> Value {
        self.run_as(0, line).expect("a reply at once")
    }

    /// Runs a line of a client.
    pub fn run_as(&mut self, client: usize, line: &str) -> Option<Value> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.say(client, &args)
    }

    /// Runs lines and checks each reply against its text form (see [`text`]).
    pub fn expect(&mut self, lines: &[(&str, &str)]) {
        for (line, reply) in lines {
            assert_eq!(text(&self.run(line)), *reply, "{line}");
        }
    }

    /// What was delivered since: client and text form.
    pub fn delivered(&mut self) -> Vec<(u64, String)> {
        self.keyspace
            .deliveries()
            .map(|delivery| {
                let mut recorder = Collector::new(true);
                delivery.message.write(&mut recorder);
                let kind = if matches!(delivery.message, Message::Served(_)) { "" } else { "push " };
                (delivery.client, format!("{kind}{}", text(&recorder.value().expect("a reply"))))
            })
            .collect()
    }

    pub fn disconnect(&mut self, client: usize) {
        self.keyspace.disconnect(&mut self.clients[client]);
    }
}

/// A reply as people write it: `OK`, `(error) ERR …`, `1`, `"bytes"`, `nil`, `[..]`, doubles as `,1.5`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Simple(text) => text.clone(),
        Value::Error(text) => format!("(error) {}", String::from_utf8_lossy(text)),
        Value::Integer(value) => value.to_string(),
        Value::Bulk(bytes) => format!("\"{}\"", String::from_utf8_lossy(bytes)),
        Value::Null => "nil".to_owned(),
        Value::NullArray => "nil array".to_owned(),
        Value::Double(value) => format!(",{value}"),
        Value::Keyed(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", text(key), text(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(" ")),
    }
}
