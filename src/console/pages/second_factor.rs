//! `/account/second-factor`: a code from an app at each login.

use askama::Template;
use axum::extract::State;

use crate::base::Secret;
use crate::console::{Answer, Confirm, Console, Fault, Flash, Form, Frame, Page, Section, page};

#[derive(Template)]
#[template(path = "second_factor.html")]
struct BeginPage<'p> {
    frame: Frame,
    secret: &'p str,
    url: &'p str,
}

#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct CodesPage {
    frame: Frame,
    codes: Vec<Secret<String>>,
}

/// `GET /account/second-factor`.
pub async fn begin(State(console): State<Console>, page: Page) -> Answer {
    page.confirmed("/account/second-factor")?;
    let begun = console.world().users.begin_second_factor(page.session().account()).await;
    match begun {
        Ok(fresh) => {
            let frame = page.frame("Add a second factor", Section::Account);
            page::show(&BeginPage { frame, secret: fresh.secret.expose(), url: fresh.url.expose() })
        }
        Err(error) => {
            let fault = Fault::refused(&error);
            if fault.status.is_server_error() {
                Err(fault)
            } else {
                page.redirect_saying("/account", &Flash::bad(fault.text))
            }
        }
    }
}

/// `POST /account/second-factor`.
pub async fn finish(State(console): State<Console>, Form { page, fields }: Form) -> Answer {
    page.confirmed("/account/second-factor")?;
    let (code, client) = (Secret::new(fields.trimmed("code").to_owned()), page.entry().origin().client());
    match console.world().users.finish_second_factor(page.session().account(), &code, &client).await {
        Ok(codes) => page::show(&CodesPage { frame: page.frame("Your recovery codes", Section::Account), codes }),
        Err(error) => {
            let fault = Fault::refused(&error);
            let text = format!("{} Nothing was changed: begin again with a fresh secret.", fault.text);
            if fault.status.is_server_error() {
                Err(fault)
            } else {
                page.redirect_saying("/account", &Flash::bad(text))
            }
        }
    }
}

/// `GET /account/second-factor/remove`.
pub async fn ask_remove(page: Page) -> Answer {
    page.confirmed("/account/second-factor/remove")?;
    let frame = page.frame("Remove the second factor?", Section::Account);
    Confirm::new(frame, "From then on your password alone lets you in.", "Remove it", "/account").show()
}

/// `POST /account/second-factor/remove`.
pub async fn remove(State(console): State<Console>, Form { page, .. }: Form) -> Answer {
    page.confirmed("/account/second-factor/remove")?;
    let client = page.entry().origin().client();
    let removed = console.world().users.remove_second_factor(page.session().account(), &client).await;
    removed.map_err(|error| Fault::refused(&error))?;
    page.redirect_saying("/account", &Flash::good("The second factor is removed."))
}
