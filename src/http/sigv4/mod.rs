//! AWS Signature Version 4: who signed a request, and what exactly was signed.
//!
//! Source: "AWS Signature Version 4 for API requests" (IAM user guide) and "Authenticating Requests" (S3 API
//! reference). Independent of any service's protocol: S3 and SES doors give their service name and path rule.
//!
//! Promises, each bought with somebody's CVE and each with a test:
//! - `host` and **every** `x-amz-*` header must be signed (but for `x-amz-content-sha256`, whose value is signed as the
//!   payload line). An unsigned `x-amz-copy-source` on a presigned PUT read any object of the signer elsewhere.
//! - A request carries one authentication: header or query, never both.
//! - Nothing signed is there twice; region, service, clock and expiry are checked; comparison takes constant time.
//!
//! Start reading at [`verify`]; the way there is [`Presented::parse`].

mod canonical;
mod chunks;
mod error;
mod presented;
mod sign;
#[cfg(test)]
mod tests;

pub use canonical::{PathRule, Signable};
pub use chunks::ChunkSigner;
pub use error::SignatureError;
pub use presented::{Presented, Signature};
pub use sign::{Grant, Signer, presign, sign, sign_payload};

use std::time::Duration;

use crate::base::{Secret, Timestamp, ids};
use crate::crypto::mac;

/// How far a client's clock may be off, either way.
const SKEW: Duration = Duration::from_mins(15);

/// How long a signed text is good.
const TEXT_AGE: Duration = Duration::from_hours(24 * 7);

/// What a door expects of every signature.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The service in the credential scope: `s3`, `ses`.
    pub service: &'a str,
    /// The region in the credential scope.
    pub region: &'a str,
    /// How the service writes paths into the canonical request.
    pub path: PathRule,
}

/// Proof that the holder of a key signed a request. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Proof {
    access_key_id: String,
    chunks: ChunkSigner,
}

impl Proof {
    /// Whose key signed.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// What the signatures of a streamed body's chunks follow from.
    pub fn into_chunk_signer(self) -> ChunkSigner {
        self.chunks
    }
}

/// Checks that `signature` is that of a key known to `secrets_of` over `request`, made for this service, region and
/// time. A key may have several secrets, while one takes the other's place; none means that there is no such key.
///
/// # Errors
/// [`SignatureError`] says which rule does not hold.
pub fn verify(
    signature: &Signature,
    request: &Signable<'_>,
    policy: Policy<'_>,
    secrets_of: &dyn Fn(&str) -> Vec<Secret<String>>,
    now: Timestamp,
) -> Result<Proof, SignatureError> {
    signature.check_scope(policy)?;
    signature.check_time(now, SKEW)?;
    canonical::check_signed(signature, request)?;
    let secrets = secrets_of(&signature.access_key_id);
    if secrets.is_empty() {
        return Err(SignatureError::UnknownKey(signature.access_key_id.clone()));
    }
    for path in request.paths(policy.path) {
        let canonical = canonical::request(&signature.signed_headers, request, &path)?;
        for secret in &secrets {
            let key = chunks::signing_key(secret.expose(), &signature.date, policy.region, policy.service);
            let expected = signature_of(&canonical, key.expose(), &signature.timestamp, &signature.scope);
            if mac::equal(expected.as_bytes(), signature.signature.as_bytes()) {
                let chunks = ChunkSigner::new(key, &signature.timestamp, &signature.scope, expected);
                return Ok(Proof { access_key_id: signature.access_key_id.clone(), chunks });
            }
        }
    }
    Err(SignatureError::Mismatch)
}

/// Checks the signature of a text that is signed as it is: the policy of a form (S3 API reference, "Browser-Based
/// Uploads Using POST"). `credential` is `key/date/region/service/aws4_request`, with the moment of signing
/// behind it; it is good for a week at most, however long the text says. Gives the id of the key.
///
/// # Errors
/// [`SignatureError`]; a signature of the wrong scope or time does not hold.
pub fn verify_text(
    text: &str,
    (credential, timestamp): (&str, &str),
    signature: &str,
    policy: Policy<'_>,
    secrets_of: &dyn Fn(&str) -> Vec<Secret<String>>,
    now: Timestamp,
) -> Result<String, SignatureError> {
    let mut parts = credential.rsplitn(5, '/');
    let mut part = || parts.next().unwrap_or_default();
    let (end, service, region, date, id) = (part(), part(), part(), part(), part());
    if end != "aws4_request" || id.is_empty() || !timestamp.starts_with(date) || date.len() != 8 {
        return Err(SignatureError::Header("the credential is not KEY/DATE/REGION/SERVICE/aws4_request"));
    }
    let at = presented::parse_timestamp(timestamp).ok_or(SignatureError::Header("x-amz-date is no date"))?;
    if at.since(now) > SKEW {
        return Err(SignatureError::NotYet { from: at });
    }
    if now.since(at) > TEXT_AGE {
        return Err(SignatureError::Expired { from: at, span: TEXT_AGE });
    }
    if service != policy.service {
        return Err(SignatureError::Service(service.to_owned()));
    }
    if region != policy.region {
        return Err(SignatureError::Region { got: region.to_owned(), expected: policy.region.to_owned() });
    }
    let secrets = secrets_of(id);
    if secrets.is_empty() {
        return Err(SignatureError::UnknownKey(id.to_owned()));
    }
    let signs = |secret: &Secret<String>| {
        let key = chunks::signing_key(secret.expose(), date, region, service);
        mac::equal(ids::hex(&mac::hmac_sha256(key.expose(), &[text.as_bytes()])).as_bytes(), signature.as_bytes())
    };
    if secrets.iter().any(signs) { Ok(id.to_owned()) } else { Err(SignatureError::Mismatch) }
}

/// The signature: 64 hexadecimal digits.
fn signature_of(canonical: &[u8], key: &[u8], timestamp: &str, scope: &str) -> String {
    let hash = ids::hex(&mac::sha256(canonical));
    let to_sign = format!("AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{hash}");
    ids::hex(&mac::hmac_sha256(key, &[to_sign.as_bytes()]))
}
