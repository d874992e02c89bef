//! The gate: nothing of the protocol runs before a request passed it.
//!
//! A request authenticates in one way, decided once, or not at all; what comes out is a [`Verified`] and a body that can
//! only be read through the checks its signature calls for. Neither can be made anywhere else. What the holder of the key,
//! or nobody in particular, may do is decided from that value alone, in [`super::access`]. (A handler reached around its check gave everyone write access to MinIO:
//! CVE-2026-40344, CVE-2026-41145.)

use std::sync::Arc;

use http::request::Parts;

use super::address::Address;
use super::error::{Code, S3Error};
use super::link_v2;
use super::payload::{self, Claim, SealedBody};
use crate::accounts::AccessKey;
use crate::base::{Secret, Timestamp};
use crate::http::Body;
use crate::http::query::Query;
use crate::http::sigv4::{self, PathRule, Policy, Presented, Proof, Signable};

/// Proof of who sends a request: the holder of an access key that is good now, or somebody who claims to be nobody.
#[derive(Debug)]
pub struct Verified {
    key: Option<Arc<AccessKey>>,
    presigned: bool,
}

impl Verified {
    /// The key that signed; `None` for a request without any signature.
    pub const fn key(&self) -> Option<&Arc<AccessKey>> {
        self.key.as_ref()
    }

    /// Whether the request is a presigned address, whose query stands for headers.
    pub const fn presigned(&self) -> bool {
        self.presigned
    }
}

/// What a form says of who made it.
#[derive(Clone, Copy, Debug)]
pub struct FormProof<'a> {
    /// The policy as it is in the form: what was signed.
    pub policy: &'a str,
    /// `x-amz-credential`.
    pub credential: &'a str,
    /// `x-amz-date`.
    pub date: &'a str,
    /// `x-amz-signature`.
    pub signature: &'a str,
}

/// What the gate knows about the server.
#[derive(Clone, Copy)]
pub struct Gate<'a> {
    /// The region of every credential.
    pub region: &'a str,
    /// An access key by its id.
    pub key_of: &'a (dyn Fn(&str) -> Option<Arc<AccessKey>> + Sync),
    /// The time.
    pub now: Timestamp,
}

impl Gate<'_> {
    /// Lets a request in whose signature holds, or that has none.
    ///
    /// # Errors
    /// Its signature or what it says about the body does not hold; the key has ended.
    pub fn admit(
        self,
        parts: &Parts,
        query: &Query,
        authority: &str,
        body: Body,
    ) -> Result<(Verified, SealedBody), S3Error> {
        let (signature, presigned) = match Presented::parse(&parts.headers, query)? {
            Presented::Nothing => return anonymous(parts, query, body),
            Presented::Header(signature) => (signature, false),
            Presented::Query(signature) => (signature, true),
        };
        let payload = payload_line(parts, query, presigned)?;
        let kind = Kind::parse(payload, presigned)?;
        let request = Signable {
            method: &parts.method,
            path: parts.uri.path(),
            query,
            headers: &parts.headers,
            authority,
            payload,
        };
        let policy = Policy { service: "s3", region: self.region, path: PathRule::Once };
        let proof = sigv4::verify(&signature, &request, policy, &|id| self.secrets_of(id), self.now)?;
        let verified = self.verified(proof.access_key_id(), presigned)?;
        Ok((verified, SealedBody::new(body, kind.claim(proof))))
    }

    /// Lets a request in that comes by a link in the old way.
    ///
    /// # Errors
    /// As [`link_v2::verify`]; the key has ended.
    pub fn admit_link(
        self,
        parts: &Parts,
        query: &Query,
        address: &Address,
        body: Body,
    ) -> Result<(Verified, SealedBody), S3Error> {
        let id = link_v2::verify(parts, query, address, &|id| self.secrets_of(id), self.now)?;
        Ok((self.verified(&id, true)?, SealedBody::new(body, Claim::Unsigned)))
    }

    /// Lets a form in whose policy was signed, or that has none.
    ///
    /// # Errors
    /// The signature does not hold or is too old; the key has ended.
    pub fn admit_form(self, proof: Option<FormProof<'_>>) -> Result<Verified, S3Error> {
        let Some(proof) = proof else { return Ok(Verified { key: None, presigned: false }) };
        let FormProof { policy, credential, date, signature } = proof;
        let rules = Policy { service: "s3", region: self.region, path: PathRule::Once };
        let secrets = |id: &str| self.secrets_of(id);
        let id = sigv4::verify_text(policy, (credential, date), signature, rules, &secrets, self.now)?;
        self.verified(&id, false)
    }

    fn secrets_of(&self, id: &str) -> Vec<Secret<String>> {
        (self.key_of)(id).map_or_else(Vec::new, |key| key.secrets(self.now).cloned().collect())
    }

    /// The proof that the holder of key `id` signed. The end of a key is looked at when an address is used, however
    /// long ago it was signed; and only told to who could sign.
    fn verified(&self, id: &str, presigned: bool) -> Result<Verified, S3Error> {
        let key = (self.key_of)(id).ok_or(Code::InvalidAccessKeyId)?;
        if key.has_expired(self.now) {
            return Err(S3Error::new(Code::AccessDenied, "the access key has expired"));
        }
        Ok(Verified { key: Some(key), presigned })
    }
}

