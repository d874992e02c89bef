//! How long an answer is good, how old it is, and whether it may be used for a request (RFC 9111 section 4.2, RFC 5861).

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::time::Duration;

use http::header::{AGE, DATE, EXPIRES, HeaderName, LAST_MODIFIED, PRAGMA};
use http::{HeaderMap, StatusCode};

use super::directives::{Control, Number, Word, seconds};
use crate::base::Timestamp;
use crate::http::conditional::parse_date;

/// Longest time that is guessed (RFC 9111 section 4.2.2 leaves it open).
const LONGEST_GUESS: Duration = Duration::from_hours(24);
/// The part of an answer's time without change for which it is guessed to stay so: a tenth.
const GUESSED_PART: u32 = 10;
/// Statuses for which a time may be guessed (RFC 9110 section 15.1), but for 206.
const GUESSABLE: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];

/// When an answer came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// When it was asked for, on the monotonic clock.
    pub asked: Duration,
    /// When its head came, on the monotonic clock.
    pub received: Duration,
    /// When its head came, by the calendar.
    pub at: Timestamp,
    /// How long the site has answers of its status be good that do not say it.
    pub default: Option<Duration>,
}

/// The time an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its age when it came.
    initial_age: Duration,
    /// When that was, on the monotonic clock.
    received: Duration,
    /// How old it may become.
    lifetime: Duration,
}

/// What may be done with a stored answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It answers.
    Fresh,
    /// It answers, and is to be asked for again.
    Renewing,
    /// It must be validated first.
    Stale,
}

impl Life {
    /// The time of an answer with `status`, `headers` and their `control`.
    pub fn of(status: StatusCode, headers: &HeaderMap, control: &Control, arrival: Arrival) -> Self {
        let date = date(headers, &DATE).unwrap_or(arrival.at);
        // Section 4.2.3. A date in the future makes nothing younger.
        let apparent = Duration::from_secs(arrival.at.seconds().saturating_sub(date.seconds()));
        let told = headers.get(AGE).and_then(|value| seconds(first(value.as_bytes()))).unwrap_or(0);
        let delay = arrival.received.saturating_sub(arrival.asked);
        let corrected = Duration::from_secs(told).saturating_add(delay);
        Self {
            initial_age: apparent.max(corrected),
            received: arrival.received,
            lifetime: lifetime(status, headers, control, date, arrival.default),
        }
    }

    /// That of an answer which is `age` old at `now`, monotonic.
    pub const fn restored(age: Duration, lifetime: Duration, now: Duration) -> Self {
        Self { initial_age: age, received: now, lifetime }
    }

    /// How old it was when it came.
    pub const fn initial_age(&self) -> Duration {
        self.initial_age
    }

    /// How old it is at `now`, monotonic.
    pub fn age(&self, now: Duration) -> Duration {
        self.initial_age.saturating_add(now.saturating_sub(self.received))
    }

    /// How old it may become; zero makes it good for nothing but being validated.
    pub const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// When it came, on the monotonic clock.
    pub const fn received(&self) -> Duration {
        self.received
    }

    /// What may be done with it at `now` for a request that says `asked`, when it itself says `told`.
    pub fn standing(&self, told: &Control, asked: &Asked, now: Duration) -> Standing {
        let age = self.age(now);
        let wish = &asked.control;
        let too_old = wish.span(Number::MaxAge).is_some_and(|most| age > most);
        let least = wish.span(Number::MinFresh).unwrap_or_default();
        let soon_stale = !least.is_zero() && self.lifetime < age.saturating_add(least);
        if asked.reload || told.has(Word::NoCache) || too_old || soon_stale {
            return Standing::Stale;
        }
        if self.lifetime > age {
            return Standing::Fresh;
        }
        let past = age.saturating_sub(self.lifetime);
        if !may_be_stale(told) {
            return Standing::Stale;
        }
        // s-maxage forbids it (section 5.2.2.10) but for what the app allows in so many words.
        let shared = told.span(Number::SharedMaxAge).is_some();
        if !shared && wish.span(Number::MaxStale).is_some_and(|most| past <= most) {
            return Standing::Fresh;
        }
        match told.span(Number::StaleWhileRevalidate) {
            Some(most) if past < most => Standing::Renewing,
            _ => Standing::Stale,
        }
    }

    /// Whether it may stand in for an error at `now`; where it does not say for how long, it is `default`.
    pub fn outlives_errors(&self, told: &Control, asked: &Asked, now: Duration, default: Duration) -> bool {
        let past = self.age(now).saturating_sub(self.lifetime);
        let allowed = past < told.span(Number::StaleIfError).unwrap_or(default);
        allowed && may_be_stale(told) && !asked.reload
    }
}

