//! Authorization headers and presigned queries: read or refused.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use mainstay::http::query::Query;
use mainstay::http::sigv4::Presented;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (authorization, date, query) = (lines.next(), lines.next(), lines.next());
    let mut headers = HeaderMap::new();
    for (name, value) in [("authorization", authorization), ("x-amz-date", date)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value).ok()) {
            headers.insert(name, value);
        }
    }
    let query = query.and_then(|query| std::str::from_utf8(query).ok()).unwrap_or_default();
    if let Ok(query) = Query::parse(query) {
        let _ = Presented::parse(&headers, &query);
    }
});
