//! Numbers, sizes and times as pages write them. Templates call these: `{{ format::bytes(size) }}`.

use std::fmt;
use std::time::Duration;

use askama::filters::HtmlSafe;

use crate::base::{ByteSize, Timestamp};

/// A number or time as templates hand it over: itself, or behind references.
pub trait Figure<T> {
    /// The number or time.
    fn figure(&self) -> T;
}

impl<T, F: Figure<T> + ?Sized> Figure<T> for &F {
    fn figure(&self) -> T {
        (**self).figure()
    }
}

macro_rules! figures {
    ($($type:ty),+) => { $(impl Figure<$type> for $type {
        fn figure(&self) -> $type {
            *self
        }
    })+ };
}

figures!(u64, Duration, Timestamp);

/// `1.5 MiB`.
pub fn bytes(count: impl Figure<u64>) -> String {
    ByteSize(count.figure()).to_string()
}

/// `1,234,567`.
pub fn count(count: impl Figure<u64>) -> String {
    let digits = count.figure().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The two largest units of a length of time: `3 d 4 h`, `12 s`, `350 ms`.
pub fn span(length: impl Figure<Duration>) -> String {
    let length = length.figure();
    let seconds = length.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, unit: &str, small: u64, smaller: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {smaller}"),
    };
    match () {
        () if days > 0 => two(days, "d", hours, "h"),
        () if hours > 0 => two(hours, "h", minutes, "min"),
        () if minutes > 0 => two(minutes, "min", seconds % 60, "s"),
        () if seconds > 0 => format!("{seconds} s"),
        () => format!("{} ms", length.as_millis()),
    }
}

/// As [`span`], of a number of milliseconds.
pub fn millis(count: impl Figure<u64>) -> String {
    span(Duration::from_millis(count.figure()))
}

/// How long it was from `began` to `ended`, as [`span`].
pub fn took(began: impl Figure<Timestamp>, ended: impl Figure<Timestamp>) -> String {
    span(ended.figure().since(began.figure()))
}

/// A moment as a `<time>` element: `2026-01-31 12:00 UTC`. With scripts the browser shows it in its own time zone.
pub fn moment(at: impl Figure<Timestamp>) -> Moment {
    Moment(at.figure())
}

/// How long before `now` something was: `just now`, `5 min ago`, `2 d ago`.
pub fn ago(at: impl Figure<Timestamp>, now: impl Figure<Timestamp>) -> String {
    let seconds = now.figure().since(at.figure()).as_secs();
    match seconds {
        0..5 => String::from("just now"),
        5..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// See [`moment`].
#[derive(Clone, Copy, Debug)]
pub struct Moment(Timestamp);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0.to_jiff();
        write!(f, "<time datetime=\"{}\">{} UTC</time>", self.0, at.strftime("%Y-%m-%d %H:%M"))
    }
}

impl HtmlSafe for Moment {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(bytes(1_572_864_u64), "1.5 MiB");
    }

    #[test]
    fn a_length_of_time_has_its_two_largest_units() {
        for (seconds, text) in [(12, "12 s"), (60, "1 min"), (3_700, "1 h 1 min"), (273_600, "3 d 4 h")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        assert_eq!(span(Duration::from_millis(350)), "350 ms");
    }

    #[test]
    fn moments_are_machine_readable_too() {
        let at = Timestamp::from_seconds(1_767_225_600);
        let html = "<time datetime=\"2026-01-01T00:00:00.000Z\">2026-01-01 00:00 UTC</time>";
        assert_eq!(moment(at).to_string(), html);
        let later = |seconds| at.after(Duration::from_secs(seconds));
        for (seconds, text) in [(1, "just now"), (30, "30 s ago"), (90, "1 min ago"), (200_000, "2 d ago")] {
            assert_eq!(ago(at, later(seconds)), text);
        }
    }
}
