//! Who is banned at the edge.

use serde::Deserialize;
use serde_json::{Value, json};

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply, page};
use crate::bans::{self, Ban, Origin, Wanted};
use crate::base::network::Network;
use crate::base::{Span, Timestamp};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBan {
    address: String,
    #[serde(default, rename = "for")]
    span: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    force: bool,
}

fn shown(network: Network, ban: &Ban) -> Value {
    json!({
        "address": network.to_string(),
        "jail": match &ban.origin {
            Origin::Jail(name) => Some(name),
            Origin::Hand => None,
        },
        "reason": ban.reason,
        "since": Timestamp(ban.since_ms).to_string(),
        "until": bans::moment(ban.until_ms).map(|until| until.to_string()),
        "times": ban.times,
    })
}

fn network(text: &str) -> Result<Network, Problem> {
    Network::client(text).map_err(|_no_network| Problem::bad(format!("`{text}` is no address and no network")))
}

/// `GET /v1/bans`.
pub fn list(api: &V1, call: &Call) -> Result<Reply, Problem> {
    let limit = call.limit()?;
    let after: Option<Network> = call.param("cursor")?;
    let mut found = api.bans().list_after(after, limit.saturating_add(1));
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(network, _)| network.to_string());
    page(found.iter().map(|(network, ban)| shown(*network, ban)).collect(), next)
}

/// `POST /v1/bans`.
pub async fn add(api: V1, call: Call) -> Result<Reply, Problem> {
    let NewBan { address, span, reason, force } = call.json()?;
    let span = span.map(|text| {
        let parsed: Result<Span, _> = text.parse();
        parsed.map_err(|_no_span| Problem::bad(format!("`{text}` is no length of time such as 1h")))
    });
    let wanted = Wanted { network: network(&address)?, span: span.transpose()?.map(Span::duration), reason, force };
    let ban = api.bans().add(&wanted).await?;
    api.users().note(&call.by(), "ban.added", &wanted.network.to_string()).await?;
    Reply::created(&shown(wanted.network, &ban))
}

/// `DELETE /v1/bans`.
pub async fn remove(api: V1, call: Call) -> Result<Reply, Problem> {
    let network = network(call.query.get("address").unwrap_or_default())?;
    api.bans().remove(network).await?;
    api.users().note(&call.by(), "ban.lifted", &network.to_string()).await?;
    Ok(Reply::nothing())
}
