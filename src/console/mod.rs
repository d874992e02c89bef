//! The admin's pages.
//!
//! Server-rendered HTML that works without JavaScript; the scripts in `web/static` only make it nicer. Promises:
//! - nothing is shown to anybody who is not logged in, but the pages that let them in;
//! - nothing changes without a token of a form that this console made for this session, sent from its own origin
//!   ([`entry`], [`form`]);
//! - every text is escaped by the template engine; no page has an inline script or style, and [`headers::POLICY`] would
//!   refuse one; what users have stored is never shown as a document of this origin;
//! - a failure is a page too ([`fault`]), and never tells a secret.
//!
//! # A new page
//!
//! 1. One file under `pages/`, with the handlers: `GET` takes [`Page`] (somebody logged in), `POST` takes [`Form`], which
//!    has checked the form's token. Both take `State<Console>` and ask [`Console::world`] for the services. They return
//!    [`Answer`]; a `?` on a [`Fault`] becomes a page.
//! 2. One template in `web/templates`, which extends `layout.html` and fills `content`; its struct has a field `frame`,
//!    made by [`Page::frame`], and is shown by [`page::show`]. Each `<form method="post">` holds `{{ frame.csrf() }}`.
//! 3. One line in the table in `pages/mod.rs`; a new [`Section`] if it belongs into the navigation.
//!
//! After a change, answer [`Page::redirect_saying`] with a [`Flash`]. Before something is destroyed, a `GET` shows
//! [`Confirm`]. Long lists go through [`paging`]; numbers and times through [`format`]; curves through [`chart`].
//!
//! ```text
//! #[derive(Template)]
//! #[template(path = "buckets.html")]
//! struct BucketsPage { frame: Frame, buckets: Vec<Bucket> }
//!
//! pub async fn list(State(console): State<Console>, page: Page) -> Answer {
//!     let buckets = console.world().objects.buckets().await.map_err(|error| Fault::failed("list of buckets", &error))?;
//!     page::show(&BucketsPage { frame: page.frame("Buckets", Section::Buckets), buckets })
//! }
//! ```

pub mod assets;
pub mod chart;
pub mod confirm;
pub mod cookies;
pub mod entry;
mod errors;
pub mod fault;
pub mod flash;
pub mod foreign;
pub mod form;
pub mod format;
pub mod frame;
pub mod headers;
pub mod page;
mod pages;
pub mod paging;
pub mod seals;
pub mod session;
pub mod share;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::{Router, middleware};

use self::assets::Assets;
use self::seals::Seals;
use crate::accounts::Users;
use crate::analytics::Analytics;
use crate::backup::service::Backups;
use crate::bans::Bans;
use crate::base::{Clock, Disk, Random};
use crate::crypto::Key;
use crate::issues::Issues;
use crate::kv::Handle;
use crate::limits::Limits;
use crate::mail::{Brand, Outbox};
use crate::monitor::history::History;
use crate::monitor::{Certificates, Checks, SettingViews, SitesSeen, Upstreams};
use crate::objects::Objects;
use crate::telemetry::Metrics;

pub use confirm::Confirm;
pub use fault::{Answer, Fault};
pub use flash::Flash;
pub use form::{Fields, Form, OpenForm, Upload};
pub use frame::{Frame, Section};
pub use page::{Page, Visitor};
pub use share::Share;

/// Where the server listens.
#[derive(Clone, Debug)]
pub struct Door {
    /// What it speaks, for people.
    pub speaks: String,
    /// An address, or the path of a Unix socket.
    pub address: String,
}

/// Makes lines of a name and a value when asked.
pub type Lines = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

/// The services the pages show.
pub struct World {
    /// The Redis door's keyspace; `None` while that door is off.
    pub keyspace: Option<Handle>,
    /// Rate limits that apps ask about.
    pub limits: Limits,
    /// Who is banned at the edge.
    pub bans: Bans,
    /// How the pages of sites are visited.
    pub analytics: Analytics,
    /// Buckets and objects.
    pub objects: Objects,
    /// Outbound mail.
    pub outbox: Outbox,
    /// Captured errors.
    pub issues: Issues,
    /// How objects are opened and shared by address.
    pub share: Share,
    /// Who the letters to accounts come from.
    pub brand: Brand,
    /// Every setting with its manual, as `mainstay config reference` prints it.
    pub reference: String,
    /// People's accounts, API tokens, access keys, the audit log.
    pub users: Users,
    /// Every setting.
    pub settings: SettingViews,
    /// The lines of `mainstay env`: name and value. Full of secrets.
    pub env: Lines,
    /// Backups.
    pub backups: Backups,
    /// Whether each part works.
    pub checks: Checks,
    /// The edge's certificates.
    pub certificates: Certificates,
    /// The apps behind the edge.
    pub upstreams: Upstreams,
    /// The sites of the edge.
    pub sites: SitesSeen,
    /// The numbers of the last hour and day.
    pub history: History,
    /// The numbers now.
    pub metrics: Metrics,
    /// The doors that are on.
    pub doors: Vec<Door>,
    /// The data folder, and the disk it is on.
    pub data: PathBuf,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// The clock's monotonic time at the start.
    pub started: Duration,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// The console. Clones are the same one.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    world: World,
    assets: Arc<Assets>,
    seals: Seals,
}

impl Console {
    /// Pages over `world`; `key` is the console's alone and makes its form tokens.
    pub fn new(world: World, key: Key) -> Self {
        Self(Arc::new(Inner { world, assets: Arc::new(Assets::new()), seals: Seals::new(key) }))
    }

    /// The pages.
    pub fn router(&self) -> Router {
        pages::router(self)
    }

    /// `router`, which serves the pages and the interfaces beside them, with pages also for addresses where nothing is,
    /// when a browser asks.
    pub fn around(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), entry::around))
    }

    /// The services.
    pub fn world(&self) -> &World {
        &self.0.world
    }

    fn assets(&self) -> &Arc<Assets> {
        &self.0.assets
    }

    fn seals(&self) -> &Seals {
        &self.0.seals
    }

    fn random(&self) -> &dyn Random {
        self.0.world.random.as_ref()
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}
