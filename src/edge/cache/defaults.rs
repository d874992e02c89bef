//! For how long answers are good that do not say it themselves (`edge.sites.cache_default`).

use std::time::Duration;

use http::StatusCode;

use super::super::error::ConfigError;
use super::freshness::is_guessable;
use super::storable::is_redirect;
use crate::base::Span;

/// The setting.
const KEY: &str = "edge.sites.cache_default";
/// Statuses that a time without one is for, as in nginx.
const USUAL: [u16; 3] = [200, 301, 302];

/// Times by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults(Vec<(u16, Duration)>);

impl Defaults {
    /// What `lines` say; of several for one status the last counts.
    ///
    /// # Errors
    /// A line that is none.
    pub fn of(lines: &[String]) -> Result<Self, ConfigError> {
        let wrong = |line: &str, allowed: &str| ConfigError::Value {
            key: KEY,
            value: line.to_owned(),
            allowed: allowed.to_owned(),
        };
        let mut all = Self::default();
        for line in lines {
            let (statuses, span) = match line.split_once(':') {
                None => (USUAL.to_vec(), line.as_str()),
                Some((status, span)) => {
                    let status: Option<u16> = status.trim().parse().ok();
                    let kept = status.filter(|status| {
                        StatusCode::from_u16(*status).is_ok_and(|status| is_guessable(status) || is_redirect(status))
                    });
                    let none = || {
                        wrong(
                            line,
                            "a status that answers are kept with: 200, 203, 204, 300 to 303, 307, 308, 404, 405, 410, 414 or 501",
                        )
                    };
                    (vec![kept.ok_or_else(none)?], span)
                }
            };
            let span: Span = span.trim().parse().map_err(|_bad| wrong(line, "a time such as 10m, or 404: 1m"))?;
            for status in statuses {
                all.0.retain(|(known, _)| *known != status);
                all.0.push((status, span.duration()));
            }
        }
        Ok(all)
    }

    /// That of answers with `status`.
    pub fn get(&self, status: StatusCode) -> Option<Duration> {
        let span = self.0.iter().find(|(known, _)| *known == status.as_u16()).map(|(_, span)| *span);
        span.filter(|span| !span.is_zero())
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_by_status_and_those_without_one_are_for_the_usual() {
        let lines = ["10m", "404: 1m", "302:0s"].map(String::from);
        let defaults = Defaults::of(&lines).unwrap();
        for (status, seconds) in [(200, Some(600)), (301, Some(600)), (302, None), (404, Some(60)), (410, None)] {
            let told = defaults.get(StatusCode::from_u16(status).unwrap());
            assert_eq!(told.map(|span| span.as_secs()), seconds, "{status}");
        }
        for line in ["", "ten", "500: 1m", "x: 1m", "404:", "404: 60"] {
            assert!(Defaults::of(&[line.to_owned()]).is_err(), "{line}");
        }
    }
}
