//! Packs, index, lists and snapshots of a backup repository: reading any bytes as any of them never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::backup::format::readings;

fuzz_target!(|bytes: &[u8]| {
    let _ = readings(bytes);
});
