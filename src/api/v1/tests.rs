//! The interface as a whole, over services on doubles.

use std::path::Path;

use axum::http::{Method, Request};
use serde_json::{Value, json};

use super::*;
use crate::accounts::{AccessKeys, AccountsConfig, By, FirstCredentials, Scopes};
use crate::bans::Bans;
use crate::base::{Disk, Secret, Shutdown, Supervisor, SystemRandom};
use crate::crypto::keyring::MasterSource;
use crate::crypto::{Keyring, MasterKey};
use crate::http::{Handler as _, RouterHandler, body};
use crate::jobs::Jobs;
use crate::limits::RateLimitsConfig;
use crate::mail::MailConfig;
use crate::monitor::SettingView;
use crate::monitor::certificates::{CertificateView, Origin};
use crate::objects::ObjectsConfig;
use crate::telemetry::Metrics;
use crate::testing::{FaultyDisk, TestClock, TestRandom, memory_store};

struct Door {
    handler: RouterHandler,
    users: Users,
    admin: Secret<String>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn door() -> Door {
    let (clock, metrics) = (Arc::new(TestClock::default()), Metrics::new());
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::with_clock(clock.clone()));
    let random = Arc::new(SystemRandom);
    let store = memory_store();
    let master = MasterSource::Given { key: MasterKey::random(&TestRandom::new(1)), from: "test" };
    let keyring = Arc::new(Keyring::open(disk.clone(), random.clone(), Path::new("/data"), master, false).unwrap());
    let supervisor = Supervisor::new(Shutdown::new());
    let jobs = Jobs::new(store.clone(), clock.clone(), random.clone(), supervisor, &metrics);
    let root = Path::new("/data").join("objects");
    let limits = ObjectsConfig::default();
    let objects =
        Objects::open(disk, root, store.clone(), keyring, jobs, clock.clone(), random.clone(), &metrics, limits)
            .unwrap();
    let first = FirstCredentials::default();
    let keys = Arc::new(AccessKeys::open(&store, random.as_ref(), clock.as_ref(), first).unwrap());
    let config = AccountsConfig::default();
    let users = Users::open(store.clone(), keys, clock.clone(), random.clone(), config).unwrap();
    let setting = SettingView {
        key: String::from("s3.region"),
        value: String::from("\"us-east-1\""),
        default: String::from("\"us-east-1\""),
        source: String::from("default"),
        doc: String::from("The region."),
    };
    let certificates = Certificates::default();
    certificates.kept_by(
        || {
            vec![CertificateView {
                name: String::from("example.com"),
                origin: Origin::SelfSigned,
                authority: None,
                expires_ms: Some(1_000),
                renew_at_ms: None,
                ordering: true,
                can_renew: true,
                last_attempt_ms: None,
                failures: 2,
                next_attempt_ms: None,
                error: Some(String::from("policy forbids this name")),
            }]
        },
        |name| name == "example.com",
        || None,
    );
    let world = World {
        users: users.clone(),
        objects,
        analytics: Analytics::new(
            store.clone(),
            clock.clone(),
            random.clone(),
            &metrics,
            crate::analytics::AnalyticsConfig::default(),
        ),
        mail: Outbox::new(store.clone(), clock.clone(), random, &metrics, MailConfig::default()),
        backups: crate::backup::server_tests::backups(&Shutdown::new()),
        issues: crate::issues::tests::issues(&store, crate::issues::IssuesConfig::default()).issues,
        bans: Bans::open(store.clone(), clock.clone(), &metrics, crate::bans::Rules::default()).unwrap(),
        limits: Limits::open(store.clone(), clock.clone(), &metrics, &RateLimitsConfig::default()).unwrap(),
        checks: Checks::new(Vec::new(), Shutdown::new()),
        certificates,
        upstreams: Upstreams::default(),
        sites: SitesSeen::default(),
        settings: SettingViews::new(vec![setting]),
        s3_endpoint: Some(String::from("http://127.0.0.1:9000")),
        region: String::from("us-east-1"),
        clock,
    };
    let admin = users.first_token().unwrap();
    Door { handler: RouterHandler::new(V1::new(world).router()), users, admin }
}

