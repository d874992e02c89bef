//! Redis requests: any bytes, in one piece or two, give the same requests or the same refusal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::resp::protocol::{Decoder, Limits, ProtocolError, Step};

fn requests(pieces: &[&[u8]]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let limits = Limits::authenticated(1 << 20);
    let (mut decoder, mut input, mut out) = (Decoder::default(), Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&input, &limits) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Request(end)) => {
                    let mut arguments = Vec::new();
                    decoder.arguments(&input, &mut arguments);
                    out.push(arguments.into_iter().map(<[u8]>::to_vec).collect());
                    input.drain(..end);
                }
                Err(error) => return (out, Some(error)),
            }
        }
    }
    (out, None)
}

fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.first().map_or(0, |byte| usize::from(*byte) % bytes.len());
    let (first, rest) = bytes.split_at(cut);
    assert_eq!(requests(&[bytes]), requests(&[first, rest]));
});
