//! Bodies and what is claimed about them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use md5::{Digest as _, Md5};

use super::*;
use crate::s3::checksum::Algorithm;

fn crc32(bytes: &[u8]) -> String {
    let mut running = Algorithm::Crc32.start();
    running.update(bytes);
    running.finish()
}

async fn refused(world: &World, ask: Ask, code: &str) {
    world.put("/photos/a", "before").await;
    assert_eq!(world.send(ask).await.error(), (StatusCode::BAD_REQUEST, code));
    assert_eq!(world.get("/photos/a").await.text, "before");
}

#[tokio::test]
async fn a_small_body_that_nobody_wants_is_read_and_one_that_was_not_asked_for_is_not() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let world = World::with_bucket().await;
    for (expects, read) in [(false, true), (true, false)] {
        let mut ask = Ask::new("PUT", "/photos?website").body("x");
        if expects {
            ask = ask.header("expect", "100-continue");
        }
        let mut request = ask.signed();
        let looked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&looked);
        let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
        let pieces = futures_util::StreamExt::inspect(pieces, move |_| seen.store(true, Ordering::Relaxed));
        *request.body_mut() = Body::from_stream(pieces);
        assert_eq!(world.call(request).await.error().1, "NotImplemented");
        assert_eq!(looked.load(Ordering::Relaxed), read, "{expects}");
    }
}

#[tokio::test]
async fn a_body_with_another_sha256_leaves_what_was_there() {
    let world = World::with_bucket().await;
    let ask = Ask::new("PUT", "/photos/a").body("after").payload(&ids::hex(&mac::sha256(b"other")));
    refused(&world, ask, "XAmzContentSHA256Mismatch").await;
}

#[tokio::test]
async fn a_body_with_another_md5_or_checksum_leaves_what_was_there() {
    let world = World::with_bucket().await;
    let md5 = |bytes: &str| STANDARD.encode(Md5::digest(bytes.as_bytes()));
    let put = || Ask::new("PUT", "/photos/a").body("after").payload("UNSIGNED-PAYLOAD");
    refused(&world, put().header("content-md5", &md5("other")), "BadDigest").await;
    refused(&world, put().header("content-md5", "bm90IGFuIG1kNQ=="), "InvalidDigest").await;
    refused(&world, put().header("x-amz-checksum-crc32", &crc32(b"other")), "BadDigest").await;
    refused(&world, put().header("x-amz-checksum-crc32", "nonsense"), "InvalidRequest").await;
    assert_eq!(world.send(put().header("content-md5", &md5("after"))).await.status, 200);
}

#[tokio::test]
async fn a_checksum_is_kept_and_given_back_when_asked() {
    let world = World::with_bucket().await;
    let value = crc32(b"hello");
    let reply = world.send(Ask::new("PUT", "/photos/a").body("hello").header("x-amz-checksum-crc32", &value)).await;
    assert_eq!(reply.header("x-amz-checksum-crc32"), value);
    assert_eq!(world.get("/photos/a").await.header("x-amz-checksum-crc32"), "");
    for method in ["GET", "HEAD"] {
        let reply = world.send(Ask::new(method, "/photos/a").header("x-amz-checksum-mode", "ENABLED")).await;
        assert_eq!(reply.header("x-amz-checksum-crc32"), value);
        assert_eq!(reply.header("x-amz-checksum-type"), "FULL_OBJECT");
    }
}

#[tokio::test]
async fn two_checksums_are_one_too_many() {
    let world = World::with_bucket().await;
    let ask = Ask::new("PUT", "/photos/a").body("x").header("x-amz-checksum-crc32", &crc32(b"x"));
    refused(&world, ask.header("x-amz-checksum-crc32c", "AAAAAA=="), "InvalidRequest").await;
}