impl Door {
    async fn send(&self, method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |text| Body::from(text.to_owned()));
        self.call(request.body(body).unwrap()).await
    }

    async fn call(&self, request: Request<Body>) -> Answer {
        let peer = Peer { address: "192.0.2.1:1".parse().unwrap(), secure: false, door: "console" };
        let (head, bytes) = self.handler.call(request, peer).await.into_parts();
        let text = body::read(bytes, 1 << 20).await.unwrap();
        let text = String::from_utf8_lossy(text.as_ref()).into_owned();
        Answer { status: head.status.as_u16(), headers: head.headers, text }
    }

    async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string());
        self.send(method, path, Some(self.admin.expose()), body.as_deref()).await
    }

    async fn token(&self, scopes: Scopes) -> Secret<String> {
        self.users.create_token("test", scopes, None, &By::command_line()).await.unwrap().1
    }
}

/// Every route with a path that names nothing that is there.
fn requests() -> Vec<(&'static str, String, &'static route::Route)> {
    let at = |route: &route::Route| {
        let segments = route.path.split('/').map(|segment| if segment.starts_with('{') { "9" } else { segment });
        format!("/v1{}", segments.collect::<Vec<_>>().join("/"))
    };
    table::ROUTES.iter().map(|route| (route.verb.name(), at(route), route)).collect()
}

