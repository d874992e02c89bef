//! Why a signed request is refused.

use std::time::Duration;

use crate::base::Timestamp;

/// Which rule of signing does not hold. The texts go to the client; they name nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// An `Authorization` header that is no Signature Version 4.
    #[error("the authorization header is malformed: {0}")]
    Header(&'static str),
    /// Query parameters of a presigned address that are missing or wrong.
    #[error("{0}")]
    Parameters(&'static str),
    /// Signature Version 2, which AWS itself has retired.
    #[error(
        "signature version 2 is not supported, use version 4 (AWS4-HMAC-SHA256); in boto3: Config(signature_version='s3v4')"
    )]
    Version2,
    /// Authentication by header and by query at once.
    #[error("only one way of authentication is allowed: the Authorization header or the X-Amz-Signature parameter")]
    TwoWays,
    /// A header that counts is there more than once.
    #[error("header {0} is given more than once")]
    DuplicateHeader(String),
    /// Headers that must be signed are not.
    #[error("there were headers present in the request which were not signed: {0}")]
    Unsigned(String),
    /// A header said to be signed is not there.
    #[error("header {0} is named as signed but missing")]
    Missing(String),
    /// The credential is for another region.
    #[error("the region '{got}' is wrong, expecting '{expected}'")]
    Region {
        /// The client's.
        got: String,
        /// The server's.
        expected: String,
    },
    /// The credential is for another service.
    #[error("the service '{0}' in the credential is wrong")]
    Service(String),
    /// No such access key.
    #[error("the access key {0} does not exist")]
    UnknownKey(String),
    /// The client's clock differs too much.
    #[error("the difference between the request time {sent} and the server's time {now} is too large")]
    Skew {
        /// The time in the request.
        sent: Timestamp,
        /// The server's time.
        now: Timestamp,
    },
    /// A presigned address whose time is over.
    #[error("the request has expired: it was valid for {} seconds from {from}", .span.as_secs())]
    Expired {
        /// When it was signed.
        from: Timestamp,
        /// How long it was valid.
        span: Duration,
    },
    /// A presigned address of the future.
    #[error("the request is not valid before {from}")]
    NotYet {
        /// When it was signed.
        from: Timestamp,
    },
    /// The signature is another one.
    #[error("the request signature does not match the signature you provided; check your key and signing method")]
    Mismatch,
}
