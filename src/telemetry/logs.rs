//! Log lines: where they go, what they look like, what is kept out of them.
//!
//! Rooms log with `tracing` macros: a sentence for people, fields for queries. [`start`] installs the one subscriber,
//! which writes to standard error, for people (`pretty`) or programs (`json`, one object a line). Values of fields whose
//! name sounds secret are replaced, URLs are scrubbed, control characters are escaped; a line has at most
//! [`LINE_LIMIT`] bytes. Writing happens on a thread of its own ([`super::log_writer`]).

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::log_writer::LogWriter;
use super::metrics::Metrics;
use super::own_errors::OwnErrors;
use super::redact::{self, REDACTED};
use crate::base::{Clock, Timestamp};

/// Most bytes of one value in a line; what is longer is cut.
const VALUE_LIMIT: usize = 4 << 10;

/// Most bytes of a line, before escaping; further fields are left out.
pub const LINE_LIMIT: usize = 16 << 10;

/// Libraries that say more than an operator wants to hear.
const QUIET: &str = "hickory_proto=error,hickory_resolver=error,hickory_net=error,h2=warn,hyper=warn,rustls=warn";

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people, coloured on a terminal.
    Pretty,
    /// A JSON object per line.
    Json,
}

crate::settings! {
    /// Log lines, written to standard error.
    pub struct LogConfig {
        /// What is logged: `error`, `warn`, `info`, `debug` or `trace`; parts may differ, as in
        /// `info,mainstay::s3=debug`.
        pub level: String = String::from("info"),
        /// What a line looks like: `pretty` for people (coloured on a terminal), `json` for programs, an object a line.
        pub format: LogFormat = LogFormat::Pretty,
    }
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is not understood.
    #[error("log.level: `{level}` is not understood ({reason}); write `info`, or `info,mainstay::s3=debug`")]
    Level {
        /// What was written.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refuses the writing thread.
    #[error("the log's thread does not start: {0}")]
    Thread(#[from] std::io::Error),
    /// Logging was started before.
    #[error("logging was started twice")]
    Twice,
}

/// Checks `level` without starting anything.
///
/// # Errors
/// [`LogError::Level`].
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(|_| ())
}

/// Installs the subscriber for the whole process; `own_errors` hears what is logged too. Flush the writer it gives back
/// before the process ends.
///
/// # Errors
/// [`LogError`].
pub fn start(
    config: &LogConfig,
    coloured: bool,
    clock: Arc<dyn Clock>,
    metrics: &Metrics,
    own_errors: Option<OwnErrors>,
) -> Result<LogWriter, LogError> {
    let dropped = metrics.counter(
        "mainstay_log_dropped_lines_total",
        "Log lines lost because standard error did not take them in time",
        &[],
    );
    let filter = filter(&config.level)?;
    let writer = LogWriter::start(Box::new(std::io::stderr()), dropped)?;
    let lines = Lines { format: config.format, coloured, clock, writer: writer.clone() };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines).with(own_errors);
    tracing::subscriber::set_global_default(subscriber).map_err(|_already_set| LogError::Twice)?;
    Ok(writer)
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(format!("{QUIET},{level}"))
        .map_err(|error| LogError::Level { level: level.to_owned(), reason: error.to_string() })
}

/// Turns events into lines.
struct Lines {
    format: LogFormat,
    coloured: bool,
    clock: Arc<dyn Clock>,
    writer: LogWriter,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = Fields::of(event, &context);
        let target = event.metadata().target();
        let target = target.strip_prefix("mainstay::").unwrap_or(target);
        let level = *event.metadata().level();
        self.writer.write(match self.format {
            LogFormat::Pretty => pretty(self.clock.now(), level, target, &fields, self.coloured),
            LogFormat::Json => json(self.clock.now(), level, target, &fields),
        });
    }
}