/// What a request says about stored answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Its directives.
    pub control: Control,
    /// Whether it takes nothing that was not validated now.
    pub reload: bool,
}

impl Asked {
    /// What `headers` say. `Pragma` counts where there is no `Cache-Control` (section 5.4).
    pub fn of(headers: &HeaderMap) -> Self {
        let control = Control::of(headers);
        let pragma = || {
            let lines = headers.get_all(PRAGMA).iter().filter_map(|line| line.to_str().ok());
            lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case("no-cache"))
        };
        Self { control, reload: control.has(Word::NoCache) || (!control.is_there() && pragma()) }
    }
}

/// Whether an answer says for how long it is good, or at least that it may be kept.
pub fn is_explicit(headers: &HeaderMap, control: &Control) -> bool {
    control.is_for_all() || control.span(Number::MaxAge).is_some() || headers.contains_key(EXPIRES)
}

/// Whether an answer may be kept by its status alone.
pub fn is_guessable(status: StatusCode) -> bool {
    GUESSABLE.contains(&status.as_u16())
}

fn may_be_stale(told: &Control) -> bool {
    !told.has(Word::MustRevalidate) && !told.has(Word::ProxyRevalidate) && !told.has(Word::NoCache)
}

/// How long an answer of `date` is good (section 4.2.1); `default` comes before any guess.
fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    control: &Control,
    date: Timestamp,
    default: Option<Duration>,
) -> Duration {
    if let Some(span) = control.span(Number::SharedMaxAge).or_else(|| control.span(Number::MaxAge)) {
        return span;
    }
    if headers.contains_key(EXPIRES) {
        // What is no date, such as `0`, is in the past; of several the first counts (section 5.3).
        let expires = self::date(headers, &EXPIRES).unwrap_or_default();
        return Duration::from_secs(expires.seconds().saturating_sub(date.seconds()));
    }
    if let Some(default) = default.filter(|_| !control.has(Word::NoCache)) {
        return default;
    }
    if !is_guessable(status) && !control.has(Word::Public) {
        return Duration::ZERO;
    }
    let unchanged = self::date(headers, &LAST_MODIFIED).map(|since| date.since(since)).unwrap_or_default();
    unchanged.checked_div(GUESSED_PART).unwrap_or_default().min(LONGEST_GUESS)
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    headers.get(name).and_then(|value| value.to_str().ok()).and_then(parse_date)
}

