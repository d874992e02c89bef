//! Buckets, and what there is to say about them.
//!
//! Some settings are the same for every bucket and unchangeable: no lock, sealed at rest, all rights to the
//! key's owner. The answers here say so in S3's words, because stock tools ask before they start; they promise nothing
//! that is not so.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::access::{Action, refusal};
use super::door::Services;
use super::error::{Code, S3Error};
use super::payload::SealedBody;
use super::request::Request;
use super::respond;
use super::xml::Writer;
use crate::http::Body;
use crate::objects::{BucketName, Created, Target};

/// The one owner of everything: S3's documents have to name one.
pub const OWNER: &str = "mainstay";

/// `ListBuckets`.
#[derive(Debug)]
pub struct ListBuckets {
    prefix: String,
    after: Option<String>,
    max: usize,
}

impl ListBuckets {
    /// Most buckets on a page; without `max-buckets` all are given.
    const PAGE_MAX: usize = 10_000;

    /// Reads the parameters.
    ///
    /// # Errors
    /// `max-buckets` is no number.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        Ok(Self {
            prefix: request.query.get("prefix").unwrap_or_default().to_owned(),
            after: request.query.get("continuation-token").map(str::to_owned),
            max: request.count("max-buckets", Self::PAGE_MAX, Self::PAGE_MAX)?,
        })
    }

    /// Lists those the key knows by name.
    ///
    /// # Errors
    /// Nobody signed; storage fails.
    pub async fn run(self, services: &Services, request: &Request) -> Result<Response<Body>, S3Error> {
        let key = request.verified().key().ok_or_else(|| refusal(request))?;
        let mut buckets = services.objects.buckets().await?;
        buckets.retain(|bucket| {
            let name = bucket.name.as_str();
            key.rights.know(name)
                && name.starts_with(&self.prefix)
                && self.after.as_deref().is_none_or(|after| name > after)
        });
        let more = buckets.len() > self.max;
        buckets.truncate(self.max);
        let mut xml = Writer::new("ListAllMyBucketsResult");
        write_owner(&mut xml, "Owner");
        xml.start("Buckets");
        for bucket in &buckets {
            xml.start("Bucket").leaf("Name", &bucket.name).leaf("CreationDate", bucket.created).end();
        }
        xml.end();
        xml.maybe("ContinuationToken", buckets.last().filter(|_| more).map(|bucket| &bucket.name));
        Ok(respond::document(xml))
    }
}

/// `CreateBucket`.
#[derive(Debug)]
pub struct CreateBucket {
    bucket: BucketName,
}

impl CreateBucket {
    /// Reads the parameters.
    ///
    /// # Errors
    /// The bucket is to have object lock, which this server does not do.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        if request.field("x-amz-bucket-object-lock-enabled").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(S3Error::new(Code::NotImplemented, "object lock is not supported"));
        }
        Ok(Self { bucket: request.bucket()? })
    }

    /// Creates the bucket. One that is there is fine in `us-east-1`, as Amazon S3 has it; elsewhere it is a conflict.
    ///
    /// # Errors
    /// The document names another region; there are too many buckets; storage fails.
    pub async fn run(
        self,
        services: &Services,
        request: &Request,
        body: SealedBody,
    ) -> Result<Response<Body>, S3Error> {
        if let Some(document) = body.document(request, "CreateBucketConfiguration").await? {
            let region = document.word_of("LocationConstraint").unwrap_or_default();
            // Clients that do not care send us-east-1 or nothing at all.
            if !region.is_empty() && region != services.region && region != "us-east-1" {
                let problem =
                    format!("the location constraint {region} is not this server's region {}", services.region);
                return Err(S3Error::new(Code::IllegalLocationConstraintException, problem));
            }
        }
        let created = services.objects.create_bucket(&self.bucket).await?;
        if created == Created::Already && services.region != "us-east-1" {
            return Err(Code::BucketAlreadyOwnedByYou.into());
        }
        let mut response = respond::empty(StatusCode::OK);
        respond::set(response.headers_mut(), header::LOCATION, &format!("/{}", self.bucket));
        Ok(response)
    }
}

