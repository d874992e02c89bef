//! Copies: `CopyObject`, `UploadPartCopy`.
//!
//! The source comes from a header, so the header must be signed; the gate sees to that for every `x-amz-*` header. An
//! unsigned one turned somebody's presigned PUT into a read of any of the signer's objects in s3s, `MinIO` and `RustFS`.

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::access::{Action, Need};
use super::door::Services;
use super::error::{Code, S3Error};
use super::lifecycle;
use super::read;
use super::request::Request;
use super::respond;
use super::write;
use super::xml::Writer;
use crate::http::conditional::{self, Verdict};
use crate::http::range::{self, ByteRange};
use crate::http::{Body, uri};
use crate::objects::{
    BucketName, Condition, CopyMetadata, CopySource, Metadata, ObjectError, ObjectInfo, ObjectKey, PartNumber,
    RangeSpec, Target, UploadId, VersionId,
};

/// The conditions a copy sets on its source, and the ordinary headers they mean.
const CONDITIONS: [(&str, HeaderName); 4] = [
    ("x-amz-copy-source-if-match", header::IF_MATCH),
    ("x-amz-copy-source-if-none-match", header::IF_NONE_MATCH),
    ("x-amz-copy-source-if-modified-since", header::IF_MODIFIED_SINCE),
    ("x-amz-copy-source-if-unmodified-since", header::IF_UNMODIFIED_SINCE),
];

/// Whether something is taken from the source or from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Copy,
    Replace,
}

impl Directive {
    fn parse(request: &Request, name: &'static str) -> Result<Self, S3Error> {
        match request.field(name) {
            None | Some("COPY") => Ok(Self::Copy),
            Some("REPLACE") => Ok(Self::Replace),
            Some(_) => Err(S3Error::new(Code::InvalidArgument, format!("{name} must be COPY or REPLACE"))),
        }
    }
}

/// What must be allowed to read `source`.
fn reads(source: &Source) -> Need {
    Need::target(Action::Read, Action::ReadVersion, &source.bucket, &source.target)
}

/// A source and the conditions on it.
#[derive(Debug)]
struct Source {
    bucket: BucketName,
    target: Target,
    conditions: HeaderMap,
}

impl Source {
    /// Reads `x-amz-copy-source`: `[/]bucket/key[?versionId=id]`, percent-encoded.
    fn parse(request: &Request) -> Result<Self, S3Error> {
        let invalid = || S3Error::new(Code::InvalidArgument, "x-amz-copy-source must be /bucket/key");
        let text = request.field("x-amz-copy-source").ok_or_else(invalid)?;
        let (path, version) = match text.split_once("?versionId=") {
            Some((path, version)) => (path, Some(version.parse()?)),
            None => (text, None),
        };
        let (bucket, key) = path.strip_prefix('/').unwrap_or(path).split_once('/').ok_or_else(invalid)?;
        let mut conditions = HeaderMap::new();
        for (name, means) in CONDITIONS {
            if let Some(value) = request.field(name).and_then(|value| HeaderValue::from_str(value).ok()) {
                conditions.insert(means, value);
            }
        }
        let target = Target { key: uri::decode(key)?.parse()?, version };
        Ok(Self { bucket: uri::decode(bucket)?.parse()?, target, conditions })
    }

    /// Looks the source up and holds its conditions against it; the copy then relies on the tag seen.
    async fn find(self, services: &Services, range: Option<RangeSpec>) -> Result<(CopySource, ObjectInfo), S3Error> {
        let info = match services.objects.head_version(&self.bucket, &self.target).await {
            // A source must be an object; which is why this is no answer of 405 as for a read.
            Err(ObjectError::DeleteMarker { named: true, .. }) => {
                return Err(S3Error::new(Code::InvalidRequest, "the source of a copy must not be a delete marker"));
            }
            found => found?,
        };
        let verdict = conditional::evaluate(&self.conditions, &info.etag.to_string(), info.modified);
        if verdict != Verdict::Proceed {
            return Err(Code::PreconditionFailed.into());
        }
        let source = CopySource { bucket: self.bucket, target: self.target, etag: Some(info.etag), range };
        Ok((source, info))
    }
}

/// `CopyObject`.
#[derive(Debug)]
pub struct CopyObject {
    bucket: BucketName,
    key: ObjectKey,
    source: Source,
    metadata: Metadata,
    metadata_from: Directive,
    tags_from: Directive,
    pub(super) condition: Condition,
}

