//! `/forgot`: a link that sets a new password, sent to the address of the account.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use tokio::time::{Instant, sleep_until};

use crate::base::Secret;
use crate::console::{Answer, Console, Fault, Frame, OpenForm, Section, Visitor, page};
use crate::mail::Letter;

/// Time an answer takes at least, whether there is such an account or not: finding one, making a link and queueing a
/// letter take less.
const ANSWER: Duration = Duration::from_millis(500);

#[derive(Template)]
#[template(path = "forgot.html")]
struct ForgotPage<'p> {
    frame: Frame,
    email: &'p str,
    asked: bool,
    problem: String,
}

/// `GET /forgot`.
pub async fn show(visitor: Visitor) -> Answer {
    if !visitor.console().world().users.is_claimed() {
        return visitor.redirect("/");
    }
    let frame = visitor.frame("Forgot the password", Section::None);
    page::show(&ForgotPage { frame, email: "", asked: false, problem: String::new() })
}

/// `POST /forgot`. Whether an account exists is told neither by the text nor by the time it takes.
pub async fn ask(State(console): State<Console>, OpenForm { visitor, fields }: OpenForm) -> Answer {
    let answered = Instant::now() + ANSWER;
    let email = fields.trimmed("email");
    let sent = send(&console, email, &visitor).await;
    sleep_until(answered).await;
    let frame = visitor.frame("Forgot the password", Section::None);
    let (status, problem) = match sent {
        Ok(()) => (StatusCode::OK, String::new()),
        Err(fault) => (fault.status, fault.text),
    };
    page::show_as(status, &ForgotPage { frame, email, asked: problem.is_empty(), problem })
}

async fn send(console: &Console, email: &str, visitor: &Visitor) -> Result<(), Fault> {
    let world = console.world();
    let link = world.users.forgot(email, &visitor.entry().origin().client()).await;
    let Some((token, expires)) = link.map_err(|error| Fault::refused(&error))? else { return Ok(()) };
    // The console's own address, whatever host the request names.
    let link = format!("{}/reset?token={}", world.brand.url.trim_end_matches('/'), token.expose());
    let letter = Letter::PasswordReset { link: Secret::new(link), expires };
    if let Err(error) = world.outbox.send(&letter, &world.brand, "", email).await {
        // Told to the operator alone: whoever asked would learn that there is an account.
        tracing::error!(%error, "a letter that was asked for cannot be sent");
    }
    Ok(())
}