/// The message and the fields of an event, or the fields of a span, already fit for the log.
#[derive(Clone, Default)]
pub(super) struct Fields {
    message: String,
    values: Vec<(&'static str, Value)>,
    bytes: usize,
}

#[derive(Clone)]
enum Value {
    Text(String),
    /// A number or a boolean, which JSON shows without quotes.
    Plain(String),
}

impl Value {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Plain(text) => text,
        }
    }
}

impl Fields {
    /// Those of `event` and of the spans it lies in.
    pub(super) fn of<S>(event: &Event<'_>, context: &Context<'_, S>) -> Self
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut fields = Self::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Self>() {
                fields.values.extend(of_span.values.iter().cloned());
            }
        }
        event.record(&mut fields);
        fields
    }

    /// The sentence.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Names and values, scrubbed.
    pub(super) fn values(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }

    fn add(&mut self, field: &Field, value: Value) {
        let value = if redact::is_secret_name(field.name()) { Value::Text(REDACTED.to_owned()) } else { value };
        let bytes = field.name().len() + value.as_str().len();
        if self.bytes + bytes > LINE_LIMIT {
            return;
        }
        self.bytes += bytes;
        match value {
            Value::Text(text) | Value::Plain(text) if field.name() == "message" => self.message = text,
            value => self.values.push((field.name(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Plain(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Plain(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Plain(value.to_string()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(redact::scrub(cut(value))));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Limited(String::new());
        // Fails only when the limit is reached.
        let _ = write!(text, "{value:?}");
        self.add(field, Value::Text(redact::scrub(&text.0)));
    }
}

/// Takes text up to [`VALUE_LIMIT`], so that a huge `Debug` is not built in memory first.
struct Limited(String);

impl fmt::Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(cut(text));
        if self.0.len() < VALUE_LIMIT { Ok(()) } else { Err(fmt::Error) }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(VALUE_LIMIT)]
}

fn pretty(now: Timestamp, level: Level, target: &str, fields: &Fields, coloured: bool) -> String {
    let mut out = String::with_capacity(128 + fields.bytes);
    let (dim, plain, colour) = if coloured { ("\x1b[2m", "\x1b[0m", colour_of(level)) } else { ("", "", "") };
    // Writing into a String cannot fail.
    let _ = write!(out, "{dim}{now}{plain} {colour}{level:>5}{plain} {dim}{target}:{plain} ");
    escape_into(&mut out, &fields.message);
    for (name, value) in &fields.values {
        let _ = write!(out, " {dim}{name}={plain}");
        let text = value.as_str();
        if text.is_empty() || text.contains([' ', '"', '=']) {
            out.push('"');
            escape_into(&mut out, &text.replace('\\', "\\\\").replace('"', "\\\""));
            out.push('"');
        } else {
            escape_into(&mut out, text);
        }
    }
    out.push('\n');
    out
}

const fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[1;31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        if redact::is_dangerous(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

fn json(now: Timestamp, level: Level, target: &str, fields: &Fields) -> String {
    let mut out = String::with_capacity(192 + fields.bytes);
    let _ = write!(out, "{{\"time\":\"{now}\",\"level\":\"{}\",\"target\":", level.as_str().to_ascii_lowercase());
    quote_into(&mut out, target);
    out.push_str(",\"message\":");
    quote_into(&mut out, &fields.message);
    for (name, value) in &fields.values {
        out.push(',');
        // A field must not pass itself off as one of the line's own.
        let clashes = matches!(*name, "time" | "level" | "target" | "message");
        quote_into(&mut out, &if clashes { format!("field_{name}") } else { (*name).to_owned() });
        out.push(':');
        match value {
            Value::Text(text) => quote_into(&mut out, text),
            Value::Plain(text) => out.push_str(text),
        }
    }
    out.push_str("}\n");
    out
}

fn quote_into(out: &mut String, text: &str) {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    for c in quoted.chars() {
        if redact::is_dangerous(c) {
            // All of them lie in the basic plane.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
