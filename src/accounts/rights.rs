//! What an S3 access key may do: everything, or what its grants say.
//!
//! A grant is a bucket (or a pattern of buckets), the beginning of keys, and actions. Rights only add up: what no grant
//! allows is refused. Who decides with them is the S3 door; mail is let in by [`KeyRights::mail`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::stars;

/// Most grants of one key.
pub const GRANTS_MAX: usize = 50;

/// Most bytes of a grant's prefix: as many as an object's key has.
const PREFIX_MAX: usize = 1024;

/// Most bytes of a grant's bucket: as many as a bucket's name has.
const BUCKET_MAX: usize = 63;

/// Things that may be done to a bucket or the objects in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actions(u8);

impl Actions {
    /// Reading objects, their metadata, tags and versions.
    pub const READ: Self = Self(1);
    /// Listing keys, versions and uploads.
    pub const LIST: Self = Self(2);
    /// Storing objects under keys that hold none.
    pub const APPEND: Self = Self(4);
    /// Storing objects under any key, and changing tags. Holds [`Actions::APPEND`].
    pub const WRITE: Self = Self(8 | 4);
    /// Deleting objects and versions, and giving uploads up.
    pub const DELETE: Self = Self(16);
    /// Making and deleting the bucket, and its settings: versions, policy, lifecycle, tags.
    pub const MANAGE: Self = Self(32);

    const NAMES: [(&'static str, Self); 6] = [
        ("read", Self::READ),
        ("list", Self::LIST),
        ("append", Self::APPEND),
        ("write", Self::WRITE),
        ("delete", Self::DELETE),
        ("manage", Self::MANAGE),
    ];

    /// Names for several at once.
    const SHORT: [(&'static str, Self); 3] =
        [("read-only", Self(1 | 2)), ("append-only", Self(1 | 2 | 4)), ("read-write", Self(1 | 2 | 4 | 8 | 16))];

    /// The actions called `names`; `None` when there are none, or one is unknown. Beside the single ones there are
    /// `read-only` (read, list), `append-only` (read, list, append) and `read-write` (read, list, write, delete).
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut out = 0;
        for name in names {
            let mut known = Self::NAMES.iter().chain(&Self::SHORT);
            out |= known.find(|(known, _)| *known == name)?.1.0;
        }
        (out != 0).then_some(Self(out))
    }

    /// Their names, each by itself; what is held by another one is left out.
    pub fn names(self) -> Vec<&'static str> {
        let shown = |action: Self| self.hold(action) && (action != Self::APPEND || !self.hold(Self::WRITE));
        Self::NAMES.iter().filter(|(_, action)| shown(*action)).map(|(name, _)| *name).collect()
    }

    /// Whether all of `wanted` are among them.
    pub const fn hold(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

/// Why a text or its parts are no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It is not `BUCKET[/PREFIX]:ACTIONS`.
    #[error("a grant is BUCKET[/PREFIX]:ACTIONS, such as photos/app/:read,list")]
    Shape,
    /// The bucket is no name and no pattern of names.
    #[error("a grant's bucket has 1 to 63 of a-z, 0-9, `.`, `-`, and `*` for any run of them")]
    Bucket,
    /// The prefix is too long.
    #[error("a grant's prefix has at most 1024 bytes")]
    Prefix,
    /// An action is unknown, or there is none.
    #[error("a grant's actions are read, list, append, write, delete, manage, read-only, append-only, read-write")]
    Actions,
}

/// Actions in a bucket, on keys that begin in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyGrant {
    bucket: String,
    prefix: String,
    actions: Actions,
}

impl KeyGrant {
    /// `actions` on the keys that start with `prefix` in the buckets `bucket` stands for: a name, in which `*` stands
    /// for any run of characters.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn new(bucket: &str, prefix: &str, actions: Actions) -> Result<Self, GrantError> {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-*".contains(&byte);
        if bucket.is_empty() || bucket.len() > BUCKET_MAX || !bucket.bytes().all(known) {
            return Err(GrantError::Bucket);
        }
        if prefix.len() > PREFIX_MAX {
            return Err(GrantError::Prefix);
        }
        if actions == Actions::default() {
            return Err(GrantError::Actions);
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), actions })
    }

    /// The bucket, or the pattern of buckets.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What keys begin with; empty for all keys.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What may be done.
    pub const fn actions(&self) -> Actions {
        self.actions
    }

    fn covers(&self, bucket: &str, key: &str) -> bool {
        stars::fits(self.bucket.as_bytes(), bucket.as_bytes()) && key.starts_with(&self.prefix)
    }
}

