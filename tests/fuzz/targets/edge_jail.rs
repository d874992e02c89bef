//! Settings of a jail, and a request it may count: patterns are refused, or find together what they find one by one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::edge::fuzz::jail(bytes));
