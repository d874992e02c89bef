//! `/mail/letters`: the letters Mainstay writes itself, to look at and to try.

use askama::Template;
use axum::extract::{Path, State};

use super::mail::{fault, sentence};
use crate::accounts::NewSession;
use crate::console::entry::{Entry, Origin};
use crate::console::{Answer, Console, Fault, Flash, Form, Frame, Page, Section, foreign, page};
use crate::mail::templates::Seen;
use crate::mail::templates::Written;
use crate::mail::{Letter, MailError};

/// Most letters about logins to a user in an hour.
const SIGN_INS: usize = 10;

const HOUR_MS: u64 = 3_600_000;

#[derive(Template)]
#[template(path = "letters.html", whitespace = "preserve")]
struct Letters {
    frame: Frame,
    letters: Vec<(&'static str, String, Written)>,
    user: String,
}

/// `GET /mail/letters`.
pub async fn list(State(console): State<Console>, page: Page) -> Answer {
    let mut letters = Vec::new();
    for letter in samples(&console) {
        letters.push((letter.name(), letter.to_string(), write(&console, &page, &letter)?));
    }
    let user = page.session().user().to_owned();
    page::show(&Letters { frame: page.frame("Letters", Section::Mail), letters, user })
}

/// `GET /mail/letters/{name}/html`.
pub async fn html(State(console): State<Console>, page: Page, Path(name): Path<String>) -> Answer {
    Ok(foreign::sandboxed(write(&console, &page, &named(&console, &name)?)?.html))
}

/// `POST /mail/letters/{name}`: sends it to the address given.
pub async fn send(State(console): State<Console>, Path(name): Path<String>, form: Form) -> Answer {
    let letter = named(&console, &name)?;
    let to = form.fields.trimmed("to");
    let world = console.world();
    match world.outbox.send(&letter, &world.brand, "", to).await {
        Ok(accepted) => {
            let flash = Flash::good("The letter is on its way. Its link is a made-up one.");
            form.page.redirect_saying(&format!("/mail/{}", accepted.id), &flash)
        }
        Err(error @ (MailError::Address { .. } | MailError::QueueFull { .. })) => {
            form.page.redirect_saying("/mail/letters", &Flash::bad(sentence(&error)))
        }
        Err(error) => Err(fault(error)),
    }
}

/// Tells the owner of an account that its password was changed, from where. A letter that cannot be sent undoes nothing.
pub async fn tell_changed(console: &Console, email: &str, origin: &Origin) {
    let world = console.world();
    let letter = Letter::PasswordChanged(seen(console, origin));
    if let Err(error) = world.outbox.send(&letter, &world.brand, "", email).await {
        tracing::error!(%error, "a letter about a changed password cannot be sent");
    }
}

/// Welcomes the owner of an account that can be used from now on.
pub async fn welcome(console: &Console, email: &str) {
    let world = console.world();
    let letter = Letter::Welcome { link: format!("{}/login", world.brand.url.trim_end_matches('/')) };
    if let Err(error) = world.outbox.send(&letter, &world.brand, "", email).await {
        tracing::error!(%error, "a letter of welcome cannot be sent");
    }
}

/// Tells the owner of an account of the login `fresh`, unless they logged in with this browser before. Each browser is
/// told of once; of [`SIGN_INS`] an hour at most, so that a script that logs in for ever sends no letters for ever.
pub async fn tell_signed_in(console: &Console, entry: &Entry, fresh: &NewSession) {
    let (world, session) = (console.world(), &fresh.session);
    if page::is_known(console, entry, &session.user) {
        return;
    }
    let hour = world.clock.now().millis().saturating_sub(HOUR_MS);
    let lately = match world.users.sessions(session.user.id).await {
        Ok(sessions) => sessions.iter().filter(|other| other.created.millis() >= hour).count(),
        Err(error) => return tracing::error!(%error, "a letter about a login cannot be sent"),
    };
    if lately > SIGN_INS {
        return tracing::warn!(email = %session.user.email, lately, "many logins from new browsers; no letter about this one");
    }
    let letter = Letter::NewSignIn(seen(console, entry.origin()));
    if let Err(error) = world.outbox.send(&letter, &world.brand, "", session.user.email.as_str()).await {
        tracing::error!(%error, "a letter about a login cannot be sent");
    }
}

fn seen(console: &Console, origin: &Origin) -> Seen {
    let world = console.world();
    Seen {
        at: world.clock.now(),
        from: origin.address,
        agent: origin.agent.clone(),
        link: format!("{}/forgot", world.brand.url.trim_end_matches('/')),
    }
}

fn samples(console: &Console) -> [Letter; 5] {
    let world = console.world();
    Letter::samples(&world.brand, world.clock.now())
}

fn named(console: &Console, name: &str) -> Result<Letter, Fault> {
    samples(console).into_iter().find(|letter| letter.name() == name).ok_or_else(|| Fault::not_found("letter"))
}

fn write(console: &Console, page: &Page, letter: &Letter) -> Result<Written, Fault> {
    let world = console.world();
    letter.write(&world.brand, "Ada", page.session().user(), world.clock.now()).map_err(fault)
}
