//! What the holder of a key may do, and what not.

use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::accounts::{AccessKey, By, KeyChange, KeyRights, NewKey};

const DENIED: (StatusCode, &str) = (StatusCode::FORBIDDEN, "AccessDenied");

fn rights(grants: &[&str]) -> KeyRights {
    KeyRights::Limited { grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(), mail: false }
}

impl World {
    /// A key with `grants`, as signers take it.
    pub(super) async fn key(&self, grants: &[&str]) -> (String, String) {
        let wanted = NewKey { label: "app".to_owned(), rights: rights(grants), expires: None };
        signer(&self.users.create_access_key(wanted, &By::command_line()).await.unwrap())
    }

    async fn ask(&self, key: &(String, String), method: &'static str, target: &str) -> Reply {
        self.call(Ask::new(method, target).signed_by(key)).await
    }

    async fn put_by(&self, key: &(String, String), target: &str, bytes: &'static str) -> Reply {
        self.call(Ask::new("PUT", target).body(bytes).signed_by(key)).await
    }
}

fn signer(key: &AccessKey) -> (String, String) {
    (key.id.clone(), key.secret.expose().clone())
}

#[tokio::test]
async fn a_key_reads_what_its_grants_name_and_nothing_else() {
    let world = World::with_bucket().await;
    for name in ["/photos/app/a", "/photos/apple", "/photos/b"] {
        world.put(name, "x").await;
    }
    let key = world.key(&["photos/app/:read"]).await;
    assert_eq!(world.ask(&key, "GET", "/photos/app/a").await.text, "x");
    assert_eq!(world.ask(&key, "HEAD", "/photos/app/a").await.status, 200);
    assert_eq!(world.ask(&key, "HEAD", "/photos").await.status, 200);
    for (method, target) in [
        ("GET", "/photos/apple"),
        ("GET", "/photos/b"),
        ("GET", "/photos/none"),
        ("GET", "/other/app/a"),
        ("GET", "/photos?list-type=2&prefix=app%2F"),
        ("GET", "/photos?versions"),
        ("GET", "/photos?uploads"),
        ("DELETE", "/photos/app/a"),
        ("PUT", "/photos/app/a"),
        ("PUT", "/photos/app/a?tagging"),
        ("POST", "/photos/app/a?uploads"),
        ("PUT", "/photos"),
        ("PUT", "/photos?versioning"),
        ("DELETE", "/photos"),
    ] {
        assert_eq!(world.ask(&key, method, target).await.error(), DENIED, "{method} {target}");
    }
    assert_eq!(world.get("/photos/app/a").await.text, "x");
}

#[tokio::test]
async fn a_listing_stays_below_the_prefix_of_the_grant() {
    let world = World::with_bucket().await;
    for name in ["/photos/app/a", "/photos/app/b/c", "/photos/zoo"] {
        world.put(name, "x").await;
    }
    let key = world.key(&["photos/app/:list"]).await;
    for target in ["/photos?prefix=app/", "/photos?list-type=2&prefix=app/b", "/photos?versions&prefix=app/"] {
        let reply = world.ask(&key, "GET", target).await;
        assert_eq!(reply.status, 200, "{target}");
        assert!(!reply.text.contains("zoo"));
    }
    let rest = "start-after=app/b&continuation-token=em8";
    for target in ["/photos", "/photos?prefix=ap", "/photos?prefix=z", "/photos?delimiter=/", "/photos?prefix=app"] {
        assert_eq!(world.ask(&key, "GET", target).await.error(), DENIED, "{target}");
    }
    assert_eq!(world.ask(&key, "GET", &format!("/photos?list-type=2&{rest}")).await.error(), DENIED);
}

#[tokio::test]
async fn a_key_sees_the_buckets_it_knows() {
    let world = World::with_bucket().await;
    for bucket in ["/logs-a", "/logs-b"] {
        world.send(Ask::new("PUT", bucket)).await;
    }
    let key = world.key(&["logs-*:append"]).await;
    assert_eq!(world.ask(&key, "GET", "/").await.all("Name"), ["logs-a", "logs-b"]);
    assert_eq!(world.ask(&key, "HEAD", "/logs-a").await.status, 200);
    assert_eq!(world.ask(&key, "GET", "/photos?location").await.error(), DENIED);
}

