//! Errors as S3 clients know them, and the one table from everything that can go wrong to them.
//!
//! The code decides what an SDK does (retry, raise, treat as absence), the message is for people. Texts of our own
//! storage never reach a client: they are logged here, once, and answered `InternalError`.
//! Source: S3 API reference, "Error responses".

use http::StatusCode;

use super::payload::BodyFault;
use crate::http::body::ReadError;
use crate::http::chunked::ChunkError;
use crate::http::conditional;
use crate::http::multipart::MultipartError;
use crate::http::query::QueryError;
use crate::http::sigv4::SignatureError;
use crate::http::uri::UriError;
use crate::objects::{NameError, ObjectError};

macro_rules! codes {
    ($( $name:ident = $status:literal, $text:literal; )+) => {
        /// An S3 error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $( #[doc = $text] $name, )+
        }

        impl Code {
            /// The code as it is written.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )+ }
            }

            /// Its HTTP status.
            pub fn status(self) -> StatusCode {
                let number: u16 = match self { $( Self::$name => $status, )+ };
                StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// What it says when there is nothing more exact to say.
            pub const fn text(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }
        }
    };
}

codes! {
    AccessDenied = 403, "access denied";
    AccessForbidden = 403, "this origin is not allowed by the setting `s3.cors_origins`";
    AuthorizationHeaderMalformed = 400, "the authorization header is malformed";
    AuthorizationQueryParametersError = 400, "the query's authorization parameters are malformed";
    BadDigest = 400, "the body does not have the checksum that was announced";
    BucketAlreadyOwnedByYou = 409, "the bucket exists already";
    BucketNotEmpty = 409, "the bucket is not empty";
    EntityTooLarge = 400, "the body is too large";
    EntityTooSmall = 400, "a part that is not the last is too small";
    IllegalLocationConstraintException = 400, "the location constraint is not this server's region";
    IncompleteBody = 400, "the body is not as long as announced";
    InternalError = 500, "internal error, the server's log says more";
    InvalidAccessKeyId = 403, "the access key does not exist";
    InvalidArgument = 400, "an argument is invalid";
    IllegalVersioningConfigurationException = 400, "the versioning configuration must have the status Enabled or Suspended";
    InvalidBucketName = 400, "the bucket name is invalid";
    InvalidDigest = 400, "Content-MD5 is no base64 of 16 bytes";
    InvalidPart = 400, "a part was not found, or has another etag";
    InvalidPartNumber = 416, "the object has no such part";
    InvalidPartOrder = 400, "the parts are not listed in ascending order";
    InvalidPolicyDocument = 400, "the policy of the form is malformed";
    InvalidRange = 416, "the range does not lie in the object";
    InvalidRequest = 400, "the request is invalid";
    InvalidTag = 400, "a tag is invalid";
    InvalidURI = 400, "the address does not parse";
    KeyTooLongError = 400, "the key is longer than 1024 bytes";
    MalformedPolicy = 400, "the policy is malformed";
    MalformedPOSTRequest = 400, "the body is no well-formed multipart/form-data";
    MalformedXML = 400, "the document is not well-formed, or not what this operation takes";
    MaxPostPreDataLengthExceededError = 400, "the fields before the file of the form are too many or too long";
    MaxMessageLengthExceeded = 400, "the document is too long";
    MetadataTooLarge = 400, "the metadata is longer than allowed";
    MethodNotAllowed = 405, "the method is not allowed here";
    MissingContentLength = 411, "the length of the body must be announced";
    MissingSecurityHeader = 400, "a header that authentication needs is missing";
    NoSuchBucket = 404, "the bucket does not exist";
    NoSuchBucketPolicy = 404, "the bucket has no policy";
    NoSuchCORSConfiguration = 404, "the bucket has no CORS configuration of its own";
    NoSuchKey = 404, "the key does not exist";
    NoSuchLifecycleConfiguration = 404, "the bucket has no lifecycle configuration";
    NoSuchObjectLockConfiguration = 404, "the object has no object lock configuration";
    NoSuchPublicAccessBlockConfiguration = 404, "the bucket has no public access block configuration";
    NoSuchTagSet = 404, "the bucket has no tags";
    NoSuchUpload = 404, "the upload does not exist: it was never started, or is completed, aborted or expired";
    NoSuchVersion = 404, "the version does not exist";
    NoSuchWebsiteConfiguration = 404, "the bucket has no website configuration";
    NotImplemented = 501, "this server does not know this operation, or one of its parameters";
    ObjectLockConfigurationNotFoundError = 404, "the bucket has no object lock configuration";
    OwnershipControlsNotFoundError = 404, "the bucket has no ownership controls";
    PreconditionFailed = 412, "a condition of the request does not hold";
    ReplicationConfigurationNotFoundError = 404, "the bucket has no replication configuration";
    RequestTimeout = 400, "the body came too slowly";
    RequestTimeTooSkewed = 403, "the client's clock differs too much from the server's";
    ServiceUnavailable = 503, "try again later";
    SlowDown = 503, "the place where the object is kept does not answer, try again later";
    SignatureDoesNotMatch = 403, "the signature does not match";
    StorageFull = 507, "the server's disk is full";
    TooManyBuckets = 400, "there are too many buckets";
    XAmzContentSHA256Mismatch = 400, "the body does not have the sha256 that was signed";
    XMinioAdminBucketQuotaExceeded = 400, "Bucket quota exceeded";
}

