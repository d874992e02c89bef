//! The interface in front of a keyspace whose loop is a thread of the test.

use std::sync::Arc;
use std::sync::mpsc::channel;

use super::*;
use crate::base::supervise::{Priority, Role};
use crate::base::{Shutdown, Supervisor};
use crate::http::{Handler as _, Peer, RouterHandler};
use crate::kv::handle::mailbox;
use crate::kv::persist::Refusal;
use crate::kv::{Keyspace, KvConfig};
use crate::telemetry::Metrics;
use crate::testing::{TestClock, TestRandom, memory_store};

/// A server whose journal takes everything, or nothing.
fn server(refusal: Option<Refusal>) -> Upstash {
    let (wake, woken) = channel();
    let (handle, mut mailbox) = mailbox(move || {
        let _ = wake.send(());
    });
    let supervisor = Supervisor::new(Shutdown::new());
    let serve = move || {
        let mut keyspace = Keyspace::new(KvConfig::default(), Arc::new(TestRandom::new(1)));
        while woken.recv().is_ok() {
            mailbox.run(&mut keyspace, refusal.as_ref());
            mailbox.settle(None);
            keyspace.effects().clear();
        }
    };
    supervisor.thread("keyspace", Role::Ordinary, Priority::Normal, serve).unwrap();
    let clock = Arc::new(TestClock::default());
    let bans = Bans::open(memory_store(), clock, &Metrics::new(), crate::bans::Rules::default()).unwrap();
    Upstash::new(handle, Secret::new(String::from("token")), bans)
}

async fn call(upstash: &Upstash, request: Request<Body>) -> Response {
    let peer = Peer { address: "127.0.0.1:1".parse().unwrap(), secure: false, door: "console" };
    RouterHandler::new(upstash.router()).call(request, peer).await
}

async fn send(upstash: &Upstash, path: &str, body: &str, more: &[(&str, &str)]) -> (u16, String) {
    let mut request = Request::post(path).header("authorization", "Bearer token");
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    let response = call(upstash, request.body(Body::from(body.to_owned())).unwrap()).await;
    let status = response.status().as_u16();
    let text = body::read(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

async fn ok(upstash: &Upstash, path: &str, body: &str) -> String {
    let (status, text) = send(upstash, path, body, &[]).await;
    assert_eq!(status, 200, "{text}");
    text
}

#[tokio::test]
async fn commands_run_alone_in_pipelines_and_as_transactions() {
    let upstash = server(None);
    assert_eq!(ok(&upstash, "/redis", r#"["SET","k","v"]"#).await, r#"{"result":"OK"}"#);
    assert_eq!(ok(&upstash, "/redis/", r#"["get","k"]"#).await, r#"{"result":"v"}"#);
    let pipeline = ok(&upstash, "/redis/pipeline", r#"[["INCR","n"],["LPUSH","k","x"],["HGETALL","none"]]"#).await;
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    assert_eq!(pipeline, format!(r#"[{{"result":1}},{{"error":"{wrong}"}},{{"result":[]}}]"#));
    let done = ok(&upstash, "/redis/multi-exec", r#"[["INCRBY","n",5],["GET","n"],["LPUSH","k","x"]]"#).await;
    assert_eq!(done, format!(r#"[{{"result":6}},{{"result":"6"}},{{"error":"{wrong}"}}]"#));
    assert_eq!(ok(&upstash, "/redis/set/a%20b/c?EX=100", "").await, r#"{"result":"OK"}"#);
    assert_eq!(ok(&upstash, "/redis/ttl/a%20b", "").await, r#"{"result":100}"#);
    let (_, encoded) = send(&upstash, "/redis", r#"["get","k"]"#, &[("Upstash-Encoding", "base64")]).await;
    assert_eq!(encoded, r#"{"result":"dg=="}"#);
}

#[tokio::test]
async fn a_long_pipeline_is_whole_and_in_order() {
    let upstash = server(None);
    let commands = vec!["[\"INCR\",\"n\"]"; 300].join(",");
    let answer = ok(&upstash, "/redis/pipeline", &format!("[{commands}]")).await;
    let wanted: Vec<String> = (1..=300).map(|n| format!("{{\"result\":{n}}}")).collect();
    assert_eq!(answer, format!("[{}]", wanted.join(",")));
}

#[tokio::test]
async fn a_refused_transaction_changes_nothing() {
    let upstash = server(None);
    for body in [r#"[["SET","k","v"],["NO","x"]]"#, r#"[["SET","k","v"],["GET"]]"#, r#"[["SET","k","v"],["MULTI"]]"#] {
        let (status, text) = send(&upstash, "/redis/multi-exec", body, &[]).await;
        assert!(status == 400 && text.contains("EXECABORT"), "{text}");
    }
    assert_eq!(ok(&upstash, "/redis", r#"["EXISTS","k"]"#).await, r#"{"result":0}"#);
}

#[tokio::test]
async fn what_belongs_to_a_connection_is_refused_and_nothing_waits() {
    let upstash = server(None);
    for name in ["SUBSCRIBE", "WATCH", "MULTI", "SELECT", "CLIENT", "INFO", "AUTH", "NONSENSE"] {
        let (status, text) = send(&upstash, "/redis", &format!(r#"["{name}","x"]"#), &[]).await;
        assert_eq!((status, text), (400, format!(r#"{{"error":"ERR Command is not available: '{name}'"}}"#)));
    }
    assert_eq!(ok(&upstash, "/redis", r#"["BLPOP","none",0]"#).await, r#"{"result":null}"#);
}

#[tokio::test]
async fn nobody_gets_in_without_the_token() {
    let upstash = server(None);
    for header in [None, Some("Bearer"), Some("Bearer wrong"), Some("Basic token"), Some("token")] {
        let mut request = Request::post("/redis");
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let response = call(&upstash, request.body(Body::from("[\"PING\"]")).unwrap()).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{header:?}");
    }
    let (status, _) = send(&upstash, "/redis", "[\"PING\"]", &[("authorization", "Bearer token")]).await;
    assert_eq!(status, 401, "two tokens");
}

#[tokio::test]
async fn while_the_journal_refuses_reads_go_on() {
    let upstash = server(Some(Refusal::Full));
    let (status, text) = send(&upstash, "/redis", r#"["SET","k","v"]"#, &[]).await;
    assert!(status == 400 && text.contains("MISCONF"), "{text}");
    assert_eq!(ok(&upstash, "/redis", r#"["GET","k"]"#).await, r#"{"result":null}"#);
}
