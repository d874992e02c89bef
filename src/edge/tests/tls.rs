//! HTTPS and HTTP/2 with the certificate the edge made itself.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

async fn connect(trial: &Trial, name: &'static str, alpn: &[u8]) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trial.edge.certificate()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(trial.edge.https().unwrap()).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream).await.unwrap()
}

/// The certificate shown to a client that asks for `name` and speaks `alpn` alone, whoever signed it.
pub async fn handshake(edge: SocketAddr, name: &str, alpn: &[u8]) -> std::io::Result<CertificateDer<'static>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(edge).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone())
}

/// Believes everything. rustls would refuse the challenge's certificate even without looking at who signed it, for the
/// critical extension that only authorities know (RFC 8737 section 3).
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn the_exported_certificate_is_good_for_every_own_name() {
    let trial = trial("domain = \"example.com\"", ok).await;
    for name in
        ["example.com", "www.example.com", "s3.example.com", "b.s3.example.com", "localhost", "127.0.0.1", "::1"]
    {
        let mut stream = connect(&trial, name, b"http/1.1").await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n").await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(status(&answer) == 200 && answer.contains("strict-transport-security"), "{answer}");
    }
    assert!(trial.origin.requests()[0].contains("x-forwarded-proto: https"));
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum() {
    let trial = trial("", ok).await;
    let stream = connect(&trial, "localhost", b"h2").await;
    let (_, session) = stream.get_ref();
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn noise_instead_of_a_hello_is_counted_and_closed() {
    let trial = trial("[timeouts]\ntls_handshake = \"100ms\"\n", ok).await;
    for noise in ["GET / HTTP/1.1\r\n\r\n", ""] {
        let mut stream = TcpStream::connect(trial.edge.https().unwrap()).await.unwrap();
        stream.write_all(noise.as_bytes()).await.unwrap();
        read_all(&mut stream).await;
    }
    trial.shows("mainstay_edge_tls_errors_total 2").await;
}

#[tokio::test]
async fn http_2_requests_become_clean_http_1() {
    let trial = trial("", ok).await;
    let stream = connect(&trial, "localhost", b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(Spawn(trial.supervisor.clone()), TokioIo::new(stream)).await.unwrap();
    trial.supervisor.task("test client", Role::Ordinary, async move {
        let _ = connection.await;
    });
    let request = http::Request::post("https://localhost/x?y")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(b"hello")))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("connection"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    let seen = trial.only_request();
    for part in [
        "POST /x?y HTTP/1.1\r\n",
        "host: localhost\r\n",
        "cookie: a=1; b=2\r\n",
        "content-length: 5\r\n",
        "\r\n\r\nhello",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert!(!seen.contains("te: "), "{seen}");
    let mismatch = http::Request::get("https://localhost/").header("host", "evil").body(Full::default()).unwrap();
    assert_eq!(sender.send_request(mismatch).await.unwrap().status(), 400);
    assert_eq!(trial.origin.requests().len(), 1);
}

#[tokio::test]
async fn http_2_is_told_to_go_away_when_the_server_stops() {
    let trial = trial("", ok).await;
    let stream = connect(&trial, "localhost", b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(Spawn(trial.supervisor.clone()), TokioIo::new(stream)).await.unwrap();
    let request = http::Request::get("https://localhost/").body(Full::<Bytes>::default()).unwrap();
    let answer = async {
        let response = sender.send_request(request).await.unwrap();
        trial.supervisor.shutdown().drain();
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let (answer, ended) = timeout(PATIENCE, async { tokio::join!(answer, connection) }).await.unwrap();
    assert_eq!(answer, "ok");
    ended.unwrap();
}

#[tokio::test]
async fn an_http_2_stream_whose_window_stays_closed_is_given_up_and_no_other() {
    let reply = |request: &str| {
        let length = if request.starts_with("GET /large") { 4_000_000 } else { 2 };
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length))
    };
    let trial = trial("[timeouts]\nwrite = \"100ms\"\n", reply).await;
    let stream = connect(&trial, "localhost", b"h2").await;
    let tasks = Spawn(trial.supervisor.clone());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(tasks, TokioIo::new(stream)).await.unwrap();
    let request = |path| http::Request::get(path).body(Full::<Bytes>::default()).unwrap();
    let asked = async {
        // Kept unread: the client reads the socket, yet never opens the window again.
        let large = sender.send_request(request("https://localhost/large")).await.unwrap();
        trial.shows("mainstay_http_request_seconds_count{door=\"edge\"} 1").await;
        assert!(large.into_body().collect().await.is_err());
        let small = sender.send_request(request("https://localhost/small")).await.unwrap();
        assert_eq!(small.into_body().collect().await.unwrap().to_bytes(), "xx");
    };
    timeout(PATIENCE, async {
        tokio::select! { () = asked => {}, ended = connection => panic!("{ended:?}") }
    })
    .await
    .unwrap();
}

#[derive(Clone)]
struct Spawn(Supervisor);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        self.0.task("test client stream", Role::Ordinary, future);
    }
}
