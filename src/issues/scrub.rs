//! Taking secrets out of events, before anything of them is written.
//!
//! Three rules, on every text of an event wherever it is nested:
//! - a value under a **name that means a secret** is replaced whole. Names are split into words at `_`, `-`, `.` and at
//!   capitals, so `secret_token` and `userPassword` are found while `author` survives;
//! - **pairs** `[name, value]`, `{"key": …, "value": …}`, query strings, cookies, JSON and assignments inside texts are
//!   taken as names and values;
//! - **values that look like secrets** are replaced inside any text: card numbers (Luhn), PEM blocks, bearer tokens,
//!   JSON web tokens, passwords in URLs.
//!
//! The names of things stay, so that an event still says what was sent.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::net::IpAddr;

use regex::Captures;
use serde_json::{Map, Value};

use super::pattern::Pattern;

/// What stands in place of a secret.
pub const FILTERED: &str = "[Filtered]";

/// Words that make a name mean a secret.
const WORDS: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "secrets",
    "auth",
    "credential",
    "credentials",
    "token",
    "tokens",
    "session",
    "cookie",
    "cookies",
    "csrf",
    "xsrf",
    "ssn",
    "cvv",
    "cvc",
    "authorization",
    "jwt",
    "apikey",
    "sessionid",
    "otp",
    "pin",
];

/// Whole names, without their separators, that mean a secret.
const NAMES: &[&str] = &[
    "apikey",
    "authorization",
    "sessionid",
    "setcookie",
    "connectsid",
    "privatekey",
    "secretkey",
    "accesskey",
    "creditcard",
    "cardnumber",
    "ccnumber",
    "xapikey",
    "clientsecret",
    "phpsessid",
    "jsessionid",
    "encryptionkey",
    "mysqlpwd",
    "signingkey",
];

/// Endings of names, without their separators, that mean a secret: `dbpassword`, `accesstoken`.
const ENDINGS: &[&str] = &["password", "passwd", "passphrase", "secret", "token", "apikey"];

/// Names whose words are secret words and whose values are not: parts of the protocol itself.
const HARMLESS: &[&str] = &["session_id", "sessions", "session_mode"];

