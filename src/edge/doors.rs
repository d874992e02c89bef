//! Mainstay's own doors on the edge: `s3.<domain>`, `console.<domain>`.
//!
//! A door gets the head exactly as the client sent it (an S3 signature covers host and path). It runs on the general
//! runtime, so that its disk and its ciphers never hold up a worker; bodies are streamed across.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::elsewhere;
use super::host::Host;
use crate::base::Supervisor;
use crate::base::supervise::Role;
use crate::http::{Body, Handler, Lasting, Peer};

/// Frames of a response that may wait between the runtimes.
const FRAMES_AHEAD: usize = 4;

/// What plain HTTP does with a door's requests while HTTPS is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPlainHttp {
    /// Sends the client to HTTPS: for people with browsers.
    Redirect,
    /// Answers: for programs that sign their requests and follow no redirect.
    Serve,
}

/// A part of Mainstay that answers under its own host names.
#[derive(Clone)]
pub struct Door {
    /// Its first label: `s3` answers at `s3.<domain>`.
    pub label: &'static str,
    /// Whether it answers `<anything>.<label>.<domain>` too.
    pub below: bool,
    /// What happens without TLS.
    pub plain: OnPlainHttp,
    /// Who answers.
    pub handler: Arc<dyn Handler>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("label", &self.label).field("below", &self.below).finish_non_exhaustive()
    }
}

/// All doors, by host.
#[derive(Debug)]
pub struct Doors {
    doors: Vec<(String, Door)>,
    runtime: Handle,
    supervisor: Supervisor,
    /// Carries requests to another process, and answers that outlive this one's turn.
    connections: Supervisor,
    /// Where another process answers in the place of this one.
    elsewhere: ArcSwapOption<PathBuf>,
}

impl Doors {
    /// `doors` below `domain`, run on `runtime` as tasks of `supervisor`; what goes to another process is a task of
    /// `connections`.
    pub fn new(
        doors: Vec<Door>,
        domain: &str,
        runtime: Handle,
        supervisor: Supervisor,
        connections: Supervisor,
    ) -> Self {
        let domain = domain.to_ascii_lowercase();
        let named = |door: Door| (format!("{}.{domain}", door.label), door);
        let doors = doors.into_iter().map(named).collect();
        Self { doors, runtime, supervisor, connections, elsewhere: ArcSwapOption::empty() }
    }

    /// From now on requests go to the process that answers at the Unix socket `path`.
    pub fn leave_to(&self, path: PathBuf) {
        self.elsewhere.store(Some(Arc::new(path)));
    }

    /// The door that answers `host`.
    pub fn find(&self, host: &Host) -> Option<&Door> {
        let answers = |(name, door): &&(String, Door)| {
            host.name()
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || (door.below && rest.ends_with('.')))
        };
        self.doors.iter().find(answers).map(|(_, door)| door)
    }

    /// Lets `door` answer; `None` when it panicked.
    ///
    /// # Cancel safety
    /// Dropping it drops the door's own future soon after.
    pub async fn answer(&self, door: &Door, request: Request<Body>, peer: Peer) -> Option<Response<Body>> {
        let peer = Peer { door: door.label, ..peer };
        if let Some(path) = self.elsewhere.load_full() {
            // Boxed, so that other requests do not carry its state.
            return Some(Box::pin(elsewhere::ask(&path, request, peer, &self.connections)).await);
        }
        let (handler, connections) = (Arc::clone(&door.handler), self.connections.clone());
        let (mut reply, answered) = oneshot::channel();
        let work = async move {
            let response = tokio::select! {
                response = handler.call(request, peer) => response,
                () = reply.closed() => return,
            };
            let (parts, body) = response.into_parts();
            let lasts = parts.extensions.get::<Lasting>().is_some();
            let (frames, receiver) = mpsc::channel(FRAMES_AHEAD);
            let carried = Carried { hint: body.size_hint(), ended: body.is_end_stream(), frames: receiver };
            if reply.send(Response::from_parts(parts, Body::new(carried))).is_err() {
                return;
            }
            if lasts {
                connections.task("edge door answer", Role::Ordinary, pump(body, frames));
            } else {
                pump(body, frames).await;
            }
        };
        {
            let _on_the_general_runtime = self.runtime.enter();
            self.supervisor.task("edge door", Role::Ordinary, work);
        }
        answered.await.ok()
    }
}

/// A frame, an error, or (`None`) the end. The end is said aloud: a door that panics half-way must not look like one
/// that has finished.
type Piece = Option<Result<Frame<Bytes>, axum::Error>>;

/// Moves `body` into `frames` until either ends.
async fn pump(mut body: Body, frames: mpsc::Sender<Piece>) {
    loop {
        let piece = body.frame().await;
        let last = !matches!(piece, Some(Ok(_)));
        if frames.send(piece).await.is_err() || last {
            return;
        }
    }
}

/// A response body that comes from the other runtime.
struct Carried {
    hint: SizeHint,
    ended: bool,
    frames: mpsc::Receiver<Piece>,
}

impl http_body::Body for Carried {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.frames.poll_recv(context).map(|piece| piece.unwrap_or_else(|| Some(Err(axum::Error::new(DoorEnded)))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    /// What was known before the first frame; hyper asks once, for the head.
    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

/// A door ended in the middle of its response.
#[derive(Debug, thiserror::Error)]
#[error("the response broke off")]
struct DoorEnded;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Shutdown;
    use crate::http::handler::Answer;

    struct Echo;

    impl Handler for Echo {
        fn call(&self, request: Request<Body>, peer: Peer) -> Answer<'_> {
            Box::pin(async move {
                assert_ne!(request.uri().path(), "/panic");
                Response::new(Body::from(format!("{} {}", peer.door, request.uri())))
            })
        }
    }

    fn doors() -> Doors {
        let door = |label, below| Door { label, below, plain: OnPlainHttp::Serve, handler: Arc::new(Echo) };
        let doors = vec![door("s3", true), door("console", false)];
        let supervisor = Supervisor::new(Shutdown::new());
        Doors::new(doors, "Example.com", Handle::current(), supervisor.clone(), supervisor)
    }

    #[tokio::test]
    async fn doors_answer_by_host() {
        let doors = doors();
        for (host, label) in [
            ("s3.example.com:8443", Some("s3")),
            ("bucket.s3.example.com", Some("s3")),
            ("my.bucket.s3.example.com", Some("s3")),
            ("console.example.com", Some("console")),
            ("x.console.example.com", None),
            ("example.com", None),
            ("xs3.example.com", None),
        ] {
            assert_eq!(doors.find(&host.parse().unwrap()).map(|door| door.label), label, "{host}");
        }
    }

    #[tokio::test]
    async fn a_panicking_door_gives_no_answer_and_others_go_on() {
        let doors = doors();
        let peer = Peer { address: "1.2.3.4:5".parse().unwrap(), secure: true, door: "edge" };
        let door = doors.find(&"s3.example.com".parse().unwrap()).unwrap();
        let request = |path| Request::builder().uri(path).body(Body::empty()).unwrap();
        assert!(doors.answer(door, request("/panic"), peer).await.is_none());
        let response = doors.answer(door, request("/a%2fb?c"), peer).await.unwrap();
        assert_eq!(crate::http::body::read(response.into_body(), 99).await.unwrap(), "s3 /a%2fb?c");
    }
}
