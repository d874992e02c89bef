//! Exchanges with one HTTP/1.1 server over kept connections, bodies streamed both ways.
//!
//! For a program that makes many requests to one server; for single calls there is [`super::client`]. A connection belongs
//! to one exchange at a time and is kept when the answer was read to its end. Whoever waits for an answer drives the
//! connection, so that no task runs beside. Nothing is tried again here, and no redirect is followed.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::poll_fn;
use http::{HeaderMap, Request, StatusCode, Uri, response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::body::{Body, ReadError};
use super::client::{CallError, Reach, connect};

/// Most connections that are kept while nobody uses them.
const KEPT: usize = 64;
/// A request's body of at most so many bytes is sent before its answer matters.
const SMALL: u64 = 64 << 10;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(20);

/// A server, and the connections to it.
pub struct Origin {
    tls: TlsConnector,
    /// Scheme and authority.
    address: Uri,
    host: String,
    secure: bool,
    patience: Duration,
    kept: Mutex<Vec<Line>>,
}

/// A connection with nothing under way.
struct Line {
    sender: SendRequest<Counted>,
    connection: Driven,
}

/// What moves the bytes of a connection; `None` when it has ended.
type Driven = Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

fn drive(connection: &mut Driven, context: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(context).is_ready()) {
        *connection = None;
    }
}

impl Line {
    /// Whether it can take a request; false when the server has closed it.
    async fn is_ready(&mut self) -> bool {
        let Self { sender, connection } = self;
        let ready = poll_fn(|context| {
            drive(connection, context);
            sender.poll_ready(context)
        });
        ready.await.is_ok()
    }
}

impl Origin {
    /// The server at `address` (scheme and authority), with certificates checked as `tls` says. It may be silent, or take
    /// nothing, for `patience` at a time. No connection is made yet.
    ///
    /// # Errors
    /// [`CallError::Address`]: the address is none of `http` or `https`.
    pub fn new(address: Uri, tls: ClientConfig, patience: Duration) -> Result<Self, CallError> {
        let wrong = || CallError::Address(address.to_string());
        let host = address.host().ok_or_else(wrong)?.to_owned();
        let secure = match address.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let tls = TlsConnector::from(Arc::new(tls));
        Ok(Self { tls, address, host, secure, patience, kept: Mutex::default() })
    }

    /// Sends `request`, whose address is path and query and which has its `host` header, and gives the answer's head as
    /// soon as it is there.
    ///
    /// # Errors
    /// [`CallError`]; whether the server acted on the request is unknown, unless no connection came about.
    ///
    /// # Cancel safety
    /// Dropped before its end, the request may have been acted on.
    pub async fn send(self: &Arc<Self>, request: Request<Body>) -> Result<Exchange, CallError> {
        let (head, body) = request.into_parts();
        let small = body.size_hint().exact().is_some_and(|bytes| bytes <= SMALL);
        let moved = Arc::new(AtomicU64::new(0));
        let request = Request::from_parts(head, Counted { body, moved: Arc::clone(&moved) });
        let Line { mut sender, mut connection } = self.line().await?;
        let mut sending = std::pin::pin!(sender.send_request(request));
        let mut seen = 0;
        let answer = loop {
            let step = poll_fn(|context| {
                drive(&mut connection, context);
                sending.as_mut().poll(context)
            });
            if let Ok(answer) = tokio::time::timeout(self.patience, step).await {
                break answer.map_err(|source| CallError::Exchange { host: self.host.clone(), source })?;
            }
            // A body that moves on is no silence.
            let now = moved.load(Ordering::Relaxed);
            if now == seen {
                return Err(self.slow());
            }
            seen = now;
        };
        let (head, body) = answer.into_parts();
        let keep = small || head.status.is_success();
        let line = Some(Line { sender, connection });
        Ok(Exchange { head, body, line, keep, origin: Arc::clone(self) })
    }

    fn slow(&self) -> CallError {
        CallError::TooSlow { host: self.host.clone(), limit: self.patience }
    }

    /// A kept connection that still stands, or a new one.
    async fn line(&self) -> Result<Line, CallError> {
        loop {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut line) = kept else { break };
            if tokio::time::timeout(CONNECT, line.is_ready()).await.unwrap_or(false) {
                return Ok(line);
            }
        }
        let slow = |_elapsed| CallError::TooSlow { host: self.host.clone(), limit: CONNECT };
        tokio::time::timeout(CONNECT, self.fresh()).await.map_err(slow)?
    }

    async fn fresh(&self) -> Result<Line, CallError> {
        let stream = connect(&self.address, &self.host, self.secure, Reach::Any).await?;
        if !self.secure {
            return self.over(stream).await;
        }
        let refused = |source| CallError::Connect { host: self.host.clone(), source };
        let bare = self.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_no_name| CallError::Address(self.address.to_string()))?;
        self.over(self.tls.connect(name, stream).await.map_err(refused)?).await
    }

    async fn over<S>(&self, stream: S) -> Result<Line, CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broke = |source| CallError::Exchange { host: self.host.clone(), source };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        // What ends it is told to whoever waits for an answer.
        let connection: Driven = Some(Box::pin(async move { drop(connection.await) }));
        Ok(Line { sender, connection })
    }

    fn keep(&self, line: Line) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(line);
        }
    }
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("address", &self.address).finish_non_exhaustive()
    }
}

