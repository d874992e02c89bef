//! Bodies framed as aws-chunked: never more bytes out than announced, however they are cut.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mainstay::http::chunked::Decoder;

fuzz_target!(|bytes: &[u8]| {
    let (head, body) = bytes.split_at(bytes.len().min(2));
    let expected = head.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    let mut decoder = Decoder::new(None, vec!["x-amz-checksum-crc32".to_owned()], expected);
    let mut received = 0;
    for piece in body.chunks(1 + usize::from(head.first().copied().unwrap_or(0))) {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match decoder.push(&mut input) {
                Ok(Some(data)) => received += data.len() as u64,
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(received <= expected);
    }
    if decoder.finish().is_ok() {
        assert_eq!(received, expected);
    }
});
