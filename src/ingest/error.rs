//! Why a request is refused, and the one table from that to the wire.

use crate::http::body::ReadError;
use crate::issues::IssuesError;

/// How long an SDK leaves the named categories alone when the server is full.
const PAUSE_SECONDS: u64 = 60;

/// Why nothing of a request was taken in.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request names no key.
    #[error("no sentry_key: send X-Sentry-Auth, a query parameter, or a dsn in the envelope's header")]
    NoKey,
    /// The key is none of the project's, or the project does not exist. The two look alike on purpose.
    #[error("the key does not belong to this project")]
    WrongKey,
    /// The body is in an encoding nobody decodes here.
    #[error("content-encoding is none of identity, gzip, deflate, br, zstd")]
    Encoding,
    /// The body does not decode.
    #[error("the body does not decode as its content-encoding says")]
    Broken,
    /// Something is larger than what is taken in.
    #[error("{what} exceeds {most} bytes")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// Bytes allowed.
        most: usize,
    },
    /// The body grows out of proportion when it is decompressed.
    #[error("the body decompresses to more than {most} times its size")]
    Bomb {
        /// The proportion allowed.
        most: usize,
    },
    /// The envelope holds too many items.
    #[error("the envelope holds more than {most} items")]
    TooMany {
        /// Items allowed.
        most: usize,
    },
    /// The envelope's framing is broken.
    #[error("envelope: {0}")]
    Envelope(&'static str),
    /// An event is not what the protocol says.
    #[error("event: {0}")]
    Event(String),
    /// Too many bodies are being read at once.
    #[error("too many requests at once")]
    Busy,
    /// The client was too slow, or left.
    #[error("the body could not be read")]
    Unread,
    /// The service takes no more events for now.
    #[error("{0}")]
    Later(IssuesError),
    /// The service failed.
    #[error("the event could not be stored")]
    Failed(#[source] IssuesError),
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLarge { limit } => Self::TooLarge { what: "the body", most: limit },
            ReadError::Broken(_) => Self::Unread,
        }
    }
}

impl From<IssuesError> for Refusal {
    fn from(error: IssuesError) -> Self {
        match error {
            IssuesError::NotJson { .. } | IssuesError::TooDeep { .. } => Self::Event(error.to_string()),
            IssuesError::EventTooLarge { most, .. } => Self::TooLarge { what: "an event", most },
            IssuesError::SpoolFull { .. } | IssuesError::TooFast { .. } => Self::Later(error),
            _ if error.is_full() => Self::Later(error),
            _ => Self::Failed(error),
        }
    }
}

impl Refusal {
    /// The status it is answered with.
    pub const fn status(&self) -> u16 {
        match self {
            Self::NoKey => 401,
            Self::WrongKey => 403,
            Self::Broken | Self::Envelope(_) | Self::Event(_) | Self::Unread => 400,
            Self::TooLarge { .. } | Self::Bomb { .. } | Self::TooMany { .. } => 413,
            Self::Encoding => 415,
            Self::Later(_) | Self::Busy => 429,
            Self::Failed(_) => 503,
        }
    }

    /// The value of `X-Sentry-Rate-Limits`: seconds, categories, scope, reason. Only errors are named, so that an SDK
    /// goes on with everything else.
    pub fn rate_limits(&self) -> Option<String> {
        let (seconds, reason) = match self {
            Self::Later(IssuesError::TooFast { wait_seconds, .. }) => (*wait_seconds, "too_many_events"),
            Self::Later(_) => (PAUSE_SECONDS, "no_room"),
            Self::Busy => (1, "busy"),
            _ => return None,
        };
        Some(format!("{seconds}:error;default:project:{reason}"))
    }

    /// Seconds after which it may be tried again, for clients that know `Retry-After` alone.
    pub fn retry_after(&self) -> Option<String> {
        let limits = self.rate_limits()?;
        limits.split_once(':').map(|(seconds, _)| seconds.to_owned())
    }
}
