//! Links that are signed in the old way, Signature Version 2: boto3, the first AWS CLI and s3cmd make no others unless they are
//! told to, and what is built on them shows their links to browsers.
//!
//! A link to one object is all that is taken, for a week at most. What version 2 leaves unsigned is refused instead of
//! being followed: every `x-amz-*` header, and every parameter but those that are in the signature. Source: S3 developer guide of
//! 2006-03-01, "Signing and Authenticating REST Requests".
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::address::Address;
use super::error::{Code, S3Error};
use crate::base::{Secret, Timestamp};
use crate::crypto::mac;
use crate::http::query::Query;
use crate::http::sigv4::SignatureError;
use crate::http::uri;

/// What makes a link.
const OWN: [&str; 3] = ["AWSAccessKeyId", "Expires", "Signature"];
/// Parameters that are signed, in the order in which they are.
const SIGNED: [&str; 7] = [
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "versionId",
];
/// Parameters that boto3 writes beside the headers they stand for. The headers are signed, and nothing reads these.
const SHADOWS: [&str; 2] = ["content-md5", "content-type"];

/// How long a link may be good, as those of version 4.
const LONGEST: Duration = Duration::from_hours(24 * 7);

/// Whether a request comes by such a link; what it is worth, [`verify`] says.
pub fn is_one(headers: &HeaderMap, query: &Query) -> bool {
    query.has("AWSAccessKeyId") && !headers.contains_key(header::AUTHORIZATION)
}

