//! Setting what cannot be another way to what it is: clients written for MinIO and Amazon S3 make things private, have them
//! encrypted or end notifications as a matter of course, and need to hear that it is so. Whatever it is not is refused.

use http::{Response, StatusCode};

use super::door::Services;
use super::error::{Code, S3Error};
use super::payload::SealedBody;
use super::request::Request;
use super::respond;
use super::xml::Element;
use crate::http::Body;
use crate::objects::{BucketName, Target};

/// What a client wants to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `PutBucketAcl`, `PutObjectAcl`: the owner may do everything, and nobody else anything.
    Private,
    /// `PutBucketEncryption`: sealed under the server's own keys.
    Encrypted,
    /// `DeleteBucketEncryption`: encrypted as everything is by default.
    EncryptedByDefault,
    /// `PutBucketNotificationConfiguration`: nobody is notified.
    Silent,
}

/// `PutBucketAcl` and its like.
#[derive(Debug)]
pub struct Confirm {
    bucket: BucketName,
    target: Option<Target>,
    wish: Wish,
}

impl Confirm {
    /// About a bucket.
    ///
    /// # Errors
    /// The address names none.
    pub fn of_bucket(request: &Request, wish: Wish) -> Result<Self, S3Error> {
        Ok(Self { bucket: request.bucket()?, target: None, wish })
    }

    /// About an object.
    ///
    /// # Errors
    /// A version id that is none.
    pub fn of_object(request: &Request, wish: Wish) -> Result<Self, S3Error> {
        let (bucket, target) = request.target()?;
        Ok(Self { bucket, target: Some(target), wish })
    }

    /// Whether it is about an object.
    pub const fn is_of_object(&self) -> bool {
        self.target.is_some()
    }

    /// Says that it is so; nothing changes.
    ///
    /// # Errors
    /// It is not so and cannot be; bucket or object do not exist; the document is malformed; storage fails.
    pub async fn run(
        self,
        services: &Services,
        request: &Request,
        body: SealedBody,
    ) -> Result<Response<Body>, S3Error> {
        let (holds, instead) = match self.wish {
            Wish::Private => {
                let document = body.document(request, "AccessControlPolicy").await?;
                (
                    is_private(request, document.as_ref())?,
                    "there are no ACLs; a bucket's policy opens what is to be open",
                )
            }
            Wish::Encrypted => {
                let document = body.document(request, "ServerSideEncryptionConfiguration").await?;
                let told = "everything is encrypted with AES256 under the server's own keys, and with nothing else";
                (is_ours(&document.ok_or(Code::MalformedXML)?)?, told)
            }
            Wish::EncryptedByDefault => (true, ""),
            Wish::Silent => {
                let document = body.document(request, "NotificationConfiguration").await?;
                (document.is_none_or(|document| document.children.is_empty()), "there are no notifications")
            }
        };
        if !holds {
            return Err(S3Error::new(Code::NotImplemented, instead));
        }
        match &self.target {
            Some(target) => drop(services.objects.head_version(&self.bucket, target).await?),
            None => drop(services.objects.bucket(&self.bucket).await?),
        }
        let emptied = self.wish == Wish::EncryptedByDefault;
        Ok(respond::empty(if emptied { StatusCode::NO_CONTENT } else { StatusCode::OK }))
    }
}

/// Whether an ACL, by its header or as a document, leaves everything to the owner.
fn is_private(request: &Request, document: Option<&Element>) -> Result<bool, S3Error> {
    if request.fields("x-amz-grant-").next().is_some() {
        return Ok(false);
    }
    if let Some(canned) = request.field("x-amz-acl") {
        return Ok(matches!(canned, "private" | "bucket-owner-full-control"));
    }
    let list = document.and_then(|document| document.child("AccessControlList")).ok_or(Code::MalformedXML)?;
    // A group has an address instead of an id.
    let own = |grant: &Element| {
        let grantee = grant.child("Grantee").is_some_and(|grantee| grantee.child("ID").is_some());
        grantee && grant.word_of("Permission") == Some("FULL_CONTROL")
    };
    Ok(list.children.iter().all(own))
}

/// Whether the encryption that is asked for is the one there is.
fn is_ours(document: &Element) -> Result<bool, S3Error> {
    let mut rules = document.all("Rule").peekable();
    rules.peek().ok_or(Code::MalformedXML)?;
    Ok(rules.all(|rule| {
        let default = rule.child("ApplyServerSideEncryptionByDefault");
        default.is_some_and(|default| default.word_of("SSEAlgorithm") == Some("AES256"))
    }))
}
