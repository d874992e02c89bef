//! The canonical request: the bytes both sides hash.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use http::{HeaderMap, Method};

use super::{Signature, SignatureError};
use crate::http::query::Query;
use crate::http::uri;

/// The one `x-amz-*` header that need not be signed: its value is the canonical request's payload line.
const EXEMPT: &str = "x-amz-content-sha256";

/// How a service writes the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// Encoded once (S3).
    Once,
    /// What was sent is encoded again (all other services).
    Twice,
}

/// The parts of a request that are signed.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path as sent, still percent-encoded.
    pub path: &'a str,
    /// Its query.
    pub query: &'a Query,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its authority, for HTTP/2, which has no `host` header.
    pub authority: &'a str,
    /// The payload line: a hexadecimal SHA-256, or a word such as `UNSIGNED-PAYLOAD`.
    pub payload: &'a str,
}

impl Signable<'_> {
    /// The ways a client may have written the path, the standard's first. S3 clients differ in which characters they
    /// leave as they are; what arrived is as true a form as its normal form, so both may be what was signed.
    pub(super) fn paths(&self, rule: PathRule) -> Vec<String> {
        let sent = if self.path.is_empty() { "/" } else { self.path };
        match rule {
            PathRule::Twice => vec![uri::encode_path(sent)],
            PathRule::Once => {
                let mut paths: Vec<String> = uri::decode(sent).iter().map(|path| uri::encode_path(path)).collect();
                if paths.first().is_none_or(|path| path != sent) {
                    paths.push(sent.to_owned());
                }
                paths
            }
        }
    }
}

/// Every header that must be signed is, and is there once.
pub(super) fn check_signed(signature: &Signature, request: &Signable<'_>) -> Result<(), SignatureError> {
    let is_signed = |name: &str| signature.signed_headers.iter().any(|signed| signed == name);
    let names = request.headers.keys().map(http::HeaderName::as_str);
    let must: Vec<&str> = names.filter(|name| name.starts_with("x-amz-")).collect();
    for name in must.iter().copied().chain(signature.signed_headers.iter().map(String::as_str)) {
        if request.headers.get_all(name).iter().nth(1).is_some() {
            return Err(SignatureError::DuplicateHeader(name.to_owned()));
        }
    }
    let mut unsigned: Vec<&str> = must.into_iter().filter(|name| *name != EXEMPT && !is_signed(name)).collect();
    if !is_signed("host") {
        unsigned.push("host");
    }
    if unsigned.is_empty() { Ok(()) } else { Err(SignatureError::Unsigned(unsigned.join(", "))) }
}

/// The canonical request for `path`, covering `signed_headers`.
pub(super) fn request(
    signed_headers: &[String],
    request: &Signable<'_>,
    path: &str,
) -> Result<Vec<u8>, SignatureError> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(path.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(query(request.query).as_bytes());
    out.push(b'\n');
    for name in signed_headers {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        match request.headers.get(name.as_str()) {
            Some(value) => push_trimmed(&mut out, value.as_bytes()),
            None if name == "host" => out.extend_from_slice(request.authority.as_bytes()),
            None => return Err(SignatureError::Missing(name.clone())),
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.join(";").as_bytes());
    out.push(b'\n');
    out.extend_from_slice(request.payload.as_bytes());
    Ok(out)
}

/// Names and values encoded, then sorted; the signature itself is left out.
fn query(query: &Query) -> String {
    let mut pairs: Vec<(String, String)> = query
        .iter()
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| (uri::encode_component(name), uri::encode_component(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Without spaces at the ends, and runs of spaces within made one.
fn push_trimmed(out: &mut Vec<u8>, value: &[u8]) {
    let mut previous = b' ';
    for byte in value.trim_ascii() {
        if *byte != b' ' || previous != b' ' {
            out.push(*byte);
        }
        previous = *byte;
    }
}
