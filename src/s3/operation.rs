//! Everything this door can be asked, and the table that tells which it is.
//!
//! [`Operation`] is the feature list. A request becomes one of its variants, all parameters parsed, before anything
//! runs; what the table does not know is `NotImplemented`. To add an operation: a row, a variant, an arm in
//! [`Operation::needs`] and one in [`Operation::run`], and the code in its family's file.

use http::{Method, Response};

use super::access::{self, Action, Need};
use super::address::Address;
use super::attributes::GetObjectAttributes;
use super::buckets::{CreateBucket, DescribeBucket, DescribeObject, ListBuckets, Topic};
use super::confirm::{Confirm, Wish};
use super::copy::{CopyObject, UploadPartCopy};
use super::delete::{DeleteObject, DeleteObjects};
use super::door::Services;
use super::error::{Code, S3Error};
use super::listing::{Flavour, ListObjects};
use super::multipart::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, ListMultipartUploads, ListParts, UploadPart,
};
use super::payload::SealedBody;
use super::read::{GetObject, Want};
use super::request::Request;
use super::settings::{BucketSetting, Setting};
use super::tags::{DeleteObjectTagging, GetObjectTagging, PutObjectTagging};
use super::versions::{GetBucketVersioning, ListObjectVersions, PutBucketVersioning};
use super::write::PutObject;
use crate::http::Body;
use crate::objects::{BucketName, Condition};

/// One thing a client asks for.
#[derive(Debug)]
pub enum Operation {
    /// The buckets.
    ListBuckets(ListBuckets),
    /// Makes a bucket.
    CreateBucket(CreateBucket),
    /// Whether a bucket is there.
    HeadBucket(BucketName),
    /// Removes an empty bucket.
    DeleteBucket(BucketName),
    /// Region, ACL and other settings that cannot be changed.
    DescribeBucket(DescribeBucket),
    /// Sets what cannot be another way to what it is.
    Confirm(Confirm),
    /// Whether the bucket keeps versions.
    GetBucketVersioning(GetBucketVersioning),
    /// Has it keep versions, or no more.
    PutBucketVersioning(PutBucketVersioning),
    /// Reads or changes a setting of a bucket.
    Setting(BucketSetting),
    /// A page of keys, in one of two flavours.
    ListObjects(ListObjects),
    /// A page of versions and delete markers.
    ListObjectVersions(ListObjectVersions),
    /// Uploads in progress.
    ListMultipartUploads(ListMultipartUploads),
    /// Removes many objects.
    DeleteObjects(DeleteObjects),
    /// Reads an object, or its head.
    GetObject(GetObject),
    /// Chosen facts about an object.
    GetObjectAttributes(GetObjectAttributes),
    /// ACL and lock of an object.
    DescribeObject(DescribeObject),
    /// The tags of an object.
    GetObjectTagging(GetObjectTagging),
    /// Gives an object other tags.
    PutObjectTagging(PutObjectTagging),
    /// Takes an object's tags away.
    DeleteObjectTagging(DeleteObjectTagging),
    /// Stores an object.
    PutObject(PutObject),
    /// Stores a copy of an object.
    CopyObject(CopyObject),
    /// Removes an object.
    DeleteObject(DeleteObject),
    /// Starts a multipart upload.
    CreateMultipartUpload(CreateMultipartUpload),
    /// Stores a part.
    UploadPart(UploadPart),
    /// Stores a part copied from an object.
    UploadPartCopy(UploadPartCopy),
    /// Joins the parts.
    CompleteMultipartUpload(CompleteMultipartUpload),
    /// Gives an upload up.
    AbortMultipartUpload(AbortMultipartUpload),
    /// The parts of an upload.
    ListParts(ListParts),
}

/// What a request addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Service,
    Bucket,
    Object,
}

