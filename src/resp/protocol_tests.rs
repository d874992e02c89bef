//! Tests of [`super::protocol`]: examples, and properties over arbitrary bytes and arbitrary splits of them.

use proptest::prelude::*;

use super::protocol::*;

const WIDE: Limits = Limits::authenticated(512 << 20);

/// Everything a stream of `chunks` decodes to: the requests, and the error that ends it.
fn decode(chunks: &[&[u8]], limits: &Limits) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let mut decoder = Decoder::default();
    let mut buffer: Vec<u8> = Vec::new();
    let mut requests = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            match decoder.next(&buffer, limits) {
                Ok(Step::Incomplete) => break,
                Ok(Step::Request(consumed)) => {
                    let mut arguments = Vec::new();
                    decoder.arguments(&buffer, &mut arguments);
                    requests.push(arguments.iter().map(|argument| argument.to_vec()).collect());
                    buffer.drain(..consumed);
                }
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fn error(bytes: &[u8], limits: &Limits) -> String {
    decode(&[bytes], limits).1.map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn pipelined_requests_come_out_in_order() {
    let (requests, error) = decode(&[b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*1\r\n$4\r\nPING\r\n*0\r\n\r\n"], &WIDE);
    assert_eq!(error, None);
    let expected: Vec<Vec<&[u8]>> = vec![vec![b"GET", b"k"], vec![b"PING"], vec![b"PING"], vec![], vec![]];
    assert_eq!(requests, expected);
}

#[test]
fn arguments_may_be_empty_and_hold_any_byte() {
    let (requests, _) = decode(&[b"*3\r\n$1\r\n\0\r\n$0\r\n\r\n$4\r\n\r\n*1\r\n"], &WIDE);
    assert_eq!(requests, [[&b"\0"[..], b"", b"\r\n*1"]]);
}

#[test]
fn malformed_requests_get_the_texts_of_redis() {
    for (bytes, text) in [
        (&b"*abc\r\n"[..], "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*1\r\nPING\r\n", "expected '$', got 'P'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$+1\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
        (b"set \"a\n", "unbalanced quotes in request"),
    ] {
        assert_eq!(error(bytes, &WIDE), format!("Protocol error: {text}"), "{}", bytes.escape_ascii());
    }
}

#[test]
fn lines_end_within_64_kib() {
    let long = vec![b'1'; MAX_LINE + 10];
    for (start, text) in
        [("", "too big inline request"), ("*", "too big mbulk count string"), ("*1\r\n$", "too big bulk count string")]
    {
        let bytes = [start.as_bytes(), &long].concat();
        assert_eq!(error(&bytes, &WIDE), format!("Protocol error: {text}"));
    }
    let bytes = [&long[..], b"\n"].concat();
    assert_eq!(error(&bytes, &WIDE), "Protocol error: too big inline request");
}

#[test]
fn clients_that_have_not_authenticated_send_little() {
    let narrow = Limits::unauthenticated();
    assert_eq!(error(b"*11\r\n", &narrow), "Protocol error: unauthenticated multibulk length");
    assert_eq!(error(b"*1\r\n$16385\r\n", &narrow), "Protocol error: unauthenticated bulk length");
    assert_eq!(error(b"*1\r\n$16384\r\n", &narrow), "");
    assert_eq!(error(b"*10\r\n", &narrow), "");
}

#[test]
fn the_reader_is_told_how_much_of_an_argument_is_missing() {
    let mut decoder = Decoder::default();
    let start = b"*1\r\n$1000\r\nabc";
    assert_eq!(decoder.next(start, &WIDE), Ok(Step::Incomplete));
    assert_eq!(decoder.wanted(start.len()), 1000 - 3 + 2);
}

#[test]
fn numbers_are_read_as_redis_reads_them() {
    for (text, value) in [
        ("0", Some(0)),
        ("-0", None),
        ("00", None),
        ("-1", Some(-1)),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", None),
        ("-9223372036854775808", Some(i64::MIN)),
        ("", None),
        ("-", None),
        ("+1", None),
        (" 1", None),
        ("1 ", None),
    ] {
        assert_eq!(number(text.as_bytes()), value, "{text}");
    }
}

fn encode(request: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", request.len()).into_bytes();
    for argument in request {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn chunks<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut start = 0;
    let mut out = Vec::new();
    for cut in cuts {
        out.push(&bytes[start..cut]);
        start = cut;
    }
    out.push(&bytes[start..]);
    out
}

/// Bytes that often look like the protocol.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        Just(b"*3\r\n".to_vec()),
        Just(b"$5\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"SET \"a\\x4".to_vec()),
        Just(b"*-1\r\n$0\r\n".to_vec()),
        Just(b"'\n".to_vec()),
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_was_encoded_comes_out_however_it_is_split(
        requests in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6), 0..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| encode(request)).collect();
        let (decoded, error) = decode(&chunks(&bytes, &cuts), &WIDE);
        prop_assert_eq!(error, None);
        prop_assert_eq!(decoded, requests);
    }

    #[test]
    fn garbage_decodes_the_same_however_it_is_split(
        bytes in garbage(),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        prop_assert_eq!(decode(&chunks(&bytes, &cuts), &WIDE), decode(&[&bytes], &WIDE));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(decode(&single, &WIDE), decode(&[&bytes], &WIDE));
    }

    #[test]
    fn numbers_print_and_read_back(value in any::<i64>()) {
        prop_assert_eq!(number(value.to_string().as_bytes()), Some(value));
    }
}
