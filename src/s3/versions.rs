//! Versioning: `GetBucketVersioning`, `PutBucketVersioning`, `ListObjectVersions`.
//!
//! MFA delete is refused: there is no second factor in this protocol that this server could hold anybody to.

use http::{Response, StatusCode};

use super::buckets::write_owner;
use super::door::Services;
use super::error::{Code, S3Error};
use super::listing::Encoding;
use super::payload::SealedBody;
use super::request::Request;
use super::respond;
use super::xml::Writer;
use crate::http::Body;
use crate::objects::{BucketName, VersionPage, VersionQuery, VersionSummary, Versioning};

/// Most entries on a page.
const PAGE_MAX: usize = 1000;

/// `GetBucketVersioning`.
#[derive(Debug)]
pub struct GetBucketVersioning {
    bucket: BucketName,
}

impl GetBucketVersioning {
    /// Reads the parameters.
    ///
    /// # Errors
    /// None of its own.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        Ok(Self { bucket: request.bucket()? })
    }

    /// Answers; a bucket that never kept versions has no status.
    ///
    /// # Errors
    /// The bucket does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let status = match services.objects.versioning(&self.bucket).await? {
            Versioning::Off => None,
            Versioning::Enabled => Some("Enabled"),
            Versioning::Suspended => Some("Suspended"),
        };
        let mut xml = Writer::new("VersioningConfiguration");
        xml.maybe("Status", status);
        Ok(respond::document(xml))
    }
}

/// `PutBucketVersioning`.
#[derive(Debug)]
pub struct PutBucketVersioning {
    bucket: BucketName,
}

impl PutBucketVersioning {
    /// Reads the parameters.
    ///
    /// # Errors
    /// None of its own.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        Ok(Self { bucket: request.bucket()? })
    }

    /// Has the bucket keep versions from now on, or no more.
    ///
    /// # Errors
    /// The document is malformed or asks for MFA delete; the bucket does not exist; storage fails.
    pub async fn run(
        self,
        services: &Services,
        request: &Request,
        body: SealedBody,
    ) -> Result<Response<Body>, S3Error> {
        let document = body.document(request, "VersioningConfiguration").await?.ok_or(Code::MalformedXML)?;
        if document.word_of("MfaDelete").is_some_and(|status| status != "Disabled") {
            return Err(S3Error::new(Code::NotImplemented, "MFA delete is not supported"));
        }
        let keep = match document.word_of("Status") {
            Some("Enabled") => true,
            Some("Suspended") => false,
            _ => return Err(Code::IllegalVersioningConfigurationException.into()),
        };
        services.objects.set_versioning(&self.bucket, keep).await?;
        Ok(respond::empty(StatusCode::OK))
    }
}

/// `ListObjectVersions`.
#[derive(Debug)]
pub struct ListObjectVersions {
    bucket: BucketName,
    query: VersionQuery,
    encoding: Encoding,
}

impl ListObjectVersions {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A number, marker or encoding that is none; a version marker without a key marker.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let text = |name| request.query.get(name).filter(|text| !text.is_empty());
        let invalid = |problem: &'static str| S3Error::new(Code::InvalidArgument, problem);
        let after_key = text("key-marker").map(str::to_owned);
        let after_version = match text("version-id-marker") {
            None => None,
            Some(_) if after_key.is_none() => {
                return Err(invalid("a version-id-marker needs a key-marker"));
            }
            Some(id) => Some(id.parse().or(Err(invalid("the version-id-marker is none of this server's")))?),
        };
        let query = VersionQuery {
            prefix: text("prefix").unwrap_or_default().to_owned(),
            delimiter: text("delimiter").map(str::to_owned),
            after_key,
            after_version,
            max_keys: request.count("max-keys", PAGE_MAX, PAGE_MAX)?,
        };
        Ok(Self { bucket: request.bucket()?, query, encoding: Encoding::parse(request)? })
    }

    /// Lists a page.
    ///
    /// # Errors
    /// The bucket does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let page = services.objects.list_versions(&self.bucket, self.query.clone()).await?;
        Ok(respond::document(self.write(&page)))
    }

    fn write(&self, page: &VersionPage) -> Writer {
        let encode = |text: &str| self.encoding.write(text).into_owned();
        let query = &self.query;
        let mut xml = Writer::new("ListVersionsResult");
        xml.leaf("Name", &self.bucket).leaf("Prefix", encode(&query.prefix));
        xml.leaf("KeyMarker", encode(query.after_key.as_deref().unwrap_or_default()));
        xml.leaf("VersionIdMarker", query.after_version.map(|id| id.to_string()).unwrap_or_default());
        if let Some((key, version)) = &page.next {
            xml.leaf("NextKeyMarker", encode(key)).maybe("NextVersionIdMarker", version.as_ref());
        }
        xml.leaf("MaxKeys", query.max_keys);
        xml.maybe("Delimiter", query.delimiter.as_deref().map(encode));
        xml.maybe("EncodingType", self.encoding.name());
        xml.leaf("IsTruncated", page.next.is_some());
        for version in &page.versions {
            self.write_version(&mut xml, version);
        }
        for prefix in &page.common_prefixes {
            xml.start("CommonPrefixes").leaf("Prefix", encode(prefix)).end();
        }
        xml
    }

    fn write_version(&self, xml: &mut Writer, version: &VersionSummary) {
        xml.start(if version.object.is_some() { "Version" } else { "DeleteMarker" });
        xml.leaf("Key", self.encoding.write(&version.key)).leaf("VersionId", version.version);
        xml.leaf("IsLatest", version.latest).leaf("LastModified", version.modified);
        if let Some((etag, size)) = &version.object {
            xml.leaf("ETag", format_args!("\"{etag}\"")).leaf("Size", size).leaf("StorageClass", "STANDARD");
        }
        write_owner(xml, "Owner");
        xml.end();
    }
}
