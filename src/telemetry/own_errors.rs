//! The server's own errors as events: panics, and log lines of level `error`.
//!
//! [`OwnErrors`] makes events of them with Sentry's SDK and puts each into a bounded queue, whose other end
//! ([`Captured`]) goes to whoever stores or sends them. What it promises:
//! - **It never waits**: a full queue costs the event, which is counted and is in the log anyway.
//! - **It does not feed on itself**: a place in the code is captured at most [`PLACE_MAX`] times a minute, all together
//!   at most [`MINUTE_MAX`] times, so that an error in storing errors ends there.
//! - **No secret leaves**: fields pass what the log lines pass (`redact.rs`).
//!
//! What was logged just before goes along as breadcrumbs. SDK state is held here, not in its global hub.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sentry::integrations::backtrace::ProcessStacktraceIntegration;
use sentry::integrations::contexts::ContextIntegration;
use sentry::integrations::panic::PanicIntegration;
use sentry::protocol::{self, Frame};
use sentry::types::Dsn;
use sentry::{Client, ClientOptions, Envelope, Transport, TransportFactory, TransportOptions};
use tokio::sync::mpsc;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::logs::Fields;
use super::metrics::{Counter, Metrics};
use super::redact;
use crate::base::Clock;

/// The target of log lines about panics: the event comes from [`OwnErrors::panic`], with its stack.
pub const PANIC: &str = "mainstay::panic";

/// Events waiting to be stored or sent.
const QUEUE: usize = 64;

/// Events captured a minute from one place in the code.
pub const PLACE_MAX: u32 = 10;

/// Events captured a minute in all.
pub const MINUTE_MAX: u32 = 60;

/// Log lines kept to go along with an event.
const BREADCRUMBS: usize = 40;

/// Code that is not the server's own, beside what the SDK knows.
const LIBRARIES: [&str; 4] = ["hyper", "axum", "rustls", "redb"];

/// Makes events of errors. Clones are the same.
#[derive(Clone)]
pub struct OwnErrors(Arc<Inner>);

struct Inner {
    client: Client,
    clock: Arc<dyn Clock>,
    pace: Mutex<Pace>,
    breadcrumbs: Mutex<VecDeque<protocol::Breadcrumb>>,
    suppressed: Counter,
}

/// The events captured, in order; the other end of the queue.
pub struct Captured(mpsc::Receiver<Envelope>);

impl Captured {
    /// The next one; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// Dropped before its end, it took nothing.
    pub async fn next(&mut self) -> Option<Envelope> {
        self.0.recv().await
    }

    /// The next one, if it is there.
    pub fn waiting(&mut self) -> Option<Envelope> {
        self.0.try_recv().ok()
    }
}

