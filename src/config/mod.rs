//! Every room's settings in one tree, and where each value came from.
//!
//! A value comes from the first of these that names it: a flag, the environment (`MAINSTAY_SECTION__KEY`), the file
//! (TOML), the room's default. Promises:
//! - nothing is guessed: an unknown key, a bad value or a contradiction is a [`Problem`] that names its place (file,
//!   line and column, or variable, or flag), the key, the value, and what to write instead; all are told at once;
//! - every value's [`Source`] is known afterwards;
//! - secrets are no settings. They come from the environment or from files named there ([`Environment`]).
//!
//! The rooms own their structs ([`settings!`](crate::settings)); [`tree`] puts them together. Start reading at
//! [`load::load`]; [`check`] holds what only the whole tree can contradict, [`reference`](mod@reference) prints the manual.

pub mod check;
pub mod environment;
pub mod file;
pub mod load;
pub mod problem;
pub mod reference;
pub mod source;
pub mod tree;
pub mod view;

pub use environment::Environment;
pub use file::ConfigFile;
pub use load::{Inputs, Loaded, load};
pub use problem::{Problem, Problems};
pub use source::{Origin, Origins, Source};
pub use tree::Config;
pub use view::view;

crate::settings! {
    /// The process as a whole.
    pub struct ServerConfig {
        /// How long a stop (SIGTERM, Ctrl-C) waits for requests under way before it cuts them off.
        pub drain: crate::base::Span = crate::base::Span::secs(20),
        /// How long the process before an upgrade (`mainstay upgrade`) goes on carrying what is open on the edge: WebSockets,
        /// and answers under way. What is left then is cut off. Other connections end with their next answer.
        pub linger: crate::base::Span = crate::base::Span::hours(24),
    }
}
