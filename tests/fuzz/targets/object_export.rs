//! Exports of the index, foreign and changed: refused, or the very pieces that were sealed, each in its place.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mainstay::base::Disk;
use mainstay::testing::FaultyDisk;

fuzz_target!(|bytes: &[u8]| {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    mainstay::objects::fuzz::export(&disk, bytes);
});
