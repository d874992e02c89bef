//! RDB files: any bytes are read to their end or refused, and no value brings more bytes than was allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::kv::rdb::{self, FileReader, Found};

/// Bytes a value may have.
const MOST: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    // Most bytes are no head of a file; what comes behind one is what matters.
    let file = [b"REDIS0011", bytes].concat();
    let Ok(mut reader) = FileReader::new(file.as_slice(), MOST) else { return };
    while let Ok(Some(found)) = reader.advance() {
        if let Found::Value { value: Some(value), .. } = found {
            assert!(value.len() <= MOST);
            let _ = rdb::fuzz::again(&rdb::wrap(value));
        }
    }
});