/// An answer whose body is still to be read. Dropped before its end, its connection is closed.
pub struct Exchange {
    head: response::Parts,
    body: Incoming,
    /// `None` when the body has ended.
    line: Option<Line>,
    keep: bool,
    origin: Arc<Origin>,
}

impl Exchange {
    /// The answer's status.
    pub const fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The answer's headers.
    pub const fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`CallError`]: it broke off, or nothing came for too long.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            let Some(line) = &mut self.line else { return Ok(None) };
            let body = &mut self.body;
            let step = poll_fn(|context| {
                drive(&mut line.connection, context);
                Pin::new(&mut *body).poll_frame(context)
            });
            let frame =
                tokio::time::timeout(self.origin.patience, step).await.map_err(|_elapsed| self.origin.slow())?;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
                Some(Err(source)) => return Err(CallError::Exchange { host: self.origin.host.clone(), source }),
                None => {
                    if let Some(line) = self.line.take().filter(|_| self.keep) {
                        self.origin.keep(line);
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// Reads the rest of the body, of at most `most` bytes.
    ///
    /// # Errors
    /// [`CallError`]; also when it is longer.
    pub async fn read(&mut self, most: usize) -> Result<Bytes, CallError> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > most {
                let source = ReadError::TooLarge { limit: most };
                return Err(CallError::Answer { host: self.origin.host.clone(), source });
            }
        }
        Ok(bytes.freeze())
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("status", &self.head.status).finish_non_exhaustive()
    }
}

/// A request's body, with the number of its pieces that went out.
struct Counted {
    body: Body,
    moved: Arc<AtomicU64>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.moved.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn origin(listener: &TcpListener, patience: Duration) -> Arc<Origin> {
        let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        Arc::new(Origin::new(address, super::super::client::tls(Vec::new()).unwrap(), patience).unwrap())
    }

    fn request(body: Body) -> Request<Body> {
        Request::put("/a//b?c=d").header("host", "h").body(body).unwrap()
    }

    /// Reads until `end` was heard, then says `answer`.
    async fn serve(stream: &mut TcpStream, end: &str, answer: &str) -> String {
        let (mut heard, mut piece) = (String::new(), [0; 4096]);
        while !heard.ends_with(end) {
            let count = stream.read(&mut piece).await.unwrap();
            assert!(count > 0, "{heard}");
            heard.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        heard
    }

    #[tokio::test]
    async fn one_connection_serves_one_request_after_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = origin(&listener, Duration::from_secs(5));
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let first = serve(&mut stream, "0\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst").await;
            let second = serve(&mut stream, "hello", "HTTP/1.1 404 No\r\ncontent-length: 6\r\n\r\nsecond").await;
            (first, second)
        };
        let client = async {
            let pieces = ["ab", "cd"].map(|text| Ok::<_, std::io::Error>(Bytes::from_static(text.as_bytes())));
            let stream = Body::from_stream(futures_util::stream::iter(pieces));
            let mut answer = origin.send(request(stream)).await.unwrap();
            assert_eq!(answer.read(5).await.unwrap(), "first");
            let mut answer = origin.send(request(Body::from("hello"))).await.unwrap();
            assert_eq!((answer.status().as_u16(), answer.read(6).await.unwrap()), (404, Bytes::from("second")));
            assert_eq!(answer.chunk().await.unwrap(), None);
        };
        let ((first, second), ()) = futures_util::future::join(server, client).await;
        assert!(
            first.starts_with("PUT /a//b?c=d HTTP/1.1\r\n") && first.contains("transfer-encoding: chunked"),
            "{first}"
        );
        assert!(second.contains("content-length: 5\r\n"), "{second}");
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_not_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = origin(&listener, Duration::from_secs(5));
        let server = async {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                serve(&mut stream, "hello", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        };
        let client = async {
            for _ in 0..2 {
                let mut answer = origin.send(request(Body::from("hello"))).await.unwrap();
                assert_eq!(answer.read(2).await.unwrap(), "ok");
            }
        };
        futures_util::future::join(server, client).await;
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_or_is_too_long_is_an_error() {
        for (answer, most) in
            [("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", 9), ("HTTP/1.1 200 OK\r\n\r\nlong", 3)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let origin = origin(&listener, Duration::from_secs(5));
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                serve(&mut stream, "hello", answer).await;
            };
            let client = async {
                let mut answer = origin.send(request(Body::from("hello"))).await.unwrap();
                answer.read(most).await.unwrap_err();
            };
            futures_util::future::join(server, client).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = origin(&listener, Duration::from_mins(1));
        let error = origin.send(request(Body::from("hello"))).await.unwrap_err();
        assert!(matches!(error, CallError::TooSlow { .. }), "{error}");
    }
}