/// An error on its way to a client.
#[derive(Debug)]
pub struct S3Error {
    /// Its code.
    pub code: Code,
    /// What exactly is wrong; [`Code::text`] when absent.
    pub message: Option<String>,
    /// More elements of the answer, such as the region expected.
    pub details: Vec<(&'static str, String)>,
    /// More headers of the answer, such as which version is a delete marker.
    pub headers: Vec<(&'static str, String)>,
}

impl S3Error {
    /// An error with a message of its own.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), details: Vec::new(), headers: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// A failure of ours: logged here, not told.
    fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "an S3 request failed");
        Code::InternalError.into()
    }
}

impl From<Code> for S3Error {
    fn from(code: Code) -> Self {
        Self { code, message: None, details: Vec::new(), headers: Vec::new() }
    }
}

impl From<ObjectError> for S3Error {
    fn from(error: ObjectError) -> Self {
        use ObjectError as E;
        let code = match &error {
            E::NoSuchBucket => Code::NoSuchBucket,
            E::BucketNotEmpty => Code::BucketNotEmpty,
            E::TooManyBuckets { .. } => Code::TooManyBuckets,
            E::QuotaExceeded { .. } => Code::XMinioAdminBucketQuotaExceeded,
            E::NoSuchKey => Code::NoSuchKey,
            E::NoSuchVersion => Code::NoSuchVersion,
            E::DeleteMarker { version, modified, named } => {
                // Asked for by its id it is there, but cannot be read; else the key is as good as free.
                let mut error = Self::from(if *named { Code::MethodNotAllowed } else { Code::NoSuchKey });
                error.headers.push(("x-amz-delete-marker", "true".to_owned()));
                error.headers.push(("x-amz-version-id", version.to_string()));
                if *named {
                    error.headers.push(("last-modified", conditional::format_date(*modified)));
                }
                return error;
            }
            E::NoSuchPart { .. } => Code::InvalidPartNumber,
            E::NoSuchUpload => Code::NoSuchUpload,
            E::InvalidPart { .. } => Code::InvalidPart,
            E::InvalidPartOrder => Code::InvalidPartOrder,
            E::EntityTooSmall { .. } => Code::EntityTooSmall,
            E::BadDigest => Code::BadDigest,
            E::WrongLength { .. } => Code::IncompleteBody,
            E::TooLarge { .. } => Code::EntityTooLarge,
            E::NotTaken(_) => Code::InvalidArgument,
            E::MetadataTooLarge { .. } => Code::MetadataTooLarge,
            E::InvalidRange { size } => {
                return Self::from(Code::InvalidRange).with("ActualObjectSize", size.to_string());
            }
            E::PreconditionFailed => Code::PreconditionFailed,
            E::Body(body) => return body.cause::<BodyFault>().map_or_else(|| Code::IncompleteBody.into(), Self::from),
            E::Backend(backend) if backend.is_passing() => Code::SlowDown,
            // The operator can do something about it, the client can try again.
            E::Backend(_) => Code::ServiceUnavailable,
            full if full.is_full() => Code::StorageFull,
            passing if passing.is_passing() => Code::ServiceUnavailable,
            other => return Self::internal(other),
        };
        match code {
            // Nothing to add to what every client knows.
            Code::NoSuchBucket
            | Code::NoSuchKey
            | Code::NoSuchUpload
            | Code::NoSuchVersion
            | Code::StorageFull
            | Code::ServiceUnavailable
            | Code::SlowDown => code.into(),
            _ => Self::new(code, error.to_string()),
        }
    }
}