/// `HeadBucket`.
///
/// # Errors
/// The bucket does not exist; storage fails.
pub async fn head(services: &Services, bucket: &BucketName) -> Result<Response<Body>, S3Error> {
    services.objects.bucket(bucket).await?;
    let mut response = respond::empty(StatusCode::OK);
    let region = HeaderName::from_static("x-amz-bucket-region");
    respond::set(response.headers_mut(), region, &services.region);
    Ok(response)
}

/// `DeleteBucket`.
///
/// # Errors
/// The bucket does not exist or is not empty; storage fails.
pub async fn delete(services: &Services, bucket: &BucketName) -> Result<Response<Body>, S3Error> {
    services.objects.delete_bucket(bucket).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// Something to say about a bucket or object.
#[derive(Clone, Copy, Debug)]
pub enum Topic {
    /// The region.
    Location,
    /// Who may do what: the owner everything.
    Acl,
    /// Encryption at rest: always on.
    Encryption,
    /// Access logs: none.
    Logging,
    /// Events: none.
    Notification,
    /// Faster ways in: none.
    Acceleration,
    /// Who pays: the owner.
    Payment,
    /// A setting there is not.
    Absent(Code),
}

/// `GetBucketLocation` and its like.
#[derive(Debug)]
pub struct DescribeBucket {
    /// The bucket.
    pub bucket: BucketName,
    /// What about it.
    pub topic: Topic,
}

impl DescribeBucket {
    /// What it does, for who may.
    pub const fn action(&self) -> Action {
        if matches!(self.topic, Topic::Location) { Action::Location } else { Action::Describe }
    }

    /// Answers.
    ///
    /// # Errors
    /// The bucket does not exist; there is no such setting; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        services.objects.bucket(&self.bucket).await?;
        let xml = match self.topic {
            Topic::Location => {
                // us-east-1 is written as nothing (S3 API reference, GetBucketLocation).
                let region = if services.region == "us-east-1" { "" } else { &services.region };
                return Ok(respond::document(Writer::with_text("LocationConstraint", region)));
            }
            Topic::Acl => acl(),
            Topic::Encryption => {
                let mut xml = Writer::new("ServerSideEncryptionConfiguration");
                xml.start("Rule").start("ApplyServerSideEncryptionByDefault").leaf("SSEAlgorithm", "AES256");
                xml
            }
            Topic::Logging => Writer::new("BucketLoggingStatus"),
            Topic::Notification => Writer::new("NotificationConfiguration"),
            Topic::Acceleration => Writer::new("AccelerateConfiguration"),
            Topic::Payment => {
                let mut xml = Writer::new("RequestPaymentConfiguration");
                xml.leaf("Payer", "BucketOwner");
                xml
            }
            Topic::Absent(code) => return Err(code.into()),
        };
        Ok(respond::document(xml))
    }
}

/// `GetObjectAcl` and its like.
#[derive(Debug)]
pub struct DescribeObject {
    /// Its bucket.
    pub bucket: BucketName,
    /// The object, or one version of it.
    pub target: Target,
    /// What about it.
    pub topic: Topic,
}

impl DescribeObject {
    /// Answers.
    ///
    /// # Errors
    /// The object does not exist; there is no such setting; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        services.objects.head_version(&self.bucket, &self.target).await?;
        match self.topic {
            Topic::Acl => Ok(respond::document(acl())),
            Topic::Absent(code) => Err(code.into()),
            _ => Err(Code::NotImplemented.into()),
        }
    }
}

fn acl() -> Writer {
    let mut xml = Writer::new("AccessControlPolicy");
    write_owner(&mut xml, "Owner");
    xml.start("AccessControlList").start("Grant");
    xml.start_with("Grantee", "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"");
    xml.leaf("ID", OWNER).leaf("DisplayName", OWNER).end();
    xml.leaf("Permission", "FULL_CONTROL");
    xml
}

/// Writes an owner as element `name`.
pub fn write_owner(xml: &mut Writer, name: &'static str) {
    xml.start(name).leaf("ID", OWNER).leaf("DisplayName", OWNER).end();
}

/// The header that says objects are sealed at rest.
pub const SEALED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-amz-server-side-encryption"), HeaderValue::from_static("AES256"));
