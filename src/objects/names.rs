//! Names clients give: buckets, keys, uploads, part numbers. Parsed once; after that the type is the proof.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::base::Id128;

/// Most bytes in an object key (S3 user guide, "Naming Amazon S3 objects").
pub const KEY_BYTES_MAX: usize = 1024;

/// Highest part number, and so most parts of one upload (S3 user guide, "Multipart upload limits").
pub const PART_NUMBER_MAX: u16 = 10_000;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A bucket name is too short or too long.
    #[error("bucket name has {bytes} bytes, allowed are 3 to 63")]
    BucketLength {
        /// Bytes in the name.
        bytes: usize,
    },
    /// A bucket name breaks a rule on its characters.
    #[error("bucket name is not allowed: {rule}")]
    Bucket {
        /// The rule.
        rule: &'static str,
    },
    /// A key is empty or too long.
    #[error("object key has {bytes} bytes, allowed are 1 to {KEY_BYTES_MAX}")]
    KeyLength {
        /// Bytes in the key.
        bytes: usize,
    },
    /// A part number is out of range.
    #[error("part number is {number}, allowed are 1 to {PART_NUMBER_MAX}")]
    PartNumber {
        /// The number.
        number: u64,
    },
    /// A version id is not of the form this server gives out.
    #[error("version id is none of this server's")]
    Version,
    /// An upload id is not of the form this server gives out.
    #[error("upload id is none of this server's")]
    Upload,
}

/// A bucket name: 3 to 63 bytes of `a-z0-9.-` (S3 user guide, "General purpose bucket naming rules").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(Arc<str>);

impl BucketName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BucketName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !(3..=63).contains(&text.len()) {
            return Err(NameError::BucketLength { bytes: text.len() });
        }
        let fault = if !text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-')) {
            Some("only a-z, 0-9, dots and hyphens")
        } else if text.starts_with(['.', '-']) || text.ends_with(['.', '-']) {
            Some("it starts and ends with a letter or digit")
        } else if text.contains("..") {
            Some("no two dots in a row")
        } else if text.parse::<std::net::Ipv4Addr>().is_ok() {
            Some("it must not look like an IP address")
        } else if text.starts_with("xn--") || text.ends_with("-s3alias") || text.ends_with("--ol-s3") {
            Some("the prefix xn-- and the suffixes -s3alias and --ol-s3 are reserved")
        } else {
            None
        };
        fault.map_or_else(|| Ok(Self(text.into())), |rule| Err(NameError::Bucket { rule }))
    }
}

/// An object's key in its bucket: 1 to 1024 bytes of UTF-8, any characters. Never a path on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ObjectKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Err(NameError::KeyLength { bytes: text.len() });
        }
        Ok(Self(text.into()))
    }
}

/// Names one multipart upload: 32 lower-case hexadecimal digits when written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub(super) Id128);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for UploadId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(Self).or(Err(NameError::Upload))
    }
}

/// Names one version of an object: `null` for one stored while the bucket kept no versions, else 32 lower-case
/// hexadecimal digits, of which the first 16 number the key's versions in the order they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VersionId {
    /// The one version of a key that was stored without versioning.
    Null,
    /// One stored with it.
    Made {
        /// Its place among the key's versions, rising.
        sequence: u64,
        /// Tells it from one that had the same place before and was deleted.
        nonce: u64,
    },
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Made { sequence, nonce } => write!(f, "{sequence:016x}{nonce:016x}"),
        }
    }
}

impl FromStr for VersionId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "null" {
            return Ok(Self::Null);
        }
        let digits = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let half = |text: Option<&str>| text.and_then(|text| u64::from_str_radix(text, 16).ok());
        match (half(text.get(..16)), half(text.get(16..))) {
            (Some(sequence), Some(nonce)) if digits => Ok(Self::Made { sequence, nonce }),
            _ => Err(NameError::Version),
        }
    }
}

/// A part's place in its upload: 1 to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    /// The number.
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for PartNumber {
    type Error = NameError;

    fn try_from(number: u64) -> Result<Self, NameError> {
        match u16::try_from(number) {
            Ok(value @ 1..=PART_NUMBER_MAX) => Ok(Self(value)),
            _ => Err(NameError::PartNumber { number }),
        }
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_bucket_names_are_taken() {
        for text in ["abc", "my-bucket", "assets.example.com", "0-1", &"a".repeat(63)] {
            assert_eq!(text.parse::<BucketName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn bucket_names_outside_the_rules_are_refused() {
        for text in ["", "ab", "Abc", "a_b", "-abc", "abc-", ".abc", "a..b", "192.168.5.4", "xn--abc", "abc-s3alias"] {
            assert!(text.parse::<BucketName>().is_err(), "{text}");
        }
        assert_eq!("a".repeat(64).parse::<BucketName>(), Err(NameError::BucketLength { bytes: 64 }));
    }

    #[test]
    fn keys_take_any_characters_up_to_1024_bytes() {
        for text in ["a", "..", "//", "a\0b", "ü/日本", &"k".repeat(KEY_BYTES_MAX)] {
            assert_eq!(text.parse::<ObjectKey>().unwrap().as_str(), text);
        }
        assert!("".parse::<ObjectKey>().is_err());
        assert!("k".repeat(KEY_BYTES_MAX + 1).parse::<ObjectKey>().is_err());
    }

    #[test]
    fn version_ids_are_null_or_what_this_server_gives_out() {
        let made = VersionId::Made { sequence: 3, nonce: u64::MAX };
        assert_eq!(made.to_string(), "0000000000000003ffffffffffffffff");
        for id in [VersionId::Null, made] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in
            ["", "7", "NULL", &"+".repeat(32), &"F".repeat(32), &"0".repeat(33), "ü000000000000000000000000000000"]
        {
            assert_eq!(text.parse::<VersionId>(), Err(NameError::Version), "{text}");
        }
    }

    #[test]
    fn part_numbers_run_from_one_to_ten_thousand() {
        assert!(PartNumber::try_from(0).is_err() && PartNumber::try_from(10_001).is_err());
        assert!(PartNumber::try_from(u64::MAX).is_err());
        assert_eq!(PartNumber::try_from(10_000).unwrap().value(), 10_000);
    }
}
