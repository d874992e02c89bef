//! Answers: documents, empty ones, errors, and the headers of all.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::error::S3Error;
use super::xml::Writer;
use crate::http::Body;
use crate::objects::{Checksum, Etag, ObjectInfo};

use super::checksum::Algorithm;

/// A document with status 200.
pub fn document(xml: Writer) -> Response<Body> {
    let mut response = Response::new(Body::from(xml.finish()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

/// Nothing but a status.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An error. A `HEAD` request gets no document, as HTTP has it; clients then go by the status.
pub fn error(error: &S3Error, method: &Method, resource: &str, request_id: &str) -> Response<Body> {
    let mut response = if *method == Method::HEAD {
        Response::new(Body::empty())
    } else {
        let mut xml = Writer::plain("Error");
        xml.leaf("Code", error.code.name());
        xml.leaf("Message", error.message.as_deref().unwrap_or(error.code.text()));
        for (name, value) in &error.details {
            xml.leaf(name, value);
        }
        xml.leaf("Resource", resource).leaf("RequestId", request_id);
        document(xml)
    };
    *response.status_mut() = error.code.status();
    for (name, value) in &error.headers {
        set(response.headers_mut(), HeaderName::from_static(name), value);
    }
    response
}

/// Sets a header from text that came from a client; what cannot stand in a header is left out.
pub fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(name, value);
    }
}

/// Sets `ETag`, quoted.
pub fn set_etag(headers: &mut HeaderMap, etag: &Etag) {
    set(headers, header::ETAG, &format!("\"{etag}\""));
}

/// Sets `x-amz-version-id`, of an object stored where versions are kept.
pub fn set_version(headers: &mut HeaderMap, info: &ObjectInfo) {
    if info.versioned {
        set(headers, HeaderName::from_static("x-amz-version-id"), &info.version.to_string());
    }
}

/// Sets the header of a checksum, and whether it is one of the whole object or of its parts' checksums.
pub fn set_checksum(headers: &mut HeaderMap, checksum: Option<&Checksum>) {
    let Some(checksum) = checksum else { return };
    let Some(algorithm) = Algorithm::named(&checksum.algorithm) else { return };
    set(headers, HeaderName::from_static(algorithm.header()), &checksum.value);
    set(headers, HeaderName::from_static("x-amz-checksum-type"), checksum_type(checksum));
}

/// Writes the element of a checksum.
pub fn write_checksum(xml: &mut Writer, checksum: Option<&Checksum>) {
    let Some(checksum) = checksum else { return };
    if let Some(algorithm) = Algorithm::named(&checksum.algorithm) {
        xml.leaf(algorithm.element(), &checksum.value);
    }
}

/// `COMPOSITE` for a checksum of checksums (`value-N`), else `FULL_OBJECT`.
pub fn checksum_type(checksum: &Checksum) -> &'static str {
    if checksum.value.contains('-') { "COMPOSITE" } else { "FULL_OBJECT" }
}