/// Takes secrets out of texts. Holds the patterns.
#[derive(Debug)]
pub struct Scrubber {
    /// `name=value` in query strings, cookies and connection strings.
    pairs: Pattern,
    /// `"name": "value"` and `name = 'value'` in JSON, in printed objects and in lines of source.
    quoted: Pattern,
    patterns: Vec<(Pattern, &'static str)>,
    cards: Pattern,
    keep_addresses: bool,
}

impl Scrubber {
    /// A scrubber; `keep_addresses` leaves network addresses whole.
    pub fn new(keep_addresses: bool) -> Self {
        let patterns = [
            (r"(?s)-----BEGIN [A-Z ]*(?:KEY|CERTIFICATE)-----.*?(?:-----END [A-Z ]*-----|\z)", FILTERED),
            (
                r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-auth-token)\s*:\s*[^\r\n\x22']+",
                "$1: [Filtered]",
            ),
            (r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}", "$1 [Filtered]"),
            (r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*", FILTERED),
            (r"\b([a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@]*):[^\s/@]+@", "$1:[Filtered]@"),
        ];
        Self {
            // No bound on the values: each repetition of a bounded one is compiled anew (20 MiB for 4096), and what lies
            // beyond the bound would stay.
            pairs: Pattern::new(r#"([A-Za-z][A-Za-z0-9_.\-]{1,60})=([^&;\s"']+)"#),
            quoted: Pattern::new(
                r#"(\\*["']?)([A-Za-z][A-Za-z0-9_.\-]{1,60})(\\*["']?\s*[:=]\s*)(\\*["'])((?:[^"'\\]|\\[^"'])+)(\\*["'])"#,
            ),
            patterns: patterns.into_iter().map(|(pattern, with)| (Pattern::new(pattern), with)).collect(),
            cards: Pattern::new(r"\b\d(?:[ -]?\d){12,18}\b"),
            keep_addresses,
        }
    }

    /// Scrubs `event`, in place.
    pub fn event(&self, event: &mut Map<String, Value>) {
        for (name, value) in event.iter_mut() {
            match (name.as_str(), &mut *value) {
                // Ids and times are no secrets, and a scrubber must not spoil them.
                ("event_id" | "timestamp" | "platform" | "level" | "release", _) => {}
                ("request", Value::Object(request)) => self.request(request),
                ("user", Value::Object(user)) => self.user(user),
                _ => self.value(value),
            }
        }
    }

    fn request(&self, request: &mut Map<String, Value>) {
        for (name, value) in request.iter_mut() {
            if name == "cookies" {
                filter_leaves(value);
            } else {
                self.named(name, value);
            }
        }
    }

    fn user(&self, user: &mut Map<String, Value>) {
        for (name, value) in user.iter_mut() {
            match value {
                Value::String(address) if name == "ip_address" && !self.keep_addresses => {
                    *address = truncated(address);
                }
                _ => self.named(name, value),
            }
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(entries) => match entries.as_mut_slice() {
                [Value::String(name), entry] if is_secret_name(name) => filter_leaves(entry),
                [Value::String(name), Value::String(address)] if is_address_name(name) && !self.keep_addresses => {
                    *address = truncated(address);
                }
                entries => entries.iter_mut().for_each(|entry| self.value(entry)),
            },
            Value::Object(fields) => {
                let is_secret = ["key", "name"].iter().any(|of| {
                    fields.get(*of).and_then(Value::as_str).is_some_and(is_secret_name) && fields.contains_key("value")
                });
                for (name, value) in fields.iter_mut() {
                    if is_secret && name == "value" { filter_leaves(value) } else { self.named(name, value) }
                }
            }
            _ => {}
        }
    }

    fn named(&self, name: &str, value: &mut Value) {
        match value {
            _ if is_secret_name(name) => filter_leaves(value),
            Value::String(address) if is_address_name(name) && !self.keep_addresses => *address = truncated(address),
            _ => self.value(value),
        }
    }

    fn text(&self, text: &mut String) {
        for (pattern, with) in &self.patterns {
            if let Cow::Owned(changed) = pattern.replace_all(text, *with) {
                *text = changed;
            }
        }
        if let Cow::Owned(changed) = self.pairs.replace_all(text, |pair: &Captures<'_>| scrubbed_pair(pair)) {
            *text = changed;
        }
        if let Cow::Owned(changed) = self.quoted.replace_all(text, |pair: &Captures<'_>| scrubbed_quoted(pair)) {
            *text = changed;
        }
        if let Cow::Owned(changed) = self.cards.replace_all(text, |card: &Captures<'_>| scrubbed_card(card)) {
            *text = changed;
        }
    }
}

fn scrubbed_pair(pair: &Captures<'_>) -> String {
    let part = |at| pair.get(at).map_or("", |found| found.as_str());
    if is_secret_name(part(1)) { format!("{}={FILTERED}", part(1)) } else { part(0).to_owned() }
}

fn scrubbed_quoted(pair: &Captures<'_>) -> String {
    let part = |at| pair.get(at).map_or("", |found| found.as_str());
    if is_secret_name(part(2)) {
        [part(1), part(2), part(3), part(4), FILTERED, part(6)].concat()
    } else {
        part(0).to_owned()
    }
}

fn scrubbed_card(card: &Captures<'_>) -> String {
    let text = card.get(0).map_or("", |found| found.as_str());
    if luhn(text) { FILTERED.to_owned() } else { text.to_owned() }
}

/// Whether the digits of `text` pass the check of payment cards (ISO/IEC 7812-1, annex B).
fn luhn(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let mut sum = 0_u32;
    for (at, digit) in digits.iter().rev().enumerate() {
        let doubled = if at.is_multiple_of(2) { *digit } else { digit.saturating_mul(2) };
        sum = sum.saturating_add(if doubled > 9 { doubled.saturating_sub(9) } else { doubled });
    }
    // A row of one digit is a filler, and a time in milliseconds is no card: those have 13 digits and start with 1.
    digits.iter().any(|digit| Some(digit) != digits.first())
        && (digits.len() > 13 || digits.first() == Some(&4))
        && sum.is_multiple_of(10)
}

/// Whether a value called `name` is a secret.
pub fn is_secret_name(name: &str) -> bool {
    if HARMLESS.contains(&name) {
        return false;
    }
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    NAMES.contains(&letters.as_str())
        || ENDINGS.iter().any(|ending| letters.ends_with(ending))
        || words(name).iter().any(|word| WORDS.contains(&word.as_str()))
}

/// The words of a name: `userPassword`, `user_password` and `USER-PASSWORD` are `user`, `password`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && lower_before) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_ascii_alphanumeric()) {
            word.push(c.to_ascii_lowercase());
        }
        lower_before = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    words
}

fn is_address_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    ["ip-address", "remote-addr", "x-forwarded-for", "x-real-ip", "client-ip", "forwarded"].contains(&name.as_str())
}

