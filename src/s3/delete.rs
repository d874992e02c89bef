//! Removing objects: one, or many in one commit.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::access::{Action, Judge, Need, refusal};
use super::door::Services;
use super::error::{Code, S3Error};
use super::payload::SealedBody;
use super::request::Request;
use super::respond;
use super::write;
use super::xml::Writer;
use crate::http::Body;
use crate::objects::{BucketName, Condition, Deleted, ObjectKey, Target};

/// Most keys in one request.
const KEYS_MAX: usize = 1000;

/// `DeleteObject`. A key that holds nothing is fine.
#[derive(Debug)]
pub struct DeleteObject {
    bucket: BucketName,
    target: Target,
    condition: Condition,
}

impl DeleteObject {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A condition S3 does not have.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let (bucket, target) = request.target()?;
        Ok(Self { bucket, target, condition: write::condition(request)? })
    }

    /// Removes it.
    ///
    /// # Errors
    /// The bucket does not exist; the condition does not hold; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let deleted = services.objects.delete_version(&self.bucket, self.target, self.condition).await?;
        let mut response = respond::empty(StatusCode::NO_CONTENT);
        describe(response.headers_mut(), deleted);
        Ok(response)
    }
}

/// Tells which version is gone, or which delete marker was made or is gone.
fn describe(headers: &mut HeaderMap, deleted: Deleted) {
    if deleted.marker {
        headers.insert(HeaderName::from_static("x-amz-delete-marker"), HeaderValue::from_static("true"));
    }
    if let Some(version) = deleted.version {
        respond::set(headers, HeaderName::from_static("x-amz-version-id"), &version.to_string());
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

    /// Removes all keys the document names in one commit; a key that cannot be one, or that the sender may not delete, is
    /// reported and the others go.
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
        let judge = Judge::new(services, request).await?;
        let mut targets: Vec<Target> = Vec::new();
        let mut failed: Vec<(String, &str, S3Error)> = Vec::new();
        for object in document.all("Object") {
            let name = object.text_of("Key").ok_or(Code::MalformedXML)?;
            let version_text = object.word_of("VersionId").unwrap_or_default();
            let id = if version_text.is_empty() { Ok(None) } else { version_text.parse().map(Some) };
            match (name.parse::<ObjectKey>(), id) {
                (Ok(key), Ok(version)) => {
                    let target = Target { key, version };
                    let need = Need::target(Action::Delete, Action::DeleteVersion, &self.bucket, &target);
                    if judge.allows(&need) {
                        targets.push(target);
                    } else {
                        failed.push((name.to_owned(), version_text, refusal(request)));
                    }
                }
                (Err(error), _) | (_, Err(error)) => failed.push((name.to_owned(), version_text, error.into())),
            }
        }
        if targets.len().saturating_add(failed.len()) > KEYS_MAX || (targets.is_empty() && failed.is_empty()) {
            return Err(Code::MalformedXML.into());
        }
        let deleted = if targets.is_empty() {
            Vec::new()
        } else {
            services.objects.delete_many(&self.bucket, targets.clone()).await?
        };
        let mut xml = Writer::new("DeleteResult");
        for (target, deleted) in targets.iter().zip(deleted).filter(|_| !quiet) {
            xml.start("Deleted").leaf("Key", &target.key).maybe("VersionId", target.version);
            if deleted.marker {
                xml.leaf("DeleteMarker", true).maybe("DeleteMarkerVersionId", deleted.version);
            }
            xml.end();
        }
        for (key, version, error) in &failed {
            xml.start("Error").leaf("Key", key).maybe("VersionId", Some(version).filter(|version| !version.is_empty()));
            xml.leaf("Code", error.code.name());
            xml.leaf("Message", error.message.as_deref().unwrap_or(error.code.text())).end();
        }
        Ok(respond::document(xml))
    }
}
