//! Addresses of targets as people write them: a folder, or `s3://bucket/prefix`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::{FolderTarget, S3Target, Target, TargetError};
use crate::base::{Disk, Secret};

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetAddress {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket and what all names in it start with (without slashes around it; may be empty).
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix.
        prefix: String,
    },
}

/// How an S3 service is reached.
#[derive(Clone, Debug)]
pub struct S3Access {
    /// Its URL, such as `https://s3.example.com`; empty for Amazon's own in `region`. Plain `http://` is allowed: what is
    /// sent is sealed already, the credentials are never sent.
    pub endpoint: String,
    /// The region to sign for; `us-east-1` where the service does not care.
    pub region: String,
    /// The access key's id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret<String>,
}

/// Why a text is no [`TargetAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no backup target: write a folder, or `s3://bucket/prefix`")]
pub struct AddressError(String);

impl FromStr for TargetAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = || AddressError(text.to_owned());
        let Some(rest) = text.strip_prefix("s3://") else {
            // A scheme that is not ours is a mistake, not a folder of that name.
            if text.trim().is_empty() || text.contains("://") || text.contains('\0') {
                return Err(bad());
            }
            return Ok(Self::Folder(PathBuf::from(text)));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let bucket_fits = (3..=63).contains(&bucket.len()) && bucket.bytes().all(plain);
        let parts_fit =
            prefix.is_empty() || prefix.split('/').all(|p| !["", ".", ".."].contains(&p) && p.bytes().all(plain));
        if !bucket_fits || !parts_fit || prefix.len() > 512 {
            return Err(bad());
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl TargetAddress {
    /// The target itself; nothing is asked of it yet. `runtime` carries the network for S3.
    ///
    /// # Errors
    /// The S3 access cannot be set up, such as a URL that is none.
    pub fn open(
        &self,
        disk: Arc<dyn Disk>,
        access: &S3Access,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Arc<dyn Target>, TargetError> {
        Ok(match self {
            Self::Folder(path) => Arc::new(FolderTarget::new(path.clone(), disk)),
            Self::S3 { bucket, prefix } => Arc::new(S3Target::new(bucket, prefix, access, runtime.clone())?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_buckets_are_told_apart_and_print_as_written() {
        for text in ["/var/backups/mainstay", "backups", "./x y", "s3://backups", "s3://backups/host-1/main"] {
            assert_eq!(text.parse::<TargetAddress>().unwrap().to_string(), text);
        }
        let address: TargetAddress = "s3://backups/a/b/".parse().unwrap();
        assert_eq!(address, TargetAddress::S3 { bucket: "backups".into(), prefix: "a/b".into() });
    }

    #[test]
    fn other_addresses_are_refused() {
        for text in ["", " ", "s3://", "s3://ab", "s3:///x", "s3://bucket/a//b", "s3://bucket/../x", "sftp://host/x"] {
            assert!(text.parse::<TargetAddress>().is_err(), "{text}");
        }
    }
}
