//! `/bans`: who is banned at the edge, for what, until when; banning and unbanning.

use askama::Template;
use axum::extract::State;

use crate::bans::{self, Ban, BansError, Origin, Wanted};
use crate::base::network::Network;
use crate::base::{Span, Timestamp};
use crate::console::fault::sentence;
use crate::console::{Answer, Console, Fault, Flash, Form, Frame, Page, Section, format, page};

/// Bans shown, the newest first.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "bans.html")]
struct BansPage {
    frame: Frame,
    bans: Vec<(Network, Ban)>,
    more: usize,
    now: Timestamp,
}

/// `GET /bans`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let world = console.world();
    let bans = world.bans.newest(SHOWN);
    let more = world.bans.count().saturating_sub(bans.len());
    page::show(&BansPage { frame: page.frame("Bans", Section::Edge), bans, more, now: world.clock.now() })
}

/// `POST /bans`: bans by hand.
pub async fn add(State(console): State<Console>, Form { page, fields }: Form) -> Answer {
    let text = fields.trimmed("address");
    let Ok(network) = Network::client(text) else {
        return page.redirect_saying("/bans", &Flash::bad(format!("“{text}” is no address and no network.")));
    };
    let span: Option<Span> = match fields.text("lasts") {
        "" => None,
        text => Some(text.parse().map_err(|_no_span| Fault::bad_request("That is no length of time."))?),
    };
    let span = span.map(Span::duration);
    let reason = fields.trimmed("reason").to_owned();
    let wanted = Wanted { network, span, reason, force: fields.ticked("force") };
    match console.world().bans.add(&wanted).await {
        Ok(_) => {
            note(&console, &page, "ban.added", network).await?;
            page.redirect_saying("/bans", &Flash::good(format!("{network} is banned.")))
        }
        Err(error) => refused(&page, &error),
    }
}

/// `POST /bans/lift`.
pub async fn lift(State(console): State<Console>, Form { page, fields }: Form) -> Answer {
    let network: Network =
        fields.text("address").parse().map_err(|_no_network| Fault::bad_request("That is no address."))?;
    match console.world().bans.remove(network).await {
        Ok(()) => {
            note(&console, &page, "ban.lifted", network).await?;
            page.redirect_saying("/bans", &Flash::good(format!("{network} is not banned any more.")))
        }
        Err(error) => refused(&page, &error),
    }
}

async fn note(console: &Console, page: &Page, action: &'static str, network: Network) -> Result<(), Fault> {
    let noted = console.world().users.note(&page.by(), action, &network.to_string()).await;
    noted.map_err(|error| Fault::refused(&error))
}

fn refused(page: &Page, error: &BansError) -> Answer {
    match error {
        BansError::Store(_) => Err(Fault::failed("bans", error)),
        error => page.redirect_saying("/bans", &Flash::bad(sentence(&error.to_string()))),
    }
}

/// When `ban` began.
const fn since(ban: &Ban) -> Timestamp {
    Timestamp(ban.since_ms)
}

/// When it ends, if it does.
const fn until(ban: &Ban) -> Option<Timestamp> {
    bans::moment(ban.until_ms)
}

/// Who made `ban`.
fn origin(ban: &Ban) -> &str {
    match &ban.origin {
        Origin::Jail(name) => name,
        Origin::Hand => "by hand",
    }
}
