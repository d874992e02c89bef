//! Fields and messages: what makes a request, and what is malformed (RFC 9114 sections 4.1 to 4.3).

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};

use super::qpack::{Encoder, Field};

/// A message that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Pseudo-header fields of a request; each may be there once.
#[derive(Debug, Default)]
struct Pseudo {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
}

/// The request that `fields` make.
///
/// # Errors
/// [`Malformed`].
pub fn request(fields: Vec<Field>) -> Result<Request<()>, Malformed> {
    let mut pseudo = Pseudo::default();
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        if field.name.first() != Some(&b':') {
            add(&mut headers, field)?;
            continue;
        }
        if !headers.is_empty() {
            return Err(Malformed("a pseudo-header field after a field"));
        }
        let place = match &field.name[..] {
            b":method" => &mut pseudo.method,
            b":scheme" => &mut pseudo.scheme,
            b":authority" => &mut pseudo.authority,
            b":path" => &mut pseudo.path,
            // Of which `:protocol` is one: extended CONNECT (RFC 9220) is not announced.
            _ => return Err(Malformed("an unknown pseudo-header field")),
        };
        if place.replace(field.value).is_some() {
            return Err(Malformed("a pseudo-header field given twice"));
        }
    }
    let method = pseudo.method.as_deref().ok_or(Malformed("no :method"))?;
    let method = Method::from_bytes(method).map_err(|_bad| Malformed("a method that is none"))?;
    let mut request = Request::new(());
    *request.uri_mut() = if method == Method::CONNECT { tunnel(&pseudo)? } else { target(&pseudo)? };
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    *request.version_mut() = Version::HTTP_3;
    Ok(request)
}

/// What CONNECT is for (section 4.4): an authority and nothing else.
fn tunnel(pseudo: &Pseudo) -> Result<Uri, Malformed> {
    match (&pseudo.scheme, &pseudo.path, &pseudo.authority) {
        (None, None, Some(authority)) => {
            Uri::try_from(&authority[..]).map_err(|_bad| Malformed("an authority that is none"))
        }
        _ => Err(Malformed("CONNECT with a scheme or path, or without an authority")),
    }
}

fn target(pseudo: &Pseudo) -> Result<Uri, Malformed> {
    let scheme = pseudo.scheme.as_deref().ok_or(Malformed("no :scheme"))?;
    if !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Malformed("a scheme other than https"));
    }
    let path = pseudo.path.as_deref().ok_or(Malformed("no :path"))?;
    // The parser would leave a fragment out, and fill in a path that is empty.
    if path.is_empty() || path.contains(&b'#') {
        return Err(Malformed("a :path that is empty or has a fragment"));
    }
    let path = PathAndQuery::try_from(path).map_err(|_bad| Malformed("a :path that is none"))?;
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path);
    if let Some(authority) = &pseudo.authority {
        let authority = Authority::try_from(&authority[..]).map_err(|_bad| Malformed("an authority that is none"))?;
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(authority);
    }
    Uri::from_parts(parts).map_err(|_bad| Malformed("a target that is none"))
}

/// The trailers that `fields` make.
///
/// # Errors
/// [`Malformed`].
pub fn trailers(fields: Vec<Field>) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        if field.name.first() == Some(&b':') {
            return Err(Malformed("a pseudo-header field in trailers"));
        }
        add(&mut headers, field)?;
    }
    Ok(headers)
}

fn add(headers: &mut HeaderMap, field: Field) -> Result<(), Malformed> {
    let Field { name, value } = field;
    if name.iter().any(u8::is_ascii_uppercase) {
        return Err(Malformed("a field name with upper case"));
    }
    let name = HeaderName::from_bytes(&name).map_err(|_bad| Malformed("a field name that is none"))?;
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_blank(value.first()) || is_blank(value.last()) {
        return Err(Malformed("a value with blanks around it"));
    }
    if is_of_connection(&name) && !(name == TE && value.eq_ignore_ascii_case(b"trailers")) {
        return Err(Malformed("a field that concerns a connection of HTTP/1"));
    }
    let value = HeaderValue::from_maybe_shared(value).map_err(|_bad| Malformed("a value that is none"))?;
    headers.append(name, value);
    Ok(())
}

/// Fields that HTTP/3 has no use for, and that must not be there (section 4.2).
fn is_of_connection(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || *name == TE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// The length of the body, where `headers` declare one. It must be the length of all DATA together.
///
/// # Errors
/// It is no number, or there are several that differ.
pub fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut declared = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let bytes = value.as_bytes();
        let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
        let length = value.to_str().ok().filter(|_| digits).and_then(|text| text.parse::<u64>().ok());
        let length = length.ok_or(Malformed("a content-length that is none"))?;
        if declared.replace(length).is_some_and(|before| before != length) {
            return Err(Malformed("two content-lengths"));
        }
    }
    Ok(declared)
}