#[tokio::test]
async fn nothing_answers_without_a_token_or_with_a_wrong_one() {
    let door = door();
    for (method, path, _) in requests() {
        let none = door.send(method, &path, None, None).await;
        assert_eq!((none.status, none.header(header::WWW_AUTHENTICATE)), (401, r#"Bearer realm="mainstay""#), "{path}");
        assert_eq!(none.header(header::CONTENT_TYPE), "application/problem+json");
    }
    let wrong = door.send("GET", "/v1/status", Some("mst_abc"), None).await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.header(header::WWW_AUTHENTICATE).contains("invalid_token"));
}

#[tokio::test]
async fn every_route_wants_its_scope() {
    let door = door();
    let tokens = [door.token(Scopes::READ).await, door.token(Scopes::WRITE).await, door.token(Scopes::ADMIN).await];
    let scopes = [Scopes::READ, Scopes::WRITE, Scopes::ADMIN];
    for (method, path, route) in requests() {
        for (token, scope) in tokens.iter().zip(scopes) {
            let answer = door.send(method, &path, Some(token.expose()), None).await;
            let wanted = route.scope.is_none_or(|wanted| scope.allow(wanted));
            assert_eq!(answer.status != 403, wanted, "{method} {path} {:?}: {}", scope.names(), answer.text);
        }
    }
}

#[tokio::test]
async fn unknown_paths_methods_parameters_and_bodies_are_problems() {
    let door = door();
    for path in ["/v1", "/v1/", "/v1/nothing", "/v1/tokens/", "/v1/buckets/a/b/c/d", "/v1/openapi.json/x"] {
        let answer = door.admin("GET", path, None).await;
        assert_eq!((answer.status, answer.json()["status"].as_u64()), (404, Some(404)), "{path}");
    }
    let answer = door.admin("PUT", "/v1/tokens", None).await;
    assert_eq!((answer.status, answer.header(header::ALLOW)), (405, "GET, POST"));
    assert_eq!(door.admin("OPTIONS", "/v1/openapi.json", None).await.status, 405);
    assert_eq!(door.admin("GET", "/v1/audit?limti=3", None).await.status, 400);
    for limit in ["0", "201", "-1", "x", ""] {
        assert_eq!(door.admin("GET", &format!("/v1/audit?limit={limit}"), None).await.status, 400, "{limit}");
    }
    assert_eq!(door.admin("GET", "/v1/buckets/photos/object", None).await.status, 400);
    let admin = Some(door.admin.expose().as_str());
    for (body, status) in [
        ("{", 400),
        ("[]", 400),
        (r#"{"label":1}"#, 400),
        (r#"{"label":"x","more":1}"#, 400),
        (r#"{"label":"x","label":"y"}"#, 400),
        (r#"{"label":""}"#, 422),
        (&format!(r#"{{"label":"{}"}}"#, "x".repeat(70_000)), 413),
    ] {
        let answer = door.send("POST", "/v1/access-keys", admin, Some(body)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    let plain = Request::builder().method(Method::POST).uri("/v1/access-keys");
    let plain = plain.header(header::AUTHORIZATION, format!("Bearer {}", door.admin.expose()));
    assert_eq!(door.call(plain.body(Body::from("label=x")).unwrap()).await.status, 415);
    assert_eq!(door.send("DELETE", "/v1/tokens/x", admin, Some("{}")).await.status, 400, "a body where none belongs");
}

#[tokio::test]
async fn guessing_tokens_makes_an_address_wait() {
    let door = door();
    for _ in 0..30 {
        assert_eq!(door.send("GET", "/v1/status", Some("mst_guess"), None).await.status, 401);
    }
    let answer = door.admin("GET", "/v1/status", None).await;
    assert_eq!((answer.status, answer.header(header::RETRY_AFTER)), (429, "900"));
}

#[tokio::test]
async fn tokens_are_made_used_listed_and_revoked() {
    let door = door();
    let body = json!({"label": "ci", "scopes": ["read"], "expires_at": "2026-02-01T00:00:00Z"});
    let made = door.admin("POST", "/v1/tokens", Some(body)).await;
    assert_eq!((made.status, made.header(header::CACHE_CONTROL)), (201, "no-store"), "{}", made.text);
    let made = made.json();
    let text = made["token"].as_str().unwrap();
    let own = door.send("GET", "/v1/token", Some(text), None).await.json();
    assert_eq!((&own["label"], &own["scopes"]), (&json!("ci"), &json!(["read"])));
    let list = door.admin("GET", "/v1/tokens", None).await;
    assert!(list.text.contains(made["id"].as_str().unwrap()) && !list.text.contains(text));
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    let revoked = door.admin("DELETE", &path, None).await;
    assert_eq!((revoked.status, revoked.text.as_str()), (204, ""));
    assert_eq!(door.send("GET", "/v1/token", Some(text), None).await.status, 401);
    assert_eq!(door.admin("DELETE", &path, None).await.status, 404);
    for bad in [json!({"label": "x", "scopes": []}), json!({"label": "x", "scopes": ["all"]})] {
        assert_eq!(door.admin("POST", "/v1/tokens", Some(bad)).await.status, 400);
    }
    let past = json!({"label": "x", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"});
    assert_eq!(door.admin("POST", "/v1/tokens", Some(past)).await.status, 422);
    let audit = door.admin("GET", "/v1/audit?limit=1", None).await.json();
    assert_eq!(audit["items"].as_array().unwrap().len(), 1);
    let next = door.admin("GET", &format!("/v1/audit?cursor={}", audit["next"].as_str().unwrap()), None).await;
    assert!(next.text.contains("token.created") && !next.text.contains(text));
}

#[tokio::test]
async fn access_keys_are_made_and_revoked_but_the_last_one() {
    let door = door();
    let first = door.admin("GET", "/v1/access-keys", None).await.json()["items"][0]["id"].clone();
    let first = format!("/v1/access-keys/{}", first.as_str().unwrap());
    assert_eq!(door.admin("DELETE", &first, None).await.status, 409);
    let made = door.admin("POST", "/v1/access-keys", Some(json!({"label": "app"}))).await;
    assert_eq!((made.status, made.json()["secret"].as_str().unwrap().len()), (201, 40));
    assert_eq!(door.admin("DELETE", &first, None).await.status, 204);
    assert_eq!(door.users.access_keys().len(), 1);
}

#[tokio::test]
async fn buckets_and_objects_are_shown_and_addresses_signed() {
    let door = door();
    assert_eq!(door.admin("POST", "/v1/buckets", Some(json!({"name": "photos"}))).await.status, 201);
    assert_eq!(door.admin("POST", "/v1/buckets", Some(json!({"name": "No"}))).await.status, 400);
    let list = door.admin("GET", "/v1/buckets", None).await.json();
    assert_eq!(list["items"][0]["name"], json!("photos"));
    let change = json!({"quota_bytes": 1_000, "quota_objects": 5});
    assert_eq!(door.admin("PATCH", "/v1/buckets/photos", Some(change)).await.json()["quota_bytes"], json!(1_000));
    let changed = door.admin("PATCH", "/v1/buckets/photos", Some(json!({"quota_bytes": null}))).await.json();
    assert_eq!((&changed["quota_bytes"], &changed["quota_objects"]), (&Value::Null, &json!(5)));
    assert_eq!(door.admin("GET", "/v1/buckets/photos", None).await.json(), changed);
    assert_eq!(door.admin("PATCH", "/v1/buckets/photos", Some(json!({"quota_bytes": -1}))).await.status, 400);
    assert_eq!(door.admin("PATCH", "/v1/buckets/none", Some(json!({}))).await.status, 404);
    let objects = door.admin("GET", "/v1/buckets/photos/objects?prefix=a&delimiter=/", None).await.json();
    assert_eq!(objects, json!({"items": [], "prefixes": [], "next": null}));
    assert_eq!(door.admin("GET", "/v1/buckets/none/objects", None).await.status, 404);
    assert_eq!(door.admin("GET", "/v1/buckets/photos/object?key=a/b", None).await.status, 404);
    assert_eq!(door.admin("DELETE", "/v1/buckets/photos/object?key=a/b", None).await.status, 204);
    let put = json!({"method": "PUT", "key": "a b/c.txt", "expires_seconds": 60});
    let signed = door.admin("POST", "/v1/buckets/photos/presign", Some(put.clone())).await.json();
    let url = signed["url"].as_str().unwrap();
    assert!(url.starts_with("http://127.0.0.1:9000/photos/a%20b/c.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&"), "{url}");
    let reader = door.token(Scopes::READ).await;
    let refused = door.send("POST", "/v1/buckets/photos/presign", Some(reader.expose()), Some(&put.to_string())).await;
    assert_eq!(refused.status, 403);
    for (name, value) in
        [("endpoint", json!("ftp://x")), ("endpoint", json!("http://x/y")), ("method", json!("DELETE"))]
    {
        let mut bad = put.clone();
        bad[name] = value;
        assert_eq!(door.admin("POST", "/v1/buckets/photos/presign", Some(bad)).await.status, 400);
    }
    assert_eq!(door.admin("DELETE", "/v1/buckets/photos", None).await.status, 204);
}

#[tokio::test]
async fn addresses_are_banned_listed_and_let_go() {
    let door = door();
    let made =
        door.admin("POST", "/v1/bans", Some(json!({"address": "2001:db8::1", "for": "1h", "reason": "why"}))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!((&made.json()["address"], &made.json()["jail"]), (&json!("2001:db8::/64"), &json!(null)));
    assert_eq!(
        door.admin("POST", "/v1/bans", Some(json!({"address": "192.0.2.1"}))).await.json()["until"],
        json!(null)
    );
    let first = door.admin("GET", "/v1/bans?limit=1", None).await.json();
    assert_eq!(first["items"][0]["address"], json!("192.0.2.1"));
    let path = format!("/v1/bans?cursor={}", first["next"].as_str().unwrap());
    let second = door.admin("GET", &path, None).await.json();
    assert_eq!((&second["items"][0]["address"], &second["next"]), (&json!("2001:db8::/64"), &json!(null)));
    for (body, status) in [
        (json!({"address": "x"}), 400),
        (json!({"address": "192.0.2.1", "for": "x"}), 400),
        (json!({"address": "127.0.0.1"}), 409),
        (json!({"address": "192.0.2.1", "reason": "x".repeat(300)}), 422),
        (json!({"address": "127.0.0.1", "force": true}), 201),
    ] {
        assert_eq!(door.admin("POST", "/v1/bans", Some(body.clone())).await.status, status, "{body}");
    }
    let lift = "/v1/bans?address=2001:db8::/64";
    assert_eq!(door.admin("DELETE", lift, None).await.status, 204);
    assert_eq!(door.admin("DELETE", lift, None).await.status, 404);
    let audit = door.admin("GET", "/v1/audit", None).await.text;
    assert!(audit.contains("ban.added") && audit.contains("ban.lifted"), "{audit}");
}

#[tokio::test]
async fn status_settings_certificates_and_issues_are_shown() {
    let door = door();
    let certificate = &door.admin("GET", "/v1/certificates", None).await.json()["items"][0];
    assert_eq!((&certificate["origin"], &certificate["failures"]), (&json!("self-signed"), &json!(2)));
    assert_eq!(certificate["expires_at"], json!("1970-01-01T00:00:01.000Z"));
    assert_eq!(certificate["error"], json!("policy forbids this name"));
    assert_eq!(door.admin("POST", "/v1/certificates/example.com/renew", None).await.status, 202);
    assert_eq!(door.admin("POST", "/v1/certificates/other.example/renew", None).await.status, 404);
    assert_eq!(door.admin("GET", "/v1/upstreams", None).await.json()["items"], json!([]));
    let status = door.admin("HEAD", "/v1/status", None).await;
    assert_eq!(status.status, 200);
    let settings = door.admin("GET", "/v1/settings", None).await.json();
    assert_eq!((&settings["items"][0]["key"], &settings["items"][0]["is_set"]), (&json!("s3.region"), &json!(false)));
    assert_eq!(door.admin("GET", "/v1/issues?status=open&level=error", None).await.json()["items"], json!([]));
    assert_eq!(door.admin("GET", "/v1/issues?status=shut", None).await.status, 400);
    assert_eq!(door.admin("GET", "/v1/issues?cursor=x", None).await.status, 400);
    for path in ["/v1/issues/1", "/v1/issues/x", "/v1/issues/1/events/latest"] {
        assert_eq!(door.admin("GET", path, None).await.status, 404, "{path}");
    }
    assert_eq!(door.admin("PATCH", "/v1/issues/1", Some(json!({"status": "resolved"}))).await.status, 404);
    assert_eq!(door.admin("PATCH", "/v1/issues/1", Some(json!({"status": "gone"}))).await.status, 400);
}

#[tokio::test]
async fn mail_that_is_not_there_and_backups_without_a_target_are_problems() {
    let door = door();
    assert_eq!(door.admin("GET", "/v1/mail?state=queued", None).await.json()["items"], json!([]));
    for bad in ["state=lost", "cursor=x", "limit=0", "standing=sent"] {
        assert_eq!(door.admin("GET", &format!("/v1/mail?{bad}"), None).await.status, 400, "{bad}");
    }
    let id = "0".repeat(32);
    for (method, path) in [("GET", ""), ("GET", "/raw"), ("POST", "/retry"), ("POST", "/cancel")] {
        for id in ["x", &id] {
            assert_eq!(door.admin(method, &format!("/v1/mail/{id}{path}"), None).await.status, 404, "{path}");
        }
    }
    let backups = door.admin("GET", "/v1/backups", None).await.json();
    assert_eq!((&backups["target"], &backups["overdue"]), (&json!(null), &json!(false)));
    assert_eq!(door.admin("POST", "/v1/backups", None).await.status, 409);
    assert_eq!(door.admin("GET", "/v1/backups/snapshots", None).await.status, 409);
}

#[tokio::test]
async fn the_document_is_for_anyone_and_is_not_sent_twice() {
    let door = door();
    let whole = door.send("GET", "/v1/openapi.json", None, None).await;
    assert_eq!(whole.json()["openapi"], json!("3.1.0"));
    let etag = whole.header(header::ETAG).to_owned();
    let again = Request::builder().uri("/v1/openapi.json").header(header::IF_NONE_MATCH, etag);
    assert_eq!(door.call(again.body(Body::empty()).unwrap()).await.status, 304);
}
