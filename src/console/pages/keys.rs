//! `/keys`: what programs log in with.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};

use crate::accounts::{AccessKey, Scopes, Token};
use crate::base::{Span, Timestamp};
use crate::console::{Answer, Confirm, Console, Fault, Flash, Form, Frame, Page, Section, format, page};

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    frame: Frame,
    keys: Vec<Arc<AccessKey>>,
    tokens: Vec<Token>,
    now: Timestamp,
}

#[derive(Template)]
#[template(path = "env.html")]
struct EnvPage {
    frame: Frame,
    lines: Vec<(String, String)>,
}

/// A secret that is shown this once.
#[derive(Template)]
#[template(path = "fresh_secret.html")]
struct FreshPage<'p> {
    frame: Frame,
    lines: Vec<(&'p str, &'p str)>,
}

/// `GET /keys`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let world = console.world();
    let tokens = world.users.tokens().await.map_err(|error| Fault::refused(&error))?;
    let (keys, now) = (world.users.access_keys(), world.clock.now());
    page::show(&KeysPage { frame: page.frame("Keys", Section::Keys), keys, tokens, now })
}

/// `GET /keys/env`: the lines of `mainstay env`, for whoever has just given the password.
pub async fn env(State(console): State<Console>, page: Page) -> Answer {
    page.confirmed("/keys/env")?;
    let users = &console.world().users;
    users.note(&page.by(), "connection_settings.shown", "").await.map_err(|error| Fault::refused(&error))?;
    let lines = (console.world().env)();
    page::show(&EnvPage { frame: page.frame("Connection settings", Section::Keys), lines })
}

/// `POST /keys/access`.
pub async fn create_key(State(console): State<Console>, Form { page, fields }: Form) -> Answer {
    page.confirmed("/keys")?;
    match console.world().users.create_access_key(fields.trimmed("label"), &page.by()).await {
        Ok(key) => {
            let frame = page.frame("A new access key", Section::Keys);
            let lines =
                vec![("AWS_ACCESS_KEY_ID", key.id.as_str()), ("AWS_SECRET_ACCESS_KEY", key.secret.expose().as_str())];
            page::show(&FreshPage { frame, lines })
        }
        Err(error) => back(&page, &Fault::refused(&error)),
    }
}

/// `GET /keys/access/{id}/revoke`.
pub async fn ask_revoke_key(Path(id): Path<String>, page: Page) -> Answer {
    page.confirmed(page.entry().target())?;
    let frame = page.frame("Revoke this access key?", Section::Keys);
    let text = format!("Programs that sign with {id} are refused from then on, by S3, SES and SMTP.");
    Confirm::new(frame, text, "Revoke it", "/keys").by_typing(id).show()
}

/// `POST /keys/access/{id}/revoke`.
pub async fn revoke_key(State(console): State<Console>, Path(id): Path<String>, Form { page, fields }: Form) -> Answer {
    page.confirmed("/keys")?;
    if !Confirm::typed(&fields, &id) {
        return page.redirect_saying("/keys", &Flash::bad("The name typed was another one. Nothing was revoked."));
    }
    match console.world().users.revoke_access_key(&id, &page.by()).await {
        Ok(()) => page.redirect_saying("/keys", &Flash::good(format!("The access key {id} is revoked."))),
        Err(error) => back(&page, &Fault::refused(&error)),
    }
}

/// `POST /keys/tokens`.
pub async fn create_token(State(console): State<Console>, Form { page, fields }: Form) -> Answer {
    page.confirmed("/keys")?;
    let ticked = ["read", "write", "admin"].into_iter().filter(|scope| fields.ticked(&format!("scope-{scope}")));
    let Some(scopes) = Scopes::named(ticked) else {
        return page.redirect_saying("/keys", &Flash::bad("A token needs at least one thing that it may do."));
    };
    let expires = match fields.text("lives") {
        "" => None,
        text => {
            let span: Span = text.parse().map_err(|_no_span| Fault::bad_request("That is no length of time."))?;
            Some(console.world().clock.now().after(span.duration()))
        }
    };
    match console.world().users.create_token(fields.trimmed("label"), scopes, expires, &page.by()).await {
        Ok((_, secret)) => {
            let frame = page.frame("A new API token", Section::Keys);
            page::show(&FreshPage { frame, lines: vec![("MAINSTAY_API_TOKEN", secret.expose())] })
        }
        Err(error) => back(&page, &Fault::refused(&error)),
    }
}

/// `GET /keys/tokens/{id}/revoke`.
pub async fn ask_revoke_token(State(console): State<Console>, Path(id): Path<String>, page: Page) -> Answer {
    page.confirmed(page.entry().target())?;
    let tokens = console.world().users.tokens().await.map_err(|error| Fault::refused(&error))?;
    let token = tokens.into_iter().find(|token| token.id == id).ok_or_else(|| Fault::not_found("token"))?;
    let frame = page.frame("Revoke this API token?", Section::Keys);
    let text = format!("Programs that use “{}” are refused from then on.", token.label);
    Confirm::new(frame, text, "Revoke it", "/keys").show()
}

/// `POST /keys/tokens/{id}/revoke`.
pub async fn revoke_token(State(console): State<Console>, Path(id): Path<String>, Form { page, .. }: Form) -> Answer {
    page.confirmed("/keys")?;
    match console.world().users.revoke_token(&id, &page.by()).await {
        Ok(()) => page.redirect_saying("/keys", &Flash::good("The token is revoked.")),
        Err(error) => back(&page, &Fault::refused(&error)),
    }
}

/// To the list, which says what did not work.
fn back(page: &Page, fault: &Fault) -> Answer {
    if fault.status.is_server_error() {
        return Err(fault.clone());
    }
    page.redirect_saying("/keys", &Flash::bad(fault.text.clone()))
}
