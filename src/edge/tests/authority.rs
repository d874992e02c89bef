//! A certificate authority for tests: RFC 8555 without looking at signatures, and with everything that goes wrong.

use std::convert::Infallible;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::base::Timestamp;

/// What the authority does wrong, or insists on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mood {
    /// Every so many signed requests one nonce is refused.
    pub refused_nonces: Option<usize>,
    /// So many of the first signed requests are refused for their nonce.
    pub first_refused: usize,
    /// New orders are refused for so many seconds.
    pub limited: Option<u64>,
    /// Accounts must be bound.
    pub binding: bool,
    /// Challenges stay pending.
    pub slow: bool,
    /// Answers are no JSON at all.
    pub down: bool,
    /// How many days ago each certificate should have been renewed (RFC 9773); none for no opinion.
    pub overdue_days: Option<u64>,
}

pub struct Authority {
    pub directory: String,
    /// PEM of what its own certificate is signed by; also the root of those it gives out.
    pub root: String,
    books: Arc<Books>,
}

#[derive(Default)]
struct Books {
    base: String,
    mood: Mutex<Mood>,
    /// Where the names lead to: plain HTTP and HTTPS.
    world: watch::Sender<Option<(SocketAddr, SocketAddr)>>,
    orders: Mutex<Vec<Order>>,
    accounts: AtomicUsize,
    posts: AtomicUsize,
    nonces: AtomicUsize,
    issuer: Mutex<Option<Issuer<'static, KeyPair>>>,
}

/// What was ordered, and how far it is.
#[derive(Clone, Debug)]
pub struct Order {
    /// What for; an order for a name that begins with `old.` is answered without what it replaces.
    pub name: String,
    /// The kind of certificate that was named.
    pub profile: Option<String>,
    /// The certificate it follows.
    pub replaces: Option<String>,
    status: &'static str,
    error: Option<String>,
    chain: String,
}

