//! Beginnings of files: what they are is told without a panic, and by nothing behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mainstay::objects::fuzz::sniffed(bytes));
