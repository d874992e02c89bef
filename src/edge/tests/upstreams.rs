//! What apps speak, how long they may take, and how they are asked for their health.

use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::*;
use crate::monitor::UpstreamState;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
}

/// A certificate for `app.internal`, its own authority: PEM of it, and what a server needs.
fn certificate() -> (String, Arc<ServerConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["app.internal".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let config = |spoken: &[u8]| {
        let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![spoken.to_vec()];
        Arc::new(config)
    };
    (pem.clone(), config(b"http/1.1"), config(b"h2"))
}

/// An app that speaks `version` of HTTP, with TLS where `tls` is given; it answers with what it saw.
async fn app(supervisor: &Supervisor, tls: Option<Arc<ServerConfig>>, many: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, tasks) = (Arc::new(AtomicUsize::new(0)), supervisor.clone());
    let counted = Arc::clone(&connections);
    supervisor.task("test app", Role::Ordinary, async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, counted) = (tls.clone(), Arc::clone(&counted));
            tasks.task("test app connection", Role::Ordinary, async move {
                counted.fetch_add(1, Ordering::SeqCst);
                match tls {
                    Some(config) => {
                        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                            serve(stream, many).await;
                        }
                    }
                    None => serve(stream, many).await,
                }
            });
        }
    });
    (address, connections)
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, many: bool) {
    let answer = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let host = host.or_else(|| Some(request.headers().get("host")?.to_str().ok()?.to_owned())).unwrap_or_default();
        let text = format!("{:?} {host} {}", request.version(), request.uri().path());
        Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::new(bytes::Bytes::from(text))))
    });
    let io = TokioIo::new(stream);
    if many {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, answer).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await;
    }
}

#[tokio::test]
async fn an_app_behind_tls_must_have_the_right_certificate_unless_told_otherwise() {
    let supervisor = Supervisor::new(Shutdown::new());
    let (pem, tls, _) = certificate();
    let (address, _) = app(&supervisor, Some(tls), false).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::io::Write::write_all(&mut std::fs::File::create(&ca).unwrap(), pem.as_bytes()).unwrap();
    let site =
        |path: &str, more: &str| format!("[[sites]]\npath = \"{path}\"\nupstream = \"https://{address}\"\n{more}\n");
    let ca = format!("upstream_ca = \"{}\"", ca.display());
    let settings = [
        PLAIN.to_owned(),
        site("/right", &format!("{ca}\nupstream_name = \"app.internal\"\nupstream_host = \"$upstream\"")),
        site("/name", &ca),
        site("/stranger", "upstream_name = \"app.internal\""),
        site("/any", "upstream_verify = \"insecure\""),
    ];
    let trial = trial(&settings.concat(), ok).await;
    let answer = trial.talk(get("/right")).await;
    assert!(answer.ends_with(&format!("HTTP/1.1 {address} /right")), "{answer}");
    assert_eq!(status(&trial.talk(get("/name")).await), 502);
    assert_eq!(status(&trial.talk(get("/stranger")).await), 502);
    let answer = trial.talk(get("/any")).await;
    assert!(answer.ends_with("HTTP/1.1 shop.example /any"), "{answer}");
    supervisor.shutdown().force();
}

