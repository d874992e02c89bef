//! Days, in UTC.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::base::Timestamp;

const SECONDS: u64 = 86_400;

/// A day in UTC: whole days since 1970-01-01. As text `2026-11-20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

/// A text is no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a day such as 2026-11-20")]
pub struct BadDay;

impl Day {
    /// The day of `at`.
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.seconds() / SECONDS).unwrap_or(u32::MAX))
    }

    /// When it begins.
    pub fn start(self) -> Timestamp {
        Timestamp::from_seconds(u64::from(self.0).saturating_mul(SECONDS))
    }

    /// So many `days` before it.
    #[must_use]
    pub const fn earlier(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.start().to_jiff().strftime("%Y-%m-%d"))
    }
}

impl FromStr for Day {
    type Err = BadDay;

    fn from_str(text: &str) -> Result<Self, BadDay> {
        let date = Date::strptime("%Y-%m-%d", text).map_err(|_no_date| BadDay)?;
        let start = date.to_zoned(TimeZone::UTC).map_err(|_out_of_range| BadDay)?.timestamp().as_second();
        let seconds = u64::try_from(start).map_err(|_before_1970| BadDay)?;
        Ok(Self::of(Timestamp::from_seconds(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_reads_as_it_is_written() {
        for text in ["1970-01-01", "2026-11-20", "2028-02-29"] {
            assert_eq!(text.parse::<Day>().unwrap().to_string(), text);
        }
        for text in ["", "2026-13-01", "2026-02-30", "1969-12-31", "today", "2026-11-20T00:00"] {
            assert_eq!(text.parse::<Day>(), Err(BadDay), "{text}");
        }
    }

    #[test]
    fn a_day_ends_at_midnight() {
        let day: Day = "2026-11-20".parse().unwrap();
        assert_eq!(Day::of(Timestamp(day.start().millis() + 86_399_999)), day);
        assert_eq!(Day::of(Timestamp(day.start().millis() + 86_400_000)).earlier(1), day);
    }
}
