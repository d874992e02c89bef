//! Calls to an authority: one connection each, capped in time and size, and what `Retry-After` said.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::base::Timestamp;
use crate::http::client::{Client, Reach};

/// Most letters shown of an answer that is no problem document.
const SHOWN: usize = 300;
/// Who calls (RFC 8555 section 6.1 asks for it).
const AGENT: &str = concat!("Mainstay/", env!("CARGO_PKG_VERSION"), " instant-acme");

/// One attempt's calls.
#[derive(Clone, Debug)]
pub struct Transport {
    client: Client,
    now: Timestamp,
    wait: Arc<Mutex<Option<Duration>>>,
}

impl Transport {
    /// Calls made by `client`; `now` is what a date in `Retry-After` is measured from.
    pub fn new(client: Client, now: Timestamp) -> Self {
        Self { client, now, wait: Arc::default() }
    }

    /// What the newest refusal said about when to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        *self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let other = |error: Box<dyn std::error::Error + Send + Sync>| Error::Other(error);
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(|never| other(Box::new(never)))?.to_bytes();
        head.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(authority) = head.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            head.headers.insert(HOST, host);
        }
        let response = self.client.call(Request::from_parts(head, body), Reach::Any).await;
        let response = response.map_err(|error| other(error.into()))?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            *self.wait.lock().unwrap_or_else(PoisonError::into_inner) = retry_after(response.headers(), self.now);
            if !serde_json::from_slice::<serde_json::Value>(response.body()).is_ok_and(|body| body.is_object()) {
                let text: String = String::from_utf8_lossy(response.body()).chars().take(SHOWN).collect();
                return Err(other(format!("the authority answered {status}: {text}").into()));
            }
        }
        let (head, body) = response.into_parts();
        Ok(BytesResponse::from(Response::from_parts(head, Full::new(body))))
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().exchange(request))
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp(u64::try_from(at.as_millisecond()).ok()?).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_seconds(784_111_770);
        let told = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]), now)
        };
        assert_eq!(told("120"), Some(Duration::from_mins(2)));
        assert_eq!(told("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(told("Sun, 06 Nov 1994 08:49:20 GMT"), Some(Duration::ZERO));
        assert_eq!(told("soon"), None);
    }
}
