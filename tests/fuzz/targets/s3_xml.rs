//! Documents in S3 requests: parsed or refused, in bounded time and depth.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for root in ["Delete", "CompleteMultipartUpload", "CreateBucketConfiguration"] {
        let _ = mainstay::s3::xml::parse(bytes, root);
    }
});