#[tokio::test]
async fn the_length_must_be_announced() {
    let world = World::with_bucket().await;
    let mut ask = Ask::new("PUT", "/photos/a").body("x");
    ask.headers.retain(|(name, _)| name != "content-length");
    assert_eq!(world.send(ask).await.error(), (StatusCode::LENGTH_REQUIRED, "MissingContentLength"));
}

fn unsigned_stream(body: &str, decoded: &str) -> Ask {
    Ask::new("PUT", "/photos/a")
        .body(body.to_owned())
        .payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", decoded)
        .header("x-amz-trailer", "x-amz-checksum-crc32")
}

#[tokio::test]
async fn an_unsigned_stream_is_verified_by_its_trailer() {
    let world = World::with_bucket().await;
    let body = |sum: &str| format!("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:{sum}\r\n\r\n");
    let reply = world.send(unsigned_stream(&body(&crc32(b"hello")), "5")).await;
    assert_eq!((reply.status, reply.header("x-amz-checksum-crc32")), (200, crc32(b"hello").as_str()), "{}", reply.text);
    let read = world.send(Ask::new("GET", "/photos/a").header("x-amz-checksum-mode", "ENABLED")).await;
    assert_eq!((read.text.as_str(), read.header("x-amz-checksum-crc32")), ("hello", crc32(b"hello").as_str()));
    assert_eq!(read.header("content-encoding"), "");

    refused(&world, unsigned_stream(&body(&crc32(b"other")), "5"), "BadDigest").await;
    refused(&world, unsigned_stream(&body(&crc32(b"hello")), "6"), "IncompleteBody").await;
    refused(&world, unsigned_stream("5\r\nhello\r\n0\r\n\r\n", "5"), "IncompleteBody").await;
    refused(&world, unsigned_stream(&format!("{}x", body(&crc32(b"hello"))), "5"), "IncompleteBody").await;
    let mut without = unsigned_stream("5\r\nhello\r\n0\r\n\r\n", "5");
    without.headers.retain(|(name, _)| name != "x-amz-trailer");
    refused(&world, without, "InvalidRequest").await;
}

#[tokio::test]
async fn a_stream_of_signed_chunks_is_verified_chunk_by_chunk() {
    let world = World::with_bucket().await;
    let nothing = ids::hex(&mac::sha256(b""));
    let ask = |length: usize| {
        Ask::new("PUT", "/photos/a")
            .payload("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
            .header("content-length", &length.to_string())
            .header("x-amz-decoded-content-length", "8")
    };
    for tampered in [false, true] {
        let (mut request, seed) = ask(300).signed_with_seed();
        let (mut previous, mut body) = (seed, String::new());
        for chunk in ["first", "end", ""] {
            let hash = ids::hex(&mac::sha256(chunk.as_bytes()));
            let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{NOW}\n{SCOPE}\n{previous}\n{nothing}\n{hash}");
            previous = sign_text(&text);
            let sent = if tampered && chunk == "end" { "odd" } else { chunk };
            let size = sent.len();
            write!(body, "{size:x};chunk-signature={previous}\r\n{sent}\r\n").unwrap();
        }
        *request.body_mut() = Body::from(body);
        let reply = world.call(request).await;
        if tampered {
            assert_eq!(reply.error(), (StatusCode::FORBIDDEN, "SignatureDoesNotMatch"));
        } else {
            assert_eq!(reply.status, 200, "{}", reply.text);
        }
        assert_eq!(world.get("/photos/a").await.text, "firstend");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_what_was_there() {
    let world = World::with_bucket().await;
    world.put("/photos/a", "before").await;
    let mut request = Ask::new("PUT", "/photos/a").payload("UNSIGNED-PAYLOAD").header("content-length", "10").signed();
    let broken = futures_util::stream::iter([Ok(Bytes::from_static(b"part")), Err(std::io::Error::other("gone"))]);
    *request.body_mut() = Body::from_stream(broken);
    assert_eq!(world.call(request).await.error(), (StatusCode::BAD_REQUEST, "IncompleteBody"));
    assert_eq!(world.get("/photos/a").await.text, "before");
}