#[tokio::test]
async fn apps_that_speak_http2_share_one_connection() {
    let supervisor = Supervisor::new(Shutdown::new());
    let (_, _, tls) = certificate();
    let (plain, connections) = app(&supervisor, None, true).await;
    let (secure, _) = app(&supervisor, Some(tls), true).await;
    let settings = format!(
        "{PLAIN}[[sites]]\nupstream = \"h2c://{plain}\"\n[[sites]]\npath = \"/tls\"\nupstream = \"h2://{secure}\"\n\
         upstream_verify = \"insecure\"\n"
    );
    let trial = trial(&settings, ok).await;
    let answers = futures_util::future::join_all((0..20).map(|_| trial.talk(get("/x")))).await;
    for answer in answers {
        assert!(answer.ends_with("HTTP/2.0 shop.example /x"), "{answer}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let answer = trial.talk(get("/tls")).await;
    assert!(answer.ends_with("HTTP/2.0 shop.example /tls"), "{answer}");
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(status(&trial.talk(upgrade).await), 502);
    supervisor.shutdown().force();
}

#[tokio::test]
async fn an_app_that_stops_in_the_middle_is_given_up_where_a_limit_says_so() {
    let half = |_: &str| "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_owned();
    let trial = trial(&format!("{PLAIN}[timeouts]\nread = \"50ms\"\n"), half).await;
    let answer = trial.talk(get("/")).await;
    assert!(answer.ends_with("half"), "{answer}");
}

#[tokio::test]
async fn a_copy_whose_checks_fail_is_left_out_until_they_are_good_again() {
    let supervisor = Supervisor::new(Shutdown::new());
    let well = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let state = Arc::clone(&well);
    let sick = Origin::start(&supervisor, move |request| {
        if request.starts_with("GET /up ") && !state.load(Ordering::SeqCst) {
            return "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned();
        }
        ok(request)
    });
    let (sick, fine) = (sick.await, Origin::start(&supervisor, ok).await);
    let settings = format!(
        "{PLAIN}[[sites]]\nupstreams = [\"{}\", \"{}\"]\nhealth_path = \"/up\"\nhealth_interval = \"100ms\"\n\
         health_host = \"health.example\"\n",
        sick.address, fine.address
    );
    let trial = trial(&settings, ok).await;
    let state = |at: usize| trial.edge.upstreams()[at].state;
    let becomes = async |wanted: UpstreamState| {
        let seen = async {
            while state(0) != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, seen).await.unwrap();
    };
    becomes(UpstreamState::Down).await;
    let view = trial.edge.upstreams()[0].clone();
    assert_eq!((view.error.as_deref(), view.sites), (Some("answered 503 Service Unavailable"), vec!["*/".to_owned()]));
    for _ in 0..6 {
        assert_eq!(status(&trial.talk(get("/")).await), 200);
    }
    assert!(sick.requests().iter().all(|request| request.contains("host: health.example")));
    assert_eq!(trial.edge.upstreams()[1].requests, 6);
    well.store(true, Ordering::SeqCst);
    becomes(UpstreamState::Up).await;
    supervisor.shutdown().force();
}

#[tokio::test]
async fn the_only_copy_is_asked_even_when_its_checks_fail() {
    let no = |request: &str| {
        if request.starts_with("GET /up ") {
            return "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned();
        }
        ok(request)
    };
    let supervisor = Supervisor::new(Shutdown::new());
    let origin = Origin::start(&supervisor, no).await;
    let settings = format!(
        "{PLAIN}[[sites]]\nupstream = \"{}\"\nhealth_path = \"/up\"\nhealth_interval = \"100ms\"\nhealth_fall = 1\n",
        origin.address
    );
    let trial = trial(&settings, ok).await;
    let down = async {
        while trial.edge.upstreams()[0].state != UpstreamState::Down {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, down).await.unwrap();
    assert_eq!(status(&trial.talk(get("/")).await), 200);
    supervisor.shutdown().force();
}

#[tokio::test]
async fn a_request_without_a_body_is_sent_to_the_next_copy_when_the_connection_broke() {
    let supervisor = Supervisor::new(Shutdown::new());
    let breaks = Origin::start(&supervisor, |_| String::new()).await;
    let fine = Origin::start(&supervisor, ok).await;
    let settings = format!("{PLAIN}[[sites]]\nupstreams = [\"{}\", \"{}\"]\n", breaks.address, fine.address);
    let trial = trial(&settings, ok).await;
    for _ in 0..4 {
        assert_eq!(status(&trial.talk(get("/")).await), 200);
    }
    assert!(!breaks.requests().is_empty());
    supervisor.shutdown().force();
}

#[tokio::test]
async fn a_cookie_keeps_a_browser_at_its_copy() {
    let supervisor = Supervisor::new(Shutdown::new());
    let (one, two) = (Origin::start(&supervisor, ok).await, Origin::start(&supervisor, ok).await);
    let settings =
        format!("{PLAIN}[[sites]]\nupstreams = [\"{}\", \"{}\"]\nbalance = \"cookie\"\n", one.address, two.address);
    let trial = trial(&settings, ok).await;
    let first = trial.talk(get("/")).await;
    let cookie = first.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
    for _ in 0..5 {
        let again = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
        let answer = trial.talk(again).await;
        assert!(status(&answer) == 200 && !answer.contains("set-cookie"), "{answer}");
    }
    let mut counts = [one.requests().len(), two.requests().len()];
    counts.sort_unstable();
    assert_eq!(counts, [0, 6]);
    supervisor.shutdown().force();
}
