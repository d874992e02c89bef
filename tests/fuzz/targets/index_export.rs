//! Exports of the object index, foreign and changed: refused, or whole.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::objects::fuzz::export(bytes));
