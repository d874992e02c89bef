//! An HTTP/1.1 connection to an app, moved on by whoever waits for it.
//!
//! hyper splits a connection in two: a future that moves bytes, and what requests are handed to. The usual way is a task for
//! the former; each request then costs turns of the scheduler for that task, and wakes between the two. Here the request's
//! own task polls both: a small proxied request is two turns of one task, one for each end (counted in 2026-11).
//!
//! Everything inside has one waker, the connection's [`Bell`]. While the connection is being polled it is hushed: what one
//! half tells the other then needs no waking, since both are polled anyway. At rest in the pool nobody listens, but a bell
//! that has rung says that something came, which can only be the app's goodbye or nonsense; such a connection is looked at
//! before it is used.
//!
//! Two things outlive the one who waits and get a task of their own ([`Line::detach`]): a request's body that is still being
//! sent when its answer comes, since the client may not read before it has sent everything, and what remains after a 101.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::RequestBody;
use crate::base::Supervisor;
use crate::base::supervise::Role;
use crate::http::bell::Bell;

/// A connection that carries one request after the other.
pub struct Line {
    sender: SendRequest<RequestBody>,
    /// `None` when it has a task of its own, or has ended.
    driver: Option<Driver>,
}

struct Driver {
    connection: Pin<Box<dyn Future<Output = ()> + Send>>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl Driver {
    /// Moves on what can be moved; the bell is hushed then. Whether the connection has ended.
    fn drive(&mut self) -> bool {
        self.bell.hush();
        self.connection.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready()
    }
}

impl Line {
    /// The connection that takes requests at `sender` and is moved on by `connection`.
    pub fn new(sender: SendRequest<RequestBody>, connection: impl Future<Output = ()> + Send + 'static) -> Self {
        let (bell, waker) = Bell::new();
        Self { sender, driver: Some(Driver { connection: Box::pin(connection), bell, waker }) }
    }

    /// Hands over `request`. What comes of it is to be polled by [`Self::poll`].
    pub fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.sender.try_send_request(request)
    }

    /// Moves the connection on, then polls `wanted`, which waits for what comes from it.
    pub fn poll<T>(&mut self, context: &mut Context<'_>, wanted: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let Some(driver) = &mut self.driver else { return wanted(context) };
        driver.bell.listen(context.waker());
        if driver.drive() {
            // Dropped first: by that whoever waits learns of the end.
            self.driver = None;
            return wanted(context);
        }
        let outcome = wanted(&mut Context::from_waker(&driver.waker));
        if driver.bell.unhush() && outcome.is_pending() {
            context.waker().wake_by_ref();
        }
        outcome
    }

    /// As [`Self::poll`], for what may have come already: the connection is moved on only if it has not.
    pub fn poll_next<T>(
        &mut self,
        context: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if let Some(driver) = &self.driver {
            // Taking it rings, since there is room for more then.
            driver.bell.hush();
            if let Poll::Ready(outcome) = wanted(&mut Context::from_waker(&driver.waker)) {
                driver.bell.unhush();
                return Poll::Ready(outcome);
            }
        }
        self.poll(context, wanted)
    }

    /// The waker for what else is waited for together with the connection; `None` for the task's own.
    pub fn waker(&self) -> Option<&Waker> {
        self.driver.as_ref().map(|driver| &driver.waker)
    }

    /// Gives the connection a task of its own.
    pub fn detach(&mut self, supervisor: &Supervisor) {
        if let Some(driver) = self.driver.take() {
            supervisor.task("edge upstream", Role::Ordinary, driver.connection);
        }
    }

    /// Nobody waits for it any more. Whether it can be kept for another request.
    pub fn rest(&mut self) -> bool {
        let Some(driver) = &self.driver else {
            // The end of its request may still be on the way; that is looked at when it is taken.
            return !self.sender.is_closed();
        };
        driver.bell.rest();
        if !self.sender.is_ready() {
            self.drive();
        }
        self.sender.is_ready()
    }

    /// Whether it can take a request now. For a connection at rest.
    pub fn is_ready(&mut self) -> bool {
        self.look();
        self.sender.is_ready()
    }

    /// Whether it can no longer be used. For a connection at rest.
    pub fn is_closed(&mut self) -> bool {
        self.look();
        self.sender.is_closed()
    }

    /// Finds out what came while it was at rest.
    fn look(&mut self) {
        if self.driver.as_ref().is_some_and(|driver| driver.bell.has_rung()) {
            self.drive();
        }
    }

