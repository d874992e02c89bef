//! Somebody's nginx configuration: read, and made into settings that read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::edge::fuzz::nginx(bytes));