/// What, beside method and level, picks a row.
enum When {
    /// Nothing: no subresource is named.
    Plain,
    /// This parameter.
    Query(&'static str),
    /// This parameter with this value.
    Value(&'static str, &'static str),
    /// This header (or the parameter that stands for it), and no subresource.
    Header(&'static str),
    /// This parameter and this header.
    Both(&'static str, &'static str),
}

type Parse = fn(&Request) -> Result<Operation, S3Error>;

struct Row(Method, Level, When, Parse);

/// Parameters that turn a request into another operation. One that has no row is `NotImplemented`: taking
/// `PUT /b/k?tagging` for a plain PUT would overwrite the object with its tags.
const SUBRESOURCES: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "append",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "list-type",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "website",
];

const COPY: &str = "x-amz-copy-source";

static TABLE: &[Row] = &[
    Row(Method::GET, Level::Service, When::Plain, |r| Ok(Operation::ListBuckets(ListBuckets::parse(r)?))),
    Row(Method::PUT, Level::Bucket, When::Plain, |r| Ok(Operation::CreateBucket(CreateBucket::parse(r)?))),
    Row(Method::HEAD, Level::Bucket, When::Plain, |r| Ok(Operation::HeadBucket(r.bucket()?))),
    Row(Method::DELETE, Level::Bucket, When::Plain, |r| Ok(Operation::DeleteBucket(r.bucket()?))),
    Row(Method::GET, Level::Bucket, When::Plain, |r| list(r, Flavour::V1)),
    Row(Method::GET, Level::Bucket, When::Value("list-type", "2"), |r| list(r, Flavour::V2)),
    Row(Method::GET, Level::Bucket, When::Query("versions"), |r| {
        Ok(Operation::ListObjectVersions(ListObjectVersions::parse(r)?))
    }),
    Row(Method::GET, Level::Bucket, When::Query("uploads"), |r| {
        Ok(Operation::ListMultipartUploads(ListMultipartUploads::parse(r)?))
    }),
    Row(Method::POST, Level::Bucket, When::Query("delete"), |r| Ok(Operation::DeleteObjects(DeleteObjects::parse(r)?))),
    Row(Method::GET, Level::Bucket, When::Query("location"), |r| describe(r, Topic::Location)),
    Row(Method::GET, Level::Bucket, When::Query("versioning"), |r| {
        Ok(Operation::GetBucketVersioning(GetBucketVersioning::parse(r)?))
    }),
    Row(Method::PUT, Level::Bucket, When::Query("versioning"), |r| {
        Ok(Operation::PutBucketVersioning(PutBucketVersioning::parse(r)?))
    }),
    Row(Method::GET, Level::Bucket, When::Query("acl"), |r| describe(r, Topic::Acl)),
    Row(Method::PUT, Level::Bucket, When::Query("acl"), |r| confirm(r, Wish::Private)),
    Row(Method::GET, Level::Bucket, When::Query("encryption"), |r| describe(r, Topic::Encryption)),
    Row(Method::PUT, Level::Bucket, When::Query("encryption"), |r| confirm(r, Wish::Encrypted)),
    Row(Method::DELETE, Level::Bucket, When::Query("encryption"), |r| confirm(r, Wish::EncryptedByDefault)),
    Row(Method::GET, Level::Bucket, When::Query("logging"), |r| describe(r, Topic::Logging)),
    Row(Method::GET, Level::Bucket, When::Query("notification"), |r| describe(r, Topic::Notification)),
    Row(Method::PUT, Level::Bucket, When::Query("notification"), |r| confirm(r, Wish::Silent)),
    Row(Method::GET, Level::Bucket, When::Query("accelerate"), |r| describe(r, Topic::Acceleration)),
    Row(Method::GET, Level::Bucket, When::Query("requestPayment"), |r| describe(r, Topic::Payment)),
    Row(Method::GET, Level::Bucket, When::Query("policy"), |r| setting(r, Setting::GetPolicy)),
    Row(Method::PUT, Level::Bucket, When::Query("policy"), |r| setting(r, Setting::PutPolicy)),
    Row(Method::DELETE, Level::Bucket, When::Query("policy"), |r| setting(r, Setting::DeletePolicy)),
    Row(Method::GET, Level::Bucket, When::Query("policyStatus"), |r| setting(r, Setting::GetPolicyStatus)),
    Row(Method::GET, Level::Bucket, When::Query("cors"), |r| absent(r, Code::NoSuchCORSConfiguration)),
    Row(Method::GET, Level::Bucket, When::Query("lifecycle"), |r| setting(r, Setting::GetLifecycle)),
    Row(Method::PUT, Level::Bucket, When::Query("lifecycle"), |r| setting(r, Setting::PutLifecycle)),
    Row(Method::DELETE, Level::Bucket, When::Query("lifecycle"), |r| setting(r, Setting::DeleteLifecycle)),
    Row(Method::GET, Level::Bucket, When::Query("tagging"), |r| setting(r, Setting::GetTags)),
    Row(Method::PUT, Level::Bucket, When::Query("tagging"), |r| setting(r, Setting::PutTags)),
    Row(Method::DELETE, Level::Bucket, When::Query("tagging"), |r| setting(r, Setting::DeleteTags)),
    Row(Method::GET, Level::Bucket, When::Query("website"), |r| absent(r, Code::NoSuchWebsiteConfiguration)),
    Row(Method::GET, Level::Bucket, When::Query("object-lock"), |r| {
        absent(r, Code::ObjectLockConfigurationNotFoundError)
    }),
    Row(Method::GET, Level::Bucket, When::Query("ownershipControls"), |r| {
        absent(r, Code::OwnershipControlsNotFoundError)
    }),
    Row(Method::GET, Level::Bucket, When::Query("publicAccessBlock"), |r| {
        absent(r, Code::NoSuchPublicAccessBlockConfiguration)
    }),
    Row(Method::GET, Level::Bucket, When::Query("replication"), |r| {
        absent(r, Code::ReplicationConfigurationNotFoundError)
    }),
    Row(Method::GET, Level::Object, When::Plain, |r| Ok(Operation::GetObject(GetObject::parse(r, Want::Bytes)?))),
    Row(Method::HEAD, Level::Object, When::Plain, |r| Ok(Operation::GetObject(GetObject::parse(r, Want::Head)?))),
    Row(Method::GET, Level::Object, When::Query("uploadId"), |r| Ok(Operation::ListParts(ListParts::parse(r)?))),
    Row(Method::GET, Level::Object, When::Query("attributes"), |r| {
        Ok(Operation::GetObjectAttributes(GetObjectAttributes::parse(r)?))
    }),
    Row(Method::GET, Level::Object, When::Query("acl"), |r| describe_object(r, Topic::Acl)),
    Row(Method::PUT, Level::Object, When::Query("acl"), |r| {
        Ok(Operation::Confirm(Confirm::of_object(r, Wish::Private)?))
    }),
    Row(Method::GET, Level::Object, When::Query("tagging"), |r| {
        Ok(Operation::GetObjectTagging(GetObjectTagging::parse(r)?))
    }),
    Row(Method::PUT, Level::Object, When::Query("tagging"), |r| {
        Ok(Operation::PutObjectTagging(PutObjectTagging::parse(r)?))
    }),
    Row(Method::DELETE, Level::Object, When::Query("tagging"), |r| {
        Ok(Operation::DeleteObjectTagging(DeleteObjectTagging::parse(r)?))
    }),
    Row(Method::GET, Level::Object, When::Query("retention"), |r| {
        describe_object(r, Topic::Absent(Code::NoSuchObjectLockConfiguration))
    }),
    Row(Method::GET, Level::Object, When::Query("legal-hold"), |r| {
        describe_object(r, Topic::Absent(Code::NoSuchObjectLockConfiguration))
    }),
    Row(Method::PUT, Level::Object, When::Both("uploadId", COPY), |r| {
        Ok(Operation::UploadPartCopy(UploadPartCopy::parse(r)?))
    }),
    Row(Method::PUT, Level::Object, When::Query("uploadId"), |r| Ok(Operation::UploadPart(UploadPart::parse(r)?))),
    Row(Method::PUT, Level::Object, When::Header(COPY), |r| Ok(Operation::CopyObject(CopyObject::parse(r)?))),
    Row(Method::PUT, Level::Object, When::Plain, |r| Ok(Operation::PutObject(PutObject::parse(r)?))),
    Row(Method::POST, Level::Object, When::Query("uploads"), |r| {
        Ok(Operation::CreateMultipartUpload(CreateMultipartUpload::parse(r)?))
    }),
    Row(Method::POST, Level::Object, When::Query("uploadId"), |r| {
        Ok(Operation::CompleteMultipartUpload(CompleteMultipartUpload::parse(r)?))
    }),
    Row(Method::DELETE, Level::Object, When::Query("uploadId"), |r| {
        Ok(Operation::AbortMultipartUpload(AbortMultipartUpload::parse(r)?))
    }),
    Row(Method::DELETE, Level::Object, When::Plain, |r| Ok(Operation::DeleteObject(DeleteObject::parse(r)?))),
];

fn list(request: &Request, flavour: Flavour) -> Result<Operation, S3Error> {
    Ok(Operation::ListObjects(ListObjects::parse(request, flavour)?))
}

fn describe(request: &Request, topic: Topic) -> Result<Operation, S3Error> {
    Ok(Operation::DescribeBucket(DescribeBucket { bucket: request.bucket()?, topic }))
}

fn confirm(request: &Request, wish: Wish) -> Result<Operation, S3Error> {
    Ok(Operation::Confirm(Confirm::of_bucket(request, wish)?))
}

fn setting(request: &Request, setting: Setting) -> Result<Operation, S3Error> {
    Ok(Operation::Setting(BucketSetting { bucket: request.bucket()?, setting }))
}

fn absent(request: &Request, code: Code) -> Result<Operation, S3Error> {
    describe(request, Topic::Absent(code))
}

fn describe_object(request: &Request, topic: Topic) -> Result<Operation, S3Error> {
    let (bucket, target) = request.target()?;
    Ok(Operation::DescribeObject(DescribeObject { bucket, target, topic }))
}

/// Something the request's bucket must allow.
fn of_bucket(request: &Request, action: Action) -> Vec<Need> {
    request.bucket().map(|bucket| Need::bucket(action, &bucket)).into_iter().collect()
}

/// A listing is allowed by its prefix, however it goes on.
fn of_listing(request: &Request, action: Action) -> Vec<Need> {
    let prefix = request.query.get("prefix").unwrap_or_default();
    request.bucket().map(|bucket| Need::key(action, &bucket, prefix)).into_iter().collect()
}

/// `plain` for the newest version of the request's object, `named` for one that it names.
fn of_target(request: &Request, plain: Action, named: Action) -> Vec<Need> {
    request.target().map(|(bucket, target)| Need::target(plain, named, &bucket, &target)).into_iter().collect()
}

impl When {
    fn holds(&self, request: &Request) -> bool {
        let plain = || !SUBRESOURCES.iter().any(|name| request.query.has(name));
        match self {
            Self::Plain => plain(),
            Self::Query(name) => request.query.has(name),
            Self::Value(name, value) => request.query.get(name) == Some(value),
            Self::Header(name) => request.field(name).is_some() && plain(),
            Self::Both(parameter, header) => request.query.has(parameter) && request.field(header).is_some(),
        }
    }
}

impl Operation {
    /// What `request` asks for.
    ///
    /// # Errors
    /// [`Code::NotImplemented`] for what no row knows, [`Code::MethodNotAllowed`] for a method S3 does not use, and what
    /// parsing the parameters finds.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        let level = match request.address {
            Address::Service => Level::Service,
            Address::Bucket(_) => Level::Bucket,
            Address::Object(..) => Level::Object,
        };
        let mut rows = TABLE.iter().filter(|Row(method, at, ..)| *method == request.method && *at == level);
        if let Some(Row(.., parse)) = rows.find(|Row(_, _, when, _)| when.holds(request)) {
            return parse(request);
        }
        match request.method {
            Method::GET | Method::HEAD | Method::PUT | Method::POST | Method::DELETE => {
                Err(Code::NotImplemented.into())
            }
            _ => Err(Code::MethodNotAllowed.into()),
        }
    }

    /// What must be allowed before it is done.
    pub fn needs(&self, request: &Request) -> Vec<Need> {
        let on = |action, bucket: &BucketName| vec![Need::bucket(action, bucket)];
        match self {
            // Each key sees the buckets it knows.
            Self::ListBuckets(_) => Vec::new(),
            Self::HeadBucket(bucket) => on(Action::Head, bucket),
            Self::DescribeBucket(operation) => on(operation.action(), &operation.bucket),
            // Nothing changes, and whether the object is there is told.
            Self::Confirm(operation) if operation.is_of_object() => {
                of_target(request, Action::Read, Action::ReadVersion)
            }
            Self::GetBucketVersioning(_) => of_bucket(request, Action::Describe),
            Self::Confirm(_) | Self::CreateBucket(_) | Self::PutBucketVersioning(_) => {
                of_bucket(request, Action::Manage)
            }
            Self::DeleteBucket(bucket) => on(Action::Manage, bucket),
            Self::ListObjects(_) => of_listing(request, Action::List),
            Self::ListObjectVersions(_) => of_listing(request, Action::ListVersions),
            Self::ListMultipartUploads(_) => of_listing(request, Action::ListUploads),
            Self::DeleteObjects(_) => of_bucket(request, Action::DeleteSeveral),
            Self::GetObject(_) | Self::GetObjectAttributes(_) | Self::DescribeObject(_) => {
                of_target(request, Action::Read, Action::ReadVersion)
            }
            Self::GetObjectTagging(_) => of_target(request, Action::ReadTags, Action::ReadTags),
            Self::PutObjectTagging(_) => of_target(request, Action::WriteTags, Action::WriteTags),
            Self::DeleteObjectTagging(_) => of_target(request, Action::DeleteTags, Action::DeleteTags),
            Self::Setting(operation) => on(operation.action(), &operation.bucket),
            Self::DeleteObject(_) => of_target(request, Action::Delete, Action::DeleteVersion),
            Self::PutObject(_) | Self::CompleteMultipartUpload(_) => of_target(request, Action::Write, Action::Write),
            Self::CreateMultipartUpload(_) | Self::UploadPart(_) => of_target(request, Action::Upload, Action::Upload),
            Self::CopyObject(operation) => {
                let mut needs = of_target(request, Action::Write, Action::Write);
                needs.push(operation.reads());
                needs
            }
            Self::UploadPartCopy(operation) => {
                let mut needs = of_target(request, Action::Upload, Action::Upload);
                needs.push(operation.reads());
                needs
            }
            Self::AbortMultipartUpload(_) => of_target(request, Action::Abort, Action::Abort),
            Self::ListParts(_) => of_target(request, Action::ListParts, Action::ListParts),
        }
    }

    /// Has it store an object only where there is none, and gives the condition that was asked for.
    ///
    /// # Errors
    /// [`Code::AccessDenied`]: it can only be about an object that is there.
    pub fn only_new(&mut self) -> Result<Condition, S3Error> {
        let condition = match self {
            Self::PutObject(operation) => &mut operation.condition,
            Self::CopyObject(operation) => &mut operation.condition,
            Self::CompleteMultipartUpload(operation) => &mut operation.condition,
            _ => return Err(access::holds_one()),
        };
        match *condition {
            Condition::Any | Condition::Absent => Ok(std::mem::replace(condition, Condition::Absent)),
            Condition::Present | Condition::Matches(_) => Err(access::holds_one()),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// What the service below answers, in S3's words.
    pub async fn run(
        self,
        services: &Services,
        request: &Request,
        body: SealedBody,
    ) -> Result<Response<Body>, S3Error> {
        match self {
            Self::ListBuckets(operation) => operation.run(services, request).await,
            Self::CreateBucket(operation) => operation.run(services, request, body).await,
            Self::HeadBucket(bucket) => super::buckets::head(services, &bucket).await,
            Self::DeleteBucket(bucket) => super::buckets::delete(services, &bucket).await,
            Self::DescribeBucket(operation) => operation.run(services).await,
            Self::Confirm(operation) => operation.run(services, request, body).await,
            Self::GetBucketVersioning(operation) => operation.run(services).await,
            Self::PutBucketVersioning(operation) => operation.run(services, request, body).await,
            Self::Setting(operation) => operation.run(services, request, body).await,
            Self::ListObjects(operation) => operation.run(services).await,
            Self::ListObjectVersions(operation) => operation.run(services).await,
            Self::ListMultipartUploads(operation) => operation.run(services).await,
            Self::DeleteObjects(operation) => operation.run(services, request, body).await,
            Self::GetObject(operation) => operation.run(services, request).await,
            Self::GetObjectAttributes(operation) => operation.run(services).await,
            Self::DescribeObject(operation) => operation.run(services).await,
            Self::GetObjectTagging(operation) => operation.run(services).await,
            Self::PutObjectTagging(operation) => operation.run(services, request, body).await,
            Self::DeleteObjectTagging(operation) => operation.run(services).await,
            Self::PutObject(operation) => operation.run(services, request, body).await,
            Self::CopyObject(operation) => operation.run(services, request).await,
            Self::DeleteObject(operation) => operation.run(services).await,
            Self::CreateMultipartUpload(operation) => operation.run(services).await,
            Self::UploadPart(operation) => operation.run(services, request, body).await,
            Self::UploadPartCopy(operation) => operation.run(services, request).await,
            Self::CompleteMultipartUpload(operation) => operation.run(services, request, body).await,
            Self::AbortMultipartUpload(operation) => operation.run(services).await,
            Self::ListParts(operation) => operation.run(services).await,
        }
    }
}