/// The first address in `text` without what names a person; a text that is no address (`{{auto}}`) as it is.
fn truncated(text: &str) -> String {
    match text.split(',').next().unwrap_or_default().trim().parse::<IpAddr>() {
        Ok(address) => network(address).to_string(),
        Err(_no_address) if text.starts_with("{{") => text.to_owned(),
        Err(_no_address) => FILTERED.to_owned(),
    }
}

/// The network of `address`: its first 24 bits, of an IPv6 address the first 48.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => (address & std::net::Ipv4Addr::new(255, 255, 255, 0)).into(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => network(address.into()),
            None => (address & std::net::Ipv6Addr::new(0xffff, 0xffff, 0xffff, 0, 0, 0, 0, 0)).into(),
        },
    }
}

/// Replaces every leaf of `value`, so that its shape stays.
fn filter_leaves(value: &mut Value) {
    match value {
        Value::Array(entries) => entries.iter_mut().for_each(filter_leaves),
        Value::Object(fields) => fields.values_mut().for_each(filter_leaves),
        Value::Null | Value::Bool(_) => {}
        Value::String(_) | Value::Number(_) => *value = Value::from(FILTERED),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Compiled once: that takes long without optimisation.
    static SCRUBBER: LazyLock<Scrubber> = LazyLock::new(|| Scrubber::new(false));

    fn scrubbed(event: &Value) -> Value {
        let mut event = event.as_object().unwrap().clone();
        SCRUBBER.event(&mut event);
        Value::Object(event)
    }

    #[test]
    fn names_are_told_by_their_words() {
        for name in [
            "password",
            "userPassword",
            "secret_token",
            "X-Csrf-Token",
            "apiKey",
            "API_KEY",
            "Set-Cookie",
            "connect.sid",
            "Authorization",
            "creditCard",
            "AWS_SECRET_ACCESS_KEY",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["author", "tokenizer", "passenger", "pinned", "spinner", "authored_by", "key", "session_id"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn values_under_secret_names_go_wherever_they_are() {
        let event = scrubbed(&json!({
            "author": "Ann",
            "extra": {"db": {"password": "p", "host": "h"}, "tokens": ["a", 5, null]},
            "exception": {"values": [{"stacktrace": {"frames": [{"vars": {"secret_token": "'tok_abc'", "n": "1"}}]}}]},
            "request": {
                "cookies": {"theme": "dark"},
                "headers": [["Authorization", "Bearer abc"], ["Accept", "*/*"], ["X-Forwarded-For", "203.0.113.77"]],
                "query_string": "a=1&api_key=k1&b=2",
                "data": "user=x&password=hunter2",
            },
        }));
        assert_eq!(event["author"], "Ann");
        assert_eq!(
            event["extra"],
            json!({"db": {"password": FILTERED, "host": "h"}, "tokens": [FILTERED, FILTERED, null]})
        );
        let vars = &event["exception"]["values"][0]["stacktrace"]["frames"][0]["vars"];
        assert_eq!(vars, &json!({"secret_token": FILTERED, "n": "1"}));
        let request = &event["request"];
        assert_eq!(request["cookies"], json!({"theme": FILTERED}));
        assert_eq!(
            request["headers"],
            json!([["Authorization", FILTERED], ["Accept", "*/*"], ["X-Forwarded-For", "203.0.113.0"]])
        );
        assert_eq!(request["query_string"], "a=1&api_key=[Filtered]&b=2");
        assert_eq!(request["data"], "user=x&password=[Filtered]");
    }

    #[test]
    fn texts_lose_what_looks_like_a_secret() {
        let event = scrubbed(&json!({"message": "card 4111 1111 1111 1111, order 4111111111111112, at 1767225600000",
        "extra": {
            "pem": "x -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- y",
            "jwt": "got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_ there",
            "curl": "curl -H 'Authorization: Bearer abcdef123456' http://x",
            "url": "postgres://app:hunter2@db/x",
            "body": r#"{"user":"ann","password":"hunter2","nested":"{\"api_key\":\"hunter2\"}"}"#,
            "source": "login(user, password = 'hunter2')  # author='ann'",
            "head": "Cookie: a=hunter2; b=hunter2\nAccept: */*",
            "listed": [{"key": "db_password", "value": "hunter2"}, {"key": "author", "value": "ann"}],
        }}));
        assert_eq!(event["extra"]["source"], "login(user, password = '[Filtered]')  # author='ann'");
        assert_eq!(event["extra"]["listed"][1]["value"], "ann");
        assert_eq!(event["extra"]["head"], "Cookie: [Filtered]\nAccept: */*");
        assert_eq!(event["message"], "card [Filtered], order 4111111111111112, at 1767225600000");
        assert_eq!(event["extra"]["pem"], "x [Filtered] y");
        assert_eq!(event["extra"]["url"], "postgres://app:[Filtered]@db/x");
        let text = event.to_string();
        for secret in ["eyJ", "abcdef123456", "hunter2"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }

    #[test]
    fn secrets_of_any_length_go_whole() {
        let long = "0123456789abcdef".repeat(1000);
        let event = scrubbed(&json!({"extra": {
            "query": format!("a=1&api_key={long}&b=2"),
            "body": format!(r#"{{"password":"{long}"}}"#),
        }}));
        assert_eq!(event["extra"]["query"], "a=1&api_key=[Filtered]&b=2");
        assert_eq!(event["extra"]["body"], r#"{"password":"[Filtered]"}"#);
    }

    /// A repetition with a large bound once made this 22 MiB.
    #[test]
    fn no_pattern_has_a_large_bound() {
        let scrubber = &*SCRUBBER;
        let patterns = scrubber.patterns.iter().map(|(pattern, _)| pattern);
        for pattern in patterns.chain([&scrubber.pairs, &scrubber.quoted, &scrubber.cards]) {
            let small = regex::RegexBuilder::new(pattern.as_str()).size_limit(1 << 20).build();
            assert!(small.is_ok(), "{}", pattern.as_str());
        }
    }

    #[test]
    fn addresses_lose_their_last_part_by_default() {
        let of = |ip: &str| scrubbed(&json!({"user": {"ip_address": ip, "id": "7"}}))["user"]["ip_address"].clone();
        assert_eq!(of("203.0.113.77"), "203.0.113.0");
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1::");
        assert_eq!(of("{{auto}}"), "{{auto}}");
    }

    proptest! {
        #[test]
        fn any_text_is_scrubbed_and_scrubbing_again_changes_nothing(text in "\\PC{0,120}") {
            let once = scrubbed(&json!({"message": text}));
            prop_assert_eq!(scrubbed(&once), once);
        }

        #[test]
        fn no_password_survives(name in "(user_|db|x-)?(password|PASSWD|token)", value in "[a-z0-9]{12}") {
            let text = scrubbed(&json!({"extra": {name.clone(): value.clone(), "list": [[name, value.clone()]]}})).to_string();
            prop_assert!(!text.contains(&value));
        }
    }
}
