//! `/kv/clients`: who is connected to the Redis door, and what was slow there.

use askama::Template;
use axum::extract::State;

use super::kv::{busy, keyspace};
use crate::base::Timestamp;
use crate::console::{Answer, Console, Frame, Page, Section, format, page};
use crate::kv::handle::DoorView;

#[derive(Template)]
#[template(path = "kv_clients.html", whitespace = "preserve")]
struct ClientsPage {
    frame: Frame,
    door: DoorView,
    now: Timestamp,
}

/// `GET /kv/clients`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let door = keyspace(&console)?.door().await.map_err(busy)?;
    let now = console.world().clock.now();
    page::show(&ClientsPage { frame: page.frame("Clients of the Redis door", Section::Redis), door, now })
}
