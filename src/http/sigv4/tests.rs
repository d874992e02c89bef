//! AWS's published examples, and the rules of signing one by one.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::http::chunked::{ChunkError, Decoder};
use crate::http::query::Query;

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const POLICY: Policy<'_> = Policy { service: "s3", region: "us-east-1", path: PathRule::Once };

/// 2013-05-24T00:00:00Z, the day of the examples.
fn that_day() -> Timestamp {
    Timestamp::from_seconds(1_369_353_600)
}

fn secret_of(id: &str) -> Option<Secret<String>> {
    (id == "AKIAIOSFODNN7EXAMPLE").then(|| Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()))
}

struct Example {
    method: Method,
    path: &'static str,
    query: Query,
    headers: HeaderMap,
    payload: String,
}

impl Example {
    fn new(method: Method, path: &'static str, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        }
        let payload = map.get("x-amz-content-sha256").map_or("UNSIGNED-PAYLOAD", |v| v.to_str().unwrap()).to_owned();
        Self { method, path, query: Query::parse(query).unwrap(), headers: map, payload }
    }

    fn authorized(mut self, signed_headers: &str, signature: &str) -> Self {
        let text = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders={signed_headers},Signature={signature}"
        );
        self.headers.insert("authorization", text.parse().unwrap());
        self
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(name, HeaderValue::from_static(value));
        self
    }

    fn verify_at(&self, now: Timestamp, policy: Policy<'_>) -> Result<Proof, SignatureError> {
        let signature = match Presented::parse(&self.headers, &self.query)? {
            Presented::Header(signature) | Presented::Query(signature) => signature,
            Presented::Nothing => panic!("nothing presented"),
        };
        let request = Signable {
            method: &self.method,
            path: self.path,
            query: &self.query,
            headers: &self.headers,
            authority: "",
            payload: &self.payload,
        };
        verify(&signature, &request, policy, &|id| secret_of(id).into_iter().collect(), now)
    }

    fn verify(&self) -> Result<Proof, SignatureError> {
        self.verify_at(that_day(), POLICY)
    }
}

fn get_object() -> Example {
    let headers = [
        ("host", "examplebucket.s3.amazonaws.com"),
        ("range", "bytes=0-9"),
        ("x-amz-content-sha256", EMPTY),
        ("x-amz-date", "20130524T000000Z"),
    ];
    Example::new(Method::GET, "/test.txt", "", &headers).authorized(
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    )
}

fn presigned(query_more: &str) -> Example {
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
         &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404{query_more}"
    );
    Example::new(Method::GET, "/test.txt", &query, &[("host", "examplebucket.s3.amazonaws.com")])
}

#[test]
fn awss_example_of_getting_an_object_verifies() {
    assert_eq!(get_object().verify().unwrap().access_key_id(), "AKIAIOSFODNN7EXAMPLE");
}

