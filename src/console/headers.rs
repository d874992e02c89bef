//! The headers of every page.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::foreign;

/// Browsers keep to the type a response names.
pub const NOSNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

/// What a page may load and do: its own styles, scripts, pictures and answers; documents of others in sandboxed
/// frames; forms to itself; in no frame.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
                          connect-src 'self'; frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// As [`guard`], for what others have written: it may stand in a frame of a page, and do nothing there.
pub fn guard_foreign(headers: &mut HeaderMap) {
    guard(headers);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(foreign::POLICY));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
}

/// Sets them, whatever the page has set: a page is never stored, framed, sniffed or opened by others.
pub fn guard(headers: &mut HeaderMap) {
    let all = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        NOSNIFF,
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ];
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