    fn drive(&mut self) {
        if self.driver.as_mut().is_some_and(Driver::drive) {
            self.driver = None;
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("detached", &self.driver.is_none()).finish_non_exhaustive()
    }
}

/// A moment that is seldom reached and often moved. Moving it away costs nothing before the old moment: the timer of one
/// exchange serves the next.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once it is `at`.
    pub fn poll(&mut self, context: &mut Context<'_>, at: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// A connection, and the app's end of it.
    async fn line() -> (Line, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(4096);
        let (sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
        (Line::new(sender, async move { drop(connection.await) }), theirs)
    }

    fn request() -> Request<RequestBody> {
        Request::get("/").header("host", "a").body(RequestBody::empty()).unwrap()
    }

    /// Sends a request that the app answers with `answer`.
    async fn exchange(line: &mut Line, app: &mut DuplexStream, answer: &str) -> Response<Incoming> {
        let mut waits = std::pin::pin!(line.send(request()));
        let mut head = [0; 1024];
        let ask = poll_fn(|context| line.poll(context, |context| waits.as_mut().poll(context)));
        let reply = async {
            assert!(app.read(&mut head).await.unwrap() > 0);
            app.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(ask, reply).0.map_err(TrySendError::into_error).unwrap()
    }

    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    #[tokio::test]
    async fn a_line_carries_one_request_after_the_other_without_a_task() {
        let (mut line, mut app) = line().await;
        for _ in 0..3 {
            let response = exchange(&mut line, &mut app, ANSWER).await;
            let mut body = response.into_body();
            let frame = poll_fn(|context| {
                line.poll(context, |context| http_body::Body::poll_frame(Pin::new(&mut body), context))
            });
            assert_eq!(frame.await.unwrap().unwrap().into_data().unwrap(), "ok");
            assert!(line.rest() && line.is_ready());
        }
    }

    #[tokio::test]
    async fn at_rest_the_apps_goodbye_is_noted_and_wakes_nobody() {
        #[derive(Default)]
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (mut line, mut app) = line().await;
        let response = exchange(&mut line, &mut app, "HTTP/1.1 204 No\r\n\r\n").await;
        drop(response);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        assert!(line.poll(&mut Context::from_waker(&waker), |_| Poll::<()>::Pending).is_pending());
        assert!(line.rest() && line.is_ready());
        let before = count.0.load(Ordering::SeqCst);
        drop(app);
        assert!(!line.is_ready() && line.is_closed());
        assert_eq!((count.0.load(Ordering::SeqCst), Arc::strong_count(&count)), (before, 2));
    }

    #[tokio::test]
    async fn what_the_app_says_unasked_ends_the_line() {
        let (mut line, mut app) = line().await;
        drop(exchange(&mut line, &mut app, "HTTP/1.1 204 No\r\n\r\n").await);
        assert!(line.rest());
        app.write_all(ANSWER.as_bytes()).await.unwrap();
        assert!(!line.is_ready());
    }

    #[tokio::test]
    async fn a_request_on_a_dead_line_comes_back() {
        let (mut line, app) = line().await;
        drop(app);
        let mut waits = std::pin::pin!(line.send(request()));
        let outcome = poll_fn(|context| line.poll(context, |context| waits.as_mut().poll(context))).await;
        assert!(outcome.is_err_and(|mut error| error.take_message().is_some()));
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end_by_a_task_of_its_own() {
        let supervisor = Supervisor::new(crate::base::Shutdown::new());
        let (mut line, mut app) = line().await;
        let response = exchange(&mut line, &mut app, ANSWER).await;
        line.detach(&supervisor);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        supervisor.shutdown().force();
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_at_the_last_moment_it_was_given() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let (soon, late) = (start + Duration::from_secs(1), start + Duration::from_secs(9));
        let mut moments = [soon, late].into_iter();
        let mut at = moments.next().unwrap();
        // Moved away while it is waited for.
        poll_fn(|context| {
            let outcome = alarm.poll(context, at);
            at = moments.next().unwrap_or(at);
            outcome
        })
        .await;
        assert_eq!(start.elapsed(), Duration::from_secs(9));
        let sooner = Instant::now() + Duration::from_secs(2);
        let far = sooner + Duration::from_mins(1);
        assert!(alarm.poll(&mut Context::from_waker(Waker::noop()), far).is_pending());
        poll_fn(|context| alarm.poll(context, sooner)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(11));
    }
}
