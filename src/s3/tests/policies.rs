//! What a bucket's policy opens to everybody, and forms from browsers.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;

use super::*;

const DENIED: (StatusCode, &str) = (StatusCode::FORBIDDEN, "AccessDenied");

fn download(prefix: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":["*"]}},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::photos/{prefix}*"]}}]}}"#
    )
}

impl World {
    async fn set_policy(&self, text: String) -> Reply {
        self.send(Ask::new("PUT", "/photos?policy").body(text)).await
    }

    async fn anyone(&self, method: &'static str, target: &str) -> Reply {
        self.call(Ask::new(method, target).unsigned()).await
    }
}

#[tokio::test]
async fn a_policy_is_put_read_and_deleted() {
    let world = World::with_bucket().await;
    assert_eq!(world.get("/photos?policy").await.error().1, "NoSuchBucketPolicy");
    assert_eq!(world.set_policy(download("")).await.status, 204);
    assert_eq!(world.get("/photos?policy").await.text, download(""));
    assert_eq!(world.get("/photos?policyStatus").await.all("IsPublic"), ["true"]);
    assert_eq!(world.set_policy("{}".to_owned()).await.error().1, "MalformedPolicy");
    assert_eq!(world.set_policy("x".repeat(20_481)).await.error().1, "MaxMessageLengthExceeded");
    assert_eq!(world.get("/photos?policy").await.text, download(""));
    assert_eq!(world.send(Ask::new("DELETE", "/photos?policy")).await.status, 204);
    assert_eq!(world.get("/photos?policy").await.error().1, "NoSuchBucketPolicy");
    assert_eq!(world.get("/none?policy").await.error().1, "NoSuchBucket");
}

#[tokio::test]
async fn a_public_prefix_is_read_by_anybody_and_nothing_else_is() {
    let world = World::with_bucket().await;
    world.put("/photos/public/a", "open").await;
    world.put("/photos/private", "shut").await;
    world.set_policy(download("public/")).await;
    let reply = world.anyone("GET", "/photos/public/a").await;
    assert_eq!((reply.text.as_str(), reply.header("x-content-type-options")), ("open", "nosniff"));
    for (method, target) in [
        ("GET", "/photos/private"),
        ("GET", "/photos/public/a?versionId=null"),
        ("GET", "/photos/public/a?tagging"),
        ("GET", "/photos?policy"),
        ("GET", "/photos"),
        ("PUT", "/photos/public/a"),
        ("DELETE", "/photos/public/a"),
        ("POST", "/photos?delete"),
        ("DELETE", "/photos?policy"),
        ("GET", "/none/a"),
        ("GET", "/"),
    ] {
        assert_eq!(world.anyone(method, target).await.error(), DENIED, "{method} {target}");
    }
    let dressed = world.anyone("GET", "/photos/public/a?response-content-type=text/html").await;
    assert_eq!(dressed.error(), (StatusCode::BAD_REQUEST, "InvalidRequest"));
    let copy = Ask::new("PUT", "/photos/public/b").header("x-amz-copy-source", "/photos/private").unsigned();
    assert_eq!(world.call(copy).await.error(), DENIED);
    world.send(Ask::new("DELETE", "/photos?policy")).await;
    assert_eq!(world.anyone("GET", "/photos/public/a").await.error(), DENIED);
}

#[tokio::test]
async fn a_policy_goes_with_its_bucket() {
    let world = World::with_bucket().await;
    world.set_policy(download("")).await;
    world.send(Ask::new("DELETE", "/photos")).await;
    world.send(Ask::new("PUT", "/photos")).await;
    world.put("/photos/a", "x").await;
    assert_eq!(world.anyone("GET", "/photos/a").await.error(), DENIED);
}

#[tokio::test]
async fn a_bucket_has_tags() {
    let world = World::with_bucket().await;
    let tags = "<Tagging><TagSet><Tag><Key>team</Key><Value>web</Value></Tag></TagSet></Tagging>";
    assert_eq!(world.send(Ask::new("PUT", "/photos?tagging").body(tags)).await.status, 200);
    let reply = world.get("/photos?tagging").await;
    assert_eq!((reply.all("Key"), reply.all("Value")), (vec!["team"], vec!["web"]));
    assert_eq!(world.send(Ask::new("DELETE", "/photos?tagging")).await.status, 204);
    assert_eq!(world.get("/photos?tagging").await.error().1, "NoSuchTagSet");
}

/// A form whose policy has `conditions` and is signed; `more` stands before the file.
fn form(conditions: &str, more: &[(&str, &str)], file: &str) -> http::Request<Body> {
    form_by(&(KEY_ID.to_owned(), SECRET.to_owned()), conditions, more, file)
}

