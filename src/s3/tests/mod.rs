//! The door as a whole, over the object service on doubles: what goes in and what comes out.

mod access;
mod buckets;
mod lifecycle;
mod multipart;
mod objects;
mod pages;
mod policies;
mod security;
mod streaming;
mod versions;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};

use super::{S3Config, S3Door};
use crate::accounts::{AccessKeys, AccountsConfig, FirstCredentials, Users};
use crate::bans::{Bans, Rules};
use crate::base::{Clock, Disk, Secret, Shutdown, Supervisor, SystemRandom, ids};
use crate::crypto::keyring::MasterSource;
use crate::crypto::{Keyring, MasterKey, mac};
use crate::http::query::Query;
use crate::http::{Body, Handler, Peer, body, uri};
use crate::jobs::Jobs;
use crate::objects::{Objects, ObjectsConfig};
use crate::telemetry::Metrics;
use crate::testing::{FaultyDisk, TestClock, TestRandom, memory_store};

const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// What the test clock shows.
const NOW: &str = "20260101T000000Z";
const SCOPE: &str = "20260101/us-east-1/s3/aws4_request";

/// A door with nothing behind it yet.
struct World {
    door: S3Door,
    users: Users,
    bans: Bans,
    clock: Arc<TestClock>,
}

impl World {
    fn new() -> Self {
        Self::with(&S3Config { cors_origins: vec!["https://app.example.com".to_owned()], ..S3Config::default() })
    }

    fn with(config: &S3Config) -> Self {
        let (clock, metrics) = (Arc::new(TestClock::default()), Metrics::new());
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::with_clock(clock.clone()));
        let random = Arc::new(SystemRandom);
        let store = memory_store();
        let master = MasterSource::Given { key: MasterKey::random(&TestRandom::new(1)), from: "test" };
        let data = Path::new("/data");
        let keyring = Arc::new(Keyring::open(disk.clone(), random.clone(), data, master, false).unwrap());
        let supervisor = Supervisor::new(Shutdown::new());
        let jobs = Jobs::new(store.clone(), clock.clone(), random.clone(), supervisor, &metrics);
        let root = data.join("objects");
        let (limits, time) = (ObjectsConfig::default(), clock.clone());
        let objects = Objects::open(disk, root, store, keyring, jobs, time, random.clone(), &metrics, limits).unwrap();
        let first = FirstCredentials { id: Some(KEY_ID.to_owned()), secret: Some(Secret::new(SECRET.to_owned())) };
        let (time, state): (Arc<dyn Clock>, _) = (clock.clone(), memory_store());
        let keys = Arc::new(AccessKeys::open(&state, random.as_ref(), time.as_ref(), first).unwrap());
        let settings = AccountsConfig::default();
        let users = Users::open(state, keys, time.clone(), random.clone(), settings).unwrap();
        let bans = Bans::open(memory_store(), time.clone(), &metrics, Rules::default()).unwrap();
        let door = S3Door::new(objects, users.clone(), bans.clone(), Arc::new(|| true), time, random, config);
        Self { door, users, bans, clock }
    }

    /// A world with the bucket `photos`.
    async fn with_bucket() -> Self {
        let world = Self::new();
        assert_eq!(world.send(Ask::new("PUT", "/photos")).await.status, 200);
        world
    }

    async fn call(&self, request: http::Request<Body>) -> Reply {
        let peer = Peer { address: "192.0.2.1:1".parse().unwrap(), secure: false, door: "s3" };
        Reply::of(self.door.call(request, peer).await).await
    }

    async fn send(&self, ask: Ask) -> Reply {
        self.call(ask.signed()).await
    }

    async fn put(&self, target: &str, bytes: &'static str) -> Reply {
        self.send(Ask::new("PUT", target).body(bytes)).await
    }

    async fn get(&self, target: &str) -> Reply {
        self.send(Ask::new("GET", target)).await
    }
}

/// An answer, read to its end.
struct Reply {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body::read(body, 8 << 20).await.unwrap();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// The status, and the code of an error.
    fn error(&self) -> (StatusCode, &str) {
        let code = self.text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        (StatusCode::from_u16(self.status).unwrap(), code.map_or("", |(code, _)| code))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The texts of all elements called `name`.
    fn all(&self, name: &str) -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        self.text.split(open.as_str()).skip(1).map(|rest| rest.split_once(close.as_str()).unwrap().0).collect()
    }
}

/// A request to be.
#[derive(Clone)]
struct Ask {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    payload: String,
}

