//! Signing requests of our own, to a service that wants Signature Version 4.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};

use super::presented::{ALGORITHM, EXPIRES_MAX};
use super::{Policy, Signable, SignatureError, canonical, chunks, signature_of};
use crate::base::{Secret, Timestamp, ids};
use crate::crypto::mac;
use crate::http::query::Query;
use crate::http::uri;

/// Whose key signs.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The access key id.
    pub access_key_id: String,
    /// Its secret.
    pub secret: Secret<String>,
}

/// Signs a request with this `body`: adds `x-amz-date` and `authorization` to `headers`, which must hold `host` and
/// everything else that goes out by now, since all of it is signed.
///
/// # Errors
/// [`SignatureError::Missing`] without `host`.
pub fn sign(
    signer: &Signer,
    policy: Policy<'_>,
    target: (&Method, &str, &Query),
    headers: &mut HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), SignatureError> {
    sign_payload(signer, policy, target, headers, &ids::hex(&mac::sha256(body)), now)
}

/// As [`sign`], with `payload` as the payload line: a hexadecimal SHA-256, or a word such as
/// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`. S3 wants it in the header `x-amz-content-sha256` as well.
///
/// # Errors
/// As [`sign`].
pub fn sign_payload(
    signer: &Signer,
    policy: Policy<'_>,
    (method, path, query): (&Method, &str, &Query),
    headers: &mut HeaderMap,
    payload: &str,
    now: Timestamp,
) -> Result<(), SignatureError> {
    if !headers.contains_key(header::HOST) {
        return Err(SignatureError::Missing("host".to_owned()));
    }
    let timestamp = now.to_jiff().strftime("%Y%m%dT%H%M%SZ").to_string();
    let (date, _) = timestamp.split_at(8);
    let scope = format!("{date}/{}/{}/aws4_request", policy.region, policy.service);
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_no_header_text| SignatureError::Header("a part is no header text"))
    };
    headers.insert("x-amz-date", value(&timestamp)?);
    let mut signed: Vec<String> = headers.keys().map(|name| name.as_str().to_owned()).collect();
    signed.sort_unstable();
    let signable = Signable { method, path, query, headers, authority: "", payload };
    let path = signable.paths(policy.path).into_iter().next().unwrap_or_default();
    let canonical = canonical::request(&signed, &signable, &path)?;
    let key = chunks::signing_key(signer.secret.expose(), date, policy.region, policy.service);
    let signature = signature_of(&canonical, key.expose(), &timestamp, &scope);
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        signer.access_key_id,
        signed.join(";")
    );
    headers.insert(header::AUTHORIZATION, value(&authorization)?);
    Ok(())
}

/// What an address made by [`presign`] lets its holder do.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// The method.
    pub method: &'a Method,
    /// Host and port the request goes to, as the client will write them into `Host`.
    pub host: &'a str,
    /// The path, percent-encoded.
    pub path: &'a str,
    /// Further query parameters, not encoded, such as `response-content-disposition`.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers the client must send with exactly these values, apart from `host`, in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// From now until when; 1 second to 7 days.
    pub expires: Duration,
}

