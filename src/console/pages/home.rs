//! `/`: leads to where somebody belongs.

use crate::console::{Answer, Visitor};

/// `GET /`.
pub async fn show(visitor: Visitor) -> Answer {
    visitor.redirect(if visitor.entry().session().is_some() { "/dashboard" } else { "/login" })
}
