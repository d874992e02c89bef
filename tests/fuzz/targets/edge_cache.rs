//! Heads of requests and of answers, as the edge's cache judges them: never kept is what must not be.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::edge::fuzz::cache(bytes));
