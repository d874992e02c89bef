//! What operators see of the door: who is connected, what was slow.

use std::time::Duration;

use super::commands::acl::user_name;
use super::connection::Connection;
use super::server::Server;
use crate::base::Timestamp;
use crate::kv::handle::{ClientLine, DoorView, SlowLine};

/// Most clients shown.
const CLIENTS: usize = 1_000;

impl Server {
    /// Answers who asks.
    pub(super) fn show_door(&self) {
        while let Some(asking) = self.mailbox.asked() {
            // Whoever asked may have gone.
            let _ = asking.send(self.door());
        }
    }

    fn door(&self) -> DoorView {
        let mut clients: Vec<&Connection> = self.connections.iter().flatten().map(Box::as_ref).collect();
        clients.sort_unstable_by_key(|connection| connection.client.id);
        let clients = clients.into_iter().take(CLIENTS).map(|connection| self.client_line(connection)).collect();
        let slow = self.timing.slow.iter().map(|slow| SlowLine {
            at: Timestamp(slow.at.saturating_mul(1000)),
            took: Duration::from_micros(slow.micros),
            command: slow.arguments.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" "),
            peer: slow.peer.clone(),
        });
        DoorView { clients, slow: slow.collect() }
    }

    fn client_line(&self, of: &Connection) -> ClientLine {
        ClientLine {
            id: of.client.id,
            peer: of.peer.clone(),
            name: of.name.clone(),
            library: [of.library.as_str(), of.library_version.as_str()].join(" ").trim().to_owned(),
            user: user_name(of).to_owned(),
            db: of.client.db,
            age: self.now.saturating_sub(of.since),
            idle: self.now.saturating_sub(of.active),
            command: of.last_command.to_owned(),
            blocked: of.blocked,
            subscriptions: of.client.subscriptions(),
            pending: of.pending(),
        }
    }
}
