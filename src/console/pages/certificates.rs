//! `/certificates`: which one each name of the edge has, and what the last attempt to get one came to.

use askama::Template;
use axum::extract::State;

use crate::base::Timestamp;
use crate::console::{Answer, Console, Fault, Flash, Form, Frame, Page, Section, foreign, format, page};
use crate::http::Body;
use crate::monitor::CertificateView;
use crate::monitor::certificates::RootView;

/// Names shown, those that failed first.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "certificates.html")]
struct CertificatesPage {
    frame: Frame,
    certificates: Vec<CertificateView>,
    more: usize,
    root: Option<RootView>,
    now: Timestamp,
}

/// `GET /certificates`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let world = console.world();
    let mut certificates = world.certificates.all();
    certificates.sort_by_key(|view| view.error.is_none());
    let more = certificates.len().saturating_sub(SHOWN);
    certificates.truncate(SHOWN);
    let (frame, now) = (page.frame("Certificates", Section::Edge), world.clock.now());
    let root = world.certificates.root();
    page::show(&CertificatesPage { frame, certificates, more, root, now })
}

/// `GET /certificates/root`: the internal authority's root, to be saved.
pub async fn root(State(console): State<Console>, _page: Page) -> Answer {
    let root = console.world().certificates.root().ok_or_else(|| Fault::not_found("internal authority"))?;
    Ok(foreign::download("mainstay-ca.crt", Body::from(root.pem)))
}

/// `POST /certificates/renew`.
pub async fn renew(State(console): State<Console>, Form { page, fields }: Form) -> Answer {
    let (world, name) = (console.world(), fields.text("name"));
    if !world.certificates.renew(name) {
        return page.redirect_saying("/certificates", &Flash::bad(format!("No certificate is ordered for “{name}”.")));
    }
    let noted = world.users.note(&page.by(), "certificate.ordered", name).await;
    noted.map_err(|error| Fault::refused(&error))?;
    page.redirect_saying("/certificates", &Flash::good(format!("A certificate for {name} is being ordered.")))
}

impl CertificatesPage {
    /// How `view` stands, as class and word of its badge.
    fn badge(&self, view: &CertificateView) -> (&'static str, &'static str) {
        let expired = view.expires_ms.is_none_or(|at| at <= self.now.millis());
        match (expired, view.error.is_some(), view.ordering) {
            (true, ..) => ("bad", "not good"),
            (_, true, _) => ("warn", "the last attempt failed"),
            (_, _, true) => ("warn", "being ordered"),
            _ => ("good", "good"),
        }
    }
}

/// The moment `millis` after 1970 began.
fn at(millis: impl format::Figure<u64>) -> format::Moment {
    format::moment(Timestamp(millis.figure()))
}
