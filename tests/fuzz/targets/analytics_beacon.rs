//! What a page's script sends, and what a request names: read or refused, bounded, without control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::analytics::fuzz::beacon(bytes));
