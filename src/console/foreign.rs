//! Bytes that others have written, given out without a chance to act as a page of this console.
//!
//! A response made by [`download`] is saved, not shown; one made by [`sandboxed`] may be shown in a frame of a page, but
//! has no origin, runs no script, sends no form and loads nothing.

use axum::http::{HeaderValue, Response, header};

use crate::http::{Body, uri};

/// What a foreign document may do: its own inline styles and pictures, nothing else. Scripts, forms, pop-ups and the
/// console's origin are taken away by `sandbox`.
pub const POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; \
                          form-action 'none'; frame-ancestors 'self'; base-uri 'none'";

/// Marks a response for [`super::headers`]: [`POLICY`] counts instead of the pages' own, and a page may frame it.
#[derive(Clone, Copy, Debug)]
pub struct Foreign;

/// `body` to be saved as `name`.
pub fn download(name: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.extensions_mut().insert(Foreign);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, disposition("attachment", name));
    response
}

/// The HTML `text`, for a sandboxed frame.
pub fn sandboxed(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.extensions_mut().insert(Foreign);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// `Content-Disposition` with `name` (RFC 6266): an ASCII form without anything that could end it, and the true one.
pub fn disposition(how: &str, name: &str) -> HeaderValue {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let last = if last.is_empty() { "file" } else { last };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._- ".contains(c) { c } else { '_' };
    let ascii: String = last.chars().take(150).map(plain).collect();
    let exact: String = last.chars().take(150).filter(|c| !c.is_control()).collect();
    let text = format!("{how}; filename=\"{ascii}\"; filename*=UTF-8''{}", uri::encode_component(&exact));
    HeaderValue::from_str(&text).unwrap_or_else(|_no_text| HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_header_or_name_a_folder() {
        let seen = |name: &str| disposition("attachment", name).to_str().unwrap().to_owned();
        assert_eq!(seen("a/b/ü\".txt"), "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%BC%22.txt");
        assert_eq!(
            seen("x\r\nSet-Cookie: y"),
            "attachment; filename=\"x__Set-Cookie_ y\"; filename*=UTF-8''xSet-Cookie%3A%20y"
        );
        assert_eq!(seen("folder/"), "attachment; filename=\"file\"; filename*=UTF-8''file");
    }
}
