//! What the door refuses, and how each protocol says so. One table, [`SesError::wire`], gives code and status.

use axum::response::Response;
use http::{StatusCode, header};
use quick_xml::escape::escape;

use crate::http::Body;
use crate::http::sigv4::SignatureError;
use crate::mail::MailError;

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum SesError {
    #[error("the request is not signed")]
    Unsigned,
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("{0}")]
    Invalid(String),
    #[error("the request has more than the {0} bytes allowed")]
    TooLarge(u64),
    #[error("the operation {0} is not implemented here")]
    UnknownOperation(String),
    #[error(transparent)]
    Mail(#[from] MailError),
}

/// A code and its status.
struct Wire {
    code: &'static str,
    status: StatusCode,
}

impl SesError {
    /// Code (as in the SES API references) and status.
    fn wire(&self) -> Wire {
        let wire = |code, status| Wire { code, status };
        match self {
            Self::Unsigned => wire("MissingAuthenticationToken", StatusCode::FORBIDDEN),
            Self::Signature(SignatureError::UnknownKey(_)) => wire("InvalidClientTokenId", StatusCode::FORBIDDEN),
            Self::Signature(SignatureError::Mismatch) => wire("SignatureDoesNotMatch", StatusCode::FORBIDDEN),
            Self::Signature(SignatureError::Skew { .. }) => wire("RequestExpired", StatusCode::BAD_REQUEST),
            Self::Signature(_) => wire("IncompleteSignature", StatusCode::BAD_REQUEST),
            Self::Invalid(_) | Self::TooLarge(_) => wire("InvalidParameterValue", StatusCode::BAD_REQUEST),
            Self::UnknownOperation(_) => wire("InvalidAction", StatusCode::BAD_REQUEST),
            Self::Mail(MailError::QueueFull { .. }) => wire("Throttling", StatusCode::BAD_REQUEST),
            Self::Mail(MailError::Store(_) | MailError::Row { .. }) => {
                wire("ServiceUnavailable", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Mail(MailError::Address { .. } | MailError::Missing(_)) => {
                wire("InvalidParameterValue", StatusCode::BAD_REQUEST)
            }
            Self::Mail(_) => wire("MessageRejected", StatusCode::BAD_REQUEST),
        }
    }

    fn log(&self, status: StatusCode) {
        if status.is_server_error() {
            tracing::error!(error = %self, "a mail sent over SES could not be stored");
        }
    }

    /// The error in the query protocol (`ErrorResponse`, AWS query protocol).
    pub fn into_xml(self) -> Response {
        let Wire { code, status } = self.wire();
        self.log(status);
        let kind = if status.is_server_error() { "Receiver" } else { "Sender" };
        let message = self.to_string();
        let xml = format!(
            "<ErrorResponse xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><Error><Type>{kind}</Type>\
             <Code>{code}</Code><Message>{}</Message></Error></ErrorResponse>",
            escape(&message)
        );
        respond(status, "text/xml", xml)
    }

    /// The error in the v2 protocol (REST-JSON: body `message`, type in a header).
    pub fn to_json(&self) -> Response {
        let Wire { code, status } = self.wire();
        self.log(status);
        let code = match code {
            "InvalidParameterValue" => "BadRequestException",
            "Throttling" => "TooManyRequestsException",
            "InvalidAction" => "UnknownOperationException",
            code => code,
        };
        let body = serde_json::json!({ "message": self.to_string() }).to_string();
        let mut response = respond(status, "application/json", body);
        response.headers_mut().insert("x-amzn-errortype", http::HeaderValue::from_static(code));
        response
    }
}

/// A response of a known shape.
pub(super) fn respond(status: StatusCode, content_type: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