impl Ask {
    fn new(method: &'static str, target: &str) -> Self {
        let payload = ids::hex(&mac::sha256(b""));
        Self { method, target: target.to_owned(), headers: Vec::new(), body: Bytes::new(), payload }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.payload = ids::hex(&mac::sha256(&self.body));
        let length = self.body.len().to_string();
        self.header("content-length", &length)
    }

    fn payload(mut self, payload: &str) -> Self {
        payload.clone_into(&mut self.payload);
        self
    }

    fn unsigned(self) -> http::Request<Body> {
        let mut request = http::Request::builder().method(self.method).uri(self.target);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            request = request.header(header::HOST, "localhost:9000");
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(if self.body.is_empty() { Body::empty() } else { Body::from(self.body) }).unwrap()
    }

    /// The request with an `Authorization` header that signs all its headers.
    fn signed(self) -> http::Request<Body> {
        self.signed_with_seed().0
    }

    /// The request signed with another key and its secret.
    fn signed_by(self, key: &(String, String)) -> http::Request<Body> {
        self.signed_with_seed_by((&key.0, &key.1)).0
    }

    /// The same, and its signature.
    fn signed_with_seed(self) -> (http::Request<Body>, String) {
        self.signed_with_seed_by((KEY_ID, SECRET))
    }

    fn signed_with_seed_by(self, (id, secret): (&str, &str)) -> (http::Request<Body>, String) {
        let payload = self.payload.clone();
        let ask = self.header("x-amz-date", NOW).header("x-amz-content-sha256", &payload);
        let mut request = ask.unsigned();
        let names = names(request.headers());
        let signature = sign(secret, &canonical(&request, &names, &payload));
        let text = format!(
            "AWS4-HMAC-SHA256 Credential={id}/{SCOPE}, SignedHeaders={}, Signature={signature}",
            names.join(";")
        );
        request.headers_mut().insert(header::AUTHORIZATION, text.parse().unwrap());
        (request, signature)
    }

    /// The request as a presigned address, good for a minute; `later` is added after signing.
    fn presigned(self, later: &[(&'static str, &'static str)]) -> http::Request<Body> {
        self.presigned_by(&(KEY_ID.to_owned(), SECRET.to_owned()), later)
    }

    fn presigned_by(
        mut self,
        (id, secret): &(String, String),
        later: &[(&'static str, &'static str)],
    ) -> http::Request<Body> {
        let joint = if self.target.contains('?') { '&' } else { '?' };
        let credential = uri::encode_component(&format!("{id}/{SCOPE}"));
        let (target, body) = (self.target.clone(), std::mem::take(&mut self.body));
        let target = format!(
            "{target}{joint}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={NOW}\
             &X-Amz-Expires=60&X-Amz-SignedHeaders=host"
        );
        let request = Self { target: target.clone(), ..Self::new(self.method, "") }.unsigned();
        let signature = sign(secret, &canonical(&request, &["host".to_owned()], "UNSIGNED-PAYLOAD"));
        let mut request = Self { target: format!("{target}&X-Amz-Signature={signature}"), body, ..self }.unsigned();
        for (name, value) in later {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        request
    }
}

fn names(headers: &HeaderMap) -> Vec<String> {
    let mut names: Vec<String> = headers.keys().map(ToString::to_string).collect();
    names.sort();
    names
}

fn canonical(request: &http::Request<Body>, names: &[String], payload: &str) -> String {
    let query = Query::parse(request.uri().query().unwrap_or_default()).unwrap();
    let mut pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", uri::encode_component(name), uri::encode_component(value)))
        .collect();
    pairs.sort();
    let headers: Vec<String> =
        names.iter().map(|name| format!("{name}:{}\n", request.headers()[name].to_str().unwrap())).collect();
    let path = uri::encode_path(&uri::decode(request.uri().path()).unwrap());
    let (method, query, headers) = (request.method(), pairs.join("&"), headers.concat());
    format!("{method}\n{path}\n{query}\n{headers}\n{}\n{payload}", names.join(";"))
}

fn sign(secret: &str, canonical: &str) -> String {
    let hash = ids::hex(&mac::sha256(canonical.as_bytes()));
    sign_text_with(secret, &format!("AWS4-HMAC-SHA256\n{NOW}\n{SCOPE}\n{hash}"))
}

fn sign_text(text: &str) -> String {
    sign_text_with(SECRET, text)
}

fn sign_text_with(secret: &str, text: &str) -> String {
    let mut key = mac::hmac_sha256(format!("AWS4{secret}").as_bytes(), &[&NOW.as_bytes()[..8]]);
    for part in ["us-east-1", "s3", "aws4_request"] {
        key = mac::hmac_sha256(&key, &[part.as_bytes()]);
    }
    ids::hex(&mac::hmac_sha256(&key, &[text.as_bytes()]))
}