impl Authority {
    pub async fn start(supervisor: &Supervisor, mood: Mood) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let own_key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&own_key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![own.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own_key.serialize_der())),
            )
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let books = Arc::new(Books {
            base: base.clone(),
            mood: Mutex::new(mood),
            issuer: Mutex::new(Some(issuer)),
            ..Books::default()
        });
        let (shared, tasks) = (Arc::clone(&books), supervisor.clone());
        supervisor.task("test authority", Role::Ordinary, async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (books, tls) = (Arc::clone(&shared), tls.clone());
                tasks.task("test authority call", Role::Ordinary, async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        let books = Arc::clone(&books);
                        async move { Ok::<_, Infallible>(books.answer(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { directory: format!("{base}/dir"), root, books }
    }

    /// Where every name leads to from now on.
    pub fn reach(&self, edge: &Edge) {
        let address = |at: Option<SocketAddr>| at.unwrap_or_else(|| "127.0.0.1:1".parse().unwrap());
        self.books.world.send_replace(Some((address(edge.http()), address(edge.https()))));
    }

    pub fn set(&self, mood: Mood) {
        *self.books.mood.lock().unwrap() = mood;
    }

    /// The orders so far.
    pub fn orders(&self) -> Vec<Order> {
        self.books.orders.lock().unwrap().clone()
    }

    /// Accounts and orders it was asked for.
    pub fn asked(&self) -> (usize, usize) {
        (self.books.accounts.load(Ordering::SeqCst), self.books.orders.lock().unwrap().len())
    }
}

type Answer = Response<Full<Bytes>>;

impl Books {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let mood = *self.mood.lock().unwrap();
        if mood.down {
            let mut answer = Response::new(Full::from("<h1>Bad Gateway</h1>"));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            return answer;
        }
        let path = request.uri().path().to_owned();
        let url = |path: &str| format!("{}{path}", self.base);
        if path == "/dir" {
            return self.json(
                200,
                &json!({"newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/order"),
                    "renewalInfo": url("/renewal"), "meta": {"profiles": {"shortlived": "six days"}}}),
            );
        }
        if path.starts_with("/renewal/") {
            return self.renewal(mood);
        }
        if request.method() == Method::HEAD {
            return self.json(200, &json!({}));
        }
        let signed: Value = serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
        let payload = BASE64.decode(signed["payload"].as_str().unwrap()).unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap_or(Value::Null);
        let post = self.posts.fetch_add(1, Ordering::SeqCst);
        if post < mood.first_refused || mood.refused_nonces.is_some_and(|every| post.is_multiple_of(every)) {
            return self.problem(400, "badNonce", "try another");
        }
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let number = parts.get(1).and_then(|text| text.parse::<usize>().ok());
        match (parts[0], number) {
            ("account", _) => {
                if mood.binding && payload["externalAccountBinding"]["signature"].as_str().is_none() {
                    return self.problem(403, "externalAccountRequired", "bind your account");
                }
                self.accounts.fetch_add(1, Ordering::SeqCst);
                self.at("/account/1", self.json(201, &json!({"status": "valid"})))
            }
            ("order", None) => self.new_order(&payload, mood),
            ("order", Some(number)) => self.order(number),
            ("authz", Some(number)) => self.authorization(number),
            ("challenge", Some(number)) => {
                if !mood.slow {
                    self.validate(number, parts[2]).await;
                }
                let kind = parts[2];
                self.json(200, &json!({"type": kind, "url": url(&path), "token": "token", "status": "processing"}))
            }
            ("finalize", Some(number)) => {
                self.sign(number, payload["csr"].as_str().unwrap());
                self.order(number)
            }
            ("certificate", Some(number)) => {
                let chain = self.orders.lock().unwrap()[number].chain.clone();
                let mut answer = self.json(200, &json!({}));
                *answer.body_mut() = Full::from(chain);
                answer
            }
            _ => self.problem(404, "malformed", "no such thing"),
        }
    }

    fn new_order(&self, payload: &Value, mood: Mood) -> Answer {
        if let Some(seconds) = mood.limited {
            let mut answer = self.problem(429, "rateLimited", "too many certificates already issued");
            answer.headers_mut().insert("retry-after", seconds.into());
            return answer;
        }
        let name = payload["identifiers"][0]["value"].as_str().unwrap().to_owned();
        if name.starts_with("blocked.") {
            return self.problem(400, "rejectedIdentifier", "policy forbids this name");
        }
        let text = |field: &str| payload[field].as_str().map(str::to_owned);
        let (profile, replaces) = (text("profile"), text("replaces"));
        if profile.as_ref().is_some_and(|profile| profile != "shortlived") {
            return self.problem(400, "invalidProfile", "there is no such profile");
        }
        let number = {
            let mut orders = self.orders.lock().unwrap();
            orders.push(Order { name, profile, replaces, status: "pending", error: None, chain: String::new() });
            orders.len() - 1
        };
        let answer = self.order(number);
        self.at(&format!("/order/{number}"), answer)
    }

    /// When a certificate should be renewed.
    fn renewal(&self, mood: Mood) -> Answer {
        let Some(days) = mood.overdue_days else { return self.problem(404, "malformed", "no opinion") };
        let now = SystemClock::new().now().millis();
        let ago = |days: u64| Timestamp(now.saturating_sub(days * 86_400_000)).to_string();
        let window = json!({"suggestedWindow": {"start": ago(days + 1), "end": ago(days)}});
        let mut answer = self.json(200, &window);
        answer.headers_mut().insert("retry-after", 21_600.into());
        answer
    }

    fn order(&self, number: usize) -> Answer {
        let order = self.orders.lock().unwrap()[number].clone();
        let url = |part: &str| format!("{}/{part}/{number}", self.base);
        let replaces = if order.name.starts_with("old.") { None } else { order.replaces };
        self.json(
            200,
            &json!({"status": order.status, "authorizations": [url("authz")], "finalize": url("finalize"),
                "certificate": url("certificate"), "replaces": replaces}),
        )
    }

    fn authorization(&self, number: usize) -> Answer {
        let order = self.orders.lock().unwrap()[number].clone();
        let status = match order.status {
            "pending" => "pending",
            "invalid" => "invalid",
            _ => "valid",
        };
        let challenge = |kind: &str| {
            let error = order
                .error
                .as_ref()
                .map(|error| json!({"type": "urn:ietf:params:acme:error:unauthorized", "detail": error}));
            json!({"type": kind, "url": format!("{}/challenge/{number}/{kind}", self.base), "token": "token",
                "status": status, "error": error})
        };
        self.json(
            200,
            &json!({"identifier": {"type": "dns", "value": order.name}, "status": status,
                "challenges": [challenge("http-01"), challenge("tls-alpn-01")]}),
        )
    }

    /// Asks the edge as the kind of challenge says.
    async fn validate(&self, number: usize, kind: &str) {
        let mut world = self.world.subscribe();
        let (http, https) = world.wait_for(Option::is_some).await.unwrap().unwrap();
        let name = self.orders.lock().unwrap()[number].name.clone();
        let good = if kind == "http-01" { asked_by_http(http, &name).await } else { asked_by_tls(https, &name).await };
        let order = &mut self.orders.lock().unwrap()[number];
        match good {
            Ok(()) => order.status = "ready",
            Err(error) => {
                order.status = "invalid";
                order.error = Some(error);
            }
        }
    }

    fn sign(&self, number: usize, csr: &str) {
        let der = CertificateSigningRequestDer::from(BASE64.decode(csr).unwrap());
        let mut request = CertificateSigningRequestParams::from_der(&der).unwrap();
        let order = &mut self.orders.lock().unwrap()[number];
        let wanted = rcgen::SanType::DnsName(order.name.clone().try_into().unwrap());
        assert_eq!(request.params.subject_alt_names, [wanted]);
        let now = SystemClock::new().now().to_jiff().as_second();
        let at = |seconds| x509_parser::time::ASN1Time::from_timestamp(now + seconds).unwrap().to_datetime();
        request.params.not_before = at(-3_600);
        request.params.not_after = at(90 * 86_400);
        // What a certificate is named by in questions about its renewal (RFC 9773 section 4.1).
        request.params.use_authority_key_identifier_extension = true;
        let issuer = self.issuer.lock().unwrap();
        order.chain = request.signed_by(issuer.as_ref().unwrap()).unwrap().pem();
        order.status = "valid";
    }

    fn json(&self, status: u16, body: &Value) -> Answer {
        let nonce = self.nonces.fetch_add(1, Ordering::SeqCst);
        Response::builder()
            .status(status)
            .header("replay-nonce", format!("nonce{nonce}"))
            .body(Full::from(body.to_string()))
            .unwrap()
    }

    fn at(&self, path: &str, mut answer: Answer) -> Answer {
        answer.headers_mut().insert("location", format!("{}{path}", self.base).parse().unwrap());
        answer
    }

    fn problem(&self, status: u16, kind: &str, detail: &str) -> Answer {
        self.json(status, &json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail}))
    }
}

async fn asked_by_http(edge: SocketAddr, name: &str) -> Result<(), String> {
    let mut stream = TcpStream::connect(edge).await.map_err(|error| error.to_string())?;
    let asked = format!("GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.map_err(|error| error.to_string())?;
    let answer = read_all(&mut stream).await;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains("200 OK") && body.starts_with("token.") => Ok(()),
        _ => Err(format!("{name} answered: {answer}")),
    }
}

async fn asked_by_tls(edge: SocketAddr, name: &str) -> Result<(), String> {
    let tried = tls::handshake(edge, name, b"acme-tls/1").await;
    let certificate = tried.map_err(|error| error.to_string())?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|error| error.to_string())?;
    // id-pe-acmeIdentifier (RFC 8737 section 6.1).
    let carries = parsed.extensions().iter().any(|one| one.critical && one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
    if carries { Ok(()) } else { Err("no answer in the certificate".to_owned()) }
}
