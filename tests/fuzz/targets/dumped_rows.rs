//! Rows of a data file in a backup: reading any bytes as them never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::store::STATE;
use mainstay::store::dump::Rows;

fuzz_target!(|bytes: &[u8]| {
    let mut stream = bytes;
    if let Ok(mut rows) = Rows::new(&STATE, &mut stream) {
        while let Ok(Some(_)) = rows.next_row() {}
    }
});
