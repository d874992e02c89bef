//! What a line of the table of `/v1` says, and what a handler gets and gives.

use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::V1;
use super::problem::Problem;
use crate::accounts::{By, Client, Scopes, Token};
use crate::http::query::Query;

/// Largest body of a request.
pub const BODY_MAX: usize = 64 << 10;

/// Most entries of a page.
pub const PAGE_MAX: usize = 200;

/// Entries of a page when nobody says.
const PAGE: usize = 50;

/// A parameter in the query.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Whether it must be there.
    pub required: bool,
}

impl Param {
    /// A parameter that may be left out.
    pub const fn new(name: &'static str, doc: &'static str) -> Self {
        Self { name, doc, required: false }
    }
}

/// What a successful answer holds.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// JSON of the schema called so.
    Json(&'static str),
    /// A message as it was sent (`message/rfc822`).
    Message,
    /// Nothing (204).
    Nothing,
}

/// Does the work of a route.
pub type Work = fn(V1, Call) -> BoxFuture<'static, Result<Reply, Problem>>;

/// One line of the table.
#[derive(Clone, Copy)]
pub struct Route {
    /// Its method; `GET` answers `HEAD` too.
    pub verb: Verb,
    /// Its path below `/v1`, with names in braces.
    pub path: &'static str,
    /// The scope its token needs; `None` for any token.
    pub scope: Option<Scopes>,
    /// The name of the operation.
    pub id: &'static str,
    /// What it does, in a sentence.
    pub doc: &'static str,
    /// What its query may hold.
    pub query: &'static [Param],
    /// The schema of its body.
    pub body: Option<&'static str>,
    /// The status of success.
    pub status: u16,
    /// What a successful answer holds.
    pub answer: Answer,
    /// The work.
    pub work: Work,
}

/// The methods routes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Looks.
    Get,
    /// Makes, or does.
    Post,
    /// Changes a part.
    Patch,
    /// Removes.
    Delete,
}

impl Verb {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a request of `method` is meant.
    pub fn is(self, method: &Method) -> bool {
        method.as_str() == self.name() || (self == Self::Get && method == Method::HEAD)
    }
}

/// A request whose token, query and body have been looked at.
pub struct Call {
    /// The values of the names in the path, in their order, decoded.
    pub path: Vec<String>,
    /// The query; only parameters the route knows.
    pub query: Query,
    /// The body: empty, or JSON.
    pub body: bytes::Bytes,
    /// Whose token it is.
    pub token: Token,
    /// Where it comes from.
    pub client: Client,
}

impl Call {
    /// Who does this.
    pub fn by(&self) -> By {
        self.token.by(&self.client)
    }

    /// The value of the path's name at `place`.
    pub fn name(&self, place: usize) -> &str {
        self.path.get(place).map_or("", String::as_str)
    }

    /// The path's name at `place` as a `T`; anything else is a thing that is not there.
    pub fn parsed<T: std::str::FromStr>(&self, place: usize) -> Result<T, Problem> {
        let name = self.name(place);
        name.parse().map_err(|_no_name| Problem::new(StatusCode::NOT_FOUND, format!("there is no `{name}`")))
    }

    /// The body as a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body).map_err(|error| Problem::bad(format!("the body does not fit: {error}")))
    }

    /// How many entries the page may have.
    pub fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.query.get("limit") else { return Ok(PAGE) };
        let limit = text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
        limit.ok_or_else(|| Problem::bad(format!("limit is a number from 1 to {PAGE_MAX}, not `{text}`")))
    }

    /// The parameter `name` as a `T`, if it is there and not empty.
    pub fn param<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.query.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_no_value| Problem::bad(format!("{name} is not understood: `{text}`")))
    }
}

/// A successful answer.
pub struct Reply(Response);

impl Reply {
    /// 200 with JSON.
    pub fn ok(value: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, value)
    }

    /// 201 with JSON.
    pub fn created(value: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::CREATED, value)
    }

    /// 202 with JSON: begun, not yet done.
    pub fn accepted(value: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::ACCEPTED, value)
    }

    /// 200 with a message. Others have written it, so it is only ever saved: never sniffed, never drawn.
    pub fn message(bytes: Vec<u8>) -> Self {
        let headers = [
            (header::CONTENT_TYPE, "message/rfc822"),
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_DISPOSITION, "attachment; filename=\"message.eml\""),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        Self((StatusCode::OK, headers, bytes).into_response())
    }

    /// JSON. Answers tell of now, and some hold secrets: nobody keeps them.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, Problem> {
        let text = serde_json::to_string(value).map_err(|_no_json| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written as JSON")
        })?;
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        Ok(Self((status, headers, text + "\n").into_response()))
    }

    /// 204.
    pub fn nothing() -> Self {
        Self((StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-store")]).into_response())
    }

    /// The response.
    pub fn into_response(self) -> Response {
        self.0
    }
}

/// A page of a list: the entries as `items`, and `next`, the `cursor` of the next page, when there is one.
#[expect(clippy::needless_pass_by_value, reason = "the callers build the value in place")]
pub fn page(items: Vec<Value>, next: Option<String>) -> Result<Reply, Problem> {
    Reply::ok(&serde_json::json!({"items": items, "next": next}))
}

/// The text after `Bearer` in the `Authorization` header; `None` when there is no such header.
///
/// # Errors
/// 401 when it is there twice, or of another scheme.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(|| Problem::unauthorized(true))?;
    if !scheme.eq_ignore_ascii_case("bearer") || values.next().is_some() {
        return Err(Problem::unauthorized(false));
    }
    Ok(Some(token.trim()))
}

/// The values of the names in `pattern`, when `path` (as sent, below `/v1`) fits it. Segments are decoded after they
/// were split, so that an escaped slash separates nothing.
pub fn fits(pattern: &str, path: &str) -> Option<Vec<String>> {
    let (mut wanted, mut sent) = (pattern.split('/'), path.split('/'));
    let mut names = Vec::new();
    loop {
        match (wanted.next(), sent.next()) {
            (None, None) => return Some(names),
            (Some(wanted), Some(sent)) if wanted.starts_with('{') => {
                names.push(crate::http::uri::decode(sent).ok().filter(|name| !name.is_empty())?);
            }
            (Some(wanted), Some(sent)) if wanted == sent => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fits_its_pattern_alone() {
        assert_eq!(fits("/tokens", "/tokens"), Some(Vec::new()));
        assert_eq!(fits("/tokens/{id}", "/tokens/a%2Fb"), Some(vec![String::from("a/b")]));
        for path in ["/tokens", "/tokens/", "/tokens/a/b", "/token/a", "/tokens/%ff"] {
            assert_eq!(fits("/tokens/{id}", path), None, "{path}");
        }
    }

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        let headers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, header::HeaderValue::from_static(value));
            }
            headers
        };
        assert_eq!(bearer(&headers(&[])).unwrap(), None);
        assert_eq!(bearer(&headers(&["bearer  mst_x "])).unwrap(), Some("mst_x"));
        for bad in [&["Basic eDp5"][..], &["Bearer"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(bad)).unwrap_err().status(), StatusCode::UNAUTHORIZED);
        }
    }
}