/// A request without any signature. Its body may say what it is; nothing else vouches for it.
fn anonymous(parts: &Parts, query: &Query, body: Body) -> Result<(Verified, SealedBody), S3Error> {
    let claim = match Kind::parse(payload_line(parts, query, true)?, false)? {
        Kind::Sha256(sha256) => Claim::Sha256(sha256),
        Kind::Unsigned => Claim::Unsigned,
        Kind::UnsignedTrailers => Claim::UnsignedTrailers,
        Kind::SignedChunks { .. } => {
            return Err(S3Error::new(Code::AccessDenied, "chunks are signed with the request or not at all"));
        }
    };
    Ok((Verified { key: None, presigned: false }, SealedBody::new(body, claim)))
}

/// What stands in the payload line of the canonical request.
fn payload_line<'a>(parts: &'a Parts, query: &'a Query, presigned: bool) -> Result<&'a str, S3Error> {
    let header = parts.headers.get("x-amz-content-sha256").map(|value| value.to_str().unwrap_or_default());
    let in_query = || query.get("X-Amz-Content-Sha256").or_else(|| query.get("x-amz-content-sha256"));
    match header {
        Some(text) => Ok(text),
        None if presigned => Ok(in_query().unwrap_or("UNSIGNED-PAYLOAD")),
        None => Err(S3Error::new(Code::MissingSecurityHeader, "header x-amz-content-sha256 is missing")),
    }
}

/// The known payload lines. An unknown one is refused, not taken for "unsigned".
enum Kind {
    Sha256([u8; 32]),
    Unsigned,
    SignedChunks { trailers: bool },
    UnsignedTrailers,
}

impl Kind {
    fn parse(text: &str, presigned: bool) -> Result<Self, S3Error> {
        let kind = match text {
            "UNSIGNED-PAYLOAD" => Self::Unsigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Self::SignedChunks { trailers: false },
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Self::SignedChunks { trailers: true },
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Self::UnsignedTrailers,
            hex => payload::parse_sha256(hex).map(Self::Sha256).ok_or_else(|| {
                let problem =
                    "x-amz-content-sha256 must be a sha256 in hexadecimal, UNSIGNED-PAYLOAD, or a known STREAMING-";
                S3Error::new(Code::InvalidArgument, problem)
            })?,
        };
        match kind {
            Self::SignedChunks { .. } | Self::UnsignedTrailers if presigned => {
                Err(S3Error::new(Code::InvalidRequest, "a presigned request cannot have a STREAMING- body"))
            }
            kind => Ok(kind),
        }
    }

    fn claim(self, proof: Proof) -> Claim {
        match self {
            Self::Sha256(sha256) => Claim::Sha256(sha256),
            Self::Unsigned => Claim::Unsigned,
            Self::SignedChunks { trailers } => Claim::SignedChunks { signer: proof.into_chunk_signer(), trailers },
            Self::UnsignedTrailers => Claim::UnsignedTrailers,
        }
    }
}
