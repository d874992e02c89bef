//! Why an attempt at a certificate failed, in the words of the authority.

use std::fmt::Write as _;
use std::time::Duration;

use instant_acme::{Error, Problem};

/// Longest text kept, in bytes: an authority may say anything.
const LONGEST: usize = 2_000;

/// One attempt's failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What was wrong. An authority's own words are kept as they are.
    pub text: String,
    /// The problem's type (RFC 8555 section 6.7), without its prefix.
    pub problem: Option<String>,
    /// How long the authority wants not to be asked again.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that no authority told.
    pub fn told(text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        text.retain(|letter| !letter.is_control());
        text.truncate(text.floor_char_boundary(LONGEST));
        Self { text, problem: None, retry_after: None }
    }

    /// What the authority said.
    pub fn of(problem: &Problem) -> Self {
        let kind = problem.r#type.as_deref().map(|kind| kind.rsplit(':').next().unwrap_or(kind).to_owned());
        let mut text = problem.detail.clone().unwrap_or_else(|| "the authority gave no reason".to_owned());
        for sub in &problem.subproblems {
            // Writing into a String cannot fail.
            let _ = write!(text, "; {sub}");
        }
        if let Some(kind) = &kind {
            let _ = write!(text, " ({kind})");
        }
        Self { problem: kind, ..Self::told(text) }
    }

    /// Whether this is problem `kind`.
    pub fn is(&self, kind: &str) -> bool {
        self.problem.as_deref() == Some(kind)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => Self::of(&problem),
            other => Self::told(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authoritys_words_are_kept() {
        let problem: Problem = serde_json::from_str(
            r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"Policy forbids",
                "subproblems":[{"identifier":{"type":"dns","value":"a.example"},"detail":"blocked\u0007"}]}"#,
        )
        .unwrap();
        let failure = Failure::of(&problem);
        assert_eq!(failure.text, "Policy forbids; for \"a.example\": blocked (rejectedIdentifier)");
        assert!(failure.is("rejectedIdentifier"));
    }

    #[test]
    fn a_flood_of_words_is_cut() {
        assert_eq!(Failure::told("é".repeat(5_000)).text.len(), LONGEST);
    }
}
