//! The six rules of facts about others' breaches, each as a regression test.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;

use super::*;
use crate::bans::{Door, LoginJail, Term};

#[tokio::test]
async fn nothing_is_done_for_the_anonymous() {
    let world = World::with_bucket().await;
    for (method, target) in [("GET", "/"), ("PUT", "/photos/a"), ("GET", "/photos/a"), ("POST", "/photos?delete")] {
        let reply = world.call(Ask::new(method, target).unsigned()).await;
        assert_eq!(reply.error(), (StatusCode::FORBIDDEN, "AccessDenied"), "{method} {target}");
    }
}

#[tokio::test]
async fn credentials_alone_are_no_signature() {
    // MinIO, CVE-2026-41145: an unsigned streamed body with a key named in the query was written.
    let world = World::with_bucket().await;
    let body = "1\r\na\r\n0\r\nx-amz-checksum-crc32:6Le+Qw==\r\n\r\n";
    let ask =
        Ask::new("PUT", &format!("/photos/a?X-Amz-Credential={KEY_ID}%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"))
            .body(body)
            .header("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .header("x-amz-trailer", "x-amz-checksum-crc32")
            .header("x-amz-decoded-content-length", "1");
    assert_eq!(world.call(ask.unsigned()).await.status, 400);
    assert_eq!(world.get("/photos/a").await.status, 404);
}

#[tokio::test]
async fn wrong_signatures_and_unknown_keys_count_for_jails_and_presigned_ones_do_not() {
    let world = World::with_bucket().await;
    let (minute, client) = (Duration::from_mins(1), "192.0.2.1".parse().unwrap());
    let term = Term { first: minute, growth: 1, longest: minute };
    let jail = LoginJail { name: "logins".into(), doors: vec![Door::S3], most: 3, within: minute, term };
    world.bans.set_rules(Rules { logins: vec![jail], ..Rules::default() });
    let (stranger, guess) =
        (("AKIANOBODY".to_owned(), SECRET.to_owned()), (KEY_ID.to_owned(), "a guess of some length".to_owned()));
    for _ in 0..4 {
        let wrong = world.call(Ask::new("GET", "/photos").presigned_by(&guess, &[])).await;
        assert_eq!(wrong.error(), (StatusCode::FORBIDDEN, "SignatureDoesNotMatch"));
        world.call(Ask::new("GET", "/photos").unsigned()).await;
    }
    assert_eq!(world.call(Ask::new("GET", "/photos").signed_by(&stranger)).await.error().1, "InvalidAccessKeyId");
    assert_eq!(world.call(Ask::new("GET", "/photos").signed_by(&guess)).await.error().1, "SignatureDoesNotMatch");
    assert!(!world.bans.shuts_out(client));
    world.call(Ask::new("GET", "/photos").signed_by(&guess)).await;
    assert!(world.bans.shuts_out(client));
    let (_, ban) = world.bans.holding(client).unwrap();
    assert_eq!(ban.reason, "3 failed log-ins, the last at the door s3");
}

#[tokio::test]
async fn a_presigned_put_does_not_become_a_copy() {
    // s3s 0.14, MinIO CVE-2026-54330, RustFS: an unsigned header turned an upload into a read of any object.
    let world = World::with_bucket().await;
    world.put("/photos/secret", "secret").await;
    let request = Ask::new("PUT", "/photos/mine").presigned(&[("x-amz-copy-source", "/photos/secret")]);
    let reply = world.call(request).await;
    assert_eq!(reply.error(), (StatusCode::FORBIDDEN, "AccessDenied"));
    assert!(reply.text.contains("<HeadersNotSigned>x-amz-copy-source</HeadersNotSigned>"), "{}", reply.text);
    assert_eq!(world.get("/photos/mine").await.status, 404);
}

#[tokio::test]
async fn an_unsigned_meta_header_is_refused_on_signed_requests_too() {
    let world = World::with_bucket().await;
    let mut request = Ask::new("PUT", "/photos/a").body("x").signed();
    request.headers_mut().insert("x-amz-meta-a", "b".parse().unwrap());
    assert_eq!(world.call(request).await.error(), (StatusCode::FORBIDDEN, "AccessDenied"));
}

#[tokio::test]
async fn two_ways_of_authentication_are_refused() {
    let world = World::with_bucket().await;
    let mut request = Ask::new("GET", "/photos").presigned(&[]);
    let signed = Ask::new("GET", "/photos").signed();
    for name in ["authorization", "x-amz-date", "x-amz-content-sha256"] {
        request.headers_mut().insert(name, signed.headers()[name].clone());
    }
    assert_eq!(world.call(request).await.error(), (StatusCode::BAD_REQUEST, "InvalidRequest"));
}

#[tokio::test]
async fn an_unknown_payload_word_is_refused() {
    let world = World::with_bucket().await;
    for word in ["UNSIGNED", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "", &"F".repeat(64)] {
        let reply = world.send(Ask::new("PUT", "/photos/a").body("x").payload(word)).await;
        assert_eq!(reply.error(), (StatusCode::BAD_REQUEST, "InvalidArgument"), "{word}");
    }
}

#[tokio::test]
async fn a_presigned_address_takes_no_streamed_body() {
    let world = World::with_bucket().await;
    let request = Ask::new("PUT", "/photos/a")
        .body("0\r\n\r\n")
        .presigned(&[("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")]);
    assert_eq!(world.call(request).await.error(), (StatusCode::BAD_REQUEST, "InvalidRequest"));
}

#[tokio::test]
async fn a_presigned_address_expires() {
    let world = World::with_bucket().await;
    world.put("/photos/a", "x").await;
    assert_eq!(world.call(Ask::new("GET", "/photos/a").presigned(&[])).await.text, "x");
    world.clock.advance(Duration::from_secs(61));
    let reply = world.call(Ask::new("GET", "/photos/a").presigned(&[])).await;
    assert_eq!(reply.error(), (StatusCode::FORBIDDEN, "AccessDenied"));
}

#[tokio::test]
async fn duplicate_parameters_are_refused() {
    let world = World::with_bucket().await;
    let request = Ask::new("GET", "/photos?prefix=a&prefix=b").unsigned();
    assert_eq!(world.call(request).await.error(), (StatusCode::BAD_REQUEST, "InvalidRequest"));
}

#[tokio::test]
async fn another_region_is_told_the_right_one() {
    let world = World::with(&S3Config { region: "eu-central-1".to_owned(), ..S3Config::default() });
    let reply = world.get("/").await;
    assert_eq!(reply.error(), (StatusCode::BAD_REQUEST, "AuthorizationHeaderMalformed"));
    assert_eq!(reply.all("Region"), ["eu-central-1"]);
}

#[tokio::test]
async fn the_source_of_a_copy_is_looked_up_as_a_read() {
    let world = World::with_bucket().await;
    let copy = |source: &str| Ask::new("PUT", "/photos/b").header("x-amz-copy-source", source);
    for (source, code) in [
        ("/photos/none", "NoSuchKey"),
        ("/nothing/a", "NoSuchBucket"),
        ("photos", "InvalidArgument"),
        ("/photos/a?versionId=7", "NoSuchVersion"),
    ] {
        assert_eq!(world.send(copy(source)).await.error().1, code, "{source}");
    }
}

#[tokio::test]
async fn a_link_in_the_old_way_leads_to_its_object_while_it_is_good() {
    let world = World::with_bucket().await;
    let expires = world.clock.now().seconds() + 60;
    let link = |method: &str, body: &'static str| {
        let signed = mac::hmac_sha1(SECRET.as_bytes(), format!("{method}\n\n\n{expires}\n/photos/a").as_bytes());
        let signature = uri::encode_component(&STANDARD.encode(signed));
        let target = format!("/photos/a?AWSAccessKeyId={KEY_ID}&Expires={expires}&Signature={signature}");
        let request = http::Request::builder().method(method).uri(target).header("host", "localhost:9000");
        request.header("content-length", body.len()).body(Body::from(body)).unwrap()
    };
    assert_eq!(world.call(link("PUT", "by link")).await.status, 200);
    assert_eq!(world.call(link("GET", "")).await.text, "by link");
    let mut copies = link("PUT", "");
    copies.headers_mut().insert("x-amz-copy-source", "/photos/b".parse().unwrap());
    assert_eq!(world.call(copies).await.error().1, "AccessDenied");
    let mut both = link("GET", "");
    both.headers_mut().insert("authorization", "AWS4-HMAC-SHA256 x".parse().unwrap());
    assert_eq!(world.call(both).await.error().1, "InvalidRequest");
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.call(link("GET", "")).await.error(), (StatusCode::FORBIDDEN, "AccessDenied"));
}

#[tokio::test]
async fn what_cannot_be_followed_is_not_ignored() {
    let world = World::with_bucket().await;
    for (name, value) in [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-write-offset-bytes", "0"),
    ] {
        let reply = world.send(Ask::new("PUT", "/photos/a").body("x").header(name, value)).await;
        assert_eq!(reply.error(), (StatusCode::NOT_IMPLEMENTED, "NotImplemented"), "{name}");
    }
    for target in ["/photos/a?retention", "/photos?website", "/photos?cors"] {
        let reply = world.put(target, "x").await;
        assert_eq!(reply.error(), (StatusCode::NOT_IMPLEMENTED, "NotImplemented"), "{target}");
    }
    assert_eq!(world.get("/photos/a").await.status, 404);
}