impl CopyObject {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A malformed source, directive, condition or metadata; a copy onto itself that changes nothing.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, key) = request.object()?;
        let source = Source::parse(request)?;
        let metadata_from = Directive::parse(request, "x-amz-metadata-directive")?;
        let tags_from = Directive::parse(request, "x-amz-tagging-directive")?;
        let replaces = metadata_from == Directive::Replace || tags_from == Directive::Replace;
        if source.bucket == bucket && source.target == (Target { key: key.clone(), version: None }) && !replaces {
            let problem = "a copy of an object onto itself must replace its metadata or tags";
            return Err(S3Error::new(Code::InvalidRequest, problem));
        }
        let (metadata, condition) = (write::metadata(request)?, write::condition(request)?);
        Ok(Self { bucket, key, source, metadata, metadata_from, tags_from, condition })
    }

    /// What it reads.
    pub fn reads(&self) -> Need {
        reads(&self.source)
    }

    /// Copies.
    ///
    /// # Errors
    /// Source or bucket do not exist, a condition does not hold, storage fails: what the key held stays.
    pub async fn run(self, services: &Services, _request: &Request) -> Result<Response<Body>, S3Error> {
        let named = self.source.target.version;
        let (source, info) = self.source.find(services, None).await?;
        let source_version = named.or(Some(info.version).filter(|_| info.versioned));
        let mut metadata = match self.metadata_from {
            Directive::Copy => info.metadata.clone(),
            Directive::Replace => self.metadata.clone(),
        };
        metadata.tags = match self.tags_from {
            Directive::Copy => info.metadata.tags,
            Directive::Replace => self.metadata.tags,
        };
        // A checksum of parts' checksums says nothing about a copy in one piece; one of the bytes holds for it too.
        metadata.checksum = info.metadata.checksum.filter(|checksum| respond::checksum_type(checksum) == "FULL_OBJECT");
        let objects = &services.objects;
        let info =
            objects.copy(&source, &self.bucket, &self.key, CopyMetadata::Replace(metadata), self.condition).await?;
        let mut xml = Writer::new("CopyObjectResult");
        xml.leaf("LastModified", info.modified).leaf("ETag", format_args!("\"{}\"", info.etag));
        respond::write_checksum(&mut xml, info.metadata.checksum.as_ref());
        let mut response = respond::document(xml);
        let headers = response.headers_mut();
        // Amazon S3 has it in the document alone, where MinIO's client does not look.
        respond::set_etag(headers, &info.etag);
        respond::set_version(headers, &info);
        set_source_version(headers, source_version);
        lifecycle::describe(headers, services, &self.bucket, self.key.as_str(), &info).await?;
        Ok(response)
    }
}

/// `UploadPartCopy`.
#[derive(Debug)]
pub struct UploadPartCopy {
    bucket: BucketName,
    key: ObjectKey,
    upload: UploadId,
    number: PartNumber,
    source: Source,
    range: Option<RangeSpec>,
}

impl UploadPartCopy {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A malformed source, range, part number or upload id.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, key) = request.object()?;
        let range = request.field("x-amz-copy-source-range").map(|text| match range::parse(text) {
            Some(range @ ByteRange::FromTo(..)) => Ok(read::range_spec(range)),
            _ => Err(S3Error::new(Code::InvalidArgument, "x-amz-copy-source-range must be bytes=first-last")),
        });
        Ok(Self {
            bucket,
            key,
            upload: request.query.get("uploadId").unwrap_or_default().parse()?,
            number: read::part_number(request.query.get("partNumber").unwrap_or_default())?,
            source: Source::parse(request)?,
            range: range.transpose()?,
        })
    }

    /// What it reads.
    pub fn reads(&self) -> Need {
        reads(&self.source)
    }

    /// Copies.
    ///
    /// # Errors
    /// Source or upload do not exist, a condition does not hold, the range lies outside, storage fails.
    pub async fn run(self, services: &Services, _request: &Request) -> Result<Response<Body>, S3Error> {
        let named = self.source.target.version;
        let (source, info) = self.source.find(services, self.range).await?;
        let source_version = named.or(Some(info.version).filter(|_| info.versioned));
        let part = services.objects.copy_part(&source, &self.bucket, &self.key, self.upload, self.number).await?;
        let mut xml = Writer::new("CopyPartResult");
        xml.leaf("LastModified", part.modified).leaf("ETag", format_args!("\"{}\"", part.etag));
        let mut response = respond::document(xml);
        set_source_version(response.headers_mut(), source_version);
        Ok(response)
    }
}

fn set_source_version(headers: &mut HeaderMap, version: Option<VersionId>) {
    if let Some(version) = version {
        respond::set(headers, HeaderName::from_static("x-amz-copy-source-version-id"), &version.to_string());
    }
}
