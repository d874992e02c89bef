//! Sentry envelopes, their encodings, and reports of browsers: parsed or refused within the caps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::ingest::decode::{Encoding, decode};
use mainstay::ingest::{envelope, legacy, reports};

fuzz_target!(|bytes: &[u8]| {
    let _ = envelope::parse(bytes);
    let _ = legacy::event(bytes);
    let _ = reports::events(bytes);
    for name in ["gzip", "deflate", "br", "zstd"] {
        if let Some(encoding) = Encoding::named(name) {
            let _ = decode(encoding, bytes);
        }
    }
});
