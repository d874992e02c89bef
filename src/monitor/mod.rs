//! Whether the server and each of its parts works.
//!
//! [`health`] knows the parts and asks them; [`history`] keeps numbers of the last hour and day for curves; [`certificates`]
//! is how the edge's certificates are shown, [`upstreams`] how the apps behind it do, [`sites`] how it answers.

pub mod certificates;
pub mod health;
pub mod history;
pub mod kept;
mod setting_view;
pub mod sites;
pub mod upstreams;

pub use certificates::{CertificateView, Certificates};
pub use health::{Check, Checks, Part, Report};
pub use history::History;
pub use kept::{CacheView, DiskState, DiskView, MemoryView};
pub use setting_view::{SettingView, SettingViews};
pub use sites::{KeptView, Passed, SiteSample, SiteView, SitesSeen, WhichKept};
pub use upstreams::{UpstreamState, UpstreamView, Upstreams};