/// The same, signed with a key of one's own.
pub(super) fn form_by(
    (id, secret): &(String, String),
    conditions: &str,
    more: &[(&str, &str)],
    file: &str,
) -> http::Request<Body> {
    let own = format!(
        r#"{{"bucket":"photos"}},{{"x-amz-algorithm":"AWS4-HMAC-SHA256"}},{{"x-amz-credential":"{id}/{SCOPE}"}},{{"x-amz-date":"{NOW}"}}"#
    );
    let document = format!(r#"{{"expiration":"2026-01-01T00:01:00.000Z","conditions":[{own},{conditions}]}}"#);
    let policy = STANDARD.encode(document);
    let credential = format!("{id}/{SCOPE}");
    let signature = sign_text_with(secret, &policy);
    let mut fields = vec![
        ("policy", policy.as_str()),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", credential.as_str()),
        ("X-Amz-Date", NOW),
        ("X-Amz-Signature", signature.as_str()),
    ];
    fields.extend(more);
    bare_form(&fields, file)
}

fn bare_form(fields: &[(&str, &str)], file: &str) -> http::Request<Body> {
    let mut body = String::new();
    for (name, value) in fields {
        write!(body, "--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").unwrap();
    }
    body +=
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"me.png\"\r\nContent-Type: image/png\r\n\r\n";
    write!(body, "{file}\r\n--b--\r\n").unwrap();
    let ask = Ask::new("POST", "/photos").body(body).header("content-type", "multipart/form-data; boundary=b");
    ask.unsigned()
}

const ANY_KEY: &str = r#"["starts-with","$key","user/"]"#;

#[tokio::test]
async fn a_signed_form_stores_its_file() {
    let world = World::with_bucket().await;
    let fields = [("key", "user/${filename}"), ("Content-Type", "image/png"), ("x-amz-meta-a", "b")];
    let conditions = format!(r#"{ANY_KEY},["eq","$Content-Type","image/png"],["starts-with","$x-amz-meta-a",""]"#);
    let reply = world.call(form(&conditions, &fields, "picture")).await;
    assert_eq!(reply.status, 204, "{}", reply.text);
    let got = world.get("/photos/user/me.png").await;
    assert_eq!(
        (got.text.as_str(), got.header("content-type"), got.header("x-amz-meta-a")),
        ("picture", "image/png", "b")
    );
    let status = [("key", "user/b"), ("success_action_status", "201")];
    let conditions = format!(r#"{ANY_KEY},{{"success_action_status":"201"}}"#);
    let reply = world.call(form(&conditions, &status, "x")).await;
    assert_eq!((reply.status, reply.all("Key")), (201, vec!["user/b"]));
    let to = [("key", "user/c"), ("success_action_redirect", "https://app.example.com/done")];
    let conditions = format!(r#"{ANY_KEY},["starts-with","$success_action_redirect","https://app.example.com/"]"#);
    let reply = world.call(form(&conditions, &to, "x")).await;
    assert_eq!(reply.status, 303);
    assert!(reply.header("location").starts_with("https://app.example.com/done?bucket=photos&key=user%2Fc&etag=%22"));
}

#[tokio::test]
async fn a_form_beyond_its_policy_stores_nothing() {
    let world = World::with_bucket().await;
    let range = format!(r#"{ANY_KEY},["content-length-range",2,4]"#);
    let key = [("key", "user/a")];
    for (conditions, fields, file, error) in [
        (ANY_KEY, &[("key", "other/a")][..], "x", "AccessDenied"),
        (ANY_KEY, &[("key", "user/a"), ("acl", "public-read")], "x", "AccessDenied"),
        (ANY_KEY, &[("key", "user/a"), ("bucket", "other")], "x", "InvalidArgument"),
        (ANY_KEY, &[("key", "user/a"), ("KEY", "user/b")], "x", "InvalidArgument"),
        (&range, &key, "x", "EntityTooSmall"),
        (&range, &key, "12345", "EntityTooLarge"),
        (r#"["ends-with","$key","a"]"#, &key, "x", "InvalidPolicyDocument"),
    ] {
        let reply = world.call(form(conditions, fields, file)).await;
        assert_eq!(reply.error().1, error, "{conditions} {fields:?}");
        assert_eq!(world.get("/photos/user/a").await.status, 404);
    }
    assert_eq!(world.call(form(&range, &key, "1234")).await.status, 204);
}

#[tokio::test]
async fn a_form_with_another_signature_or_none_is_refused() {
    let world = World::with_bucket().await;
    assert_eq!(world.call(bare_form(&[("key", "a")], "x")).await.error(), DENIED);
    let proof = [("policy", "e30="), ("X-Amz-Signature", "00"), ("key", "a")];
    assert_eq!(world.call(bare_form(&proof, "x")).await.error().1, "InvalidArgument");
    let credential = format!("{KEY_ID}/{SCOPE}");
    let document = STANDARD.encode(r#"{"expiration":"2027-01-01T00:00:00Z","conditions":[["starts-with","$key",""]]}"#);
    let forged = [
        ("policy", document.as_str()),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-credential", credential.as_str()),
        ("x-amz-date", NOW),
        ("x-amz-signature", "0000000000000000000000000000000000000000000000000000000000000000"),
        ("key", "a"),
    ];
    assert_eq!(world.call(bare_form(&forged, "x")).await.error().1, "SignatureDoesNotMatch");
    let mut signed = form(ANY_KEY, &[("key", "user/a")], "x");
    signed.headers_mut().insert("authorization", "AWS4-HMAC-SHA256 x".parse().unwrap());
    assert_eq!(world.call(signed).await.error().1, "InvalidRequest");
    world.clock.advance(std::time::Duration::from_mins(1));
    let late = world.call(form(ANY_KEY, &[("key", "user/a")], "x")).await;
    assert_eq!(late.error(), DENIED);
    assert!(late.text.contains("Policy expired"), "{}", late.text);
    assert_eq!(world.get("/photos?list-type=2").await.all("Key").len(), 0);
}
