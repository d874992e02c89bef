//! The few pages the edge shows itself: errors, a missing app, the way to HTTPS.

use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};

use super::head::Refusal;
use super::mutual::Unproven;
use crate::http::Body;

/// The methods that are served for apps.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What the answer's form depends on; taken from the request before it is passed on.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    json: bool,
    version: Version,
}

impl Form {
    /// JSON for who prefers it to HTML, else HTML.
    pub fn of(headers: &HeaderMap, version: Version) -> Self {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        Self { json: accept.contains("json") && !accept.contains("text/html"), version }
    }
}

/// A refused request. On HTTP/1 the connection is closed after it: what follows a bad head cannot be trusted.
pub fn refusal(refusal: Refusal, form: Form) -> Response<Body> {
    let (status, text) = refusal.answer();
    let mut response = page(status, text, form);
    if form.version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if refusal == Refusal::Method {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    }
    response
}

/// The answer to `OPTIONS *`, which asks about the server as a whole (RFC 9110 section 9.3.7).
pub fn server() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// The app does not answer, or not in time.
pub fn unavailable(status: StatusCode, form: Form) -> Response<Body> {
    let text = match status {
        StatusCode::GATEWAY_TIMEOUT => "The app did not answer in time.",
        _ => "The app behind this address does not answer.",
    };
    page(status, text, form)
}

/// Nothing is configured to answer this host and path.
pub fn no_site(any_sites: bool, form: Form) -> Response<Body> {
    if any_sites {
        return page(StatusCode::NOT_FOUND, "No site is served under this address.", form);
    }
    let mut response = page(
        StatusCode::SERVICE_UNAVAILABLE,
        "Mainstay is running, but no app is connected yet. Start it with --app 127.0.0.1:3000 (your app's address), or \
         set edge.app in its configuration file.",
        form,
    );
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
    response
}

/// A client that is banned. Its own connection is closed after it; one of a proxy has others on it.
pub fn banned(form: Form, proxied: bool) -> Response<Body> {
    let mut response = page(StatusCode::FORBIDDEN, "This address is banned for a while.", form);
    if form.version < Version::HTTP_2 && !proxied {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A site that is being worked on.
pub fn maintenance(form: Form) -> Response<Body> {
    let text = "This site is being worked on and will be back soon.";
    let mut response = page(StatusCode::SERVICE_UNAVAILABLE, text, form);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("300"));
    response
}

/// An own door failed without an answer.
pub fn internal(form: Form) -> Response<Body> {
    page(StatusCode::INTERNAL_SERVER_ERROR, "Internal error.", form)
}

/// The answer to an authority's challenge (RFC 8555 section 8.3).
pub fn challenge(authorization: String) -> Response<Body> {
    let mut response = Response::new(Body::from(authorization));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The root certificate of the internal authority, in PEM, as devices take it.
pub fn root(pem: String) -> Response<Body> {
    let mut response = Response::new(Body::from(pem));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-x509-ca-cert"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"mainstay-ca.crt\""));
    response
}

/// Why a request is not served that asks for a client's certificate.
pub fn unproven(unproven: Unproven, form: Form) -> Response<Body> {
    let (status, text) = match unproven {
        Unproven::Misdirected => {
            (StatusCode::MISDIRECTED_REQUEST, "This connection was made for another site. Please make another one.")
        }
        Unproven::Missing => (StatusCode::BAD_REQUEST, "This site asks for a certificate of yours, and none was sent."),
        Unproven::Wrong => (StatusCode::BAD_REQUEST, "The certificate you sent is not one that this site takes."),
    };
    page(status, text, form)
}

/// A small page with `status` and `text`.
pub fn page(status: StatusCode, text: &'static str, form: Form) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    let (kind, body) = if form.json {
        // Texts are constants without a character that JSON escapes.
        ("application/json", format!("{{\"status\":{code},\"error\":\"{text}\"}}\n"))
    } else {
        (
            "text/html; charset=utf-8",
            format!(
                "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
                 content=\"width=device-width\"><title>{code} {reason}</title>\n<style>body{{font:1rem/1.5 \
                 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem;color-scheme:light dark}}\
                 </style>\n<h1>{code} {reason}</h1>\n<p>{text}</p>\n</html>\n"
            ),
        )
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Sends the client to `location`, with a status that keeps the method where it matters.
pub fn redirect(method: &Method, location: &str, form: Form) -> Response<Body> {
    let Ok(location) = HeaderValue::from_str(location) else { return refusal(Refusal::Target, form) };
    let mut response = Response::new(Body::empty());
    let keeps = *method != Method::GET && *method != Method::HEAD;
    *response.status_mut() = if keeps { StatusCode::PERMANENT_REDIRECT } else { StatusCode::MOVED_PERMANENTLY };
    response.headers_mut().insert(LOCATION, location);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body;

    fn form(accept: &'static str) -> Form {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Form::of(&headers, Version::HTTP_11)
    }

    #[tokio::test]
    async fn pages_are_json_for_who_asks_for_it() {
        let response = unavailable(StatusCode::BAD_GATEWAY, form("application/json"));
        assert_eq!(response.status(), 502);
        let text = body::read(response.into_body(), 1000).await.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["status"], 502);
        let response = unavailable(StatusCode::BAD_GATEWAY, form("text/html,application/json"));
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    }

    #[test]
    fn redirects_keep_the_method_of_a_post() {
        let to = "https://a/x";
        assert_eq!(redirect(&Method::GET, to, form("")).status(), 301);
        assert_eq!(redirect(&Method::POST, to, form("")).status(), 308);
    }
}
