//! Lifecycles as clients set and see them.

use http::StatusCode;

use super::*;

const DENIED: (StatusCode, &str) = (StatusCode::FORBIDDEN, "AccessDenied");

fn rules(inner: &str) -> String {
    format!("<LifecycleConfiguration>{inner}</LifecycleConfiguration>")
}

fn rule(inner: &str) -> String {
    rules(&format!("<Rule><ID>r</ID><Status>Enabled</Status>{inner}</Rule>"))
}

impl World {
    async fn set_rules(&self, document: String) -> Reply {
        self.send(Ask::new("PUT", "/photos?lifecycle").body(document)).await
    }
}

const WHOLE: &str = "<Rule><ID>drafts</ID><Filter><And><Prefix>drafts/</Prefix><Tag><Key>a</Key><Value>b</Value></Tag>\
    <ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And></Filter><Status>Enabled</Status><Expiration><Days>3</Days>\
    </Expiration><NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays><NewerNoncurrentVersions>\
    4</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule><Rule><ID>old</ID><Prefix>tmp/</Prefix>\
    <Status>Disabled</Status><Expiration><Date>2026-03-01T00:00:00.000Z</Date></Expiration>\
    <AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
    <Rule><ID>markers</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status><Expiration>\
    <ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration></Rule>";

#[tokio::test]
async fn a_lifecycle_is_put_read_back_and_deleted() {
    let world = World::with_bucket().await;
    assert_eq!(world.get("/photos?lifecycle").await.error().1, "NoSuchLifecycleConfiguration");
    assert_eq!(world.set_rules(rules(WHOLE)).await.status, 200);
    let read = world.get("/photos?lifecycle").await.text;
    let inner = read.split_once("<Rule>").unwrap().1.rsplit_once("</Rule>").unwrap().0;
    assert_eq!(format!("<Rule>{inner}</Rule>"), WHOLE);
    assert_eq!(world.set_rules(read).await.status, 200, "what is read can be put");
    assert_eq!(world.send(Ask::new("DELETE", "/photos?lifecycle")).await.status, 204);
    assert_eq!(world.get("/photos?lifecycle").await.error().1, "NoSuchLifecycleConfiguration");
}

#[tokio::test]
async fn what_is_not_followed_is_refused_and_changes_nothing() {
    let world = World::with_bucket().await;
    world.set_rules(rules(WHOLE)).await;
    let (all, days) = ("<Filter><Prefix></Prefix></Filter>", "<Expiration><Days>1</Days></Expiration>");
    for (inner, code) in [
        (days.to_owned(), "MalformedXML"),
        (all.to_owned(), "InvalidRequest"),
        (format!("{all}<Prefix></Prefix>{days}"), "MalformedXML"),
        (format!("{all}<Expiration><Days>0</Days></Expiration>"), "InvalidArgument"),
        (format!("{all}<Expiration><Days>-1</Days></Expiration>"), "InvalidArgument"),
        (format!("{all}<Expiration><Days>x</Days></Expiration>"), "MalformedXML"),
        (format!("{all}<Expiration></Expiration>"), "MalformedXML"),
        (format!("{all}<Expiration><Days>1</Days><Date>2026-03-01T00:00:00Z</Date></Expiration>"), "MalformedXML"),
        (format!("{all}<Expiration><Date>2026-03-01T10:00:00Z</Date></Expiration>"), "InvalidArgument"),
        (format!("{all}<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"), "NotImplemented"),
        (format!("{all}<Surprise>1</Surprise>{days}"), "MalformedXML"),
        (
            format!("<Filter><Prefix>a</Prefix><ObjectSizeGreaterThan>1</ObjectSizeGreaterThan></Filter>{days}"),
            "MalformedXML",
        ),
        (format!("<Filter><And><Prefix>a</Prefix></And></Filter>{days}"), "MalformedXML"),
        (
            format!(
                "<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>{days}<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
            ),
            "InvalidRequest",
        ),
        (
            format!(
                "{all}<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>101</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
            ),
            "InvalidArgument",
        ),
    ] {
        assert_eq!(world.set_rules(rule(&inner)).await.error().1, code, "{inner}");
    }
    let twice = WHOLE.replace("<ID>old</ID>", "<ID>drafts</ID>");
    assert_eq!(world.set_rules(rules(&twice)).await.error().1, "InvalidArgument");
    assert_eq!(world.set_rules(rules("")).await.error().1, "MalformedXML");
    assert_eq!(world.get("/photos?lifecycle").await.all("ID"), ["drafts", "old", "markers"]);
}

#[tokio::test]
async fn an_object_tells_when_it_ends() {
    let world = World::with_bucket().await;
    let document = "<Filter><Prefix>tmp/</Prefix></Filter><Expiration><Days>1</Days></Expiration>";
    world.set_rules(rule(document)).await;
    let told = "expiry-date=\"Sat, 03 Jan 2026 00:00:00 GMT\", rule-id=\"r\"";
    assert_eq!(world.put("/photos/tmp/a", "x").await.header("x-amz-expiration"), told);
    assert_eq!(world.get("/photos/tmp/a").await.header("x-amz-expiration"), told);
    let copy = world.send(Ask::new("PUT", "/photos/tmp/b").header("x-amz-copy-source", "/photos/tmp/a")).await;
    assert_eq!(copy.header("x-amz-expiration"), told);
    let upload = world.send(Ask::new("POST", "/photos/tmp/c?uploads")).await.all("UploadId")[0].to_owned();
    let etag = world.put(&format!("/photos/tmp/c?partNumber=1&uploadId={upload}"), "x").await.header("etag").to_owned();
    let parts = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    let complete = world.send(Ask::new("POST", &format!("/photos/tmp/c?uploadId={upload}")).body(parts)).await;
    assert_eq!(complete.header("x-amz-expiration"), told);
    world.put("/photos/b", "x").await;
    assert!(!world.get("/photos/b").await.headers.contains_key("x-amz-expiration"));
}

#[tokio::test]
async fn nobody_has_end_what_they_may_not_delete() {
    let world = World::with_bucket().await;
    let manager = world.key(&["photos:manage,append-only", "photos/tmp/:delete"]).await;
    let set = async |prefix: &str| {
        let document =
            rule(&format!("<Filter><Prefix>{prefix}</Prefix></Filter><Expiration><Days>1</Days></Expiration>"));
        world.call(Ask::new("PUT", "/photos?lifecycle").body(document).signed_by(&manager)).await
    };
    assert_eq!(set("").await.error(), DENIED);
    assert_eq!(set("tm").await.error(), DENIED);
    assert_eq!(set("tmp/").await.status, 200);
}
