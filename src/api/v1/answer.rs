//! The way of a request to `/v1`: path, method, token, scope, query, body; then the work.

use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::V1;
use super::problem::Problem;
use super::route::{BODY_MAX, Call, Reply, Route, bearer, fits};
use super::table::ROUTES;
use crate::accounts::{AccountsError, Client};
use crate::bans::Door;
use crate::base::Secret;
use crate::http::body::{self, ReadError};
use crate::http::query::Query;
use crate::http::{Body, Peer};

/// Answers a request to `path`, which is below `/v1`.
pub(super) async fn answer(api: V1, peer: Peer, request: Request<Body>) -> Response {
    match run(api, peer, request).await {
        Ok(reply) => reply.into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn run(api: V1, peer: Peer, request: Request<Body>) -> Result<Reply, Problem> {
    let (head, sent) = request.into_parts();
    let whole = head.uri.path();
    let below = whole.strip_prefix("/v1").unwrap_or_default();
    let at_path: Vec<(&Route, Vec<String>)> =
        ROUTES.iter().filter_map(|route| fits(route.path, below).map(|names| (route, names))).collect();
    if at_path.is_empty() {
        return Err(Problem::no_path(whole));
    }
    let allowed: Vec<&str> = at_path.iter().map(|(route, _)| route.verb.name()).collect();
    let Some((route, path)) = at_path.into_iter().find(|(route, _)| route.verb.is(&head.method)) else {
        return Err(Problem::method(&allowed.join(", ")));
    };

    let agent = head.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let client = Client::new(peer.address.ip(), agent);
    let text = bearer(&head.headers)?.ok_or_else(|| Problem::unauthorized(false))?;
    let token = api.users().token(&Secret::new(text.to_owned()), &client).await.inspect_err(|error| {
        if matches!(error, AccountsError::WrongCredentials | AccountsError::Throttled { .. }) {
            api.bans().failed_login(peer.address.ip(), Door::Api);
        }
    })?;
    if let Some(wanted) = route.scope.filter(|wanted| !token.scopes.allow(*wanted)) {
        return Err(Problem::scope(wanted));
    }

    let query = Query::parse(head.uri.query().unwrap_or_default()).map_err(|error| Problem::bad(error.to_string()))?;
    for (name, _) in query.iter() {
        if !route.query.iter().any(|param| param.name == name) {
            return Err(Problem::bad(format!("there is no parameter `{name}` here")));
        }
    }
    for param in route.query.iter().filter(|param| param.required) {
        if query.get(param.name).is_none_or(str::is_empty) {
            return Err(Problem::bad(format!("the parameter `{}` is missing", param.name)));
        }
    }

    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if route.body.is_some() && !is_json {
        let detail = "send the body as JSON, with `Content-Type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let limit = if route.body.is_some() { BODY_MAX } else { 0 };
    let body = body::read(sent, limit).await.map_err(|error| match error {
        ReadError::TooLarge { limit: 0 } => Problem::bad("this request takes no body"),
        ReadError::TooLarge { limit } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {limit} bytes"))
        }
        ReadError::Broken(_) => Problem::bad("the body ended early"),
    })?;
    (route.work)(api, Call { path, query, body, token, client }).await
}
