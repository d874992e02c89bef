//! Bucket policies: what anybody may do, as JSON documents in the subset of Amazon's policy language that stock tools
//! use (`setBucketPolicy` of `minio-js`, `mc anonymous`).
//!
//! A policy only ever allows, and only everybody: `Effect` is `Allow`, `Principal` is `*`. Actions are named one by one;
//! a resource is a bucket, or a bucket's keys with `*` and `?` in them; the one condition is on `s3:prefix`. What is not
//! understood is refused when the policy is put, never skipped: a policy that means less than it says would open what
//! its author meant to keep shut. Source: IAM user guide, "IAM JSON policy elements reference".
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use serde_json::{Map, Value};

use super::names::BucketName;

/// Most bytes of a policy (S3 user guide: 20 KB).
pub const BYTES_MAX: usize = 20 << 10;

/// Most statements of a policy, and entries in a list of a statement.
const ENTRIES_MAX: usize = 100;

/// What a resource starts with.
const ARN: &str = "arn:aws:s3:::";

/// Why a document is no policy of this server. The text goes to the client.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is no JSON.
    #[error("the policy is not valid JSON: {0}")]
    Json(String),
    /// Something in it is missing, malformed or not understood.
    #[error("{0}")]
    Content(String),
}

fn content<T>(problem: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError::Content(problem.into()))
}

/// A policy that was understood as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

