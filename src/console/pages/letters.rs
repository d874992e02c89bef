//! `/mail/letters`: the letters Mainstay writes itself, to look at and to try.

use askama::Template;
use axum::extract::{Path, State};

use super::mail::{fault, sentence};
use crate::console::entry::Origin;
use crate::console::{Answer, Console, Fault, Flash, Form, Frame, Page, Section, foreign, page};
use crate::mail::templates::Seen;
use crate::mail::templates::Written;
use crate::mail::{Letter, MailError};

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
    let letter = Letter::PasswordChanged(Seen {
        at: world.clock.now(),
        from: origin.address,
        agent: origin.agent.clone(),
        link: format!("{}/forgot", world.brand.url.trim_end_matches('/')),
    });
    if let Err(error) = world.outbox.send(&letter, &world.brand, "", email).await {
        tracing::error!(%error, "a letter about a changed password cannot be sent");
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
