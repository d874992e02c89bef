//! Prefixes that everybody may read, as the console sets them: statements put into a bucket's policy and taken out of it.
//! What others wrote into the policy stays as it is.

use serde_json::{Map, Value, json};

use super::names::BucketName;
use super::policy::{BYTES_MAX, Policy, PolicyError};

/// Whether everybody may also list the keys under a public prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// They may.
    Open,
    /// They must know the keys.
    Closed,
}

/// The policy `text` with every key that begins with `prefix` opened to everybody for reading.
///
/// # Errors
/// The prefix holds `*`, `?` or `${`, which stand for something else in a policy; the policy would be too long or have too
/// many statements.
pub fn open(text: Option<&str>, bucket: &BucketName, prefix: &str, listing: Listing) -> Result<String, PolicyError> {
    if ["*", "?", "${"].iter().any(|special| prefix.contains(special)) {
        let problem = "a public prefix cannot hold *, ? or ${, which stand for something else in a policy";
        return Err(PolicyError::Content(problem.to_owned()));
    }
    let mut policy = Document::read(text)?;
    policy.statements.push(json!({
        "Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"],
        "Resource": [format!("arn:aws:s3:::{bucket}/{prefix}*")],
    }));
    if listing == Listing::Open {
        policy.statements.push(json!({
            "Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:ListBucket"],
            "Resource": [format!("arn:aws:s3:::{bucket}")],
            "Condition": {"StringLike": {"s3:prefix": [format!("{prefix}*")]}},
        }));
    }
    let text = policy.write();
    if text.len() > BYTES_MAX {
        return Err(PolicyError::Content(format!("the policy would have more than {BYTES_MAX} bytes")));
    }
    Policy::parse(&text, bucket)?;
    Ok(text)
}

/// The policy `text` without its statement `statement`, as [`listed`] shows it: the inner `None` when no statement is
/// left, the outer one when it has no such statement.
pub fn close(text: &str, statement: &str) -> Option<Option<String>> {
    let mut policy = Document::read(Some(text)).ok()?;
    let at = policy.statements.iter().position(|known| is(known, statement))?;
    policy.statements.remove(at);
    Some((!policy.statements.is_empty()).then(|| policy.write()))
}

/// The statements of a policy, as JSON in one line each.
pub fn listed(text: &str) -> Vec<String> {
    Document::read(Some(text))
        .map_or_else(|_none| Vec::new(), |policy| policy.statements.iter().map(Value::to_string).collect())
}

fn is(known: &Value, statement: &str) -> bool {
    let text = known.to_string();
    text == statement
}

/// A policy as JSON, its statements taken out.
struct Document {
    rest: Map<String, Value>,
    statements: Vec<Value>,
}

impl Document {
    fn read(text: Option<&str>) -> Result<Self, PolicyError> {
        let text = text.unwrap_or(r#"{"Version":"2012-10-17"}"#);
        let mut rest: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| PolicyError::Json(error.to_string()))?;
        let statements = match rest.remove("Statement") {
            Some(Value::Array(list)) => list,
            Some(one) => vec![one],
            None => Vec::new(),
        };
        Ok(Self { rest, statements })
    }

    fn write(mut self) -> String {
        self.rest.insert(String::from("Statement"), Value::Array(self.statements));
        Value::Object(self.rest).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> BucketName {
        "photos".parse().unwrap()
    }

    #[test]
    fn prefixes_open_and_close_beside_what_others_wrote() {
        let theirs = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::photos/in/*"}}"#;
        let text = open(Some(theirs), &bucket(), "public/", Listing::Open).unwrap();
        let policy = Policy::parse(&text, &bucket()).unwrap();
        assert!(policy.allows("s3:GetObject", "public/a") && policy.allows("s3:PutObject", "in/a"));
        assert!(policy.allows("s3:ListBucket", "public/") && !policy.allows("s3:ListBucket", ""));
        let all = listed(&text);
        assert_eq!((all.len(), policy.statements().len()), (3, 3));
        let text = close(&text, &all[1]).unwrap().unwrap();
        let policy = Policy::parse(&text, &bucket()).unwrap();
        assert!(!policy.allows("s3:GetObject", "public/a") && policy.allows("s3:PutObject", "in/a"));
        assert_eq!(close(&text, &all[1]), None);
        let text = close(&text, &all[2]).unwrap().unwrap();
        assert_eq!(close(&text, &all[0]), Some(None));
    }

    #[test]
    fn a_prefix_is_public_without_being_listed() {
        let text = open(None, &bucket(), "", Listing::Closed).unwrap();
        let policy = Policy::parse(&text, &bucket()).unwrap();
        assert!(policy.allows("s3:GetObject", "any") && !policy.allows("s3:ListBucket", ""));
    }

    #[test]
    fn a_prefix_means_itself() {
        for prefix in ["a*", "a?", "${aws:username}"] {
            assert!(open(None, &bucket(), prefix, Listing::Closed).is_err(), "{prefix}");
        }
    }
}
