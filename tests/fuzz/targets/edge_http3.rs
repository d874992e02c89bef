//! What a client of HTTP/3 sends on a stream: frames, heads in QPACK, requests.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::edge::fuzz::http3(bytes));