/// One statement: actions, and what they are opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    actions: Vec<&'static str>,
    resources: Vec<Resource>,
    prefixes: Option<Vec<Prefix>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Resource {
    Bucket,
    Keys(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Prefix {
    Exactly(String),
    Like(String),
}

/// Actions on a bucket, and on its keys.
const BUCKET_ACTIONS: [&str; 4] =
    ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads", "s3:ListBucketVersions"];
const KEY_ACTIONS: [&str; 10] = [
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:GetObjectTagging",
    "s3:PutObject",
    "s3:PutObjectTagging",
    "s3:DeleteObjectTagging",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
];

impl Policy {
    /// Reads the policy of `bucket`.
    ///
    /// # Errors
    /// [`PolicyError`]: it is no policy, or one that this server does not understand as a whole.
    pub fn parse(text: &str, bucket: &BucketName) -> Result<Self, PolicyError> {
        let document: Value = serde_json::from_str(text).map_err(|error| PolicyError::Json(error.to_string()))?;
        let Value::Object(document) = document else { return content("a policy is a JSON object") };
        known(&document, &["Version", "Id", "Statement"], "the policy")?;
        match document.get("Version").and_then(Value::as_str) {
            Some("2012-10-17" | "2008-10-17") => {}
            _ => return content("the policy's Version must be 2012-10-17"),
        }
        if document.get("Id").is_some_and(|id| !id.is_string()) {
            return content("the policy's Id must be a text");
        }
        let statements: &[Value] = match document.get("Statement") {
            Some(Value::Array(statements)) => statements,
            Some(one @ Value::Object(_)) => std::slice::from_ref(one),
            _ => return content("a policy has a Statement"),
        };
        if statements.is_empty() || statements.len() > ENTRIES_MAX {
            return content(format!("a policy has 1 to {ENTRIES_MAX} statements"));
        }
        let statements = statements.iter().map(|statement| Statement::parse(statement, bucket));
        Ok(Self { statements: statements.collect::<Result<_, _>>()? })
    }

    /// Whether anybody may do `action`, by its name, to `key`; for listings that is the prefix asked for, for the bucket
    /// itself nothing.
    pub fn allows(&self, action: &str, key: &str) -> bool {
        let on_bucket = BUCKET_ACTIONS.contains(&action);
        self.statements.iter().any(|statement| {
            let place = statement.resources.iter().any(|resource| match resource {
                Resource::Bucket => on_bucket,
                Resource::Keys(pattern) => !on_bucket && like(pattern, key),
            });
            let prefix = statement.prefixes.as_ref().is_none_or(|prefixes| {
                prefixes.iter().any(|prefix| match prefix {
                    Prefix::Exactly(text) => text == key,
                    Prefix::Like(pattern) => like(pattern, key),
                })
            });
            place && prefix && statement.actions.contains(&action)
        })
    }

    /// Whether anybody may do one of `actions` to some key.
    pub fn allows_somewhere(&self, actions: &[&str]) -> bool {
        self.statements.iter().any(|statement| statement.actions.iter().any(|action| actions.contains(action)))
    }

    /// All that it opens: an action, and how every key (or prefix of a listing) begins that it is opened for.
    pub fn openings(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        for statement in &self.statements {
            for action in &statement.actions {
                for resource in &statement.resources {
                    match (resource, &statement.prefixes) {
                        (Resource::Bucket, Some(prefixes)) if BUCKET_ACTIONS.contains(action) => {
                            out.extend(prefixes.iter().map(|prefix| match prefix {
                                Prefix::Exactly(text) => (*action, text.clone()),
                                Prefix::Like(pattern) => (*action, beginning(pattern).to_owned()),
                            }));
                        }
                        (Resource::Bucket, None) if BUCKET_ACTIONS.contains(action) => {
                            out.push((*action, String::new()));
                        }
                        (Resource::Keys(pattern), _) if KEY_ACTIONS.contains(action) => {
                            out.push((*action, beginning(pattern).to_owned()));
                        }
                        _ => {}
                    }
                }
            }
        }
        out
    }

    /// Its statements.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Whether it opens anything; every statement does.
    pub const fn is_public(&self) -> bool {
        !self.statements.is_empty()
    }
}

impl Statement {
    /// The names of its actions, such as `s3:GetObject`.
    pub fn actions(&self) -> &[&'static str] {
        &self.actions
    }

    /// The patterns of what they are opened for: of keys, and of prefixes to list by; empty for the bucket itself.
    pub fn patterns(&self) -> Vec<&str> {
        let keys = self.resources.iter().filter_map(|resource| match resource {
            Resource::Keys(pattern) => Some(pattern.as_str()),
            Resource::Bucket => None,
        });
        let prefixes = self.prefixes.iter().flatten().map(|prefix| match prefix {
            Prefix::Exactly(text) | Prefix::Like(text) => text.as_str(),
        });
        keys.chain(prefixes).collect()
    }

    fn parse(statement: &Value, bucket: &BucketName) -> Result<Self, PolicyError> {
        let Value::Object(statement) = statement else { return content("a statement is a JSON object") };
        known(statement, &["Sid", "Effect", "Principal", "Action", "Resource", "Condition"], "a statement")?;
        if statement.get("Sid").is_some_and(|sid| !sid.is_string()) {
            return content("a statement's Sid must be a text");
        }
        match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => {}
            Some("Deny") => return content("Effect Deny is not supported: what no statement allows is denied"),
            _ => return content("a statement's Effect must be Allow"),
        }
        everybody(statement.get("Principal"))?;
        let mut actions = Vec::new();
        for action in texts(statement.get("Action"), "Action")? {
            let found = BUCKET_ACTIONS.iter().chain(&KEY_ACTIONS).find(|known| known.eq_ignore_ascii_case(action));
            match found {
                Some(known) => actions.push(*known),
                None => return content(format!("the action {action} is not supported in a policy")),
            }
        }
        let mut resources = Vec::new();
        for resource in texts(statement.get("Resource"), "Resource")? {
            resources.push(Resource::parse(resource, bucket)?);
        }
        let fits = |resource: &Resource, action: &&str| match resource {
            Resource::Bucket => BUCKET_ACTIONS.contains(action),
            Resource::Keys(_) => KEY_ACTIONS.contains(action),
        };
        if let Some(action) = actions.iter().find(|action| !resources.iter().any(|resource| fits(resource, action))) {
            return content(format!("the action {action} does not apply to any resource in its statement"));
        }
        let prefixes = statement.get("Condition").map(prefixes).transpose()?.flatten();
        if prefixes.is_some() && actions.iter().any(|action| !action.starts_with("s3:ListBucket")) {
            return content("a condition on s3:prefix applies to listing alone");
        }
        Ok(Self { actions, resources, prefixes })
    }
}

impl Resource {
    fn parse(text: &str, bucket: &BucketName) -> Result<Self, PolicyError> {
        let place = text.strip_prefix(ARN).and_then(|rest| rest.strip_prefix(bucket.as_str()));
        match place {
            Some("") => Ok(Self::Bucket),
            Some(rest) if rest.contains("${") => content(format!("variables as in {text} are not supported")),
            Some(rest) => match rest.strip_prefix('/') {
                Some(pattern) if !pattern.is_empty() => Ok(Self::Keys(pattern.to_owned())),
                _ => content(format!("the resource {text} is not of the bucket {bucket}")),
            },
            None => content(format!("the resource {text} is not of the bucket {bucket}")),
        }
    }
}

/// Nothing but `names` stands in `object`.
fn known(object: &Map<String, Value>, names: &[&str], what: &str) -> Result<(), PolicyError> {
    match object.keys().find(|key| !names.contains(&key.as_str())) {
        Some(other) => content(format!("{other} is not supported in {what}")),
        None => Ok(()),
    }
}

/// `"*"`, `{"AWS": "*"}` or `{"AWS": ["*"]}`.
fn everybody(principal: Option<&Value>) -> Result<(), PolicyError> {
    let named = match principal {
        Some(Value::Object(object)) if object.len() == 1 => object.get("AWS"),
        other => other,
    };
    let all = match named {
        Some(Value::String(text)) => text == "*",
        Some(Value::Array(list)) => list.len() == 1 && list.first().and_then(Value::as_str) == Some("*"),
        _ => false,
    };
    if all { Ok(()) } else { content("a statement's Principal must be *; rights of single keys are set on the keys") }
}

/// A text, or a list of some.
fn texts<'a>(value: Option<&'a Value>, name: &str) -> Result<Vec<&'a str>, PolicyError> {
    let list: &[Value] = match value {
        Some(Value::Array(list)) => list,
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        _ => return content(format!("a statement has a text or a list of them as {name}")),
    };
    if list.is_empty() || list.len() > ENTRIES_MAX {
        return content(format!("a statement has 1 to {ENTRIES_MAX} entries in {name}"));
    }
    let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    texts.map_or_else(|| content(format!("an entry of {name} is no text")), Ok)
}

