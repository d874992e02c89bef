//! Which web pages may use this door (Fetch standard, "CORS protocol").
//!
//! One rule for all buckets: pages of the origins in the setting may read and write by presigned addresses, and see the
//! headers SDKs need. No credentials of the browser are involved, so none are allowed.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header};

use super::error::{Code, S3Error};
use crate::http::Body;

/// How long a browser may remember a preflight's answer, in seconds.
const MAX_AGE: &str = "3600";
/// Methods S3 uses.
const METHODS: &str = "GET, HEAD, PUT, POST, DELETE";
/// Headers of answers a page may see.
const EXPOSED: &str = "ETag, Content-Length, Content-Range, Content-Type, Last-Modified, x-amz-request-id, \
    x-amz-meta-*, x-amz-checksum-crc32, x-amz-checksum-crc32c, x-amz-checksum-crc64nvme, x-amz-checksum-sha1, \
    x-amz-checksum-sha256, x-amz-mp-parts-count";

/// The origins let in.
#[derive(Debug)]
pub struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// Lets in `origins`: `https://app.example.com`, `https://*.example.com`, `*`.
    pub fn new(origins: &[String]) -> Self {
        Self { origins: origins.iter().map(|origin| origin.trim().to_ascii_lowercase()).collect() }
    }

    fn allows(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.origins.iter().any(|pattern| match pattern.split_once('*') {
            None => *pattern == origin,
            Some(("", "")) => true,
            Some((before, after)) => {
                let name = origin.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                // A star stands for labels of a host name, never for a port or another scheme.
                name.is_some_and(|name| {
                    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
                })
            }
        })
    }

    /// The answer to a preflight; `None` for any other request. Needs no signature: a browser sends none.
    pub fn preflight(&self, parts: &Parts) -> Option<Result<Response<Body>, S3Error>> {
        if parts.method != Method::OPTIONS {
            return None;
        }
        let asks = parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || !origin(&parts.headers).is_some_and(|origin| self.allows(origin)) {
            return Some(Err(Code::AccessForbidden.into()));
        }
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        if let Some(asked) = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        Some(Ok(response))
    }

    /// Adds to any answer what lets the page of an allowed `origin` see it.
    pub fn decorate(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_name(HeaderName::from_static("origin")));
        let Some(origin) = origin else { return };
        if origin.to_str().is_ok_and(|origin| self.allows(origin)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_whole_or_by_labels() {
        let cors = Cors::new(&["https://app.example.com".to_owned(), "https://*.example.org".to_owned()]);
        for (origin, allowed) in [
            ("https://app.example.com", true),
            ("https://APP.example.com", true),
            ("http://app.example.com", false),
            ("https://app.example.com.evil.test", false),
            ("https://a.b.example.org", true),
            ("https://example.org", false),
            ("https://evil.test/.example.org", false),
            ("https://evil.test:1.example.org", false),
            ("null", false),
        ] {
            assert_eq!(cors.allows(origin), allowed, "{origin}");
        }
        assert!(Cors::new(&["*".to_owned()]).allows("null"));
        assert!(!Cors::new(&[]).allows("https://app.example.com"));
    }
}
