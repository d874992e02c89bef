//! What is set for a bucket beside versions: policy, tags, lifecycle, quota, what files it takes.
//!
//! One row a bucket, in `objects.settings` under the bucket's id, and none while nothing is set. Every request may need
//! them, so an open bucket holds them in memory; a change lets go of the open bucket.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::ObjectError;
use super::file_rules::FileRules;
use super::index::{BUCKETS, BucketRow, SETTINGS, row};
use super::lifecycle::LifecycleRule;
use super::names::BucketName;
use super::service::Objects;
use super::usage::Quota;
use crate::base::Id128;
use crate::store::{ReadTx, Record, WriteTx, record};

/// What is set for a bucket. Part of the stored format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSettings {
    /// Who beside holders of keys may do what, in the words of whoever set it; the S3 door understands them.
    pub policy: Option<String>,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// What ends by itself.
    pub lifecycle: Vec<LifecycleRule>,
    /// The most it may hold.
    pub quota: Quota,
    /// What files it takes, and how it gives them out.
    pub files: FileRules,
}

/// Version 3, which had no rules for files.
#[derive(Serialize, Deserialize)]
struct Settings3 {
    policy: Option<String>,
    tags: Vec<(String, String)>,
    lifecycle: Vec<LifecycleRule>,
    quota: Quota,
}

/// Version 2, which had no quota.
#[derive(Serialize, Deserialize)]
struct Settings2 {
    policy: Option<String>,
    tags: Vec<(String, String)>,
    lifecycle: Vec<LifecycleRule>,
}

/// Version 1, which had no lifecycle.
#[derive(Serialize, Deserialize)]
struct Settings1 {
    policy: Option<String>,
    tags: Vec<(String, String)>,
}

impl Record for BucketSettings {
    const VERSION: u8 = 4;

    fn decode_old(version: u8, bytes: &[u8]) -> Option<Self> {
        match version {
            1 => {
                let Settings1 { policy, tags } = postcard::from_bytes(bytes).ok()?;
                Some(Self { policy, tags, ..Self::default() })
            }
            2 => {
                let Settings2 { policy, tags, lifecycle } = postcard::from_bytes(bytes).ok()?;
                Some(Self { policy, tags, lifecycle, ..Self::default() })
            }
            3 => {
                let Settings3 { policy, tags, lifecycle, quota } = postcard::from_bytes(bytes).ok()?;
                Some(Self { policy, tags, lifecycle, quota, ..Self::default() })
            }
            _ => None,
        }
    }
}

/// What is set for the bucket with the id `bucket`.
pub(super) fn settings_row(tx: &dyn ReadTx, bucket: Id128) -> Result<BucketSettings, ObjectError> {
    Ok(row(tx, SETTINGS, bucket.as_bytes())?.unwrap_or_default())
}

impl Objects {
    /// What is set for a bucket. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`].
    pub async fn bucket_settings(&self, name: &BucketName) -> Result<Arc<BucketSettings>, ObjectError> {
        Ok(Arc::clone(&self.open_bucket(name).await?.settings))
    }

    /// Changes what is set for a bucket; returns once the change would survive power loss and is in force, with what
    /// `change` gave. It may run more than once, each time on what is set by then.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the settings may be as they were or as asked, in the store and in force alike.
    pub async fn change_bucket_settings<T: Send + 'static>(
        &self,
        name: &BucketName,
        change: impl Fn(&mut BucketSettings) -> T + Send + Sync + 'static,
    ) -> Result<T, ObjectError> {
        let key = name.as_str().as_bytes().to_vec();
        let write = move |tx: &mut dyn WriteTx| {
            let bucket: BucketRow = row(tx, BUCKETS, &key)?.ok_or(ObjectError::NoSuchBucket)?;
            let mut settings = settings_row(tx, bucket.id)?;
            let out = change(&mut settings);
            if settings == BucketSettings::default() {
                tx.delete(SETTINGS, bucket.id.as_bytes())?;
            } else {
                tx.put(SETTINGS, bucket.id.as_bytes(), &record::encode(&settings))?;
            }
            Ok::<_, ObjectError>(out)
        };
        self.write_and_forget(name, write).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_first_version_are_read() {
        let row = [1, 1, 2, b'{', b'}', 1, 1, b'a', 1, b'b'];
        let settings: BucketSettings = record::decode(&row).unwrap();
        let tags = vec![("a".to_owned(), "b".to_owned())];
        assert_eq!(settings, BucketSettings { policy: Some("{}".to_owned()), tags, ..BucketSettings::default() });
        assert_eq!(record::decode(&record::encode(&settings)), Ok(settings));
    }

    #[test]
    fn settings_of_the_third_version_take_any_file() {
        // Without policy, tags and lifecycle, with a quota of 300 bytes.
        let row = [3, 0, 0, 0, 1, 0xac, 2, 0];
        let settings: BucketSettings = record::decode(&row).unwrap();
        let quota = Quota { max_bytes: Some(300), max_objects: None };
        assert_eq!(settings, BucketSettings { quota, ..BucketSettings::default() });
    }

    #[test]
    fn rules_for_files_are_stored_as_they_always_were() {
        let files = FileRules {
            max_bytes: Some(300),
            types: vec!["image/*".parse().unwrap()],
            extensions: vec!["png".parse().unwrap()],
            download: true,
        };
        let settings = BucketSettings { files, ..BucketSettings::default() };
        let stored = [&[4, 0, 0, 0, 0, 0, 1, 0xac, 2, 1, 7][..], b"image/*", &[1, 3], b"png", &[1]].concat();
        assert_eq!(record::encode(&settings), stored);
        assert_eq!(record::decode(&stored), Ok(settings));
    }
}
