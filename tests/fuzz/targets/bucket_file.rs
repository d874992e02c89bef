//! Buckets' files, foreign and changed: refused, or what was sealed.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mainstay::base::Disk;
use mainstay::testing::FaultyDisk;

fuzz_target!(|bytes: &[u8]| {
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    mainstay::objects::fuzz::bucket_file(&disk, bytes);
});
