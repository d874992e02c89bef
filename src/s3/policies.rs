//! `GetBucketPolicy`, `PutBucketPolicy`, `DeleteBucketPolicy`, `GetBucketPolicyStatus`. What a policy says is
//! [`crate::objects::policy`].

use http::{HeaderValue, Response, StatusCode, header};

use super::access::may_open;
use super::door::Services;
use super::error::{Code, S3Error};
use super::payload::SealedBody;
use super::request::Request;
use super::respond;
use super::xml::Writer;
use crate::http::Body;
use crate::objects::BucketName;
use crate::objects::policy::{self, Policy};

/// `GetBucketPolicy`.
///
/// # Errors
/// The bucket does not exist or has no policy; storage fails.
pub async fn get(services: &Services, bucket: &BucketName) -> Result<Response<Body>, S3Error> {
    let text = text(services, bucket).await?;
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `PutBucketPolicy`.
///
/// # Errors
/// [`Code::MalformedPolicy`] for what is not understood as a whole; [`Code::AccessDenied`] for what opens more than the
/// sender may do; the bucket does not exist; storage fails: the bucket has the policy it had.
pub async fn put(
    services: &Services,
    request: &Request,
    bucket: &BucketName,
    body: SealedBody,
) -> Result<Response<Body>, S3Error> {
    let bytes = body.small(request, policy::BYTES_MAX).await?;
    let malformed = |problem: String| S3Error::new(Code::MalformedPolicy, problem);
    let text = String::from_utf8(bytes).map_err(|_not_utf8| malformed("the policy is not UTF-8".to_owned()))?;
    let policy = Policy::parse(&text, bucket).map_err(|error| malformed(error.to_string()))?;
    may_open(request, bucket, &policy)?;
    services.objects.change_bucket_settings(bucket, move |settings| settings.policy = Some(text.clone())).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// `DeleteBucketPolicy`; fine when there is none.
///
/// # Errors
/// The bucket does not exist; storage fails.
pub async fn delete(services: &Services, bucket: &BucketName) -> Result<Response<Body>, S3Error> {
    services.objects.change_bucket_settings(bucket, |settings| settings.policy = None).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// `GetBucketPolicyStatus`: whether the policy opens anything to everybody.
///
/// # Errors
/// The bucket does not exist or has no policy; storage fails.
pub async fn status(services: &Services, bucket: &BucketName) -> Result<Response<Body>, S3Error> {
    let text = text(services, bucket).await?;
    let public = Policy::parse(&text, bucket).is_ok_and(|policy| policy.is_public());
    let mut xml = Writer::new("PolicyStatus");
    xml.leaf("IsPublic", public);
    Ok(respond::document(xml))
}

async fn text(services: &Services, bucket: &BucketName) -> Result<String, S3Error> {
    let settings = services.objects.bucket_settings(bucket).await?;
    settings.policy.clone().ok_or_else(|| Code::NoSuchBucketPolicy.into())
}
