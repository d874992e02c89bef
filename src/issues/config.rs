//! Settings of error capture.

use crate::base::{ByteSize, Span};

crate::settings! {
    /// Error capture: what Sentry's SDKs send, kept and grouped here.
    pub struct IssuesConfig {
        /// Most events taken in per minute; past it SDKs are told to wait. 0 sets no limit.
        pub events_per_minute: u32 = 6_000,
        /// Most events waiting to be digested; past it SDKs are told to wait.
        pub max_spool_events: u64 = 10_000,
        /// Most bytes of events waiting to be digested.
        pub max_spool: ByteSize = ByteSize::mib(128),
        /// Newest events kept of one issue. The 1st, 2nd, 4th, 8th … are kept besides; counts stay exact.
        pub events_per_issue: u32 = 50,
        /// Most events kept in all; past it the issue not seen for longest goes, with its events.
        pub max_events: u64 = 50_000,
        /// Most issues kept; past it the one not seen for longest goes.
        pub max_issues: u64 = 5_000,
        /// Issues not seen for this long are removed, with their events.
        pub keep: Span = Span::days(90),
        /// Keep whole network addresses of users. Off, the last part is cut off (IPv4: last byte, IPv6: last 80 bits).
        pub keep_addresses: bool = false,
    }
}
