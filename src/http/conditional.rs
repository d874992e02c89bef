//! Conditional requests (RFC 9110 section 13), and the dates they are written in.

use http::{HeaderMap, HeaderName, header};
use jiff::tz::TimeZone;

use crate::base::Timestamp;

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer as if there were none.
    Proceed,
    /// The client has it already: 304.
    NotModified,
    /// The client means another state: 412.
    Failed,
}

/// Holds the conditions of a reading request against what is there, in the order of RFC 9110 section 13.2.2. `etag` is
/// without quotes; dates compare in whole seconds, and one that does not read is no condition.
pub fn evaluate(headers: &HeaderMap, etag: &str, modified: Timestamp) -> Verdict {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let date = |name: &HeaderName| text(name).and_then(parse_date).map(Timestamp::seconds);
    let modified = modified.seconds();
    let kept = match text(&header::IF_MATCH) {
        Some(tags) => names(tags, etag),
        None => date(&header::IF_UNMODIFIED_SINCE).is_none_or(|since| modified <= since),
    };
    if !kept {
        return Verdict::Failed;
    }
    let fresh = match text(&header::IF_NONE_MATCH) {
        Some(tags) => names(tags, etag),
        None => date(&header::IF_MODIFIED_SINCE).is_some_and(|since| modified <= since),
    };
    if fresh { Verdict::NotModified } else { Verdict::Proceed }
}

/// Whether a list of entity tags names `etag`; `*` names all. Clients of S3 also send tags without quotes.
pub fn names(tags: &str, etag: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"') == etag
    })
}

/// A date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn format_date(at: Timestamp) -> String {
    at.to_jiff().to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Reads a date as HTTP writes it now; the two obsolete forms are not read.
pub fn parse_date(text: &str) -> Option<Timestamp> {
    let at = jiff::fmt::rfc2822::parse(text).ok()?;
    u64::try_from(at.timestamp().as_second()).ok().map(Timestamp::from_seconds)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const AT: Timestamp = Timestamp(784_111_777_500);

    fn verdict(conditions: &[(HeaderName, &'static str)]) -> Verdict {
        let headers = conditions.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        evaluate(&headers, "abc", AT)
    }

    #[test]
    fn dates_are_written_and_read_as_http_does() {
        assert_eq!(format_date(AT), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Timestamp(784_111_777_000)));
        assert_eq!(parse_date("yesterday"), None);
    }

    #[test]
    fn a_known_tag_is_not_sent_again() {
        for tags in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*", "abc"] {
            assert!(names(tags, "abc"), "{tags}");
        }
        assert_eq!(verdict(&[(header::IF_NONE_MATCH, "\"abc\"")]), Verdict::NotModified);
        assert_eq!(verdict(&[(header::IF_NONE_MATCH, "\"abd\"")]), Verdict::Proceed);
    }

    #[test]
    fn another_tag_fails_if_match() {
        assert_eq!(verdict(&[(header::IF_MATCH, "\"abc\"")]), Verdict::Proceed);
        assert_eq!(verdict(&[(header::IF_MATCH, "\"abd\"")]), Verdict::Failed);
    }

    #[test]
    fn dates_count_only_without_their_tags() {
        const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
        const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(verdict(&[(header::IF_MODIFIED_SINCE, SAME)]), Verdict::NotModified);
        assert_eq!(verdict(&[(header::IF_MODIFIED_SINCE, BEFORE)]), Verdict::Proceed);
        assert_eq!(verdict(&[(header::IF_UNMODIFIED_SINCE, BEFORE)]), Verdict::Failed);
        assert_eq!(verdict(&[(header::IF_MATCH, "\"abc\""), (header::IF_UNMODIFIED_SINCE, BEFORE)]), Verdict::Proceed);
        assert_eq!(verdict(&[(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, SAME)]), Verdict::Proceed);
    }
}
