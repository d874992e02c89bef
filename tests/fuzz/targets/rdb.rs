//! Dumps of Redis: no bytes bring more than was allowed, and what is written is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::kv::rdb;

fuzz_target!(|bytes: &[u8]| {
    let _ = rdb::open(bytes);
    let mut rest = bytes;
    while let Some(text) = rdb::take_string(&mut rest, 4096) {
        assert!(text.len() <= 4096);
        let mut again = Vec::new();
        rdb::put_string(&mut again, &text);
        assert_eq!(rdb::take_string(&mut again.as_slice(), 4096), Some(text));
    }
});
