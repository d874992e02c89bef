//! Settings of a bucket that can be read and changed: policy, lifecycle, tags. Which one a request is about is told here,
//! what each does in its own file.

use http::Response;

use super::access::Action;
use super::door::Services;
use super::error::S3Error;
use super::payload::SealedBody;
use super::request::Request;
use super::{lifecycle, policies, tags};
use crate::http::Body;
use crate::objects::BucketName;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `GetBucketPolicy`.
    GetPolicy,
    /// `PutBucketPolicy`.
    PutPolicy,
    /// `DeleteBucketPolicy`.
    DeletePolicy,
    /// `GetBucketPolicyStatus`.
    GetPolicyStatus,
    /// `GetBucketLifecycleConfiguration`.
    GetLifecycle,
    /// `PutBucketLifecycleConfiguration`.
    PutLifecycle,
    /// `DeleteBucketLifecycle`.
    DeleteLifecycle,
    /// `GetBucketTagging`.
    GetTags,
    /// `PutBucketTagging`.
    PutTags,
    /// `DeleteBucketTagging`.
    DeleteTags,
}

/// Reads or changes a setting of a bucket.
#[derive(Debug)]
pub struct BucketSetting {
    /// The bucket.
    pub bucket: BucketName,
    /// What is asked.
    pub setting: Setting,
}

impl BucketSetting {
    /// What it does, for who may.
    pub const fn action(&self) -> Action {
        match self.setting {
            Setting::GetPolicy | Setting::GetPolicyStatus | Setting::GetLifecycle | Setting::GetTags => {
                Action::Describe
            }
            _ => Action::Manage,
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// The bucket does not exist, what is asked for is not set, the document is none; storage fails: the setting is as it
    /// was.
    pub async fn run(
        self,
        services: &Services,
        request: &Request,
        body: SealedBody,
    ) -> Result<Response<Body>, S3Error> {
        let bucket = &self.bucket;
        match self.setting {
            Setting::GetPolicy => policies::get(services, bucket).await,
            Setting::PutPolicy => policies::put(services, request, bucket, body).await,
            Setting::DeletePolicy => policies::delete(services, bucket).await,
            Setting::GetPolicyStatus => policies::status(services, bucket).await,
            Setting::GetLifecycle => lifecycle::get(services, bucket).await,
            Setting::PutLifecycle => lifecycle::put(services, request, bucket, body).await,
            Setting::DeleteLifecycle => lifecycle::delete(services, bucket).await,
            Setting::GetTags => tags::get_of_bucket(services, bucket).await,
            Setting::PutTags => tags::put_to_bucket(services, request, bucket, body).await,
            Setting::DeleteTags => tags::delete_of_bucket(services, bucket).await,
        }
    }
}
