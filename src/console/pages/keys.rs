//! `/keys`: what programs log in with.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};

use crate::accounts::{AccessKey, AccountsError, KeyChange, KeyGrant, KeyRights, NewKey, Scopes, Token};
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

#[derive(Template)]
#[template(path = "access_key.html")]
struct AccessKeyPage {
    frame: Frame,
    key: Arc<AccessKey>,
    old_until: Option<Timestamp>,
    now: Timestamp,
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
    let rights = match rights(fields.trimmed("grants"), fields.trimmed("grants").is_empty(), false) {
        Ok(rights) => rights,
        Err(error) => return back(&page, &Fault::refused(&error)),
    };
    let wanted = NewKey { label: fields.trimmed("label").to_owned(), rights, expires: None };
    match console.world().users.create_access_key(wanted, &page.by()).await {
        Ok(key) => fresh(&page, "A new access key", &key),
        Err(error) => back(&page, &Fault::refused(&error)),
    }
}

/// A key with its secret, this once.
fn fresh(page: &Page, title: &str, key: &AccessKey) -> Answer {
    let frame = page.frame(title, Section::Keys);
    let lines = vec![("AWS_ACCESS_KEY_ID", key.id.as_str()), ("AWS_SECRET_ACCESS_KEY", key.secret.expose().as_str())];
    page::show(&FreshPage { frame, lines })
}

/// Rights as a form writes them: grants with white space between them.
fn rights(grants: &str, everything: bool, mail: bool) -> Result<KeyRights, AccountsError> {
    if everything {
        return Ok(KeyRights::All);
    }
    let grants = grants.split_whitespace().map(str::parse::<KeyGrant>).collect::<Result<_, _>>()?;
    Ok(KeyRights::Limited { grants, mail })
}

/// `GET /keys/access/{id}`.
pub async fn show_key(State(console): State<Console>, Path(id): Path<String>, page: Page) -> Answer {
    let (world, now) = (console.world(), console.world().clock.now());
    let key = world.users.access_key(&id).ok_or_else(|| Fault::not_found("access key"))?;
    let old_until = key.previous.as_ref().map(|old| old.until).filter(|until| now < *until);
    page::show(&AccessKeyPage { frame: page.frame("Access key", Section::Keys), key, old_until, now })
}

/// `POST /keys/access/{id}`: other rights, another end.
pub async fn change_key(State(console): State<Console>, Path(id): Path<String>, Form { page, fields }: Form) -> Answer {
    page.confirmed(&format!("/keys/access/{id}"))?;
    let world = console.world();
    let expires = match fields.text("lives") {
        "keep" => None,
        "" => Some(None),
        text => {
            let span: Span = text.parse().map_err(|_no_span| Fault::bad_request("That is no length of time."))?;
            Some(Some(world.clock.now().after(span.duration())))
        }
    };
    let rights = match rights(fields.text("grants"), fields.ticked("everything"), fields.ticked("mail")) {
        Ok(rights) => Some(rights),
        Err(error) => return back(&page, &Fault::refused(&error)),
    };
    let change = KeyChange { label: None, rights, expires };
    match world.users.change_access_key(&id, change, &page.by()).await {
        Ok(_) => page.redirect_saying("/keys", &Flash::good(format!("What {id} may do is changed."))),
        Err(error) => back(&page, &Fault::refused(&error)),
    }
}

/// `POST /keys/access/{id}/rotate`.
pub async fn rotate_key(State(console): State<Console>, Path(id): Path<String>, Form { page, fields }: Form) -> Answer {
    page.confirmed(&format!("/keys/access/{id}"))?;
    let overlap = match fields.text("overlap") {
        "" => Duration::ZERO,
        text => text.parse::<Span>().map_err(|_no_span| Fault::bad_request("That is no length of time."))?.duration(),
    };
    match console.world().users.rotate_access_key(&id, overlap, &page.by()).await {
        Ok(key) => fresh(&page, "Its new secret", &key),
        Err(error) => back(&page, &Fault::refused(&error)),
    }
}

/// `POST /keys/access/{id}/retire`.
pub async fn retire_secret(State(console): State<Console>, Path(id): Path<String>, Form { page, .. }: Form) -> Answer {
    page.confirmed(&format!("/keys/access/{id}"))?;
    match console.world().users.retire_secret(&id, &page.by()).await {
        Ok(_) => page.redirect_saying("/keys", &Flash::good(format!("The old secret of {id} is retired."))),
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