/// `{"StringEquals" | "StringLike": {"s3:prefix": …}}`, one of them; an empty condition is none.
fn prefixes(condition: &Value) -> Result<Option<Vec<Prefix>>, PolicyError> {
    let unsupported = || content("of conditions, only StringEquals or StringLike on s3:prefix are supported");
    let Value::Object(operators) = condition else { return unsupported() };
    let mut operators = operators.iter();
    let (Some((operator, keys)), None) = (operators.next(), operators.next()) else {
        return if condition.as_object().is_some_and(Map::is_empty) { Ok(None) } else { unsupported() };
    };
    let make: fn(&str) -> Prefix = match operator.as_str() {
        "StringEquals" => |text| Prefix::Exactly(text.to_owned()),
        "StringLike" => |text| Prefix::Like(text.to_owned()),
        _ => return unsupported(),
    };
    match keys {
        Value::Object(keys) if keys.len() == 1 && keys.contains_key("s3:prefix") => {
            let list = texts(keys.get("s3:prefix"), "s3:prefix")?;
            Ok(Some(list.into_iter().map(make).collect()))
        }
        _ => unsupported(),
    }
}

/// What everything begins with that `pattern` stands for.
fn beginning(pattern: &str) -> &str {
    pattern.split(['*', '?']).next().unwrap_or_default()
}

