//! `/login`, `/logout`, `/confirm`: in, out, and the password once more.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::letters;
use crate::accounts::{AccountsError, Login};
use crate::bans::Door;
use crate::base::Secret;
use crate::console::cookies::Cookie;
use crate::console::entry::Entry;
use crate::console::page::local;
use crate::console::{Answer, Console, Fault, Form, Frame, OpenForm, Page, Section, Visitor, entry, page};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'p> {
    frame: Frame,
    email: &'p str,
    next: &'p str,
    problem: String,
    left: bool,
    plain: bool,
}

#[derive(Template)]
#[template(path = "login_code.html")]
struct CodePage<'p> {
    frame: Frame,
    pending: &'p str,
    next: &'p str,
}

#[derive(Template)]
#[template(path = "reconfirm.html")]
struct ConfirmPage<'p> {
    frame: Frame,
    next: &'p str,
    problem: String,
}

/// `GET /login`.
pub async fn show(visitor: Visitor) -> Answer {
    if visitor.entry().session().is_some() || !visitor.console().world().users.is_claimed() {
        return visitor.redirect("/");
    }
    let (next, left) = (local(visitor.query("next")), visitor.query("left") == "1");
    let plain = is_plain(&visitor);
    let frame = visitor.frame("Log in", Section::None);
    page::show(&LoginPage { frame, email: "", next, problem: String::new(), left, plain })
}

/// `POST /login`. Whether an account exists is told neither by the text nor by the time it takes.
pub async fn submit(State(console): State<Console>, OpenForm { visitor, fields }: OpenForm) -> Answer {
    let (email, next) = (fields.trimmed("email"), local(fields.text("next")));
    let password = Secret::new(fields.text("password").to_owned());
    let login = console.world().users.login(email, &password, &visitor.entry().origin().client()).await;
    match login {
        Ok(Login::Done(fresh)) => {
            letters::tell_signed_in(&console, visitor.entry(), &fresh).await;
            Ok(page::enter(&console, visitor.entry(), &fresh, next))
        }
        Ok(Login::Code(pending)) => {
            let frame = visitor.frame("Your code", Section::None);
            page::show(&CodePage { frame, pending: pending.expose(), next })
        }
        Err(error) => {
            let fault = refused(&console, visitor.entry(), &error)?;
            let (frame, plain) = (visitor.frame("Log in", Section::None), is_plain(&visitor));
            let template = LoginPage { frame, email, next, problem: fault.text, left: false, plain };
            Ok(with_wait(page::show_as(fault.status, &template)?, &error))
        }
    }
}

/// `POST /login/code`.
pub async fn submit_code(State(console): State<Console>, OpenForm { visitor, fields }: OpenForm) -> Answer {
    let (pending, code) = (fields.text("pending").to_owned(), fields.trimmed("code").to_owned());
    let (pending, code, client) = (Secret::new(pending), Secret::new(code), visitor.entry().origin().client());
    match console.world().users.login_with_code(&pending, &code, &client).await {
        Ok(fresh) => {
            letters::tell_signed_in(&console, visitor.entry(), &fresh).await;
            Ok(page::enter(&console, visitor.entry(), &fresh, local(fields.text("next"))))
        }
        Err(error) => {
            let fault = refused(&console, visitor.entry(), &error)?;
            let (frame, next, plain) =
                (visitor.frame("Log in", Section::None), local(fields.text("next")), is_plain(&visitor));
            let template = LoginPage { frame, email: "", next, problem: fault.text, left: false, plain };
            Ok(with_wait(page::show_as(fault.status, &template)?, &error))
        }
    }
}

/// `POST /logout`.
pub async fn leave(State(console): State<Console>, Form { page, .. }: Form) -> Answer {
    let session = page.session().account();
    match console.world().users.end_session(session.user.id, session.id, &page.by()).await {
        Ok(()) | Err(AccountsError::NoSuchSession) => {}
        Err(error) => return Err(Fault::refused(&error)),
    }
    let mut response = page.redirect("/login?left=1")?;
    entry::set(&mut response, Cookie::Session.clear(page.entry().is_secure()));
    Ok(response)
}

/// `GET /confirm`.
pub async fn show_confirm(page: Page) -> Answer {
    let next = local(page.query("next"));
    let frame = page.frame("Confirm that it is you", Section::None);
    page::show(&ConfirmPage { frame, next, problem: String::new() })
}

/// `POST /confirm`.
pub async fn confirm(State(console): State<Console>, Form { page, fields }: Form) -> Answer {
    let password = Secret::new(fields.text("password").to_owned());
    let (client, next) = (page.entry().origin().client(), local(fields.text("next")));
    match console.world().users.confirm(page.session().account(), &password, &client).await {
        Ok(fresh) => Ok(page::enter(&console, page.entry(), &fresh, next)),
        Err(error) => {
            let fault = refused(&console, page.entry(), &error)?;
            let frame = page.frame("Confirm that it is you", Section::None);
            let template = ConfirmPage { frame, next, problem: fault.text };
            Ok(with_wait(page::show_as(fault.status, &template)?, &error))
        }
    }
}

/// What a form shows above its fields; a failure of the server is a page of its own. Jails hear of what was wrong.
fn refused(console: &Console, entry: &Entry, error: &AccountsError) -> Result<Fault, Fault> {
    if matches!(error, AccountsError::WrongCredentials | AccountsError::Throttled { .. }) {
        console.world().bans.failed_login(entry.origin().address, Door::Console);
    }
    let fault = Fault::refused(error);
    if fault.status == StatusCode::SERVICE_UNAVAILABLE { Err(fault) } else { Ok(fault) }
}

fn with_wait(mut response: Response, error: &AccountsError) -> Response {
    if let AccountsError::Throttled { wait } = error {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

/// Whether the password would travel readable for others.
fn is_plain(visitor: &Visitor) -> bool {
    !visitor.entry().is_secure() && !visitor.entry().origin().address.to_canonical().is_loopback()
}
