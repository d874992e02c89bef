//! Problem documents (RFC 9457): what every error of the console door looks like.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::accounts::{AccountsError, Scopes};
use crate::backup::service::ServiceError;
use crate::bans::BansError;
use crate::issues::IssuesError;
use crate::limits::LimitsError;
use crate::mail::MailError;
use crate::objects::ObjectError;
use crate::store::StoreError;

/// Something that is not answered, and why.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// `status`, explained by `detail`.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    /// 400.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: nothing answers at `path`.
    pub fn no_path(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("nothing answers at {path}"))
    }

    /// 405, with the methods that are answered.
    pub fn method(allowed: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path answers {allowed}")).with(header::ALLOW, allowed)
    }

    /// 401: no token, or none that is taken (RFC 6750, 3).
    pub fn unauthorized(presented: bool) -> Self {
        let (detail, challenge) = if presented {
            (
                "this token is not valid: it is unknown, revoked, or has ended",
                r#"Bearer realm="mainstay", error="invalid_token""#,
            )
        } else {
            ("send a token: `Authorization: Bearer mst_...`; `mainstay env` prints one", r#"Bearer realm="mainstay""#)
        };
        Self::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, challenge)
    }

    /// 403: the token lacks a scope (RFC 6750, 3.1).
    pub fn scope(wanted: Scopes) -> Self {
        let wanted = wanted.names().join(" ");
        let challenge = format!(r#"Bearer realm="mainstay", error="insufficient_scope", scope="{wanted}""#);
        Self::new(StatusCode::FORBIDDEN, format!("this token lacks the scope {wanted}"))
            .with(header::WWW_AUTHENTICATE, &challenge)
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        // Texts made here are header texts; anything else is left out rather than sent broken.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body =
            json!({"type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.detail});
        let kind = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
        let mut response = (self.status, kind, format!("{body}\n")).into_response();
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// What the server could not do, without its reasons: those are in the log.
fn internal(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error = %error, "a request of the interface failed");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server could not do this; its log says why")
}

/// Not now: the disk is full, or the server is stopping.
fn not_now(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(header::RETRY_AFTER, "5")
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
            StoreError::Closed { .. } | StoreError::ReadOnly { .. } => not_now(error.to_string()),
            other => internal(&other),
        }
    }
}

impl From<AccountsError> for Problem {
    fn from(error: AccountsError) -> Self {
        use AccountsError as E;
        let status = match error {
            E::Store(error) => return error.into(),
            E::Busy | E::Stopping => return not_now(error.to_string()),
            E::Throttled { wait } => {
                let seconds = wait.as_secs().max(1).to_string();
                let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string());
                return problem.with(header::RETRY_AFTER, &seconds);
            }
            E::WrongCredentials => return Self::unauthorized(true),
            E::NoSuchUser | E::NoSuchSession | E::NoSuchToken | E::NoSuchKey => StatusCode::NOT_FOUND,
            E::LastKey | E::TwoSecrets | E::LastAdmin | E::EmailTaken | E::TooMany { .. } | E::AlreadyClaimed => {
                StatusCode::CONFLICT
            }
            E::BadLabel | E::BadToken | E::BadEnd | E::Grant(_) | E::BadEmail | E::Password(_) | E::BadLink => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            other => return internal(&other),
        };
        Self::new(status, error.to_string())
    }
}

impl From<ObjectError> for Problem {
    fn from(error: ObjectError) -> Self {
        use ObjectError as E;
        let status = match &error {
            E::NoSuchBucket | E::NoSuchKey | E::NoSuchVersion | E::DeleteMarker { .. } => StatusCode::NOT_FOUND,
            E::BucketNotEmpty | E::TooManyBuckets { .. } | E::KeptElsewhere => StatusCode::CONFLICT,
            E::TooManyRules { .. } | E::BackendName(_) | E::Backends(_) => StatusCode::UNPROCESSABLE_ENTITY,
            error if error.is_full() => StatusCode::INSUFFICIENT_STORAGE,
            error if error.is_passing() => return not_now(error.to_string()),
            error => return internal(error),
        };
        Self::new(status, error.to_string())
    }
}

impl From<IssuesError> for Problem {
    fn from(error: IssuesError) -> Self {
        match error {
            IssuesError::NoSuchIssue { .. } | IssuesError::NoSuchEvent { .. } => {
                Self::new(StatusCode::NOT_FOUND, error.to_string())
            }
            IssuesError::Store(error) => error.into(),
            other => internal(&other),
        }
    }
}

impl From<LimitsError> for Problem {
    fn from(error: LimitsError) -> Self {
        match error {
            LimitsError::NoSuchPolicy(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            LimitsError::Policy(error) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            LimitsError::Store(error) => error.into(),
        }
    }
}

impl From<BansError> for Problem {
    fn from(error: BansError) -> Self {
        let status = match error {
            BansError::Exempt { .. } | BansError::Full { .. } => StatusCode::CONFLICT,
            BansError::NotBanned(_) => StatusCode::NOT_FOUND,
            BansError::Reason => StatusCode::UNPROCESSABLE_ENTITY,
            BansError::Store(error) => return error.into(),
        };
        Self::new(status, error.to_string())
    }
}

impl From<MailError> for Problem {
    fn from(error: MailError) -> Self {
        match error {
            MailError::NoSuchMessage(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            MailError::Nothing { .. } | MailError::Masked { .. } => Self::new(StatusCode::CONFLICT, error.to_string()),
            MailError::Store(error) => error.into(),
            other => internal(&other),
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::NoTarget | ServiceError::Busy => Self::new(StatusCode::CONFLICT, error.to_string()),
            ServiceError::Stopping => not_now(error.to_string()),
            ServiceError::Store(error) => error.into(),
            // The target is another machine or disk, and whoever asks may need to put it right.
            ServiceError::Address(_) | ServiceError::Secret(_) | ServiceError::Backup(_) => {
                Self::new(StatusCode::BAD_GATEWAY, error.to_string())
            }
            other => internal(&other),
        }
    }
}
