//! Bans over `control.sock`, for `mainstay bans`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::control::{Ask, ControlError, ask};
use super::status::Facts;
use crate::accounts::By;
use crate::bans::{Ban, Wanted};
use crate::base::Span;
use crate::base::network::Network;

/// Most bans of one answer; each has a few hundred bytes.
pub const SHOWN: usize = 5_000;

/// What is asked about bans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BansAsk {
    /// The bans behind a network, at most [`SHOWN`].
    List {
        /// Where the list goes on.
        after: Option<String>,
    },
    /// A ban by hand.
    Add {
        /// An address or a network.
        address: String,
        /// For how long, such as `1h`; until it is lifted when absent.
        span: Option<String>,
        /// Why.
        reason: String,
        /// Also who is never banned otherwise.
        force: bool,
    },
    /// The end of a ban.
    Remove {
        /// The address or network, as the list has it.
        address: String,
    },
    /// The end of all.
    RemoveAll,
}

/// A ban, as a command shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanView {
    /// Who.
    pub address: String,
    /// The ban.
    pub ban: Ban,
}

/// Answers what is asked; how many bans were lifted is a list of that many.
///
/// # Errors
/// What the service says, in words.
pub(super) async fn answer(asked: BansAsk, facts: &Facts) -> Result<Vec<BanView>, String> {
    let (bans, by) = (&facts.bans, By::command_line());
    let view = |(network, ban): (Network, Ban)| BanView { address: network.to_string(), ban };
    let (action, subject, shown) = match asked {
        BansAsk::List { after } => {
            let after = after.map(|text| network(&text)).transpose()?;
            return Ok(bans.list_after(after, SHOWN).into_iter().map(view).collect());
        }
        BansAsk::Add { address, span, reason, force } => {
            let span: Option<Span> =
                span.map(|text| text.parse()).transpose().map_err(|_no| "that is no length of time such as 1h")?;
            let network = network(&address)?;
            let wanted = Wanted { network, span: span.map(Span::duration), reason, force };
            let ban = bans.add(&wanted).await.map_err(|error| error.to_string())?;
            ("ban.added", network.to_string(), vec![view((network, ban))])
        }
        BansAsk::Remove { address } => {
            let network = network(&address)?;
            bans.remove(network).await.map_err(|error| error.to_string())?;
            ("ban.lifted", network.to_string(), Vec::new())
        }
        BansAsk::RemoveAll => {
            let count = bans.remove_all().await.map_err(|error| error.to_string())?;
            ("ban.lifted", format!("all {count}"), Vec::new())
        }
    };
    facts.users.note(&by, action, &subject).await.map_err(|error| error.to_string())?;
    Ok(shown)
}

fn network(text: &str) -> Result<Network, String> {
    Network::client(text).map_err(|_no_network| format!("`{text}` is no address and no network such as 10.0.0.0/8"))
}

/// Asks the server that runs on `folder`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn asked(folder: &Path, question: BansAsk) -> Result<Vec<BanView>, ControlError> {
    ask(folder, Ask::Bans(question))
}