/// Path and query that let whoever has them make this one request until it expires, body unsigned ("Authenticating
/// Requests: Using Query Parameters", S3 API reference).
///
/// # Errors
/// [`SignatureError::Parameters`] for an expiry outside 1 second to 7 days, or a query that is none;
/// [`SignatureError::Header`] for a header that is none.
pub fn presign(
    signer: &Signer,
    policy: Policy<'_>,
    grant: Grant<'_>,
    now: Timestamp,
) -> Result<String, SignatureError> {
    let seconds = grant.expires.as_secs();
    if !(1..=EXPIRES_MAX).contains(&seconds) {
        return Err(SignatureError::Parameters("X-Amz-Expires must be a number of seconds from 1 to 604800"));
    }
    let timestamp = now.to_jiff().strftime("%Y%m%dT%H%M%SZ").to_string();
    let (date, _) = timestamp.split_at(8);
    let scope = format!("{date}/{}/{}/aws4_request", policy.region, policy.service);
    let no_text = |_| SignatureError::Header("a part is no header text");
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_str(grant.host).map_err(no_text)?);
    for (name, value) in grant.headers {
        let name = http::HeaderName::from_lowercase(name.as_bytes())
            .map_err(|_no_name| SignatureError::Header("a name is no header name in lower case"))?;
        headers.insert(name, HeaderValue::from_str(value).map_err(no_text)?);
    }
    let mut signed: Vec<String> = headers.keys().map(|name| name.as_str().to_owned()).collect();
    signed.sort_unstable();

    let credential = format!("{}/{scope}", signer.access_key_id);
    let (seconds, names) = (seconds.to_string(), signed.join(";"));
    let own = [
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", &credential),
        ("X-Amz-Date", &timestamp),
        ("X-Amz-Expires", &seconds),
        ("X-Amz-SignedHeaders", &names),
    ];
    let pair =
        |(name, value): &(&str, &str)| format!("{}={}", uri::encode_component(name), uri::encode_component(value));
    let text: Vec<String> = grant.query.iter().chain(&own).map(pair).collect();
    let text = text.join("&");
    let query =
        Query::parse(&text).map_err(|_given_twice| SignatureError::Parameters("a query parameter is given twice"))?;
    let signable = Signable {
        method: grant.method,
        path: grant.path,
        query: &query,
        headers: &headers,
        authority: "",
        payload: "UNSIGNED-PAYLOAD",
    };
    let path = signable.paths(policy.path).into_iter().next().unwrap_or_default();
    let canonical = canonical::request(&signed, &signable, &path)?;
    let key = chunks::signing_key(signer.secret.expose(), date, policy.region, policy.service);
    let signature = signature_of(&canonical, key.expose(), &timestamp, &scope);
    Ok(format!("{}?{text}&X-Amz-Signature={signature}", grant.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::sigv4::{PathRule, Presented, verify};

    /// The example of "Authenticating Requests: Using Query Parameters".
    #[test]
    fn the_presigned_example_of_the_manual_comes_out() {
        let policy = Policy { service: "s3", region: "us-east-1", path: PathRule::Once };
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        let signer = Signer { access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(), secret };
        let grant = Grant {
            method: &Method::GET,
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: &[],
            headers: &[],
            expires: Duration::from_hours(24),
        };
        let address = presign(&signer, policy, grant, Timestamp::from_seconds(1_369_353_600)).unwrap();
        assert!(
            address.starts_with("/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F")
        );
        assert!(
            address.ends_with("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"),
            "{address}"
        );
    }

    #[test]
    fn a_presigned_address_verifies_until_it_expires_and_for_nothing_else() {
        let policy = Policy { service: "s3", region: "eu-west-1", path: PathRule::Once };
        let secret = || Secret::new("secret".to_owned());
        let signer = Signer { access_key_id: "AKID".to_owned(), secret: secret() };
        let path = format!("/files/{}", uri::encode_path("ü b/+&?.txt"));
        let grant = Grant {
            method: &Method::PUT,
            host: "127.0.0.1:9000",
            path: &path,
            query: &[("response-content-disposition", "attachment; filename=\"a b\"")],
            headers: &[("content-type", "text/plain")],
            expires: Duration::from_mins(5),
        };
        let now = Timestamp::from_seconds(1_795_201_445);
        let address = presign(&signer, policy, grant, now).unwrap();
        let (path, text) = address.split_once('?').unwrap();
        let query = Query::parse(text).unwrap();
        let check = |method: &Method, kind: &'static str, later: Duration| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:9000"));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            let Presented::Query(signature) = Presented::parse(&headers, &query).unwrap() else { panic!("no query") };
            let payload = "UNSIGNED-PAYLOAD";
            let request = Signable { method, path, query: &query, headers: &headers, authority: "", payload };
            verify(&signature, &request, policy, &|_| vec![secret()], now.after(later)).map(drop)
        };
        assert_eq!(check(&Method::PUT, "text/plain", Duration::from_mins(4)), Ok(()));
        assert_eq!(check(&Method::GET, "text/plain", Duration::ZERO), Err(SignatureError::Mismatch));
        assert_eq!(check(&Method::PUT, "text/html", Duration::ZERO), Err(SignatureError::Mismatch));
        let late = check(&Method::PUT, "text/plain", Duration::from_mins(6));
        assert!(matches!(late, Err(SignatureError::Expired { .. })), "{late:?}");
    }

    #[test]
    fn an_address_for_longer_than_a_week_is_refused() {
        let policy = Policy { service: "s3", region: "r", path: PathRule::Once };
        let signer = Signer { access_key_id: "AKID".to_owned(), secret: Secret::new("secret".to_owned()) };
        for expires in [Duration::ZERO, Duration::from_secs(604_801)] {
            let grant = Grant { method: &Method::GET, host: "h", path: "/b/k", query: &[], headers: &[], expires };
            assert!(matches!(presign(&signer, policy, grant, Timestamp(0)), Err(SignatureError::Parameters(_))));
        }
    }

    #[test]
    fn what_is_signed_here_verifies_here() {
        let policy = Policy { service: "ses", region: "eu-west-1", path: PathRule::Twice };
        let signer = Signer { access_key_id: "AKID".to_owned(), secret: Secret::new("secret".to_owned()) };
        let query = Query::parse("b=2&a=x%2Fy").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:8000"));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let now = Timestamp::from_seconds(1_795_201_445);
        let target = (&Method::POST, "/ses/v2/email/suppression/addresses/x%40example.com", &query);
        sign(&signer, policy, target, &mut headers, b"{}", now).unwrap();

        let Presented::Header(signature) = Presented::parse(&headers, &query).unwrap() else { panic!("no header") };
        let check = |body: &[u8]| {
            let payload = ids::hex(&mac::sha256(body));
            let (method, path, query) = target;
            let request = Signable { method, path, query, headers: &headers, authority: "", payload: &payload };
            verify(&signature, &request, policy, &|_| vec![Secret::new("secret".to_owned())], now).map(drop)
        };
        assert_eq!(check(b"{}"), Ok(()));
        assert_eq!(check(b"{} "), Err(SignatureError::Mismatch));
    }
}