/// The first element of a list (section 5.1 asks for it where `Age` has several).
fn first(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::http::conditional::format_date;

    const NOW: u64 = 1_800_000_000;

    fn headers(text: &str) -> HeaderMap {
        let line = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            // `@-60` stands for the date a minute ago.
            let value = match value.strip_prefix('@') {
                Some(shift) => {
                    format_date(Timestamp::from_seconds(NOW.checked_add_signed(shift.parse().unwrap()).unwrap()))
                }
                None => value.to_owned(),
            };
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(&value).unwrap())
        };
        text.split('|').filter(|text| !text.is_empty()).map(line).collect()
    }

    fn life(status: u16, text: &str, delay: u64) -> (Life, Control) {
        let headers = headers(text);
        let control = Control::of(&headers);
        let arrival = Arrival {
            asked: Duration::from_secs(100),
            received: Duration::from_secs(delay.saturating_add(100)),
            at: Timestamp::from_seconds(NOW),
            default: None,
        };
        (Life::of(StatusCode::from_u16(status).unwrap(), &headers, &control, arrival), control)
    }

    #[test]
    fn the_lifetime_comes_from_the_most_exact_word() {
        for (status, text, seconds) in [
            (200, "cache-control: s-maxage=5, max-age=60|expires: @900", 5),
            (200, "cache-control: max-age=60|expires: @900", 60),
            (200, "cache-control: max-age=x|expires: @900", 0),
            (200, "date: @-10|expires: @50", 60),
            (200, "expires: @50", 50),
            (200, "expires: 0", 0),
            (200, "expires: @-50", 0),
            (200, "expires: 0|last-modified: @-1000", 0),
            (200, "last-modified: @-1000", 100),
            (200, "date: @-500|last-modified: @-1500", 100),
            (200, "last-modified: @-9000000", 86_400),
            (200, "last-modified: @5", 0),
            (404, "last-modified: @-1000", 100),
            (302, "last-modified: @-1000", 0),
            (302, "last-modified: @-1000|cache-control: public", 100),
            (302, "cache-control: max-age=7", 7),
            (200, "", 0),
        ] {
            assert_eq!(life(status, text, 0).0.lifetime().as_secs(), seconds, "{status} {text}");
        }
    }

    #[test]
    fn what_says_nothing_is_good_for_as_long_as_the_site_says() {
        let default = Some(Duration::from_secs(7));
        let arrival =
            Arrival { asked: Duration::ZERO, received: Duration::ZERO, at: Timestamp::from_seconds(NOW), default };
        for (status, text, seconds) in [
            (200, "", 7),
            (302, "", 7),
            (200, "cache-control: public", 7),
            (200, "last-modified: @-1000", 7),
            (200, "cache-control: max-age=60", 60),
            (200, "cache-control: max-age=0", 0),
            (200, "expires: 0", 0),
        ] {
            let headers = headers(text);
            let status = StatusCode::from_u16(status).unwrap();
            let life = Life::of(status, &headers, &Control::of(&headers), arrival);
            assert_eq!(life.lifetime().as_secs(), seconds, "{status} {text}");
        }
    }

    #[test]
    fn the_age_counts_from_where_the_answer_was_made() {
        for (text, delay, age) in [
            ("date: @0", 0, 10),
            ("date: @-7", 0, 17),
            ("date: @90", 0, 10),
            ("age: 5", 0, 15),
            ("age: 5", 3, 15 + 3),
            ("age: 5|date: @-20", 3, 30),
            ("age: 5, 9", 0, 15),
            ("age: old", 0, 10),
            ("", 3, 13),
        ] {
            let (life, _) = life(200, text, delay);
            assert_eq!(life.age(Duration::from_secs(110 + delay)).as_secs(), age, "{text} {delay}");
        }
    }

    #[test]
    fn requests_and_answers_say_together_what_may_be_used() {
        use Standing::{Fresh, Renewing, Stale};
        for (told, asked, after, standing) in [
            ("max-age=60", "", 59, Fresh),
            ("max-age=60", "", 60, Stale),
            ("max-age=60", "no-cache", 0, Stale),
            ("max-age=60, no-cache", "", 0, Stale),
            ("max-age=60", "max-age=10", 10, Fresh),
            ("max-age=60", "max-age=10", 11, Stale),
            ("max-age=60", "max-age=0", 1, Stale),
            ("max-age=60", "min-fresh=50", 10, Fresh),
            ("max-age=60", "min-fresh=50", 11, Stale),
            ("max-age=60", "max-stale=5", 65, Fresh),
            ("max-age=60", "max-stale=5", 66, Stale),
            ("max-age=60", "max-stale", 9999, Fresh),
            ("max-age=60, must-revalidate", "max-stale", 61, Stale),
            ("max-age=60, proxy-revalidate", "max-stale", 61, Stale),
            ("s-maxage=60", "max-stale", 61, Stale),
            ("max-age=60, stale-while-revalidate=30", "", 89, Renewing),
            ("max-age=60, stale-while-revalidate=30", "", 90, Stale),
            ("max-age=60, stale-while-revalidate=30", "max-age=70", 71, Stale),
            ("s-maxage=60, stale-while-revalidate=30", "", 61, Renewing),
            ("max-age=60, stale-while-revalidate=30, must-revalidate", "", 61, Stale),
        ] {
            let (life, control) = life(200, &format!("cache-control: {told}"), 0);
            let asked = Asked::of(&headers(&format!("cache-control: {asked}")));
            let now = Duration::from_secs(100 + after);
            assert_eq!(life.standing(&control, &asked, now), standing, "{told}; {asked:?}; {after}");
        }
    }

    #[test]
    fn pragma_counts_where_there_is_no_cache_control() {
        assert!(Asked::of(&headers("pragma: x, No-Cache")).reload);
        assert!(!Asked::of(&headers("pragma: no-cache|cache-control: max-age=5")).reload);
        assert!(!Asked::of(&headers("pragma: other")).reload);
    }

    #[test]
    fn errors_are_covered_for_as_long_as_the_app_said() {
        for (told, asked, default, after, covered) in [
            ("max-age=60, stale-if-error=30", "", 0, 89, true),
            ("max-age=60, stale-if-error=30", "", 0, 90, false),
            ("max-age=60, stale-if-error=30", "no-cache", 0, 61, false),
            ("max-age=60, stale-if-error=30, must-revalidate", "", 0, 61, false),
            ("max-age=60", "", 0, 61, false),
            ("max-age=60", "", 10, 69, true),
            ("max-age=60", "", 10, 70, false),
            ("max-age=60, stale-if-error=5", "", 10, 66, false),
            ("max-age=60, must-revalidate", "", 10, 61, false),
            ("max-age=60, no-cache", "", 10, 61, false),
        ] {
            let (life, control) = life(200, &format!("cache-control: {told}"), 0);
            let asked = Asked::of(&headers(&format!("cache-control: {asked}")));
            let now = Duration::from_secs(100 + after);
            let default = Duration::from_secs(default);
            assert_eq!(life.outlives_errors(&control, &asked, now, default), covered, "{told}; {asked:?}; {after}");
        }
    }
}
