//! Settings of the rate limits that apps ask about.

use serde::{Deserialize, Serialize};

use crate::base::Span;

/// How a policy counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Exactly: at most `limit` in any stretch of `window`.
    #[default]
    SlidingWindow,
    /// Evenly: `limit` in each `window`, at most `burst` at once.
    Gcra,
}

impl Algorithm {
    /// The word in the settings.
    pub const fn word(self) -> &'static str {
        match self {
            Self::SlidingWindow => "sliding-window",
            Self::Gcra => "gcra",
        }
    }
}

crate::settings! {
    /// Rate limits that apps ask about, `POST /v1/limits/<policy>/check`.
    pub struct RateLimitsConfig {
        /// Policies of your own, and changes to those that are there from the start: `login` (5 in 15 minutes by address
        /// and e-mail), `register` (3 an hour by address), `password-reset` (3 an hour by address, and by e-mail), `api`
        /// (100 a minute by key) and `burst` (10 in 10 seconds by key). One of the same name takes their place.
        pub policies: Vec<PolicyConfig> = Vec::new(),
        /// An address with more failures than this in a day, over all e-mails, is called suspicious.
        pub suspicious_after: u32 = 20,
        /// Most counters kept; past it, those that would be forgotten soonest go first. Each takes up to 1 KiB.
        pub keys: u32 = 20_000,
    }
}

crate::settings! {
    /// One policy: how often, and who counts as one.
    pub struct PolicyConfig {
        /// Its name in the address: small letters, digits and `-`.
        pub name: String = String::new(),
        /// How it counts: `sliding-window` or `gcra`.
        pub algorithm: Algorithm = Algorithm::SlidingWindow,
        /// How many in each `window`. A sliding window takes at most 100.
        pub limit: u32 = 10,
        /// The time.
        pub window: Span = Span::mins(1),
        /// For `gcra`: how many at once; 0 takes `limit`.
        pub burst: u32 = 0,
        /// What is counted by: one counter each, of fields joined by `+`. Fields are `ip`, `email`, `user` and `key`.
        /// `["ip+email"]` counts each pair, `["ip", "email"]` each by itself and refuses when either is used up.
        pub by: Vec<String> = vec![String::from("key")],
    }
}