impl From<&BodyFault> for S3Error {
    fn from(fault: &BodyFault) -> Self {
        let code = match fault {
            BodyFault::Sha256 => Code::XAmzContentSHA256Mismatch,
            BodyFault::Checksum(_) => Code::BadDigest,
            BodyFault::ChecksumText | BodyFault::Chunks(ChunkError::ChunkTooLarge { .. }) => Code::InvalidRequest,
            BodyFault::Chunks(ChunkError::Signature) => Code::SignatureDoesNotMatch,
            BodyFault::Chunks(ChunkError::Malformed(_) | ChunkError::Length { .. }) | BodyFault::Broken(_) => {
                Code::IncompleteBody
            }
            BodyFault::Slow => Code::RequestTimeout,
            BodyFault::FileTooSmall { .. } => Code::EntityTooSmall,
            BodyFault::FileTooLarge { .. } => Code::EntityTooLarge,
            BodyFault::Form(MultipartError::Truncated) => Code::IncompleteBody,
            BodyFault::Form(_) => Code::MalformedPOSTRequest,
        };
        Self::new(code, fault.to_string())
    }
}

impl From<MultipartError> for S3Error {
    fn from(error: MultipartError) -> Self {
        Self::from(&BodyFault::from(error))
    }
}

impl From<SignatureError> for S3Error {
    fn from(error: SignatureError) -> Self {
        use SignatureError as E;
        let code = match &error {
            E::Header(_) | E::Service(_) => Code::AuthorizationHeaderMalformed,
            E::Region { expected, .. } => {
                // SDKs read the region from here and try again.
                let region = expected.clone();
                return Self::new(Code::AuthorizationHeaderMalformed, error.to_string()).with("Region", region);
            }
            E::Parameters(_) => Code::AuthorizationQueryParametersError,
            E::Version2 | E::TwoWays | E::DuplicateHeader(_) => Code::InvalidRequest,
            E::Unsigned(names) => {
                let names = names.clone();
                return Self::new(Code::AccessDenied, error.to_string()).with("HeadersNotSigned", names);
            }
            E::UnknownKey(_) => Code::InvalidAccessKeyId,
            E::Skew { .. } => Code::RequestTimeTooSkewed,
            E::Expired { .. } | E::NotYet { .. } => Code::AccessDenied,
            E::Missing(_) | E::Mismatch => Code::SignatureDoesNotMatch,
        };
        Self::new(code, error.to_string())
    }
}

impl From<NameError> for S3Error {
    fn from(error: NameError) -> Self {
        let code = match error {
            NameError::BucketLength { .. } | NameError::Bucket { .. } => Code::InvalidBucketName,
            NameError::KeyLength { .. } => Code::KeyTooLongError,
            NameError::PartNumber { .. } => Code::InvalidArgument,
            NameError::Upload => return Code::NoSuchUpload.into(),
            // What this server never gave out is a version no key has.
            NameError::Version => return Code::NoSuchVersion.into(),
        };
        Self::new(code, error.to_string())
    }
}

impl From<QueryError> for S3Error {
    fn from(error: QueryError) -> Self {
        let code = match error {
            QueryError::Uri(_) => Code::InvalidURI,
            QueryError::Duplicate { .. } | QueryError::TooMany => Code::InvalidRequest,
        };
        Self::new(code, error.to_string())
    }
}

impl From<UriError> for S3Error {
    fn from(error: UriError) -> Self {
        Self::new(Code::InvalidURI, error.to_string())
    }
}

impl From<ReadError> for S3Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLarge { .. } => Self::new(Code::MaxMessageLengthExceeded, error.to_string()),
            ReadError::Broken(cause) => Self::from(&BodyFault::broken(cause)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::BodyError;

    #[test]
    fn a_fault_found_in_the_body_keeps_its_own_code_through_storage() {
        let error = ObjectError::Body(BodyError::new(BodyFault::Sha256));
        assert_eq!(S3Error::from(error).code, Code::XAmzContentSHA256Mismatch);
    }

    #[test]
    fn faults_of_our_own_are_not_told() {
        let error = S3Error::from(ObjectError::Disk(std::io::Error::other("/secret/path")));
        assert_eq!((error.code, error.message), (Code::InternalError, None));
        let full = S3Error::from(ObjectError::Disk(std::io::ErrorKind::StorageFull.into()));
        assert_eq!((full.code, full.message), (Code::StorageFull, None));
    }

    #[test]
    fn codes_are_written_as_s3_writes_them() {
        assert_eq!(Code::NoSuchKey.name(), "NoSuchKey");
        assert_eq!(Code::NoSuchKey.status(), StatusCode::NOT_FOUND);
    }
}
