//! Buckets over `control.sock`, for `mainstay buckets`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::control::{Ask, ControlError, ask};
use super::status::Facts;
use crate::accounts::By;
use crate::base::Timestamp;
use crate::objects::key_change::KeyChange;
use crate::objects::{
    BackendName, BucketDetail, BucketName, BucketSet, FileRules, MoveStatus, ObjectError, Versioning,
};

/// Most buckets of one answer; each has a few hundred bytes.
pub const SHOWN: usize = 1_000;

/// What is asked about buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BucketsAsk {
    /// The buckets behind a name, at most [`SHOWN`].
    List {
        /// Where the list goes on.
        after: Option<String>,
    },
    /// Another key for a bucket.
    RotateKey {
        /// Its name.
        bucket: String,
    },
    /// Something set for a bucket.
    Set {
        /// Its name.
        bucket: String,
        /// What to set.
        wanted: Vec<BucketSet>,
    },
}

/// A bucket, as a command shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketView {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Objects, each version one.
    pub objects: u64,
    /// Bytes of all versions.
    pub bytes: u64,
    /// Whether more is there, that is still being counted.
    pub counting: bool,
    /// The most bytes it may hold.
    pub quota_bytes: Option<u64>,
    /// The most objects it may hold.
    pub quota_objects: Option<u64>,
    /// What files it takes.
    pub files: FileRules,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// Whether its policy opens something to everybody.
    pub public: bool,
    /// Where its new bodies go: a backend, or `local`.
    pub backend: String,
    /// How the last move of its bodies stands, or ended.
    pub moving: Option<MoveStatus>,
    /// The change of its key, while there is one.
    pub key_change: Option<KeyChange>,
}

impl From<BucketDetail> for BucketView {
    fn from(detail: BucketDetail) -> Self {
        let public = detail.is_public();
        let BucketDetail { bucket, versioning, settings, usage, home, moving, key_change } = detail;
        Self {
            name: bucket.name.to_string(),
            created_at: bucket.created,
            objects: usage.objects,
            bytes: usage.bytes,
            counting: usage.counting,
            quota_bytes: settings.quota.max_bytes,
            quota_objects: settings.quota.max_objects,
            files: settings.files,
            versioning,
            public,
            backend: BackendName::home(home.as_ref()).to_owned(),
            moving,
            key_change,
        }
    }
}

/// Answers what is asked, with the buckets meant.
///
/// # Errors
/// What the service says, in words.
pub(super) async fn answer(asked: BucketsAsk, facts: &Facts) -> Result<Vec<BucketView>, String> {
    let told = |error: ObjectError| error.to_string();
    match asked {
        BucketsAsk::List { after } => {
            let all = facts.objects.bucket_details().await.map_err(told)?;
            let behind =
                |detail: &BucketDetail| after.as_deref().is_none_or(|after| detail.bucket.name.as_str() > after);
            Ok(all.into_iter().filter(behind).take(SHOWN).map(BucketView::from).collect())
        }
        BucketsAsk::RotateKey { bucket } => {
            let name: BucketName = bucket.parse().map_err(|error| format!("{error}"))?;
            facts.objects.rotate_bucket_key(&name).await.map_err(told)?;
            let noted = facts.users.note(&By::command_line(), "bucket.key_rotated", name.as_str()).await;
            noted.map_err(|error| error.to_string())?;
            Ok(vec![facts.objects.bucket_detail(&name).await.map_err(told)?.into()])
        }
        BucketsAsk::Set { bucket, wanted } => {
            let name: BucketName = bucket.parse().map_err(|error| format!("{error}"))?;
            facts.objects.set_bucket(&name, wanted).await.map_err(told)?;
            let noted = facts.users.note(&By::command_line(), "bucket.limited", name.as_str()).await;
            noted.map_err(|error| error.to_string())?;
            Ok(vec![facts.objects.bucket_detail(&name).await.map_err(told)?.into()])
        }
    }
}

/// Asks the server that runs on `folder`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn asked(folder: &Path, question: BucketsAsk) -> Result<Vec<BucketView>, ControlError> {
    ask(folder, Ask::Buckets(question))
}