#[test]
fn awss_example_of_putting_an_object_verifies() {
    let headers = [
        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
        ("host", "examplebucket.s3.amazonaws.com"),
        ("x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ];
    let example = Example::new(Method::PUT, "/test$file.text", "", &headers).authorized(
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    example.verify().unwrap();
}

#[test]
fn awss_examples_with_a_query_verify() {
    let headers = [
        ("host", "examplebucket.s3.amazonaws.com"),
        ("x-amz-content-sha256", EMPTY),
        ("x-amz-date", "20130524T000000Z"),
    ];
    for (query, signature) in [
        ("lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ] {
        let example = Example::new(Method::GET, "/", query, &headers);
        example.authorized("host;x-amz-content-sha256;x-amz-date", signature).verify().unwrap();
    }
}

#[test]
fn awss_presigned_example_verifies_until_it_expires() {
    let expires = Timestamp::from_seconds(that_day().seconds() + 86_400);
    presigned("").verify_at(expires, POLICY).unwrap();
    let late = Timestamp(expires.millis() + 1);
    assert!(matches!(presigned("").verify_at(late, POLICY), Err(SignatureError::Expired { .. })));
    let early = Timestamp::from_seconds(that_day().seconds() - 901);
    assert!(matches!(presigned("").verify_at(early, POLICY), Err(SignatureError::NotYet { .. })));
}

fn chunked_example() -> Example {
    let headers = [
        ("host", "s3.amazonaws.com"),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("content-length", "66824"),
    ];
    Example::new(Method::PUT, "/examplebucket/chunkObject.txt", "", &headers).authorized(
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
         x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    )
}

const CHUNKS: [(usize, &str); 3] = [
    (65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
];

fn chunked_body(chunks: &[(usize, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (size, signature) in chunks {
        body.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
        if *size > 0 {
            body.extend(std::iter::repeat_n(b'a', *size));
            body.extend_from_slice(b"\r\n");
        }
    }
    body
}

fn decode(mut decoder: Decoder, body: Vec<u8>) -> Result<usize, ChunkError> {
    let mut input = Bytes::from(body);
    let mut released = 0;
    while let Some(piece) = decoder.push(&mut input)? {
        released += piece.len();
    }
    decoder.finish().map(|_| released)
}

#[test]
fn awss_chunked_example_verifies_chunk_by_chunk() {
    let signer = chunked_example().verify().unwrap().into_chunk_signer();
    let mut body = chunked_body(&CHUNKS);
    body.extend_from_slice(b"\r\n");
    assert_eq!(body.len(), 66_824);
    assert_eq!(decode(Decoder::new(Some(signer), Vec::new(), 66_560), body), Ok(66_560));
}

#[test]
fn a_changed_chunk_is_never_released() {
    let signer = chunked_example().verify().unwrap().into_chunk_signer();
    let mut decoder = Decoder::new(Some(signer), Vec::new(), 66_560);
    let mut body = chunked_body(&CHUNKS);
    body[100] = b'b';
    assert_eq!(decoder.push(&mut Bytes::from(body)), Err(ChunkError::Signature));
}

#[test]
fn chunks_in_another_order_are_refused() {
    let signer = chunked_example().verify().unwrap().into_chunk_signer();
    let mut decoder = Decoder::new(Some(signer), Vec::new(), 66_560);
    assert_eq!(decoder.push(&mut Bytes::from(chunked_body(&[CHUNKS[1]]))), Err(ChunkError::Signature));
}

#[test]
fn a_signed_chunk_beyond_the_cap_is_refused_before_its_bytes() {
    let signer = chunked_example().verify().unwrap().into_chunk_signer();
    let mut decoder = Decoder::new(Some(signer), Vec::new(), u64::MAX);
    let line = format!("1000001;chunk-signature={}\r\n", CHUNKS[0].1);
    assert_eq!(decoder.push(&mut Bytes::from(line)), Err(ChunkError::ChunkTooLarge { size: (16 << 20) + 1 }));
}

#[test]
fn awss_example_of_signed_trailers_verifies() {
    let headers = [
        ("host", "s3.amazonaws.com"),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-trailer", "x-amz-checksum-crc32c"),
    ];
    let example = Example::new(Method::PUT, "/examplebucket/chunkObject.txt", "", &headers).authorized(
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;\
         x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    let chunks = [
        (65_536, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
        (1024, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
        (0, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
    ];
    for (signature, verdict) in [
        ("d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435", Ok(66_560)),
        ("d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e436", Err(ChunkError::Signature)),
    ] {
        let signer = example.verify().unwrap().into_chunk_signer();
        let mut body = chunked_body(&chunks);
        let trailers = format!("x-amz-checksum-crc32c:sOO8/Q==\n\r\nx-amz-trailer-signature:{signature}\r\n\r\n");
        body.extend_from_slice(trailers.as_bytes());
        let decoder = Decoder::new(Some(signer), vec!["x-amz-checksum-crc32c".to_owned()], 66_560);
        assert_eq!(decode(decoder, body), verdict);
    }
}

#[test]
fn every_x_amz_header_must_be_signed_also_on_a_presigned_address() {
    for example in [get_object(), presigned("")] {
        let example = example.with("x-amz-copy-source", "/other/secret.txt");
        assert_eq!(example.verify().unwrap_err(), SignatureError::Unsigned("x-amz-copy-source".to_owned()));
    }
}

#[test]
fn host_must_be_signed() {
    let example = get_object().authorized("range;x-amz-content-sha256;x-amz-date", &"0".repeat(64));
    assert_eq!(example.verify().unwrap_err(), SignatureError::Unsigned("host".to_owned()));
}

#[test]
fn a_signed_header_given_twice_is_refused() {
    let twice = get_object().with("range", "bytes=0-9").verify().unwrap_err();
    assert_eq!(twice, SignatureError::DuplicateHeader("range".to_owned()));
}

#[test]
fn header_and_query_authentication_together_are_refused() {
    let mut example = presigned("");
    example.headers.insert("authorization", get_object().headers["authorization"].clone());
    assert_eq!(example.verify().unwrap_err(), SignatureError::TwoWays);
}

#[test]
fn a_parameter_added_to_a_presigned_address_breaks_it() {
    assert_eq!(presigned("&versionId=1").verify().unwrap_err(), SignatureError::Mismatch);
}

#[test]
fn a_clock_fifteen_minutes_off_is_refused() {
    for (seconds, taken) in [(900, true), (901, false)] {
        for now in [that_day().seconds() + seconds, that_day().seconds() - seconds] {
            let verdict = get_object().verify_at(Timestamp::from_seconds(now), POLICY);
            assert_eq!(verdict.is_ok(), taken, "{seconds}");
        }
    }
}

#[test]
fn region_and_service_must_be_ours() {
    let verdict = get_object().verify_at(that_day(), Policy { region: "eu-central-1", ..POLICY });
    assert!(matches!(verdict, Err(SignatureError::Region { .. })));
    let verdict = get_object().verify_at(that_day(), Policy { service: "ses", ..POLICY });
    assert!(matches!(verdict, Err(SignatureError::Service(_))));
}

#[test]
fn another_secret_or_path_or_payload_does_not_match() {
    let mut example = get_object();
    example.path = "/other.txt";
    assert_eq!(example.verify().unwrap_err(), SignatureError::Mismatch);
    let mut example = get_object();
    example.payload = "UNSIGNED-PAYLOAD".to_owned();
    assert_eq!(example.verify().unwrap_err(), SignatureError::Mismatch);
}

#[test]
fn validity_of_presigned_addresses_is_one_second_to_seven_days() {
    for expires in ["0", "604801", "-1", "", "+5", "1e3"] {
        let mut example = presigned("");
        let text: Vec<String> = example
            .query
            .iter()
            .map(|(name, value)| format!("{name}={}", if name == "X-Amz-Expires" { expires } else { value }))
            .collect();
        example.query = Query::parse(&text.join("&").replace('+', "%2B")).unwrap();
        assert!(matches!(example.verify(), Err(SignatureError::Parameters(_))), "{expires}");
    }
}

#[test]
fn version_2_signatures_are_named_as_such() {
    let query = Query::parse("AWSAccessKeyId=a&Signature=b&Expires=1").unwrap();
    assert_eq!(Presented::parse(&HeaderMap::new(), &query), Err(SignatureError::Version2));
    let example = Example::new(Method::GET, "/", "", &[("authorization", "AWS a:b")]);
    assert_eq!(Presented::parse(&example.headers, &example.query), Err(SignatureError::Version2));
}

#[test]
fn an_escaped_path_may_be_signed_as_sent_or_in_its_normal_form() {
    // `$` is left as it is by some clients and encoded by others; the example above signs `%24` and sends `$`.
    let query = Query::default();
    let headers = HeaderMap::new();
    let request =
        |path| Signable { method: &Method::GET, path, query: &query, headers: &headers, authority: "", payload: "" };
    assert_eq!(request("/a$b").paths(PathRule::Once), ["/a%24b", "/a$b"]);
    assert_eq!(request("/a%24b").paths(PathRule::Once), ["/a%24b"]);
    assert_eq!(request("/v2/user%40example.com").paths(PathRule::Twice), ["/v2/user%2540example.com"]);
}
