//! What a page answers when it cannot do what was asked.
//!
//! A handler returns a [`Fault`]; [`super::entry`] makes the page of it, with the frame of whoever is looking. The text is
//! for people and holds nothing secret; what an operator needs to know is logged where it happened.

use std::fmt;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::page;
use crate::accounts::AccountsError;
use crate::http::uri::encode_component;

/// A page that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The answer's status.
    pub status: StatusCode,
    /// What is wrong, as a sentence; for [`Fault::log_in`], where to go.
    pub text: String,
}

/// What every handler of a page returns.
pub type Answer = Result<Response, Fault>;

impl Fault {
    /// A fault with `status` that says `text`.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// There is no such thing (404).
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("There is no {what} here. It may have been removed."))
    }

    /// What was sent does not do (400).
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// The form did not come from a page of this console (403).
    pub fn forged() -> Self {
        let text = "This form was not sent from a page of this console, or the page was too old. Nothing was changed. \
                    Go back, reload the page, and send it again.";
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// Nobody is logged in: the browser is sent to the login page, and from there to `back`.
    pub fn log_in(back: &str) -> Self {
        Self::new(StatusCode::SEE_OTHER, format!("/login?next={}", encode_component(back)))
    }

    /// The password is wanted again first; `back` is where the browser goes afterwards.
    pub fn confirm(back: &str) -> Self {
        Self::new(StatusCode::SEE_OTHER, format!("/confirm?next={}", encode_component(back)))
    }

    /// What [`accounts`](crate::accounts) did not do, in its own words.
    pub fn refused(error: &AccountsError) -> Self {
        let status = match error {
            AccountsError::Store(_) | AccountsError::Record { .. } => return Self::failed("accounts", error),
            AccountsError::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
            AccountsError::Busy | AccountsError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            AccountsError::WrongCredentials => StatusCode::UNAUTHORIZED,
            AccountsError::NoSuchUser
            | AccountsError::NoSuchSession
            | AccountsError::NoSuchToken
            | AccountsError::NoSuchKey
            | AccountsError::BadLink => StatusCode::NOT_FOUND,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, sentence(&error.to_string()))
    }

    /// A part of the server failed (503). `error` is logged, not shown.
    pub fn failed(what: &'static str, error: &dyn fmt::Display) -> Self {
        tracing::error!(what, %error, "a page of the console could not be made");
        let text = format!("The {what} cannot be read right now. The log says why.");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// The heading of the page.
    pub fn title(&self) -> &'static str {
        match self.status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::FORBIDDEN => "Refused",
            StatusCode::TOO_MANY_REQUESTS => "Too many attempts",
            StatusCode::METHOD_NOT_ALLOWED => "Not that way",
            StatusCode::PAYLOAD_TOO_LARGE => "Too large",
            status if status.is_server_error() => "Something does not work",
            _ => "That did not work",
        }
    }
}

/// An error's text as a sentence.
pub fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

/// A bare answer; the page is made around it later.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        if self.status == StatusCode::SEE_OTHER {
            return page::redirect(&self.text);
        }
        let mut response = (self.status, format!("{}\n", self.text)).into_response();
        response.extensions_mut().insert(self);
        response
    }
}
