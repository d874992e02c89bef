//! What is kept of a request while it is sent, so that it can be sent once more.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::Body as _;

use super::body::RequestBody;

/// A request that may be sent twice (RFC 9110 section 9.2.2) and has no body. Every request on a kept connection has one,
/// and hardly any is used: the values lie in one piece of memory, since copies of them would each be counted.
#[derive(Debug)]
pub struct Spare {
    method: Method,
    uri: Uri,
    /// Names, and where in `values` theirs ends.
    fields: Vec<(HeaderName, Field)>,
    values: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    end: usize,
    sensitive: bool,
}

impl Spare {
    /// What is needed to send `request` again; `None` when it may be sent once only.
    pub fn of(request: &Request<RequestBody>) -> Option<Self> {
        let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
        // An upgrade is bound to its connection.
        let upgrade = request.headers().contains_key(http::header::UPGRADE);
        if upgrade || !request.body().is_end_stream() || !idempotent.contains(request.method()) {
            return None;
        }
        let headers = request.headers();
        let mut fields = Vec::with_capacity(headers.len());
        let mut values = Vec::with_capacity(headers.values().map(HeaderValue::len).sum());
        for (name, value) in headers {
            values.extend_from_slice(value.as_bytes());
            fields.push((name.clone(), Field { end: values.len(), sensitive: value.is_sensitive() }));
        }
        Some(Self { method: request.method().clone(), uri: request.uri().clone(), fields, values })
    }

    /// The request; `None` would say that a field does not read as it was.
    pub fn request(self) -> Option<Request<RequestBody>> {
        let mut headers = HeaderMap::with_capacity(self.fields.len());
        let mut start = 0;
        for (name, Field { end, sensitive }) in self.fields {
            let mut value = HeaderValue::from_bytes(self.values.get(start..end)?).ok()?;
            value.set_sensitive(sensitive);
            headers.append(name, value);
            start = end;
        }
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = headers;
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;

    fn request(method: Method, body: Body) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::new(body, 100));
        *request.method_mut() = method;
        *request.uri_mut() = "/a?b=c".parse().unwrap();
        request
    }

    #[test]
    fn a_spare_is_the_request_with_all_its_lines() {
        let mut first = request(Method::GET, Body::empty());
        for (name, value) in [("x-a", "1"), ("host", "h"), ("x-a", ""), ("x-a", "2 \u{e9}")] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            first.headers_mut().append(name, value);
        }
        let mut secret = HeaderValue::from_static("s");
        secret.set_sensitive(true);
        first.headers_mut().insert("authorization", secret);
        let again = Spare::of(&first).unwrap().request().unwrap();
        assert_eq!((again.method(), again.uri(), again.headers()), (first.method(), first.uri(), first.headers()));
        assert!(again.headers()["authorization"].is_sensitive() && !again.headers()["host"].is_sensitive());
    }

    #[test]
    fn what_may_be_sent_once_only_has_no_spare() {
        assert!(Spare::of(&request(Method::POST, Body::empty())).is_none());
        assert!(Spare::of(&request(Method::PUT, Body::from("x"))).is_none());
        let mut upgrade = request(Method::GET, Body::empty());
        upgrade.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
        assert!(Spare::of(&upgrade).is_none());
        assert!(Spare::of(&request(Method::DELETE, Body::empty())).is_some());
    }
}
