//! Who signed a request. Nothing behind this file runs without a [`Verified`].

use axum::extract::Request;
use bytes::Bytes;

use super::Door;
use super::error::SesError;
use crate::bans;
use crate::base::ids::hex;
use crate::crypto::mac;
use crate::http::Peer;
use crate::http::body;
use crate::http::connection::authority;
use crate::http::query::Query;
use crate::http::sigv4::{self, PathRule, Policy, Presented, Signable, SignatureError};

/// Encoded messages are a third larger than their bytes, and a form encodes them once more.
const ENCODING: u64 = 2;

/// Longest `amz-sdk-invocation-id` that is remembered.
const INVOCATION_MAX: usize = 128;

/// Proof that the holder of an access key sent a request with this body. Only [`verify`] makes one.
#[derive(Debug)]
pub(super) struct Verified {
    access_key_id: String,
    invocation: Option<String>,
}

impl Verified {
    /// The name by which a retry of the same call is recognised, if the SDK gave one.
    pub fn idempotency(&self) -> Option<String> {
        self.invocation.as_ref().map(|invocation| format!("ses\0{}\0{invocation}", self.access_key_id))
    }
}

/// Reads the body and checks the signature over it.
///
/// # Errors
/// [`SesError`]: the body is too large, or the signature is missing or wrong.
pub(super) async fn verify(door: &Door, request: Request) -> Result<(Verified, Bytes), SesError> {
    let (head, content) = request.into_parts();
    let query =
        Query::parse(head.uri.query().unwrap_or_default()).map_err(|error| SesError::Invalid(error.to_string()))?;
    let Presented::Header(signature) = Presented::parse(&head.headers, &query)? else {
        return Err(SesError::Unsigned);
    };
    let most = door.outbox.config().max_message.bytes().saturating_mul(ENCODING);
    let content =
        body::read(content, usize::try_from(most).unwrap_or(usize::MAX)).await.map_err(|error| match error {
            body::ReadError::TooLarge { .. } => SesError::TooLarge(most),
            error @ body::ReadError::Broken(_) => SesError::Invalid(error.to_string()),
        })?;
    let payload = hex(&mac::sha256(&content));
    let signable = Signable {
        method: &head.method,
        path: head.uri.path(),
        query: &query,
        headers: &head.headers,
        authority: authority(&head.headers, &head.uri).unwrap_or_default(),
        payload: &payload,
    };
    let policy = Policy { service: "ses", region: &door.region, path: PathRule::Twice };
    let now = door.clock.now();
    let secrets = |id: &str| door.keys.secret(id).map_or_else(Vec::new, |key| key.mail_secrets(now));
    let proof = sigv4::verify(&signature, &signable, policy, &secrets, now).inspect_err(|error| {
        let peer = head.extensions.get::<Peer>();
        if let (Some(peer), SignatureError::UnknownKey(_) | SignatureError::Mismatch) = (peer, error) {
            door.bans.failed_login(peer.address.ip(), bans::Door::Ses);
        }
    })?;
    let invocation = head.headers.get("amz-sdk-invocation-id").and_then(|value| value.to_str().ok());
    let invocation = invocation.filter(|id| !id.is_empty() && id.len() <= INVOCATION_MAX).map(str::to_owned);
    Ok((Verified { access_key_id: proof.access_key_id().to_owned(), invocation }, content))
}
