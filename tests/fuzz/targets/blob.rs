//! Blobs, foreign and changed: refused, or the very bytes that were sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::objects::fuzz::blob(bytes));
