//! Removing objects: one, or many in one commit.

use http::{Response, StatusCode};

use super::door::Services;
use super::error::{Code, S3Error};
use super::payload::SealedBody;
use super::request::Request;
use super::respond;
use super::write;
use super::xml::Writer;
use crate::http::Body;
use crate::objects::{BucketName, Condition, ObjectKey};

/// Most keys in one request.
const KEYS_MAX: usize = 1000;

/// `DeleteObject`. A key that holds nothing is fine.
#[derive(Debug)]
pub struct DeleteObject {
    bucket: BucketName,
    key: ObjectKey,
    condition: Condition,
}

impl DeleteObject {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A condition S3 does not have.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, key) = request.object()?;
        Ok(Self { bucket, key, condition: write::condition(request)? })
    }

    /// Removes it.
    ///
    /// # Errors
    /// The bucket does not exist; the condition does not hold; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        services.objects.delete(&self.bucket, &self.key, self.condition).await?;
        Ok(respond::empty(StatusCode::NO_CONTENT))
    }
}

/// `DeleteObjects`.
#[derive(Debug)]
pub struct DeleteObjects {
    bucket: BucketName,
}

impl DeleteObjects {
    /// Reads the parameters.
    ///
    /// # Errors
    /// None of its own.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        Ok(Self { bucket: request.bucket()? })
    }

    /// Removes all keys the document names in one commit; a key that cannot be one is reported and the others go.
    ///
    /// # Errors
    /// The document is malformed or names too many keys; the bucket does not exist; storage fails: nothing is removed.
    pub async fn run(
        self,
        services: &Services,
        request: &Request,
        body: SealedBody,
    ) -> Result<Response<Body>, S3Error> {
        let document = body.document(request, "Delete").await?.ok_or(Code::MalformedXML)?;
        let quiet = document.word_of("Quiet").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let mut keys = Vec::new();
        let mut failed: Vec<(String, S3Error)> = Vec::new();
        for object in document.all("Object") {
            let name = object.text_of("Key").ok_or(Code::MalformedXML)?;
            let version = object.word_of("VersionId").unwrap_or_default();
            match name.parse::<ObjectKey>() {
                Err(error) => failed.push((name.to_owned(), error.into())),
                Ok(_) if !matches!(version, "" | "null") => {
                    failed.push((name.to_owned(), Code::NoSuchVersion.into()));
                }
                Ok(key) => keys.push(key),
            }
        }
        if keys.len().saturating_add(failed.len()) > KEYS_MAX || (keys.is_empty() && failed.is_empty()) {
            return Err(Code::MalformedXML.into());
        }
        services.objects.delete_many(&self.bucket, keys.clone()).await?;
        let mut xml = Writer::new("DeleteResult");
        for key in keys.iter().filter(|_| !quiet) {
            xml.start("Deleted").leaf("Key", key).end();
        }
        for (key, error) in &failed {
            xml.start("Error").leaf("Key", key).leaf("Code", error.code.name());
            xml.leaf("Message", error.message.as_deref().unwrap_or(error.code.text())).end();
        }
        Ok(respond::document(xml))
    }
}
