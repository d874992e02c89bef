//! Exports of the index, foreign and changed: refused, or the very pieces that were sealed, each in its place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::objects::fuzz::export(bytes));
