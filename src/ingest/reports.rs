//! What browsers report of a page's policies: violations of its `Content-Security-Policy`, as events.
//!
//! `POST /api/<project>/security/?sentry_key=…`, as Sentry has it, takes both forms: `report-uri`'s one report (CSP 2,
//! `application/csp-report`), and `report-to`'s list (Reporting API, `application/reports+json`), of which other kinds are
//! passed over. Reports name no stack, so they are grouped by directive and origin of what was blocked. Queries and
//! fragments of addresses are not kept, and neither is what a browser's extensions do to a page.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use serde_json::{Map, Value, json};

use super::Refusal;

/// Most reports of one body; those behind are dropped.
const MOST: usize = 20;
/// Most letters of a text that are kept.
const LONGEST: usize = 500;

/// Schemes of browsers' own additions to pages.
const EXTENSIONS: [&str; 6] = [
    "chrome-extension",
    "moz-extension",
    "safari-extension",
    "safari-web-extension",
    "ms-browser-extension",
    "webkit-masked-url",
];

/// One violation, from either form.
struct Violation {
    page: String,
    referrer: String,
    directive: String,
    blocked: String,
    source: String,
    place: (u64, u64),
    disposition: String,
    sample: String,
    policy: String,
}

/// The events that `body` reports, as JSON.
///
/// # Errors
/// [`Refusal::Event`]: it is no report, and no list of them.
pub fn events(body: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let wrong = || Refusal::Event("it is no report of a policy's violation".to_owned());
    let parsed: Value = serde_json::from_slice(body).map_err(|_malformed| wrong())?;
    let violations: Vec<Violation> = match &parsed {
        Value::Object(report) => {
            let report = report.get("csp-report").and_then(Value::as_object).ok_or_else(wrong)?;
            vec![Violation::old(report)]
        }
        Value::Array(reports) => {
            let of_policies = |report: &&Value| report.get("type").and_then(Value::as_str) == Some("csp-violation");
            let bodies = reports.iter().filter(of_policies).filter_map(|report| report.get("body")?.as_object());
            bodies.take(MOST).map(Violation::new).collect()
        }
        _ => return Err(wrong()),
    };
    Ok(violations.iter().filter(|one| one.is_the_pages()).map(|one| one.event().to_string().into_bytes()).collect())
}

impl Violation {
    /// One of `report-uri`.
    fn old(report: &Map<String, Value>) -> Self {
        let text = |name: &str| cut(report.get(name));
        let effective = text("effective-directive");
        // Older browsers name the directive with its sources alone.
        let directive = if effective.is_empty() { text("violated-directive") } else { effective };
        Self {
            page: address(&text("document-uri")),
            referrer: address(&text("referrer")),
            directive: directive.split(' ').next().unwrap_or_default().to_owned(),
            blocked: address(&text("blocked-uri")),
            source: address(&text("source-file")),
            place: (number(report.get("line-number")), number(report.get("column-number"))),
            disposition: text("disposition"),
            sample: text("script-sample"),
            policy: text("original-policy"),
        }
    }

    /// One of `report-to`.
    fn new(report: &Map<String, Value>) -> Self {
        let text = |name: &str| cut(report.get(name));
        Self {
            page: address(&text("documentURL")),
            referrer: address(&text("referrer")),
            directive: text("effectiveDirective"),
            blocked: address(&text("blockedURL")),
            source: address(&text("sourceFile")),
            place: (number(report.get("lineNumber")), number(report.get("columnNumber"))),
            disposition: text("disposition"),
            sample: text("sample"),
            policy: text("originalPolicy"),
        }
    }

    /// Whether the page itself did it.
    fn is_the_pages(&self) -> bool {
        let foreign = |text: &str| EXTENSIONS.iter().any(|scheme| text.starts_with(scheme));
        !foreign(&self.blocked) && !foreign(&self.source)
    }

