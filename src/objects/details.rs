//! Buckets as their operator sees them: what is set, what they hold, and changing what is set.

use serde::{Deserialize, Serialize};

use super::backends::BackendName;
use super::error::ObjectError;
use super::file_rules::{Extension, MediaRange, RULES_MAX};
use super::index::{BUCKETS, BucketRow, row};
use super::key_change::KeyChange;
use super::moving::{self, MoveStatus};
use super::names::BucketName;
use super::policy::Policy;
use super::service::Objects;
use super::settings::{BucketSettings, settings_row};
use super::types::{Bucket, Versioning};
use super::usage::{Usage, usage_row};
use crate::base::Timestamp;

/// A bucket with all that is set for it and in it.
#[derive(Clone, Debug)]
pub struct BucketDetail {
    /// Name and age.
    pub bucket: Bucket,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// What is set for it.
    pub settings: BucketSettings,
    /// What it holds.
    pub usage: Usage,
    /// The backend that its new bodies go to; `None` for the local disk.
    pub home: Option<BackendName>,
    /// How the last move of its bodies stands, or ended.
    pub moving: Option<MoveStatus>,
    /// The change of its key, while there is one.
    pub key_change: Option<KeyChange>,
}

impl BucketDetail {
    /// Whether its policy opens something to everybody.
    pub fn is_public(&self) -> bool {
        let policy = self.settings.policy.as_ref();
        policy.is_some_and(|text| Policy::parse(text, &self.bucket.name).is_ok_and(|policy| policy.is_public()))
    }
}

/// One thing to set for a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BucketSet {
    /// The most bytes it may hold; `None` for no limit.
    QuotaBytes(Option<u64>),
    /// The most objects it may hold; `None` for no limit.
    QuotaObjects(Option<u64>),
    /// The most bytes of one file; `None` for no limit of its own.
    MaxFile(Option<u64>),
    /// The types of files it takes, at most [`RULES_MAX`]; empty for all.
    Types(Vec<MediaRange>),
    /// How keys end that it takes, at most [`RULES_MAX`]; empty for all.
    Extensions(Vec<Extension>),
    /// Whether browsers save its objects and draw none as a page.
    Download(bool),
}

impl BucketSet {
    fn apply(&self, settings: &mut BucketSettings) {
        match self {
            Self::QuotaBytes(most) => settings.quota.max_bytes = *most,
            Self::QuotaObjects(most) => settings.quota.max_objects = *most,
            Self::MaxFile(most) => settings.files.max_bytes = *most,
            Self::Types(types) => settings.files.types.clone_from(types),
            Self::Extensions(extensions) => settings.files.extensions.clone_from(extensions),
            Self::Download(download) => settings.files.download = *download,
        }
    }

    const fn is_too_long(&self) -> bool {
        match self {
            Self::Types(types) => types.len() > RULES_MAX,
            Self::Extensions(extensions) => extensions.len() > RULES_MAX,
            _ => false,
        }
    }
}

impl Objects {
    /// What a bucket is, has set and holds, at one moment. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`].
    pub async fn bucket_detail(&self, name: &BucketName) -> Result<BucketDetail, ObjectError> {
        let (name, this) = (name.clone(), self.clone());
        let read = self.0.store.read(move |tx| {
            let row: BucketRow = row(tx, BUCKETS, name.as_str().as_bytes())?.ok_or(ObjectError::NoSuchBucket)?;
            Ok::<_, ObjectError>(BucketDetail {
                bucket: Bucket { name: name.clone(), created: Timestamp(row.created) },
                versioning: row.versioning,
                settings: settings_row(tx, row.id)?,
                usage: usage_row(tx, row.id)?,
                moving: moving::status(tx, &name, row.id)?,
                key_change: this.key_change(tx, &row)?,
                home: row.home,
            })
        });
        read.await
    }

    /// [`bucket_detail`](Self::bucket_detail) of every bucket, by name; `objects.max_buckets` bounds their number. Cancel
    /// safe.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn bucket_details(&self) -> Result<Vec<BucketDetail>, ObjectError> {
        let mut out = Vec::new();
        for bucket in self.buckets().await? {
            match self.bucket_detail(&bucket.name).await {
                // It went away meanwhile.
                Err(ObjectError::NoSuchBucket) => {}
                detail => out.push(detail?),
            }
        }
        Ok(out)
    }

    /// Sets all of `wanted` for a bucket, together; returns once that would survive power loss and is in force. Objects
    /// that are there already stay, whatever is set.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::TooManyRules`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the bucket may be as it was or as asked.
    pub async fn set_bucket(&self, name: &BucketName, wanted: Vec<BucketSet>) -> Result<(), ObjectError> {
        if wanted.iter().any(BucketSet::is_too_long) {
            return Err(ObjectError::TooManyRules { limit: RULES_MAX });
        }
        self.change_bucket_settings(name, move |settings| wanted.iter().for_each(|one| one.apply(settings))).await
    }
}
