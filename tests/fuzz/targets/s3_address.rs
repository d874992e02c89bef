//! Hosts, paths, queries and ranges of S3 requests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::http::query::Query;
use mainstay::s3::address::Address;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (host, path) = text.split_once('\n').unwrap_or(("s3.localhost", text));
    let _ = Address::parse(host, path, &["s3.localhost".to_owned()]);
    if let Ok(query) = Query::parse(path) {
        for (name, value) in query.iter() {
            assert_eq!(query.get(name), Some(value));
        }
    }
});
