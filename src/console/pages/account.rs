//! `/account`: one's own password, sessions, and second factor.

use askama::Template;
use axum::extract::{Path, State};

use super::letters;
use crate::accounts::{SessionSummary, User};
use crate::base::{Id128, Secret, Timestamp};
use crate::console::{Answer, Console, Fault, Flash, Form, Frame, Page, Section, entry, format, page};

use super::setup;

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    user: User,
    sessions: Vec<SessionSummary>,
    this: Id128,
    now: Timestamp,
}

/// `GET /account`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let session = page.session().account();
    let sessions = console.world().users.sessions(session.user.id).await.map_err(|error| Fault::refused(&error))?;
    let (user, this, now) = (session.user.clone(), session.id, console.world().clock.now());
    page::show(&AccountPage { frame: page.frame("Your account", Section::Account), user, sessions, this, now })
}

/// `POST /account/password`.
pub async fn change_password(State(console): State<Console>, Form { page, fields }: Form) -> Answer {
    let current = Secret::new(fields.text("current").to_owned());
    let client = page.entry().origin().client();
    let changed = match setup::password(&fields) {
        Ok(new) => {
            let users = &console.world().users;
            let changed = users.change_password(page.session().account(), &current, &new, &client).await;
            changed.map_err(|error| Fault::refused(&error))
        }
        Err(fault) => Err(fault),
    };
    match changed {
        Ok(fresh) => {
            letters::tell_changed(&console, fresh.session.user.email.as_str(), page.entry().origin()).await;
            // The message is bound to the session there is from now on.
            let mut response = page::enter(&console, page.entry(), &fresh, "/account");
            let flash = Flash::good("Your password is changed. All your other sessions have ended.");
            entry::set(&mut response, page::flash_for(&console, page.entry(), &fresh, &flash));
            Ok(response)
        }
        Err(fault) if fault.status.is_server_error() => Err(fault),
        Err(fault) => page.redirect_saying("/account", &Flash::bad(fault.text)),
    }
}

/// `POST /account/sessions/{id}/end`.
pub async fn end(State(console): State<Console>, Path(id): Path<String>, Form { page, .. }: Form) -> Answer {
    let id: Id128 = id.parse().map_err(|_no_id| Fault::not_found("session"))?;
    let user = page.session().account().user.id;
    console.world().users.end_session(user, id, &page.by()).await.map_err(|error| Fault::refused(&error))?;
    page.redirect_saying("/account", &Flash::good("The session has ended."))
}

/// `POST /account/sessions/end-others`.
pub async fn end_others(State(console): State<Console>, Form { page, .. }: Form) -> Answer {
    let (session, client) = (page.session().account(), page.entry().origin().client());
    let ended = console.world().users.end_other_sessions(session, &client).await;
    let ended = ended.map_err(|error| Fault::refused(&error))?;
    page.redirect_saying("/account", &Flash::good(format!("Other sessions ended: {ended}.")))
}