    fn event(&self) -> Value {
        let blocked = origin(&self.blocked);
        let what = match (blocked, self.blocked.as_str()) {
            ("", "") | (_, "inline") => "an inline part",
            (_, "eval") => "eval",
            ("", other) => other,
            (origin, _) => origin,
        };
        let (directive, only) = (&self.directive, if self.disposition == "report" { " (report only)" } else { "" });
        json!({
            "platform": "javascript",
            "logger": "csp",
            "level": "warning",
            "message": format!("{directive} blocked {what}{only}"),
            "transaction": self.page,
            "fingerprint": ["csp", directive, what],
            "tags": { "effective-directive": directive, "blocked": what, "disposition": self.disposition },
            "request": { "url": self.page, "headers": { "Referer": self.referrer } },
            "extra": {
                "blocked-uri": self.blocked,
                "source-file": self.source,
                "line-number": self.place.0,
                "column-number": self.place.1,
                "sample": self.sample,
                "original-policy": self.policy,
            },
        })
    }
}

/// A text, not too long.
fn cut(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().chars().take(LONGEST).collect()
}

fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or(0)
}

/// An address without query and fragment, where secrets are. A keyword such as `inline` stays what it is.
fn address(text: &str) -> String {
    text.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// Scheme and host of an address; empty when it is none.
fn origin(address: &str) -> &str {
    let Some((scheme, rest)) = address.split_once("://") else { return "" };
    let host = rest.split('/').next().unwrap_or_default();
    let length = scheme.len().saturating_add(3).saturating_add(host.len());
    address.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> Vec<Value> {
        events(body.as_bytes()).unwrap().iter().map(|event| serde_json::from_slice(event).unwrap()).collect()
    }

    #[test]
    fn both_forms_become_the_same_event() {
        let old = r#"{"csp-report":{"document-uri":"https://shop.example/cart?token=1","referrer":"","violated-directive":
            "script-src-elem","effective-directive":"script-src-elem","original-policy":"script-src 'self'","disposition":"enforce",
            "blocked-uri":"https://evil.example/x.js?y#z","line-number":3,"column-number":9,"source-file":"https://shop.example/a.js",
            "status-code":200,"script-sample":""}}"#;
        let new = r#"[{"type":"deprecation","body":{"id":"x"}},{"type":"csp-violation","age":1,"url":"https://shop.example/cart?token=1",
            "user_agent":"x","body":{"documentURL":"https://shop.example/cart?token=1","referrer":"","effectiveDirective":"script-src-elem",
            "originalPolicy":"script-src 'self'","disposition":"enforce","blockedURL":"https://evil.example/x.js?y","lineNumber":3,
            "columnNumber":9,"sourceFile":"https://shop.example/a.js","statusCode":200,"sample":""}}]"#;
        let (old, new) = (read(old), read(new));
        assert_eq!(old, new);
        let [event] = old.as_slice() else { panic!("{old:?}") };
        assert_eq!(event["message"], "script-src-elem blocked https://evil.example");
        assert_eq!(event["request"]["url"], "https://shop.example/cart");
        assert_eq!(event["fingerprint"], json!(["csp", "script-src-elem", "https://evil.example"]));
        assert!(!old[0].to_string().contains("token"));
    }

    #[test]
    fn inline_parts_are_named_and_extensions_are_nobodys_fault() {
        let of = |blocked: &str| {
            read(&format!(
                r#"{{"csp-report":{{"violated-directive":"style-src 'self'","blocked-uri":"{blocked}","disposition":"report"}}}}"#
            ))
        };
        assert_eq!(of("inline")[0]["message"], "style-src blocked an inline part (report only)");
        assert_eq!(of("data")[0]["message"], "style-src blocked data (report only)");
        assert!(of("moz-extension").is_empty() && of("chrome-extension://abc/x.js").is_empty());
        assert!(read("[]").is_empty());
        for wrong in ["", "{}", "1", "{\"csp-report\":1}", "[{"] {
            assert!(matches!(events(wrong.as_bytes()), Err(Refusal::Event(_))), "{wrong}");
        }
    }

    #[test]
    fn a_body_has_a_bounded_number_of_events_of_bounded_size() {
        let one = format!(r#"{{"type":"csp-violation","body":{{"documentURL":"{}"}}}}"#, "x".repeat(5_000));
        let events = events(format!("[{}]", vec![one; 100].join(",")).as_bytes()).unwrap();
        assert_eq!(events.len(), MOST);
        assert!(events.iter().all(|event| event.len() < 8 * LONGEST));
    }

    proptest! {
        #[test]
        fn any_bytes_are_reports_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = events(&body);
        }
    }
}
