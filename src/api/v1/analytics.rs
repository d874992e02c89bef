//! How the pages of sites are visited.

use axum::http::StatusCode;

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply};
use crate::analytics::Day;

/// Days of an answer when nobody says.
const DAYS: u32 = 30;

/// `GET /v1/sites/{site}/analytics`.
pub async fn show(api: V1, call: Call) -> Result<Reply, Problem> {
    let name = call.name(0);
    let none = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("`{name}` is no site with `analytics = true` (edge.sites, or edge.analytics for `*`)"),
        )
    };
    let site = api.analytics().site(name).ok_or_else(none)?;
    let (today, first) = api.analytics().kept();
    let to: Day = call.param::<Day>("to")?.unwrap_or(today).min(today);
    let from: Day = call.param::<Day>("from")?.unwrap_or_else(|| to.earlier(DAYS - 1)).max(first);
    if from > to {
        return Err(Problem::bad(format!("no day from {from} to {to} is kept: the first is {first}")));
    }
    Reply::ok(&api.analytics().report(&site, from, to).await?)
}