impl FromStr for KeyGrant {
    type Err = GrantError;

    /// `BUCKET[/PREFIX]:ACTION[,ACTION…]`; what is behind the last colon are the actions.
    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (place, actions) = text.rsplit_once(':').ok_or(GrantError::Shape)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let actions = Actions::named(actions.split(',').map(str::trim)).ok_or(GrantError::Actions)?;
        Self::new(bucket, prefix, actions)
    }
}

impl fmt::Display for KeyGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{}{slash}{}:{}", self.bucket, self.prefix, self.actions.names().join(","))
    }
}

/// What a key may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyRights {
    /// Everything: S3, and sending mail over SES and SMTP.
    #[default]
    All,
    /// What is said here and nothing else.
    Limited {
        /// In S3.
        grants: Vec<KeyGrant>,
        /// Whether it sends mail over SES and SMTP.
        mail: bool,
    },
}

impl KeyRights {
    /// Whether it may do everything.
    pub const fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Whether it may send mail.
    pub const fn mail(&self) -> bool {
        matches!(self, Self::All | Self::Limited { mail: true, .. })
    }

    /// Its grants; none when it may do everything.
    pub fn grants(&self) -> &[KeyGrant] {
        match self {
            Self::All => &[],
            Self::Limited { grants, .. } => grants,
        }
    }

    /// Whether it may do `action` to `key` in `bucket`; to list, `key` is the prefix of the listing.
    pub fn allow(&self, action: Actions, bucket: &str, key: &str) -> bool {
        self.is_all() || self.grants().iter().any(|grant| grant.covers(bucket, key) && grant.actions.hold(action))
    }

    /// Whether it may do `action` to the bucket itself: a grant of a part of its keys is not enough.
    pub fn allow_bucket(&self, action: Actions, bucket: &str) -> bool {
        self.allow(action, bucket, "")
    }

    /// Whether it may do anything at all in `bucket`.
    pub fn know(&self, bucket: &str) -> bool {
        self.is_all() || self.grants().iter().any(|grant| stars::fits(grant.bucket.as_bytes(), bucket.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rights(grants: &[&str]) -> KeyRights {
        KeyRights::Limited { grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(), mail: false }
    }

    #[test]
    fn grants_read_and_write_as_one_text() {
        for text in ["photos:read,list", "photos/app/:append", "*:write,delete", "a*b/x:y:manage"] {
            assert_eq!(text.parse::<KeyGrant>().unwrap().to_string(), text);
        }
        assert_eq!("b:read-write".parse::<KeyGrant>().unwrap().to_string(), "b:read,list,write,delete");
        assert_eq!("b:append-only".parse::<KeyGrant>().unwrap().to_string(), "b:read,list,append");
        for (text, error) in [
            ("photos", GrantError::Shape),
            ("photos:", GrantError::Actions),
            ("photos:read,fly", GrantError::Actions),
            ("Photos:read", GrantError::Bucket),
            (":read", GrantError::Bucket),
            ("/x:read", GrantError::Bucket),
        ] {
            assert_eq!(text.parse::<KeyGrant>(), Err(error), "{text}");
        }
        assert_eq!(KeyGrant::new("b", &"x".repeat(1025), Actions::READ), Err(GrantError::Prefix));
    }

    #[test]
    fn a_grant_ends_at_its_prefix_and_its_actions() {
        let rights = rights(&["photos/app/:read,list", "logs-*:append"]);
        assert!(rights.allow(Actions::READ, "photos", "app/a"));
        assert!(!rights.allow(Actions::READ, "photos", "apple"));
        assert!(!rights.allow(Actions::LIST, "photos", ""));
        assert!(!rights.allow(Actions::WRITE, "photos", "app/a"));
        assert!(rights.allow(Actions::APPEND, "logs-1", "x"));
        assert!(!rights.allow(Actions::WRITE, "logs-1", "x"));
        assert!(!rights.allow(Actions::APPEND, "log", "x"));
        assert!(rights.know("photos") && rights.know("logs-9") && !rights.know("other"));
        assert!(!rights.allow_bucket(Actions::LIST, "photos") && !rights.mail());
    }

    #[test]
    fn writing_holds_appending_and_not_the_other_way_around() {
        assert!(Actions::WRITE.hold(Actions::APPEND) && !Actions::APPEND.hold(Actions::WRITE));
        assert!(
            KeyRights::All.allow(Actions::MANAGE, "any", "") && KeyRights::All.mail() && KeyRights::All.know("any")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_grant_or_refused(text in "[a-z*/:,. -]{0,40}") {
            let _ = text.parse::<KeyGrant>();
        }
    }
}
