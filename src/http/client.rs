//! A small client for calls to other people's HTTP services: one request, one connection, everything capped.
//!
//! Certificates are checked against the machine's own authorities (`SSL_CERT_FILE` and the usual places) and, where
//! there are none, such as in an empty container, against Mozilla's, which are built in. No redirect is followed. An
//! address that came from somebody else than the operator must be called with [`Reach::Public`], so that nobody makes
//! the server talk to its own network (OWASP ASVS 5.0, V1.3.6).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Body, body};

/// Which addresses a call may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Any: the operator wrote the address.
    Any,
    /// Public ones only.
    Public,
}

/// Why a call has no answer. Whether the other side acted on it is unknown, unless it never went out.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The address is no `http://` or `https://` one.
    #[error("`{0}` is no http or https address")]
    Address(String),
    /// The name has no address that may be called.
    #[error("{host} has no public address")]
    Private {
        /// The host.
        host: String,
    },
    /// No connection came about.
    #[error("no connection to {host}: {source}")]
    Connect {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The exchange broke off.
    #[error("the call to {host} broke off: {source}")]
    Exchange {
        /// The host.
        host: String,
        /// Why.
        source: hyper::Error,
    },
    /// It took too long.
    #[error("no answer from {host} within {} s", .limit.as_secs())]
    TooSlow {
        /// The host.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// The answer is too long, or broke off.
    #[error("the answer of {host}: {source}")]
    Answer {
        /// The host.
        host: String,
        /// What is wrong with it.
        source: body::ReadError,
    },
}

/// How certificates of servers are checked: against [`trusted_roots`] and `further`. Blocks.
///
/// # Errors
/// One of `further` is no certificate.
pub fn tls(further: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let mut roots = trusted_roots();
    for certificate in further {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The client. Clones share the certificate authorities.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
    limit: Duration,
    largest_answer: usize,
}

/// The certificate authorities this machine trusts; where it has none, those browsers trust. Blocks.
pub fn trusted_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One that does not parse is one this machine's other programs do not use either.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

impl Client {
    /// A client whose calls end within `limit`, with answers of at most `largest_answer` bytes. Reads the machine's
    /// certificate authorities: blocks.
    ///
    /// # Errors
    /// The TLS library refuses its own defaults; with the features this program is built with it does not.
    pub fn new(limit: Duration, largest_answer: usize) -> Result<Self, rustls::Error> {
        Self::trusting(limit, largest_answer, Vec::new())
    }

    /// As [`Self::new`], trusting the authorities `further` too.
    ///
    /// # Errors
    /// See [`Self::new`]; or one of `further` is no certificate.
    pub fn trusting(
        limit: Duration,
        largest_answer: usize,
        further: Vec<CertificateDer<'static>>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self { tls: TlsConnector::from(Arc::new(tls(further)?)), limit, largest_answer })
    }

    /// Sends `request` (absolute address, `host` header included) and reads the whole answer.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the request may have been acted on.
    pub async fn call(&self, request: Request<Bytes>, reach: Reach) -> Result<Response<Bytes>, CallError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let exchange = self.exchange(request, reach, &host);
        let slow = |_elapsed| CallError::TooSlow { host: host.clone(), limit: self.limit };
        tokio::time::timeout(self.limit, exchange).await.map_err(slow)?
    }

    async fn exchange(&self, request: Request<Bytes>, reach: Reach, host: &str) -> Result<Response<Bytes>, CallError> {
        let uri = request.uri().clone();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(CallError::Address(uri.to_string())),
        };
        let stream = connect(&uri, host, secure, reach).await?;
        if !secure {
            return self.over(stream, request, host).await;
        }
        let refused = |source| CallError::Connect { host: host.to_owned(), source };
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_no_name| CallError::Address(uri.to_string()))?;
        let stream = self.tls.connect(name, stream).await.map_err(refused)?;
        self.over(stream, request, host).await
    }

    async fn over<S>(&self, stream: S, request: Request<Bytes>, host: &str) -> Result<Response<Bytes>, CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broke = |source| CallError::Exchange { host: host.to_owned(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        let mut connection = std::pin::pin!(connection);
        let (mut head, content) = request.into_parts();
        // Origin form: the authority stands in the host header.
        head.uri = head.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
        let answer = async {
            let response = sender.send_request(Request::from_parts(head, Full::new(content))).await.map_err(broke)?;
            let (head, content) = response.into_parts();
            let content = body::read(Body::new(content), self.largest_answer);
            let content = content.await.map_err(|source| CallError::Answer { host: host.to_owned(), source })?;
            Ok(Response::from_parts(head, content))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = answer.as_mut() => answer,
            // The connection's task ends with the exchange; what it left is still to be read.
            _ = connection.as_mut() => answer.await,
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A connection to where `uri` points, tried address by address.
pub(super) async fn connect(uri: &Uri, host: &str, secure: bool, reach: Reach) -> Result<TcpStream, CallError> {
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let refused = |source| CallError::Connect { host: host.to_owned(), source };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<SocketAddr> = tokio::net::lookup_host((bare, port)).await.map_err(refused)?.collect();
    let allowed = found.into_iter().filter(|address| reach == Reach::Any || is_public(address.ip()));
    let mut last = None;
    for address in allowed {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(refused)?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| CallError::Private { host: host.to_owned() }, refused))
}

/// Whether `ip` is an address of the public Internet (IANA special-purpose registries, RFC 6890).
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let special = a == 0 || a >= 240 || (a == 192 && b == 0 && c == 0) || (a == 198 && (b & 0xfe) == 18);
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || shared
                || special)
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return is_public(v4.into());
            }
            // Global unicast is 2000::/3; documentation, Teredo and 6to4 lie within it.
            let [first, second, ..] = v6.segments();
            (first & 0xe000) == 0x2000
                && !(first == 0x2001 && (second == 0xdb8 || second == 0))
                && first != 0x2002
                && !(first == 0x3fff && second < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn client() -> Client {
        Client::new(Duration::from_secs(5), 1000).unwrap()
    }

    async fn call(answer: &'static str, reach: Reach) -> (Result<Response<Bytes>, CallError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let request = Request::post(format!("http://{address}/a?b=c"))
            .header("host", address.to_string())
            .body(Bytes::from_static(b"hello"))
            .unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; 1000];
            let count = stream.read(&mut heard).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&heard[..count]).into_owned()
        };
        let client = client();
        let calling = Box::pin(client.call(request, reach));
        if reach == Reach::Public {
            return (calling.await, String::new());
        }
        futures_util::future::join(calling, server).await
    }

    #[tokio::test]
    async fn a_call_goes_out_in_origin_form_and_the_answer_comes_back_whole() {
        let (answer, heard) = call("HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok", Reach::Any).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (201, &b"ok"[..]));
        assert!(heard.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{heard}");
    }

    #[tokio::test]
    async fn an_answer_over_the_cap_is_an_error() {
        let (answer, _) = call("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", Reach::Any).await;
        assert!(matches!(answer, Err(CallError::Answer { .. })));
    }

    #[tokio::test]
    async fn a_foreign_address_cannot_point_at_this_machine() {
        assert!(matches!(call("", Reach::Public).await.0, Err(CallError::Private { .. })));
    }

    #[test]
    fn special_addresses_are_not_public() {
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
