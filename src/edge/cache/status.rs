//! `Cache-Status`: what the cache did with a request (RFC 9211).

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::storable::Why;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why the app was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The request is none that the cache answers.
    Bypass,
    /// Its method is none.
    Method,
    /// It does not take what is stored.
    Request,
    /// Nothing is stored.
    Miss,
    /// Only answers to other requests are.
    VaryMiss,
    /// What is stored is stale.
    Stale,
}

/// What the cache did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Why the app was asked; `None` when it was not.
    forward: Option<Forward>,
    /// The app's status, where it is not that of the answer.
    told: Option<StatusCode>,
    /// What became of its answer.
    fate: Fate,
}

/// What became of an app's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Passed,
    /// It is not kept for this reason.
    Apart(Why),
    Stored,
    /// It was fetched for another request.
    Collapsed,
    /// It was read from disk.
    FromDisk,
}

impl Forward {
    const fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::Request => "request",
            Self::Miss => "miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
        }
    }
}

impl Status {
    /// It answered.
    pub const HIT: Self = Self { forward: None, told: None, fate: Fate::Passed };

    /// It answered, from disk.
    pub const HIT_ON_DISK: Self = Self { forward: None, told: None, fate: Fate::FromDisk };

    /// The app was asked.
    pub const fn forwarded(forward: Forward) -> Self {
        Self { forward: Some(forward), told: None, fate: Fate::Passed }
    }

    /// The answer is kept.
    #[must_use]
    pub const fn stored(self) -> Self {
        Self { fate: Fate::Stored, ..self }
    }

    /// The answer was fetched for another request.
    #[must_use]
    pub const fn collapsed(self) -> Self {
        Self { fate: Fate::Collapsed, ..self }
    }

    /// The answer is not kept, and why.
    #[must_use]
    pub fn apart(self, why: Option<Why>) -> Self {
        Self { fate: why.map_or(Fate::Passed, Fate::Apart), ..self }
    }

    /// What the app said about what is stored.
    #[must_use]
    pub const fn told(self, status: Option<StatusCode>) -> Self {
        Self { told: status, ..self }
    }

    /// In a word, for the request log.
    pub const fn word(self) -> &'static str {
        match (self.forward, self.fate) {
            (None, _) => "hit",
            (Some(_), Fate::Collapsed) => "collapsed",
            (Some(forward), _) => forward.name(),
        }
    }

    /// Adds the header.
    pub fn mark(self, headers: &mut HeaderMap) {
        let value = match self.forward {
            None if self.fate == Fate::FromDisk => HeaderValue::from_static("mainstay; hit; detail=disk"),
            None => HeaderValue::from_static("mainstay; hit"),
            Some(forward) => match HeaderValue::try_from(self.line(forward)) {
                Ok(value) => value,
                Err(_) => return,
            },
        };
        headers.append(CACHE_STATUS, value);
    }

    fn line(self, forward: Forward) -> String {
        let mut line = format!("mainstay; fwd={}", forward.name());
        // Writing into a String cannot fail.
        if let Some(told) = self.told {
            let _ = write!(line, "; fwd-status={}", told.as_u16());
        }
        let _ = match self.fate {
            Fate::Passed | Fate::FromDisk => Ok(()),
            Fate::Apart(why) => write!(line, "; detail={}", why.name()),
            Fate::Stored => write!(line, "; stored"),
            Fate::Collapsed => write!(line, "; collapsed"),
        };
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_as_the_standard_says_it() {
        for (status, line) in [
            (Status::HIT, "mainstay; hit"),
            (Status::HIT_ON_DISK, "mainstay; hit; detail=disk"),
            (Status::forwarded(Forward::Miss).stored(), "mainstay; fwd=miss; stored"),
            (Status::forwarded(Forward::VaryMiss).collapsed(), "mainstay; fwd=vary-miss; collapsed"),
            (Status::forwarded(Forward::Miss).apart(Some(Why::SetCookie)), "mainstay; fwd=miss; detail=set-cookie"),
            (
                Status::forwarded(Forward::Stale).told(Some(StatusCode::NOT_MODIFIED)),
                "mainstay; fwd=stale; fwd-status=304",
            ),
            (Status::forwarded(Forward::Bypass), "mainstay; fwd=bypass"),
        ] {
            let mut headers = HeaderMap::from_iter([(CACHE_STATUS, HeaderValue::from_static("inner; hit"))]);
            status.mark(&mut headers);
            let lines: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
            assert_eq!(lines, ["inner; hit", line]);
        }
    }
}
