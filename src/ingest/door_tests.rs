use axum::http::Request;

use super::*;
use crate::accounts::FirstCredentials;
use crate::base::SystemRandom;
use crate::http::{Handler, RouterHandler};
use crate::issues::tests::{Rig, issues};
use crate::issues::{Filter, IssuesConfig};
use crate::testing::{TestClock, memory_store};

struct Door {
    rig: Rig,
    handler: RouterHandler,
    key: String,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

fn door(config: IssuesConfig) -> Door {
    let rig = issues(&memory_store(), config);
    let first = FirstCredentials::default();
    let keys = AccessKeys::open(&memory_store(), &SystemRandom, &TestClock::default(), first).unwrap();
    let key = keys.project_key(1).unwrap().expose().clone();
    let ingest = Ingest::new(rig.issues.clone(), Arc::new(keys));
    Door { rig, handler: RouterHandler::new(ingest.router()), key }
}

impl Door {
    async fn ask(&self, request: Request<Body>) -> Answer {
        let peer = Peer { address: "127.0.0.1:1".parse().unwrap(), secure: false, door: "console" };
        let (head, body) = self.handler.call(request, peer).await.into_parts();
        let body = body::read(body, 1 << 20).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        let uri = format!("{path}?sentry_version=7&sentry_key={}", self.key);
        self.ask(Request::post(uri).body(Body::from(body.to_owned())).unwrap()).await
    }
}

const EVENT: &str = "{\"event_id\":\"0123456789abcdef0123456789abcdef\"}\n{\"type\":\"event\"}\n{\"message\":\"m\"}\n\
                     {\"type\":\"session\"}\n{}\n{\"type\":\"something_new\"}\n{}\n";

#[tokio::test]
async fn an_envelope_is_answered_with_the_events_id_and_becomes_an_issue() {
    let door = door(IssuesConfig::default());
    for path in ["/api/1/envelope/", "/api/1/envelope"] {
        let answer = door.post(path, EVENT).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"id":"0123456789abcdef0123456789abcdef"}"#));
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
    door.rig.jobs.run_due().await.unwrap();
    let list = door.rig.issues.list(Filter::default()).await.unwrap().issues;
    assert_eq!((list.len(), list[0].count, list[0].title.as_str()), (1, 2, "m"));
    let received = door.rig.issues.received(1).await.unwrap();
    assert_eq!(received, [("default".to_owned(), 2), ("error".to_owned(), 2), ("session".to_owned(), 2)]);
}

#[tokio::test]
async fn what_a_policy_has_blocked_becomes_an_issue() {
    let door = door(IssuesConfig::default());
    let report = r#"{"csp-report":{"document-uri":"https://a.example/","violated-directive":"img-src","blocked-uri":"https://b.example/c.png"}}"#;
    for path in ["/api/1/security/", "/api/1/security"] {
        assert_eq!(door.post(path, report).await.status, 200);
    }
    assert_eq!(door.post("/api/1/security/", "[]").await.status, 200, "nothing to say");
    assert_eq!(door.post("/api/1/security/", "{}").await.status, 400);
    door.rig.jobs.run_due().await.unwrap();
    let list = door.rig.issues.list(Filter::default()).await.unwrap().issues;
    let wanted = (1, 2, "img-src blocked https://b.example");
    assert_eq!((list.len(), list[0].count, list[0].title.as_str()), wanted);
}

#[tokio::test]
async fn a_tunnelled_envelope_shows_its_key_in_its_own_header() {
    let door = door(IssuesConfig::default());
    let send = |key: String| {
        let body = format!("{{\"dsn\":\"http://{key}@localhost/1\"}}\n{{\"type\":\"event\"}}\n{{\"message\":\"m\"}}");
        door.ask(Request::post("/api/1/envelope/").body(Body::from(body)).unwrap())
    };
    assert_eq!(send(door.key.clone()).await.status, 200);
    assert_eq!(send("0".repeat(32)).await.status, 403);
}

#[tokio::test]
async fn strangers_and_broken_bodies_are_told_why_in_a_header_too() {
    let door = door(IssuesConfig::default());
    let none = door.ask(Request::post("/api/1/store/").body(Body::from("{}")).unwrap()).await;
    assert_eq!(none.status, 401);
    assert!(none.headers["x-sentry-error"].to_str().unwrap().contains("sentry_key"));
    assert!(none.headers.contains_key("access-control-expose-headers"));
    for (path, body, status) in [
        ("/api/2/store/", "{}", 403),
        // The server's own project has no key.
        ("/api/0/store/", "{}", 403),
        ("/api/x/store/", "{}", 403),
        ("/api/1/store/", "{\"a\":", 400),
        ("/api/1/envelope/", "[]", 400),
    ] {
        let answer = door.post(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert!(answer.body.starts_with(r#"{"detail":"#), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_full_server_names_the_categories_it_refuses() {
    let door = door(IssuesConfig { events_per_minute: 1, ..IssuesConfig::default() });
    assert_eq!(door.post("/api/1/store/", "{\"message\":\"m\"}").await.status, 200);
    let answer = door.post("/api/1/envelope/", EVENT).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers["x-sentry-rate-limits"], "60:error;default:project:too_many_events");
    assert_eq!(answer.headers["retry-after"], "60");
    let sessions = "{}\n{\"type\":\"session\"}\n{}";
    assert_eq!(door.post("/api/1/envelope/", sessions).await.status, 200);
}

#[tokio::test]
async fn a_preflight_gets_back_the_headers_it_asks_for() {
    let door = door(IssuesConfig::default());
    let request = Request::options("/api/1/envelope/").header("access-control-request-headers", "x-mine, content-type");
    let answer = door.ask(request.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (answer.status, &answer.headers["access-control-allow-headers"]),
        (204, &HeaderValue::from_static("x-mine, content-type"))
    );
    assert_eq!(door.ask(Request::get("/api/1/store/").body(Body::empty()).unwrap()).await.status, 405);
}
