//! Storing an object, and what a client says about one.
//!
//! Not followed and said so here: `x-amz-acl` (everything is private, as buckets of Amazon S3 are with ACLs off; a
//! public object would have to be asked for in another way), `x-amz-storage-class` (there is one).

use http::{Response, StatusCode};

use super::buckets::SEALED;
use super::door::Services;
use super::error::{Code, S3Error};
use super::lifecycle;
use super::payload::SealedBody;
use super::request::Request;
use super::respond;
use super::tags;
use crate::http::Body;
use crate::objects::{BucketName, Condition, Metadata, ObjectKey, PutExpect};

/// Most bytes of `x-amz-meta-*` names and values (S3 user guide, "User-defined object metadata").
const USER_METADATA_MAX: usize = 2 << 10;

/// `PutObject`.
#[derive(Debug)]
pub struct PutObject {
    bucket: BucketName,
    key: ObjectKey,
    metadata: Metadata,
    pub(super) condition: Condition,
}

impl PutObject {
    /// Reads the parameters.
    ///
    /// # Errors
    /// Metadata, tags or a condition that are none.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, key) = request.object()?;
        Ok(Self { bucket, key, metadata: metadata(request)?, condition: condition(request)? })
    }

    /// Stores the body.
    ///
    /// # Errors
    /// The bucket does not exist, the body is not what was announced or signed, the condition does not hold, storage
    /// fails: what the key held stays.
    pub async fn run(
        mut self,
        services: &Services,
        request: &Request,
        body: SealedBody,
    ) -> Result<Response<Body>, S3Error> {
        let upload = body.open(request)?;
        self.metadata.checksum.clone_from(&upload.checksum);
        let expect = PutExpect {
            length: Some(upload.length),
            md5: upload.md5,
            late_checksum: upload.late_checksum,
            condition: self.condition,
        };
        let info = services.objects.put(&self.bucket, &self.key, self.metadata, expect, upload.body).await?;
        let mut response = respond::empty(StatusCode::OK);
        let headers = response.headers_mut();
        respond::set_etag(headers, &info.etag);
        respond::set_version(headers, &info);
        respond::set_checksum(headers, info.metadata.checksum.as_ref());
        headers.insert(SEALED.0, SEALED.1);
        lifecycle::describe(headers, services, &self.bucket, self.key.as_str(), &info).await?;
        Ok(response)
    }
}

/// What the head says about the object to be.
///
/// # Errors
/// A value that is no text, too much metadata, or malformed tags.
pub fn metadata(request: &Request) -> Result<Metadata, S3Error> {
    let text = |name: &str| request.field(name).map(str::to_owned);
    let mut user = Vec::new();
    for (name, value) in request.fields("x-amz-meta-") {
        let value = value.ok_or_else(|| {
            S3Error::new(Code::InvalidArgument, format!("the value of x-amz-meta-{name} is not UTF-8"))
        })?;
        user.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let bytes: usize = user.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
    if bytes > USER_METADATA_MAX {
        let problem = format!("the user metadata has {bytes} bytes, allowed are {USER_METADATA_MAX}");
        return Err(S3Error::new(Code::MetadataTooLarge, problem));
    }
    Ok(Metadata {
        content_type: text("content-type"),
        cache_control: text("cache-control"),
        content_disposition: text("content-disposition"),
        content_encoding: text("content-encoding").and_then(|codings| without_aws_chunked(&codings)),
        content_language: text("content-language"),
        expires: text("expires"),
        user,
        tags: request.field("x-amz-tagging").map(tags::parse_header).transpose()?.unwrap_or_default(),
        checksum: None,
    })
}

/// `aws-chunked` is how the body travelled, not what the object is.
fn without_aws_chunked(codings: &str) -> Option<String> {
    let kept: Vec<&str> =
        codings.split(',').map(str::trim).filter(|coding| !coding.is_empty() && *coding != "aws-chunked").collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// What the key must hold for the write to happen: `If-None-Match: *` or `If-Match`.
///
/// # Errors
/// `If-None-Match` with a tag, which S3 does not do on writes; both at once.
pub fn condition(request: &Request) -> Result<Condition, S3Error> {
    let not_implemented = |problem: &'static str| Err(S3Error::new(Code::NotImplemented, problem));
    match (request.field("if-none-match"), request.field("if-match")) {
        (None, None) => Ok(Condition::Any),
        (Some("*"), None) => Ok(Condition::Absent),
        (Some(_), None) => not_implemented("If-None-Match on a write takes only *"),
        (None, Some("*")) => Ok(Condition::Present),
        // A tag this server never gave out is one no object has.
        (None, Some(tag)) => tag.trim().parse().map(Condition::Matches).or(Err(Code::PreconditionFailed.into())),
        (Some(_), Some(_)) => not_implemented("If-Match and If-None-Match together"),
    }
}
