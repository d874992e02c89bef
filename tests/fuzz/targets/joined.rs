//! What a completed upload has written down of its parts: read or refused, and never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::objects::fuzz::joined(bytes));