/// Checks that the holder of a key made the link for this request, and gives the id of the key.
///
/// # Errors
/// The signature does not hold, the link's time is over, or the request has what a link of version 2 must not have.
pub fn verify(
    parts: &Parts,
    query: &Query,
    address: &Address,
    secrets_of: &dyn Fn(&str) -> Vec<Secret<String>>,
    now: Timestamp,
) -> Result<String, S3Error> {
    let refused = |text: &str| S3Error::new(Code::InvalidRequest, format!("a link of signature version 2 {text}"));
    let Address::Object(bucket, key) = address else { return Err(refused("leads to an object; use version 4")) };
    if ![Method::GET, Method::HEAD, Method::PUT, Method::DELETE].contains(&parts.method) {
        return Err(refused("reads, stores or deletes; use version 4"));
    }
    if let Some(name) = parts.headers.keys().find(|name| name.as_str().starts_with("x-amz-")) {
        return Err(SignatureError::Unsigned(name.to_string()).into());
    }
    let known = |name: &str| OWN.contains(&name) || SIGNED.contains(&name) || SHADOWS.contains(&name);
    if let Some((name, _)) = query.iter().find(|(name, _)| !known(name)) {
        return Err(refused(&format!("has no parameter {name}; use version 4")));
    }
    let [id, expires, signature] = OWN.map(|name| query.get(name).unwrap_or_default());
    let seconds = Some(expires).filter(|text| text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds: u64 = seconds.and_then(|text| text.parse().ok()).ok_or_else(|| refused("has Expires in seconds"))?;
    let until = Timestamp::from_seconds(seconds);
    if now > until {
        return Err(S3Error::new(Code::AccessDenied, format!("the request has expired: it was valid until {until}")));
    }
    if until.since(now) > LONGEST {
        return Err(refused("is good for a week at most"));
    }
    let secrets = secrets_of(id);
    if secrets.is_empty() {
        return Err(SignatureError::UnknownKey(id.to_owned()).into());
    }
    // A plus that nobody encoded was read as a space.
    let signature = STANDARD.decode(signature.replace(' ', "+")).map_err(|_no_base64| SignatureError::Mismatch)?;
    let path = format!("/{bucket}/{}", uri::encode_path(key.as_str()));
    let mut paths = vec![path.as_str()];
    // Clients encode in different ways, and sign what they send. Where the host names the bucket that is not the path.
    let sent = parts.uri.path();
    if uri::decode(sent).is_ok_and(|sent| sent == format!("/{bucket}/{key}")) {
        paths.push(sent);
    }
    let signed = |path: &str| text(parts, query, expires, path);
    for path in paths {
        let text = signed(path)?;
        let signs = |secret: &Secret<String>| {
            mac::equal(&mac::hmac_sha1(secret.expose().as_bytes(), text.as_bytes()), &signature)
        };
        if secrets.iter().any(signs) {
            return Ok(id.to_owned());
        }
    }
    Err(SignatureError::Mismatch.into())
}

/// What is signed.
fn text(parts: &Parts, query: &Query, expires: &str, path: &str) -> Result<String, S3Error> {
    let single = |name: header::HeaderName| {
        let mut values = parts.headers.get_all(&name).iter();
        let first = values.next().map(|value| value.to_str().unwrap_or_default());
        match values.next() {
            Some(_) => Err(SignatureError::DuplicateHeader(name.to_string())),
            None => Ok(first.unwrap_or_default()),
        }
    };
    let md5 = single(header::HeaderName::from_static("content-md5"))?;
    let kind = single(header::CONTENT_TYPE)?;
    let mut out = format!("{}\n{md5}\n{kind}\n{expires}\n{path}", parts.method);
    let mut joint = '?';
    for name in SIGNED {
        if let Some(value) = query.get(name) {
            out.push(joint);
            out.push_str(name);
            out.push('=');
            out.push_str(value);
            joint = '&';
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "AKIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const NOW: Timestamp = Timestamp::from_seconds(1_175_139_000);

    fn check(method: &str, host: &str, target: &str, headers: &[(&str, &str)]) -> Result<String, Code> {
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default()).unwrap();
        assert!(is_one(&parts.headers, &query));
        let address = Address::parse(host, parts.uri.path(), &["s3.amazonaws.com".to_owned()]).unwrap();
        let secrets = |id: &str| {
            let known = (id == ID).then(|| Secret::new(SECRET.to_owned()));
            known.into_iter().collect()
        };
        verify(&parts, &query, &address, &secrets, NOW).map_err(|error| error.code)
    }

    /// `target` as a link that is good for ten minutes.
    fn link(method: &str, target: &str, kind: &str, resource: &str) -> String {
        let expires = 1_175_139_620;
        let signature =
            mac::hmac_sha1(SECRET.as_bytes(), format!("{method}\n\n{kind}\n{expires}\n{resource}").as_bytes());
        let signature = uri::encode_component(&STANDARD.encode(signature));
        let joint = if target.contains('?') { '&' } else { '?' };
        format!("{target}{joint}AWSAccessKeyId={ID}&Expires={expires}&Signature={signature}")
    }

    /// The example of the developer guide.
    const EXAMPLE: &str = "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE\
        &Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620";

    #[test]
    fn the_example_of_the_guide_holds_and_for_nothing_else() {
        let host = "johnsmith.s3.amazonaws.com";
        assert_eq!(check("GET", host, EXAMPLE, &[]), Ok(ID.to_owned()));
        for (method, host, target) in [
            ("HEAD", host, EXAMPLE.to_owned()),
            ("PUT", host, EXAMPLE.to_owned()),
            ("GET", host, EXAMPLE.replace("puppy", "kitten")),
            ("GET", "other-one.s3.amazonaws.com", EXAMPLE.to_owned()),
            ("GET", "s3.amazonaws.com", EXAMPLE.to_owned()),
            ("GET", host, EXAMPLE.replace("1175139620", "1175139621")),
            ("GET", host, format!("{EXAMPLE}&response-content-type=text/html")),
            ("GET", host, format!("{EXAMPLE}&versionId=1")),
            ("GET", host, EXAMPLE.replace("NpgC", "")),
        ] {
            assert_eq!(check(method, host, &target, &[]), Err(Code::SignatureDoesNotMatch), "{method} {host} {target}");
        }
        let other = EXAMPLE.replace("EXAMPLE&", "EXAMPLF&");
        assert_eq!(check("GET", host, &other, &[]), Err(Code::InvalidAccessKeyId));
    }

    #[test]
    fn what_is_not_signed_is_refused_however_the_rest_is_signed() {
        let host = "s3.amazonaws.com";
        let plain = link("PUT", "/photos/a", "", "/photos/a");
        assert_eq!(check("PUT", host, &plain, &[]), Ok(ID.to_owned()));
        let copies = [("x-amz-copy-source", "/photos/secret")];
        assert!(check("PUT", host, &plain, &copies).is_err());
        assert_eq!(check("PUT", host, &plain, &[("content-type", "text/html")]), Err(Code::SignatureDoesNotMatch));
        for more in
            ["acl", "uploadId=1", "x-amz-copy-source=/photos/secret", "X-Amz-Signature=1", "list-type=2", "tagging"]
        {
            let target = format!("{plain}&{more}");
            assert_eq!(check("PUT", host, &target, &[]), Err(Code::InvalidRequest), "{more}");
        }
        assert_eq!(check("GET", host, &link("GET", "/photos", "", "/photos"), &[]), Err(Code::InvalidRequest));
        assert_eq!(check("POST", host, &link("POST", "/photos/a", "", "/photos/a"), &[]), Err(Code::InvalidRequest));
    }

    #[test]
    fn a_link_of_one_bucket_opens_none_of_another_by_its_host() {
        let path = link("GET", "/photos/a", "", "/photos/a");
        assert_eq!(check("GET", "s3.amazonaws.com", &path, &[]), Ok(ID.to_owned()));
        for host in ["photos.s3.amazonaws.com", "other.s3.amazonaws.com"] {
            assert_eq!(check("GET", host, &path, &[]), Err(Code::SignatureDoesNotMatch), "{host}");
        }
    }

    #[test]
    fn a_link_may_say_what_the_answer_is_called_and_what_is_sent() {
        let host = "s3.amazonaws.com";
        let named = "/photos/a?response-content-disposition=attachment%3B%20filename%3D%22b%22";
        let signed = "/photos/a?response-content-disposition=attachment; filename=\"b\"";
        assert_eq!(check("GET", host, &link("GET", named, "", signed), &[]), Ok(ID.to_owned()));
        let sent = link("PUT", "/photos/a%20%C3%BC+b?content-type=text/x", "text/x", "/photos/a%20%C3%BC+b");
        assert_eq!(check("PUT", host, &sent, &[("content-type", "text/x")]), Ok(ID.to_owned()));
        let encoded = link("GET", "/photos/a+b", "", "/photos/a%2Bb");
        assert_eq!(check("GET", host, &encoded, &[]), Ok(ID.to_owned()));
    }

    #[test]
    fn a_link_ends_and_is_not_made_for_ever() {
        let host = "johnsmith.s3.amazonaws.com";
        for (expires, code) in [
            ("1175138999", Code::AccessDenied),
            ("1185139620", Code::InvalidRequest),
            ("soon", Code::InvalidRequest),
            ("99999999999999999999", Code::InvalidRequest),
            ("", Code::InvalidRequest),
        ] {
            let target = EXAMPLE.replace("1175139620", expires);
            assert_eq!(check("GET", host, &target, &[]), Err(code), "{expires}");
        }
    }
}
