//! `/setup?token=…` and `/reset?token=…`: what one-time links open. Their forms go back to the same address.

use askama::Template;
use axum::extract::State;

use super::letters;
use crate::accounts::{AccountsError, PasswordSet};
use crate::base::Secret;
use crate::console::{Answer, Console, Fault, Frame, OpenForm, Section, Visitor, page};

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage<'p> {
    frame: Frame,
    email: &'p str,
    problem: String,
}

#[derive(Template)]
#[template(path = "reset.html")]
struct ResetPage {
    frame: Frame,
    problem: String,
}

/// `GET /setup`.
pub async fn show(State(console): State<Console>, visitor: Visitor) -> Answer {
    if console.world().users.is_claimed() {
        return Err(Fault::refused(&AccountsError::AlreadyClaimed));
    }
    let client = visitor.entry().origin().client();
    console.world().users.check_link(&token(&visitor), &client).await.map_err(|error| Fault::refused(&error))?;
    let frame = visitor.frame("Set up this server", Section::None);
    page::show(&SetupPage { frame, email: "", problem: String::new() })
}

/// `POST /setup`.
pub async fn claim(State(console): State<Console>, OpenForm { visitor, fields }: OpenForm) -> Answer {
    let email = fields.trimmed("email");
    let answer = match password(&fields) {
        Ok(password) => {
            let client = visitor.entry().origin().client();
            let claimed = console.world().users.claim(&token(&visitor), email, &password, &client).await;
            claimed.map_err(|error| Fault::refused(&error))
        }
        Err(fault) => Err(fault),
    };
    match answer {
        Ok(fresh) => {
            letters::welcome(&console, fresh.session.user.email.as_str()).await;
            Ok(page::enter(&console, visitor.entry(), &fresh, "/dashboard"))
        }
        Err(fault) if fault.status.is_server_error() => Err(fault),
        Err(fault) => {
            let frame = visitor.frame("Set up this server", Section::None);
            page::show_as(fault.status, &SetupPage { frame, email, problem: fault.text })
        }
    }
}

/// `GET /reset`.
pub async fn show_reset(State(console): State<Console>, visitor: Visitor) -> Answer {
    let client = visitor.entry().origin().client();
    console.world().users.check_link(&token(&visitor), &client).await.map_err(|error| Fault::refused(&error))?;
    page::show(&ResetPage { frame: visitor.frame("Choose a password", Section::None), problem: String::new() })
}

/// `POST /reset`.
pub async fn reset(State(console): State<Console>, OpenForm { visitor, fields }: OpenForm) -> Answer {
    let code = Some(fields.trimmed("code")).filter(|code| !code.is_empty()).map(|code| Secret::new(code.to_owned()));
    let answer = match password(&fields) {
        Ok(password) => {
            let (token, client) = (token(&visitor), visitor.entry().origin().client());
            let reset = console.world().users.reset_password(&token, &password, code.as_ref(), &client).await;
            reset.map_err(|error| Fault::refused(&error))
        }
        Err(fault) => Err(fault),
    };
    match answer {
        Ok(PasswordSet { session: fresh, first }) => {
            let email = fresh.session.user.email.as_str();
            if first {
                letters::welcome(&console, email).await;
            } else {
                letters::tell_changed(&console, email, visitor.entry().origin()).await;
            }
            Ok(page::enter(&console, visitor.entry(), &fresh, "/dashboard"))
        }
        Err(fault) if fault.status.is_server_error() => Err(fault),
        Err(fault) => {
            let frame = visitor.frame("Choose a password", Section::None);
            page::show_as(fault.status, &ResetPage { frame, problem: fault.text })
        }
    }
}

fn token(visitor: &Visitor) -> Secret<String> {
    Secret::new(visitor.query("token").to_owned())
}

/// The new password of a form that asks for it twice.
pub fn password(fields: &crate::console::Fields) -> Result<Secret<String>, Fault> {
    let password = fields.text("password");
    if password == fields.text("again") {
        Ok(Secret::new(password.to_owned()))
    } else {
        Err(Fault::bad_request("The two passwords are not the same. Type both again."))
    }
}
