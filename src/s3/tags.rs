//! Tags of objects and buckets: `GetObjectTagging` and its like, and the header that sets them with an upload.

use http::{Response, StatusCode};

use super::door::Services;
use super::error::{Code, S3Error};
use super::payload::SealedBody;
use super::request::Request;
use super::respond;
use super::xml::{Element, Writer};
use crate::http::{Body, uri};
use crate::objects::{BucketName, Target};

/// Most tags of an object, and characters in a tag's key and value (S3 user guide, "Categorizing your storage").
const TAGS_MAX: usize = 10;
/// Most tags of a bucket.
const BUCKET_TAGS_MAX: usize = 50;
const KEY_MAX: usize = 128;
const VALUE_MAX: usize = 256;

/// Tags: keys and values.
type Tags = Vec<(String, String)>;

/// `GetObjectTagging`.
#[derive(Debug)]
pub struct GetObjectTagging {
    bucket: BucketName,
    target: Target,
}

impl GetObjectTagging {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A version id that is none.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, target) = request.target()?;
        Ok(Self { bucket, target })
    }

    /// Answers.
    ///
    /// # Errors
    /// The object does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let info = services.objects.head_version(&self.bucket, &self.target).await?;
        let mut response = respond::document(write_tags(&info.metadata.tags));
        respond::set_version(response.headers_mut(), &info);
        Ok(response)
    }
}

/// `PutObjectTagging`.
#[derive(Debug)]
pub struct PutObjectTagging {
    bucket: BucketName,
    target: Target,
}

impl PutObjectTagging {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A version id that is none.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, target) = request.target()?;
        Ok(Self { bucket, target })
    }

    /// Gives the object the tags of the document, in place of those it has.
    ///
    /// # Errors
    /// The document is malformed or its tags are; the object does not exist; storage fails: the object keeps its tags.
    pub async fn run(
        self,
        services: &Services,
        request: &Request,
        body: SealedBody,
    ) -> Result<Response<Body>, S3Error> {
        let document = body.document(request, "Tagging").await?.ok_or(Code::MalformedXML)?;
        let tags = parse_document(&document)?;
        let info = services.objects.set_tags(&self.bucket, &self.target, tags).await?;
        let mut response = respond::empty(StatusCode::OK);
        respond::set_version(response.headers_mut(), &info);
        Ok(response)
    }
}

/// `DeleteObjectTagging`.
#[derive(Debug)]
pub struct DeleteObjectTagging {
    bucket: BucketName,
    target: Target,
}

impl DeleteObjectTagging {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A version id that is none.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, target) = request.target()?;
        Ok(Self { bucket, target })
    }

    /// Takes the tags away.
    ///
    /// # Errors
    /// The object does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let info = services.objects.set_tags(&self.bucket, &self.target, Vec::new()).await?;
        let mut response = respond::empty(StatusCode::NO_CONTENT);
        respond::set_version(response.headers_mut(), &info);
        Ok(response)
    }
}

/// Tags as `x-amz-tagging` writes them: a query.
///
/// # Errors
/// A broken percent-encoding, or tags against the rules.
pub fn parse_header(text: &str) -> Result<Tags, S3Error> {
    let mut tags = Tags::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        add(&mut tags, (uri::decode_query(key)?, uri::decode_query(value)?), TAGS_MAX, Code::InvalidArgument)?;
    }
    Ok(tags)
}

/// The tags of a document `Tagging`.
///
/// # Errors
/// It is none, or tags are against the rules.
pub fn parse_document(document: &Element) -> Result<Tags, S3Error> {
    parse_elements(document.child("TagSet").ok_or(Code::MalformedXML)?, TAGS_MAX)
}

/// The elements `Tag` in `element`, at most `most`.
///
/// # Errors
/// One is none, or tags are against the rules.
pub fn parse_elements(element: &Element, most: usize) -> Result<Tags, S3Error> {
    let mut tags = Tags::new();
    for tag in element.all("Tag") {
        let key = tag.text_of("Key").ok_or(Code::MalformedXML)?.to_owned();
        let value = tag.text_of("Value").ok_or(Code::MalformedXML)?.to_owned();
        add(&mut tags, (key, value), most, Code::InvalidTag)?;
    }
    Ok(tags)
}

/// `GetBucketTagging`.
///
/// # Errors
/// The bucket does not exist or has no tags; storage fails.
pub async fn get_of_bucket(services: &Services, bucket: &BucketName) -> Result<Response<Body>, S3Error> {
    let settings = services.objects.bucket_settings(bucket).await?;
    if settings.tags.is_empty() {
        return Err(Code::NoSuchTagSet.into());
    }
    Ok(respond::document(write_tags(&settings.tags)))
}

/// `PutBucketTagging`: these tags in place of those it has.
///
/// # Errors
/// The document is malformed or its tags are; the bucket does not exist; storage fails: it keeps its tags.
pub async fn put_to_bucket(
    services: &Services,
    request: &Request,
    bucket: &BucketName,
    body: SealedBody,
) -> Result<Response<Body>, S3Error> {
    let document = body.document(request, "Tagging").await?.ok_or(Code::MalformedXML)?;
    let tags = parse_elements(document.child("TagSet").ok_or(Code::MalformedXML)?, BUCKET_TAGS_MAX)?;
    services.objects.change_bucket_settings(bucket, move |settings| settings.tags.clone_from(&tags)).await?;
    // Amazon S3 answers 204, which MinIO's client takes for a failure; MinIO answers as the API reference says.
    Ok(respond::empty(StatusCode::OK))
}

/// `DeleteBucketTagging`; fine when there are none.
///
/// # Errors
/// The bucket does not exist; storage fails.
pub async fn delete_of_bucket(services: &Services, bucket: &BucketName) -> Result<Response<Body>, S3Error> {
    services.objects.change_bucket_settings(bucket, |settings| settings.tags.clear()).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

fn write_tags(tags: &Tags) -> Writer {
    let mut xml = Writer::new("Tagging");
    xml.start("TagSet");
    for (key, value) in tags {
        xml.start("Tag").leaf("Key", key).leaf("Value", value).end();
    }
    xml
}

fn add(tags: &mut Tags, (key, value): (String, String), most: usize, code: Code) -> Result<(), S3Error> {
    let invalid = |problem: &str| Err(S3Error::new(code, problem));
    if key.is_empty() || key.chars().count() > KEY_MAX || value.chars().count() > VALUE_MAX {
        return invalid("a tag has a key of 1 to 128 and a value of at most 256 characters");
    }
    if tags.iter().any(|(known, _)| *known == key) {
        return invalid("a tag is given twice");
    }
    if tags.len() == most {
        return invalid(&format!("there are at most {most} tags"));
    }
    tags.push((key, value));
    Ok(())
}
