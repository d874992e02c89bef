//! The policy of a form: until when it is good, and what its fields may hold.
//!
//! Base64 of a JSON document with `expiration` and `conditions`: `{"name": "value"}` and `["eq", "$name", "value"]` for
//! exactly, `["starts-with", "$name", "beginning"]`, `["content-length-range", least, most]`. Names are compared without
//! case. What is not understood is refused.
//! Source: S3 API reference, "Creating a POST policy".
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::error::{Code, S3Error};
use crate::base::Timestamp;

/// Most bytes of the decoded document.
const BYTES_MAX: usize = 20 << 10;

/// Most conditions.
const CONDITIONS_MAX: usize = 200;

/// Why a form is not taken by its policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// Its time is over.
    #[error("Invalid according to Policy: Policy expired.")]
    Expired,
    /// A condition does not hold.
    #[error("Invalid according to Policy: Policy Condition failed: {0}")]
    Condition(String),
    /// A field that no condition speaks of.
    #[error("Invalid according to Policy: Extra input fields: {0}")]
    Extra(String),
}

impl PolicyFault {
    /// As clients are told.
    pub fn refused(self) -> S3Error {
        S3Error::new(Code::AccessDenied, self.to_string())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Exactly(String, String),
    Begins(String, String),
}

/// A policy as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormPolicy {
    expires: Timestamp,
    conditions: Vec<Condition>,
    range: Option<(u64, u64)>,
}

impl FormPolicy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`Code::InvalidPolicyDocument`].
    pub fn decode(text: &str) -> Result<Self, S3Error> {
        let invalid = |problem: &str| S3Error::new(Code::InvalidPolicyDocument, problem);
        let bytes = STANDARD.decode(text.trim()).map_err(|_no_base64| invalid("the policy is no base64"))?;
        if bytes.len() > BYTES_MAX {
            return Err(invalid("the policy is too long"));
        }
        Self::of_json(&bytes)
    }

    /// Reads a policy that is not in base64.
    ///
    /// # Errors
    /// [`Code::InvalidPolicyDocument`].
    pub fn of_json(bytes: &[u8]) -> Result<Self, S3Error> {
        let invalid = |problem: &str| S3Error::new(Code::InvalidPolicyDocument, problem);
        let document: Value = serde_json::from_slice(bytes).map_err(|error| invalid(&error.to_string()))?;
        Self::parse(&document).map_err(|problem| invalid(&problem))
    }

    fn parse(document: &Value) -> Result<Self, String> {
        let document = document.as_object().ok_or("a policy is a JSON object")?;
        if let Some(other) = document.keys().find(|name| !["expiration", "conditions"].contains(&name.as_str())) {
            return Err(format!("{other} is not known in a policy"));
        }
        let expiration = document.get("expiration").and_then(Value::as_str).ok_or("a policy has an expiration")?;
        let expires: Option<jiff::Timestamp> = expiration.parse().ok();
        let expires = expires.and_then(|at| u64::try_from(at.as_millisecond()).ok());
        let expires = Timestamp(expires.ok_or("the expiration is no moment such as 2026-12-30T12:00:00.000Z")?);
        let list = document.get("conditions").and_then(Value::as_array).ok_or("a policy has a list of conditions")?;
        let mut policy = Self { expires, conditions: Vec::new(), range: None };
        for condition in list {
            policy.add(condition)?;
            if policy.conditions.len() > CONDITIONS_MAX {
                return Err(format!("a policy has at most {CONDITIONS_MAX} conditions"));
            }
        }
        Ok(policy)
    }

    fn add(&mut self, condition: &Value) -> Result<(), String> {
        match condition {
            Value::Object(pairs) => {
                for (name, value) in pairs {
                    let value = value.as_str().ok_or_else(|| format!("the condition on {name} is no text"))?;
                    self.conditions.push(Condition::Exactly(name.to_ascii_lowercase(), value.to_owned()));
                }
                Ok(())
            }
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(kind), least, most] if kind.eq_ignore_ascii_case("content-length-range") => {
                    let (least, most) = bytes(least).zip(bytes(most)).ok_or("content-length-range has two numbers")?;
                    let (low, high) = self.range.unwrap_or((0, u64::MAX));
                    self.range = Some((low.max(least), high.min(most)));
                    Ok(())
                }
                [Value::String(kind), Value::String(name), Value::String(value)] => {
                    let name = name.strip_prefix('$').ok_or("a condition names a field as $name")?;
                    let (name, value) = (name.to_ascii_lowercase(), value.clone());
                    match kind.to_ascii_lowercase().as_str() {
                        "eq" => self.conditions.push(Condition::Exactly(name, value)),
                        "starts-with" => self.conditions.push(Condition::Begins(name, value)),
                        _ => return Err(format!("the condition {kind} is not known")),
                    }
                    Ok(())
                }
                _ => Err("a condition is eq, starts-with or content-length-range with two operands".to_owned()),
            },
            _ => Err("a condition is an object or a list".to_owned()),
        }
    }

    /// Holds a form against the policy: all of its fields called `names`, which `lookup` finds. Gives the least and most
    /// bytes that its file may have.
    ///
    /// # Errors
    /// [`PolicyFault`].
    pub fn check<'a, 'b>(
        &self,
        names: impl Iterator<Item = &'a str>,
        lookup: impl Fn(&str) -> Option<&'b str>,
        now: Timestamp,
    ) -> Result<(u64, u64), PolicyFault> {
        if self.expires <= now {
            return Err(PolicyFault::Expired);
        }
        for condition in &self.conditions {
            let holds = match condition {
                Condition::Exactly(name, value) => lookup(name).unwrap_or_default() == value,
                Condition::Begins(name, start) => {
                    let value = lookup(name).unwrap_or_default();
                    // Several media types may stand in one field, with spaces between them; nothing else is trimmed, or
                    // a key could begin in another way than it seems to.
                    if name == "content-type" {
                        value.split(',').all(|kind| kind.trim_start().starts_with(start.as_str()))
                    } else {
                        value.starts_with(start.as_str())
                    }
                }
            };
            if !holds {
                return Err(PolicyFault::Condition(condition.text()));
            }
        }
        let mut names = names.filter(|name| !self.conditions.iter().any(|condition| condition.name() == *name));
        match names.next() {
            Some(name) => Err(PolicyFault::Extra(name.to_owned())),
            None => Ok(self.range.unwrap_or((0, u64::MAX))),
        }
    }
}

