//! The kinds of items SDKs send, by the names rate limits and counts use (develop.sentry.dev, "Rate limiting").

/// A category of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Events: what issues are made of.
    Error,
    /// Transactions of older SDKs.
    Transaction,
    /// Spans, streamed.
    Span,
    /// Sessions, single and aggregated.
    Session,
    /// Check-ins of scheduled jobs.
    Monitor,
    /// Files beside an event.
    Attachment,
    /// What users wrote.
    Feedback,
    /// Log lines.
    Log,
    /// Metrics.
    Metric,
    /// Profiles.
    Profile,
    /// Screen recordings.
    Replay,
    /// What an SDK dropped by itself.
    ClientReport,
    /// Everything else.
    Default,
}

impl Category {
    /// Every category with its name.
    pub const ALL: [(Self, &'static str); 13] = [
        (Self::Error, "error"),
        (Self::Transaction, "transaction"),
        (Self::Span, "span"),
        (Self::Session, "session"),
        (Self::Monitor, "monitor"),
        (Self::Attachment, "attachment"),
        (Self::Feedback, "feedback"),
        (Self::Log, "log_item"),
        (Self::Metric, "trace_metric"),
        (Self::Profile, "profile"),
        (Self::Replay, "replay"),
        (Self::ClientReport, "client_report"),
        (Self::Default, "default"),
    ];

    /// The category of an item of the type `kind`.
    pub fn of_item(kind: &str) -> Self {
        match kind {
            "event" => Self::Error,
            "transaction" => Self::Transaction,
            "span" => Self::Span,
            "session" | "sessions" => Self::Session,
            "check_in" => Self::Monitor,
            "attachment" => Self::Attachment,
            "feedback" | "user_report" => Self::Feedback,
            "log" => Self::Log,
            "trace_metric" | "statsd" => Self::Metric,
            "profile" | "profile_chunk" => Self::Profile,
            "replay_event" | "replay_recording" | "replay_video" => Self::Replay,
            "client_report" => Self::ClientReport,
            _ => Self::Default,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(category, _)| *category == self).map_or("default", |(_, name)| name)
    }
}