/// The field section of a response. What concerns a connection of HTTP/1 is left out.
pub fn response(status: StatusCode, headers: &HeaderMap) -> Bytes {
    let mut out = Encoder::default();
    out.add(":status", status.as_str().as_bytes());
    put(&mut out, headers);
    out.finish()
}

/// The field section of trailers, as [`response`].
pub fn encoded_trailers(headers: &HeaderMap) -> Bytes {
    let mut out = Encoder::default();
    put(&mut out, headers);
    out.finish()
}

fn put(out: &mut Encoder, headers: &HeaderMap) {
    for (name, value) in headers.iter().filter(|(name, _)| !is_of_connection(name)) {
        out.add(name.as_str(), value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h3::qpack::{Limits, decode};

    fn fields(lines: &[(&str, &str)]) -> Vec<Field> {
        let field = |(name, value): &(&str, &str)| Field {
            name: Bytes::copy_from_slice(name.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
        };
        lines.iter().map(field).collect()
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "example.com"), (":path", "/a?b=c")];

    #[test]
    fn a_request_is_what_http_2_makes_of_the_same() {
        let request = request(fields(&[&GET[..], &[("cookie", "a=b"), ("te", "trailers")]].concat())).unwrap();
        assert_eq!(request.uri(), "https://example.com/a?b=c");
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_3));
        assert_eq!(request.headers()["cookie"], "a=b");
    }

    #[test]
    fn without_an_authority_only_the_path_is_there() {
        let request = request(fields(&[GET[0], GET[1], GET[3], ("host", "example.com")])).unwrap();
        assert_eq!(request.uri(), "/a?b=c");
    }

    #[test]
    fn connect_has_an_authority_and_nothing_else() {
        let connect = request(fields(&[(":method", "CONNECT"), (":authority", "example.com:443")])).unwrap();
        assert_eq!(connect.uri().authority().unwrap(), "example.com:443");
        assert!(request(fields(&[(":method", "CONNECT"), GET[1], GET[2], GET[3]])).is_err());
        let extended = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3]];
        assert!(request(fields(&extended)).is_err());
    }

    #[test]
    fn what_is_malformed_is_no_request() {
        let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
        for lines in [
            vec![],
            GET[1..].to_vec(),
            vec![GET[0], GET[2], GET[3]],
            GET[..3].to_vec(),
            with(&[(":path", "/twice")]),
            with(&[(":status", "200")]),
            with(&[("x", "y"), (":authority", "late.example")]),
            with(&[("X", "y")]),
            with(&[("", "y")]),
            with(&[("x y", "z")]),
            with(&[("x", " y")]),
            with(&[("x", "y\t")]),
            with(&[("x", "a\r\nb")]),
            with(&[("x", "a\0b")]),
            with(&[("connection", "close")]),
            with(&[("keep-alive", "5")]),
            with(&[("proxy-connection", "keep-alive")]),
            with(&[("transfer-encoding", "chunked")]),
            with(&[("upgrade", "websocket")]),
            with(&[("te", "gzip")]),
            vec![GET[0], (":scheme", "http"), GET[2], GET[3]],
            vec![GET[0], GET[1], GET[2], (":path", "")],
            vec![GET[0], GET[1], GET[2], (":path", "/a#b")],
            vec![GET[0], GET[1], GET[2], (":path", "/a b")],
            vec![GET[0], GET[1], (":authority", ""), GET[3]],
            vec![(":method", "G T"), GET[1], GET[2], GET[3]],
        ] {
            assert!(request(fields(&lines)).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn lengths_must_agree_and_be_numbers() {
        let length = |values: &[&str]| {
            let lines: Vec<(&str, &str)> = values.iter().map(|value| ("content-length", *value)).collect();
            declared_length(&trailers(fields(&lines)).unwrap())
        };
        assert_eq!(length(&[]), Ok(None));
        assert_eq!(length(&["5", "5"]), Ok(Some(5)));
        for wrong in [&["5", "6"][..], &["5, 5"], &["+5"], &["-1"], &[""], &["99999999999999999999999"]] {
            assert!(length(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_response_leaves_the_connection_out() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert("x-app", HeaderValue::from_static("yes"));
        let section = response(StatusCode::OK, &headers);
        let read = decode(&section, Limits { bytes: 1000, fields: 10 }).unwrap();
        assert_eq!(read, fields(&[(":status", "200"), ("x-app", "yes")]));
        assert!(trailers(fields(&[(":status", "200")])).is_err());
    }
}
