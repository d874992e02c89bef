//! Buckets' files, foreign and changed: refused, or what was sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::objects::fuzz::bucket_file(bytes));
