//! The signing key, and the chain of signatures over a body that is signed chunk by chunk.
//!
//! Source: S3 API reference, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple
//! Chunks".

use crate::base::{Secret, ids};
use crate::crypto::mac;

/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Derives the key of a day, region and service from the secret of an access key.
pub(super) fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> Secret<[u8; 32]> {
    let first = Secret::new(format!("AWS4{secret}"));
    let mut key = Secret::new(mac::hmac_sha256(first.expose().as_bytes(), &[date.as_bytes()]));
    for part in [region, service, "aws4_request"] {
        key = Secret::new(mac::hmac_sha256(key.expose(), &[part.as_bytes()]));
    }
    key
}

/// Verifies the signatures of a body's chunks, each of which covers the one before it; the first covers the request's.
#[derive(Debug)]
pub struct ChunkSigner {
    key: Secret<[u8; 32]>,
    timestamp: String,
    scope: String,
    /// 64 hexadecimal digits.
    previous: String,
}

impl ChunkSigner {
    pub(super) fn new(key: Secret<[u8; 32]>, timestamp: &str, scope: &str, seed: String) -> Self {
        Self { key, timestamp: timestamp.to_owned(), scope: scope.to_owned(), previous: seed }
    }

    /// Whether `signature` is the next chunk's, whose bytes have the hash `sha256`; then it becomes the previous one.
    pub fn accepts(&mut self, sha256: &[u8; 32], signature: &str) -> bool {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{EMPTY}\n{}",
            self.timestamp,
            self.scope,
            self.previous,
            ids::hex(sha256)
        );
        self.follows(&text, signature)
    }

    /// Whether `signature` is that of the trailers, whose canonical form (`name:value\n` each) has the hash `sha256`.
    pub fn accepts_trailers(&mut self, sha256: &[u8; 32], signature: &str) -> bool {
        let text = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{}",
            self.timestamp,
            self.scope,
            self.previous,
            ids::hex(sha256)
        );
        self.follows(&text, signature)
    }

    fn follows(&mut self, text: &str, signature: &str) -> bool {
        let expected = ids::hex(&mac::hmac_sha256(self.key.expose(), &[text.as_bytes()]));
        let equal = mac::equal(expected.as_bytes(), signature.as_bytes());
        if equal {
            self.previous = expected;
        }
        equal
    }
}