#[tokio::test]
async fn a_key_that_appends_neither_overwrites_nor_deletes() {
    let world = World::with_bucket().await;
    let key = world.key(&["photos:append"]).await;
    assert_eq!(world.put_by(&key, "/photos/a", "first").await.status, 200);
    assert_eq!(world.put_by(&key, "/photos/a", "second").await.error(), DENIED);
    let conditions = [("if-match", "*"), ("if-match", "\"8b04d5e3775d298e78455efc5ca404d5\"")];
    for (name, value) in conditions {
        let ask = Ask::new("PUT", "/photos/a").header(name, value).body("second");
        assert_eq!(world.call(ask.signed_by(&key)).await.error(), DENIED, "{name}");
    }
    let ask = Ask::new("PUT", "/photos/a").header("if-none-match", "*").body("second");
    assert_eq!(world.call(ask.signed_by(&key)).await.error().1, "PreconditionFailed");
    assert_eq!(world.ask(&key, "DELETE", "/photos/a").await.error(), DENIED);
    let delete = "<Delete><Object><Key>a</Key></Object></Delete>";
    let reply = world.call(Ask::new("POST", "/photos?delete").body(delete).signed_by(&key)).await;
    assert_eq!((reply.status, reply.all("Code")), (200, vec!["AccessDenied"]));
    assert_eq!(world.get("/photos/a").await.text, "first");
    assert_eq!(world.ask(&key, "GET", "/photos/a").await.error(), DENIED);
}

#[tokio::test]
async fn an_upload_in_parts_of_a_key_that_appends_replaces_nothing() {
    let world = World::with_bucket().await;
    let key = world.key(&["photos:append"]).await;
    world.put("/photos/old", "kept").await;
    for (name, status) in [("old", 403), ("new", 200)] {
        let started = world.ask(&key, "POST", &format!("/photos/{name}?uploads")).await;
        let id = started.all("UploadId")[0].to_owned();
        let part = world.put_by(&key, &format!("/photos/{name}?partNumber=1&uploadId={id}"), "x").await;
        let etag = part.header("etag").to_owned();
        let parts = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        );
        let ask = Ask::new("POST", &format!("/photos/{name}?uploadId={id}")).body(parts);
        assert_eq!(world.call(ask.signed_by(&key)).await.status, status, "{name}");
        assert_eq!(world.ask(&key, "DELETE", &format!("/photos/{name}?uploadId={id}")).await.error(), DENIED);
    }
    assert_eq!(world.get("/photos/old").await.text, "kept");
    assert_eq!(world.get("/photos/new").await.text, "x");
}

#[tokio::test]
async fn the_source_of_a_copy_needs_a_read_of_its_own() {
    let world = World::with_bucket().await;
    world.put("/photos/secret/a", "secret").await;
    world.put("/photos/open/a", "open").await;
    let key = world.key(&["photos/mine/:write", "photos/open/:read"]).await;
    let copy = |source: &str| Ask::new("PUT", "/photos/mine/b").header("x-amz-copy-source", source).signed_by(&key);
    assert_eq!(world.call(copy("/photos/secret/a")).await.error(), DENIED);
    assert_eq!(world.call(copy("/photos/secret/a?versionId=null")).await.error(), DENIED);
    assert_eq!(world.get("/photos/mine/b").await.status, 404);
    assert_eq!(world.call(copy("/photos/open/a")).await.status, 200);
    let started = world.ask(&key, "POST", "/photos/mine/c?uploads").await;
    let part = format!("/photos/mine/c?partNumber=1&uploadId={}", started.all("UploadId")[0]);
    let copy = |source: &str| Ask::new("PUT", &part).header("x-amz-copy-source", source).signed_by(&key);
    assert_eq!(world.call(copy("/photos/secret/a")).await.error(), DENIED);
    assert_eq!(world.call(copy("/photos/open/a")).await.status, 200);
}

#[tokio::test]
async fn many_deletions_are_decided_one_by_one() {
    let world = World::with_bucket().await;
    for name in ["/photos/tmp/a", "/photos/keep"] {
        world.put(name, "x").await;
    }
    let key = world.key(&["photos/tmp/:delete"]).await;
    let body = "<Delete><Object><Key>tmp/a</Key></Object><Object><Key>keep</Key></Object></Delete>";
    let reply = world.call(Ask::new("POST", "/photos?delete").body(body).signed_by(&key)).await;
    assert_eq!(reply.status, 200);
    assert_eq!((reply.all("Key"), reply.all("Code")), (vec!["tmp/a", "keep"], vec!["AccessDenied"]));
    assert_eq!(world.get("/photos/tmp/a").await.status, 404);
    assert_eq!(world.get("/photos/keep").await.status, 200);
}

