//! Dumps of Redis: no bytes bring more than was allowed, what is written is read, and a value keeps what is in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::kv::rdb;

fuzz_target!(|bytes: &[u8]| {
    let _ = rdb::open(bytes);
    if let Ok(written) = rdb::fuzz::again(&rdb::wrap(bytes.to_vec())) {
        // The order of members may change, their number and bytes may not.
        assert_eq!(rdb::fuzz::again(&written).map(|again| again.len()), Ok(written.len()));
    }
    let mut rest = bytes;
    while let Some(text) = rdb::take_string(&mut rest, 4096) {
        assert!(text.len() <= 4096);
        let mut again = Vec::new();
        rdb::put_string(&mut again, &text);
        assert_eq!(rdb::take_string(&mut again.as_slice(), 4096), Some(text));
    }
});
