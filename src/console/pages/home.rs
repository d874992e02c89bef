//! `/`: leads to where somebody belongs.

use askama::Template;

use crate::console::{Answer, Frame, Section, Visitor, page};

/// What a server without an account shows: where to find the set-up link, and no form.
#[derive(Template)]
#[template(path = "welcome.html")]
struct Welcome {
    frame: Frame,
}

/// `GET /`.
pub async fn show(visitor: Visitor) -> Answer {
    if !visitor.console().world().users.is_claimed() {
        return page::show(&Welcome { frame: visitor.frame("Not set up yet", Section::None) });
    }
    visitor.redirect(if visitor.entry().session().is_some() { "/dashboard" } else { "/login" })
}