#[tokio::test]
async fn a_presigned_address_is_worth_what_its_key_is_worth_now() {
    let world = World::with_bucket().await;
    world.put("/photos/a", "x").await;
    let by = By::command_line();
    let ends = world.clock.now().after(Duration::from_secs(30));
    let wanted = NewKey { label: "app".to_owned(), rights: rights(&["photos:read"]), expires: Some(ends) };
    let key = world.users.create_access_key(wanted, &by).await.unwrap();
    let address = || Ask::new("GET", "/photos/a").presigned_by(&signer(&key), &[]);
    assert_eq!(world.call(address()).await.text, "x");
    let put = Ask::new("PUT", "/photos/b").presigned_by(&signer(&key), &[]);
    assert_eq!(world.call(put).await.error(), DENIED);
    let less = KeyChange { rights: Some(rights(&["photos/b:read"])), ..KeyChange::default() };
    world.users.change_access_key(&key.id, less, &by).await.unwrap();
    assert_eq!(world.call(address()).await.error(), DENIED);
    let more = KeyChange { rights: Some(KeyRights::All), ..KeyChange::default() };
    world.users.change_access_key(&key.id, more, &by).await.unwrap();
    assert_eq!(world.call(address()).await.text, "x");
    world.clock.advance(Duration::from_secs(31));
    let reply = world.call(address()).await;
    assert_eq!(reply.error(), DENIED);
    assert!(reply.text.contains("the access key has expired"), "{}", reply.text);
}

#[tokio::test]
async fn both_secrets_sign_until_the_old_one_is_retired() {
    let world = World::with_bucket().await;
    let by = By::command_line();
    let old = (KEY_ID.to_owned(), SECRET.to_owned());
    let new = signer(&world.users.rotate_access_key(KEY_ID, Duration::from_hours(1), &by).await.unwrap());
    for key in [&old, &new] {
        assert_eq!(world.put_by(key, "/photos/a", "x").await.status, 200);
        let address = Ask::new("GET", "/photos/a").presigned_by(key, &[]);
        assert_eq!(world.call(address).await.text, "x");
    }
    world.users.retire_secret(KEY_ID, &by).await.unwrap();
    assert_eq!(world.ask(&old, "GET", "/photos/a").await.error().1, "SignatureDoesNotMatch");
    assert_eq!(world.ask(&new, "GET", "/photos/a").await.text, "x");
}

#[tokio::test]
async fn the_use_of_a_key_is_noted_when_it_was_let_in() {
    let world = World::with_bucket().await;
    let key = world.key(&["photos:read"]).await;
    let used = || world.users.access_key(&key.0).unwrap().last_used();
    world.put_by(&key, "/photos/a", "x").await;
    assert_eq!(used(), None);
    world.ask(&key, "GET", "/photos/a").await;
    assert_eq!(used(), Some(world.clock.now()));
}

#[tokio::test]
async fn nobody_opens_to_everybody_what_they_may_not_do_themselves() {
    let world = World::with_bucket().await;
    world.put("/photos/private/a", "secret").await;
    let policy = |action: &str, resource: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":"*","Action":"{action}","Resource":"arn:aws:s3:::photos{resource}"}}}}"#
        )
    };
    let set = async |key: &(String, String), text: String| {
        world.call(Ask::new("PUT", "/photos?policy").body(text).signed_by(key)).await
    };
    let manager = world.key(&["photos:manage", "photos/public/:read,list", "photos/in/:append"]).await;
    for (action, resource) in [
        ("s3:GetObject", "/*"),
        ("s3:GetObject", "/private/a"),
        ("s3:GetObject", "/p*"),
        ("s3:GetObject", "/public?a"),
        ("s3:PutObject", "/public/*"),
        ("s3:PutObject", "/in/*"),
        ("s3:DeleteObject", "/public/*"),
        ("s3:ListBucket", ""),
        ("s3:ListBucketVersions", ""),
    ] {
        assert_eq!(set(&manager, policy(action, resource)).await.error(), DENIED, "{action} {resource}");
        assert_eq!(world.get("/photos?policy").await.status, 404);
    }
    assert_eq!(set(&manager, policy("s3:GetObject", "/public/*")).await.status, 204);
    assert_eq!(world.call(Ask::new("GET", "/photos/private/a").unsigned()).await.error(), DENIED);
    let reader = world.key(&["photos:read-write"]).await;
    assert_eq!(set(&reader, policy("s3:GetObject", "/*")).await.error(), DENIED);
    assert_eq!(world.ask(&reader, "DELETE", "/photos?policy").await.error(), DENIED);
}

#[tokio::test]
async fn a_form_is_worth_what_the_key_that_signed_it_may_do() {
    let world = World::with_bucket().await;
    world.put("/photos/up/there", "old").await;
    let form = async |key: &(String, String), name: &str| {
        world.call(policies::form_by(key, r#"["starts-with","$key",""]"#, &[("key", name)], "new")).await
    };
    let writer = world.key(&["photos/up/:append"]).await;
    assert_eq!(form(&writer, "up/new").await.status, 204);
    assert_eq!(form(&writer, "up/there").await.error(), DENIED);
    assert_eq!(form(&writer, "elsewhere").await.error(), DENIED);
    assert_eq!(world.get("/photos/up/there").await.text, "old");
    let reader = world.key(&["photos:read-only"]).await;
    assert_eq!(form(&reader, "up/other").await.error(), DENIED);
}