impl Condition {
    fn name(&self) -> &str {
        match self {
            Self::Exactly(name, _) | Self::Begins(name, _) => name,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Exactly(name, value) => format!("[\"eq\", \"${name}\", \"{value}\"]"),
            Self::Begins(name, value) => format!("[\"starts-with\", \"${name}\", \"{value}\"]"),
        }
    }
}

/// A number of bytes, also as a text.
fn bytes(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_767_225_600_000);

    fn policy(conditions: &Value) -> FormPolicy {
        let document = json!({"expiration": "2026-01-01T00:00:01.000Z", "conditions": conditions});
        FormPolicy::decode(&STANDARD.encode(document.to_string())).unwrap()
    }

    fn check(policy: &FormPolicy, fields: &[(&str, &str)]) -> Result<(u64, u64), PolicyFault> {
        let lookup = |name: &str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        policy.check(fields.iter().map(|(name, _)| *name), lookup, NOW)
    }

    #[test]
    fn conditions_hold_exactly_or_by_their_beginning() {
        let policy = policy(&json!([
            {"Bucket": "photos"}, ["starts-with", "$key", "user/"], ["eq", "$Content-Type", "image/png"],
            ["content-length-range", 1, "10"], ["starts-with", "$x-amz-meta-any", ""],
        ]));
        let good = [("bucket", "photos"), ("key", "user/a"), ("content-type", "image/png"), ("x-amz-meta-any", "x")];
        assert_eq!(check(&policy, &good), Ok((1, 10)));
        for (at, value) in [(0, "other"), (1, "user"), (1, " user/a"), (1, "x/user/a"), (2, "image/png2"), (2, "")] {
            let mut fields = good;
            fields[at].1 = value;
            assert!(matches!(check(&policy, &fields), Err(PolicyFault::Condition(_))), "{value}");
        }
        assert!(matches!(check(&policy, &good[..2]), Err(PolicyFault::Condition(_))));
    }

    #[test]
    fn a_field_no_condition_speaks_of_is_refused() {
        let fields = [("key", "a"), ("acl", "public-read")];
        assert_eq!(check(&policy(&json!([{"key": "a"}])), &fields), Err(PolicyFault::Extra("acl".to_owned())));
    }

    #[test]
    fn a_policy_ends() {
        let policy = policy(&json!([]));
        assert_eq!(policy.check(std::iter::empty(), |_| None, NOW), Ok((0, u64::MAX)));
        let late = Timestamp(NOW.millis() + 1000);
        assert_eq!(policy.check(std::iter::empty(), |_| None, late), Err(PolicyFault::Expired));
    }

    #[test]
    fn several_media_types_begin_alike() {
        let policy = policy(&json!([["starts-with", "$content-type", "image/"]]));
        assert!(check(&policy, &[("content-type", "image/png, image/gif")]).is_ok());
        assert!(check(&policy, &[("content-type", "image/png,text/html")]).is_err());
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for conditions in [
            json!([["ends-with", "$key", "x"]]),
            json!([["eq", "key", "x"]]),
            json!([["eq", "$key"]]),
            json!([["content-length-range", -1, 5]]),
            json!([{"key": 1}]),
            json!(["key"]),
            json!({}),
        ] {
            let document = json!({"expiration": "2026-01-01T00:00:01Z", "conditions": conditions});
            assert!(FormPolicy::parse(&document).is_err(), "{conditions}");
        }
        assert!(FormPolicy::parse(&json!({"expiration": "tomorrow", "conditions": []})).is_err());
        assert!(FormPolicy::parse(&json!({"conditions": []})).is_err());
        assert!(FormPolicy::decode("%%").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_policy_or_refused(text in "[\\[\\]{}\":,a-z0-9$ -]{0,60}") {
            let _ = FormPolicy::decode(&STANDARD.encode(text));
        }
    }
}
