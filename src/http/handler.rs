//! What a door implements, and who is asking.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::Body;

/// The client of a request. [`RouterHandler`] puts it among the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address; behind a trusted proxy the one it vouches for.
    pub address: SocketAddr,
    /// Whether the client's own connection is encrypted.
    pub secure: bool,
    /// The door it came through, such as `s3`; a metrics label.
    pub door: &'static str,
}

/// Says who is to be shut out. Asked for each connection and each request, so it must be cheap.
pub type ShutOut = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Among a response's extensions: its body comes from what is open already, or lies where nobody changes it. It may go on when
/// what the handler has used is another process's.
#[derive(Clone, Copy, Debug)]
pub struct Lasting;

/// A response under way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

/// Answers requests. Every HTTP door is one, and the edge calls them as the listeners do.
///
/// Dropping the future means the client has left: a handler must be safe to stop at any wait.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request`. Every failure is a response; there is no error to return.
    fn call(&self, request: Request<Body>, peer: Peer) -> Answer<'_>;
}

/// A handler that answers nobody who is shut out, also on a connection that was there before.
pub(super) struct Guarded {
    handler: Arc<dyn Handler>,
    shut_out: ShutOut,
}

impl Guarded {
    /// `handler`, for all but those whom `shut_out` names.
    pub(super) fn new(handler: Arc<dyn Handler>, shut_out: ShutOut) -> Self {
        Self { handler, shut_out }
    }
}

impl Handler for Guarded {
    fn call(&self, request: Request<Body>, peer: Peer) -> Answer<'_> {
        if !(self.shut_out)(peer.address.ip()) {
            return self.handler.call(request, peer);
        }
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::FORBIDDEN;
        if request.version() < Version::HTTP_2 {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Box::pin(async move { answer })
    }
}

/// An [`axum::Router`] as a [`Handler`]; its handlers find the client as `Extension<Peer>`.
#[derive(Clone)]
pub struct RouterHandler(axum::Router);

impl RouterHandler {
    /// Wraps `router`.
    pub const fn new(router: axum::Router) -> Self {
        Self(router)
    }
}

impl Handler for RouterHandler {
    fn call(&self, mut request: Request<Body>, peer: Peer) -> Answer<'_> {
        request.extensions_mut().insert(peer);
        let answer = TowerToHyperService::new(self.0.clone()).call(request);
        Box::pin(async move { answer.await.unwrap_or_else(|never: Infallible| match never {}) })
    }
}

impl fmt::Debug for RouterHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouterHandler")
    }
}

#[cfg(test)]
mod tests {
    use axum::Extension;
    use axum::routing::get;

    use super::*;
    use crate::http::body;

    #[tokio::test]
    async fn a_router_sees_the_peer() {
        let router = axum::Router::new().route(
            "/who",
            get(|Extension(peer): Extension<Peer>| async move { format!("{} {}", peer.address, peer.door) }),
        );
        let peer = Peer { address: "192.0.2.7:4242".parse().unwrap(), secure: true, door: "console" };
        let request = Request::builder().uri("/who").body(Body::empty()).unwrap();
        let response = RouterHandler::new(router).call(request, peer).await;
        assert_eq!(body::read(response.into_body(), 100).await.unwrap(), "192.0.2.7:4242 console");
    }
}