impl OwnErrors {
    /// Events of `release`, addressed to `dsn`, and the queue they end up in.
    pub fn new(dsn: Dsn, release: &'static str, clock: Arc<dyn Clock>, metrics: &Metrics) -> (Self, Captured) {
        let counter = |outcome| {
            let help =
                "Errors of the server itself that were captured, suppressed as too many, or lost to a full queue.";
            metrics.counter("mainstay_own_errors_total", help, &[("outcome", outcome)])
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let queue = Queue { sender, captured: counter("captured"), lost: counter("lost") };
        let mut options = ClientOptions::new();
        options.dsn = Some(dsn);
        options.release = Some(Cow::Borrowed(release));
        options.environment = Some(Cow::Borrowed("production"));
        options.in_app_include = vec!["mainstay"];
        options.in_app_exclude = LIBRARIES.to_vec();
        options.integrations =
            vec![Arc::new(ContextIntegration::new().add_device(false)), Arc::new(ProcessStacktraceIntegration::new())];
        options.transport = Some(Arc::new(Factory(Arc::new(queue))));
        let inner = Inner {
            client: Client::with_options(options),
            clock,
            pace: Mutex::default(),
            breadcrumbs: Mutex::default(),
            suppressed: counter("suppressed"),
        };
        (Self(Arc::new(inner)), Captured(receiver))
    }

    /// Captures a panic; called from the panic hook, on the thread that panics.
    pub fn panic(&self, panic: &PanicHookInfo<'_>) {
        let place = panic.location().map(|at| (at.file().to_owned(), at.line())).unwrap_or_default();
        // Before anything else: finding the names of a stack takes tens of milliseconds.
        if !self.admit(place) {
            return;
        }
        let mut event = PanicIntegration::new().event_from_panic_info(panic);
        for exception in &mut event.exception {
            if let Some(value) = &mut exception.value {
                *value = redact::scrub(value);
            }
            if let Some(stack) = &mut exception.stacktrace {
                below_the_hook(&mut stack.frames);
            }
        }
        if let Some(thread) = std::thread::current().name() {
            event.tags.insert(String::from("thread"), thread.to_owned());
        }
        self.capture(event);
    }

    fn line<S>(&self, event: &Event<'_>, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return;
        }
        let fields = Fields::of(event, context);
        if *metadata.level() != Level::ERROR || metadata.target() == PANIC {
            self.remember(*metadata.level(), metadata.target(), &fields);
            return;
        }
        let place = (metadata.file().unwrap_or_default().to_owned(), metadata.line().unwrap_or_default());
        if !self.admit(place) {
            return;
        }
        let mut out = protocol::Event {
            level: protocol::Level::Error,
            logger: Some(metadata.target().to_owned()),
            transaction: Some(metadata.target().to_owned()),
            message: Some(fields.message().to_owned()),
            ..protocol::Event::default()
        };
        out.extra.extend(fields.values().map(|(name, value)| (name.to_owned(), value.into())));
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            out.extra.insert(String::from("place"), format!("{file}:{line}").into());
        }
        self.capture(out);
    }

    fn remember(&self, level: Level, target: &str, fields: &Fields) {
        let level = match level {
            Level::ERROR => protocol::Level::Error,
            Level::WARN => protocol::Level::Warning,
            _ => protocol::Level::Info,
        };
        let breadcrumb = protocol::Breadcrumb {
            ty: String::from("log"),
            category: Some(target.to_owned()),
            level,
            message: Some(fields.message().to_owned()),
            data: fields.values().map(|(name, value)| (name.to_owned(), value.into())).collect(),
            ..protocol::Breadcrumb::default()
        };
        let mut kept = self.0.breadcrumbs.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= BREADCRUMBS {
            kept.pop_front();
        }
        kept.push_back(breadcrumb);
    }

    fn capture(&self, mut event: protocol::Event<'static>) {
        let before = self.0.breadcrumbs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        event.breadcrumbs.values.extend(before);
        self.0.client.capture_event(event, None);
    }

    /// Counts an event of `place` against the minute that runs; says whether it is captured.
    fn admit(&self, place: (String, u32)) -> bool {
        let minute = self.0.clock.monotonic().as_secs() / 60;
        let mut pace = self.0.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = pace.admit(minute, place);
        if !admitted {
            self.0.suppressed.inc();
        }
        admitted
    }
}

impl std::fmt::Debug for OwnErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnErrors").finish_non_exhaustive()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for OwnErrors {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        self.line(event, &context);
    }
}

/// What was captured in the minute that runs. Holds at most [`MINUTE_MAX`] places.
#[derive(Debug, Default)]
struct Pace {
    minute: u64,
    all: u32,
    places: BTreeMap<(String, u32), u32>,
}

impl Pace {
    fn admit(&mut self, minute: u64, place: (String, u32)) -> bool {
        if self.minute != minute {
            *self = Self { minute, ..Self::default() };
        }
        if self.all >= MINUTE_MAX {
            return false;
        }
        let of_place = self.places.entry(place).or_default();
        if *of_place >= PLACE_MAX {
            return false;
        }
        *of_place += 1;
        self.all += 1;
        true
    }
}

/// Where the SDK puts envelopes.
struct Queue {
    sender: mpsc::Sender<Envelope>,
    captured: Counter,
    lost: Counter,
}

impl Transport for Queue {
    fn send_envelope(&self, envelope: Envelope) {
        // What the SDK reports about itself is no error of the server.
        if envelope.event().is_none() {
            return;
        }
        match self.sender.try_send(envelope) {
            Ok(()) => self.captured.inc(),
            Err(_full_or_closed) => self.lost.inc(),
        }
    }

    fn flush(&self, _timeout: Duration) -> bool {
        true
    }
}

struct Factory(Arc<Queue>);

impl TransportFactory for Factory {
    fn create_transport_with_options(&self, _options: TransportOptions) -> Arc<dyn Transport> {
        Arc::clone(&self.0) as Arc<dyn Transport>
    }
}

/// Removes what the panic itself called, so that the innermost frame is the one that panicked. Frames stand outermost
/// first.
fn below_the_hook(frames: &mut Vec<Frame>) {
    let function = |frame: &Frame| frame.function.clone().unwrap_or_default();
    if let Some(hook) = frames.iter().rposition(|frame| function(frame).contains("panic_with_hook")) {
        frames.truncate(hook);
    }
    let of_the_panic = |name: &str| {
        ["std::panicking::", "core::panicking::", "std::sys::backtrace::", "core::option::", "core::result::"]
            .iter()
            .any(|module| name.starts_with(module))
            || name.contains("rust_begin_unwind")
            || name.contains("__rust_end_short_backtrace")
            || name.contains("panic_fmt")
    };
    while frames.len() > 1 && frames.last().is_some_and(|frame| of_the_panic(&function(frame))) {
        frames.pop();
    }
}

#[cfg(test)]
#[path = "own_errors_tests.rs"]
mod tests;
