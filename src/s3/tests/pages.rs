//! Web pages of other origins.

use super::*;

fn preflight(origin: &str) -> http::Request<Body> {
    Ask::new("OPTIONS", "/photos/a")
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "content-type,x-amz-meta-a")
        .unsigned()
}

#[tokio::test]
async fn pages_of_allowed_origins_may_use_presigned_addresses() {
    let world = World::with_bucket().await;
    let reply = world.call(preflight("https://app.example.com")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), "https://app.example.com");
    assert_eq!(reply.header("access-control-allow-headers"), "content-type,x-amz-meta-a");
    assert!(reply.header("access-control-allow-methods").contains("PUT"));
    let put = Ask::new("PUT", "/photos/a").body("x").presigned(&[("origin", "https://app.example.com")]);
    let reply = world.call(put).await;
    assert_eq!((reply.status, reply.header("vary")), (200, "origin"));
    assert!(reply.header("access-control-expose-headers").contains("ETag"));
}

#[tokio::test]
async fn pages_of_other_origins_may_not() {
    let world = World::with_bucket().await;
    let reply = world.call(preflight("https://evil.test")).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, ""));
    let get = Ask::new("GET", "/photos").header("origin", "https://evil.test");
    assert_eq!(world.send(get).await.header("access-control-allow-origin"), "");
}