/// Whether `text` is what `pattern` stands for: `*` for any run of characters, `?` for one.
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut read) = (0_usize, 0_usize);
    // Where to go on when what follows the last star does not fit: behind the star, one character later each time.
    let mut star: Option<(usize, usize)> = None;
    while let Some(character) = text.get(read) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at.saturating_add(1), read));
                at = at.saturating_add(1);
            }
            Some(wanted) if *wanted == '?' || wanted == character => {
                at = at.saturating_add(1);
                read = read.saturating_add(1);
            }
            _ => {
                let Some((behind, from)) = star else { return false };
                let from = from.saturating_add(1);
                (at, read, star) = (behind, from, Some((behind, from)));
            }
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn bucket() -> BucketName {
        "photos".parse().unwrap()
    }

    fn parse(value: &Value) -> Result<Policy, PolicyError> {
        Policy::parse(&value.to_string(), &bucket())
    }

    fn one(change: &Value) -> Value {
        let mut statement = json!({
            "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::photos/*",
        });
        for (name, value) in change.as_object().unwrap() {
            statement[name] = value.clone();
        }
        json!({"Version": "2012-10-17", "Statement": [statement]})
    }

    #[test]
    fn the_policy_of_a_public_prefix_opens_that_and_nothing_else() {
        // As `mc anonymous set download` writes it.
        let policy = parse(&json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetBucketLocation"],
             "Resource": ["arn:aws:s3:::photos"]},
            {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:ListBucket"],
             "Resource": ["arn:aws:s3:::photos"], "Condition": {"StringEquals": {"s3:prefix": ["public/"]}}},
            {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"],
             "Resource": ["arn:aws:s3:::photos/public/*"]},
        ]}))
        .unwrap();
        assert!(policy.is_public());
        assert!(policy.allows("s3:GetObject", "public/a") && !policy.allows("s3:GetObject", "private/a"));
        assert!(!policy.allows("s3:GetObjectVersion", "public/a") && !policy.allows("s3:PutObject", "public/a"));
        assert!(policy.allows("s3:ListBucket", "public/") && !policy.allows("s3:ListBucket", ""));
        assert!(!policy.allows("s3:ListBucket", "public/x") && policy.allows("s3:GetBucketLocation", ""));
        let openings: Vec<(&str, String)> =
            [("s3:GetBucketLocation", ""), ("s3:ListBucket", "public/"), ("s3:GetObject", "public/")]
                .map(|(action, begins)| (action, begins.to_owned()))
                .into();
        assert_eq!(policy.openings(), openings);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for change in [
            json!({"Effect": "Deny"}),
            json!({"Effect": "allow"}),
            json!({"Principal": {"AWS": ["arn:aws:iam::1:root"]}}),
            json!({"Principal": {"AWS": "*", "CanonicalUser": "x"}}),
            json!({"Principal": ["*", "x"]}),
            json!({"NotPrincipal": "*"}),
            json!({"NotAction": "s3:PutObject"}),
            json!({"Action": "s3:*"}),
            json!({"Action": "s3:Get*"}),
            json!({"Action": []}),
            json!({"Action": [1]}),
            json!({"Action": "s3:PutBucketPolicy"}),
            json!({"Action": "s3:ListBucket"}),
            json!({"Resource": "*"}),
            json!({"Resource": "arn:aws:s3:::photos"}),
            json!({"Resource": "arn:aws:s3:::photos/"}),
            json!({"Resource": "arn:aws:s3:::photosy/*"}),
            json!({"Resource": "arn:aws:s3:::other/*"}),
            json!({"Resource": "arn:aws:s3:::photos/${aws:username}"}),
            json!({"NotResource": "arn:aws:s3:::photos/*"}),
            json!({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}),
            json!({"Condition": {"StringEquals": {"s3:prefix": "a"}}}),
            json!({"Condition": {"StringEquals": {"s3:prefix": "a", "s3:delimiter": "/"}}}),
            json!({"Condition": 1}),
            json!({"Sid": 1}),
        ] {
            assert!(parse(&one(&change)).is_err(), "{change}");
        }
        for text in ["", "[]", "{}", "{\"Version\":\"2012-10-17\"}", "{\"Version\":\"2012-10-17\",\"Statement\":[]}"] {
            assert!(Policy::parse(text, &bucket()).is_err(), "{text}");
        }
        assert!(parse(&one(&json!({"Condition": {}}))).is_ok());
        assert!(parse(&one(&json!({"Sid": "a", "Principal": {"AWS": "*"}}))).is_ok());
    }

    #[test]
    fn patterns_match_whole_keys() {
        for (pattern, key, is) in [
            ("*", "", true),
            ("a/*", "a/b/c", true),
            ("a/*", "a", false),
            ("*.png", "x/y.png", true),
            ("*.png", "y.png.exe", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("ü?", "üé", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
        ] {
            assert_eq!(like(pattern, key), is, "{pattern} {key}");
        }
    }

    #[test]
    fn an_opening_is_as_wide_as_its_pattern_before_the_first_wildcard() {
        let policy =
            parse(&one(&json!({"Resource": ["arn:aws:s3:::photos/a/?/b*", "arn:aws:s3:::photos/*c"]}))).unwrap();
        assert_eq!(policy.openings(), [("s3:GetObject", "a/".to_owned()), ("s3:GetObject", String::new())]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_policy_or_refused(text in "[\\[\\]{}\":,a-zA-Z0-9*/ ]{0,60}") {
            let _ = Policy::parse(&text, &bucket());
        }

        #[test]
        fn a_pattern_of_a_key_matches_it(key in "[ab]{0,10}", cuts in proptest::collection::vec(0_usize..10, 0..4)) {
            let mut pattern = key.clone();
            for cut in cuts {
                pattern.insert(cut.min(pattern.len()), '*');
            }
            prop_assert!(like(&pattern, &key));
        }
    }
}
