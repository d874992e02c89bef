//! Records written by acme-dns (<https://github.com/joohoi/acme-dns#api>), a name server for challenges alone, to which
//! `_acme-challenge.<name>` is a CNAME. It keeps the newest two texts, so there is nothing to take away.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Uri};
use serde::Deserialize;

use crate::base::Secret;
use crate::edge::acme::failure::Failure;
use crate::http::client::{Client, Reach};

/// Longest call, and the largest answer taken.
const CALL: Duration = Duration::from_secs(20);
const LARGEST_ANSWER: usize = 64 << 10;
/// Most letters shown of a refusal.
const SHOWN: usize = 200;

/// An account there.
#[derive(Debug)]
pub struct AcmeDns {
    uri: Uri,
    user: Secret<String>,
    key: Secret<String>,
    subdomain: String,
    client: Client,
}

/// What `/register` answers.
#[derive(Deserialize)]
struct Registered {
    username: String,
    password: String,
    subdomain: String,
}

impl AcmeDns {
    /// The account in `file` at `server`. Blocks.
    ///
    /// # Errors
    /// What is wrong, without showing what the file holds.
    pub fn open(server: &str, path: &str, file: &[u8]) -> Result<Self, String> {
        let registered: Registered = serde_json::from_slice(file)
            .map_err(|_secret| format!("{path}: no JSON with username, password and subdomain"))?;
        let uri = format!("{}/update", server.trim_end_matches('/'));
        Ok(Self {
            uri: uri.parse().map_err(|_none| format!("{server} is no address"))?,
            user: Secret::new(registered.username),
            key: Secret::new(registered.password),
            subdomain: registered.subdomain,
            client: Client::new(CALL, LARGEST_ANSWER).map_err(|error| error.to_string())?,
        })
    }

    /// Has it show the text `value`.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub async fn present(&self, value: &str) -> Result<(), Failure> {
        let body = serde_json::json!({ "subdomain": self.subdomain, "txt": value }).to_string();
        let secret = |secret: &Secret<String>| {
            let mut value = HeaderValue::from_str(secret.expose()).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let (Some(user), Some(key), Some(host)) = (secret(&self.user), secret(&self.key), self.uri.authority()) else {
            return Err(Failure::told("the acme-dns account cannot be sent in a header"));
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(HOST, host.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header("x-api-user", user)
            .header("x-api-key", key)
            .body(Bytes::from(body))
            .map_err(|error| Failure::told(error.to_string()))?;
        let answer = self.client.call(request, Reach::Any).await.map_err(|error| Failure::told(error.to_string()))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let text: String = String::from_utf8_lossy(answer.body()).chars().take(SHOWN).collect();
        Err(Failure::told(format!("acme-dns answered {}: {text}", answer.status())))
    }
}
