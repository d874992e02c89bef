//! Request heads from the world: refused, or made into what an app may receive.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::edge::fuzz::head(bytes));
