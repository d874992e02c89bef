//! Settings of error capture.

use std::fmt;
use std::str::FromStr;

use sentry::types::Dsn;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
        /// Where errors of Mainstay itself go: `here` shows them as project 0 beside those of your apps, a DSN such as
        /// `https://key@errors.example.com/1` sends them there, `off` leaves them to the log.
        pub own_errors: OwnErrorsTo = OwnErrorsTo::Here,
    }
}

/// Where errors of the server itself go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnErrorsTo {
    /// Into this server's own error capture.
    Here,
    /// To the project a DSN names.
    Elsewhere(Box<Dsn>),
    /// Nowhere; the log has them.
    Off,
}

/// A text says no place for errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place for errors: write `here`, `off`, or a DSN such as `https://key@errors.example.com/1`")]
pub struct OwnErrorsToError(String);

impl FromStr for OwnErrorsTo {
    type Err = OwnErrorsToError;

    fn from_str(text: &str) -> Result<Self, OwnErrorsToError> {
        match text {
            "here" => Ok(Self::Here),
            "off" => Ok(Self::Off),
            dsn => match dsn.parse() {
                Ok(dsn) => Ok(Self::Elsewhere(Box::new(dsn))),
                Err(_no_dsn) => Err(OwnErrorsToError(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for OwnErrorsTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("here"),
            Self::Elsewhere(dsn) => dsn.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}

impl<'de> Deserialize<'de> for OwnErrorsTo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for OwnErrorsTo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_for_own_errors_is_a_word_or_a_dsn() {
        for text in ["here", "off", "https://key:@errors.example.com/1"] {
            assert_eq!(text.parse::<OwnErrorsTo>().unwrap().to_string(), text);
        }
        assert!("https://errors.example.com/1".parse::<OwnErrorsTo>().is_err());
        assert!("there".parse::<OwnErrorsTo>().is_err());
    }
}
