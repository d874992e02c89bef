//! Signing requests of our own, to a service that wants Signature Version 4.

use http::{HeaderMap, HeaderValue, Method, header};

use super::{Policy, Signable, SignatureError, canonical, chunks, signature_of};
use crate::base::{Secret, Timestamp, ids};
use crate::crypto::mac;
use crate::http::query::Query;

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
    (method, path, query): (&Method, &str, &Query),
    headers: &mut HeaderMap,
    body: &[u8],
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
    let payload = ids::hex(&mac::sha256(body));
    let signable = Signable { method, path, query, headers, authority: "", payload: &payload };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::sigv4::{PathRule, Presented, verify};

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
            verify(&signature, &request, policy, &|_| Some(Secret::new("secret".to_owned())), now).map(drop)
        };
        assert_eq!(check(b"{}"), Ok(()));
        assert_eq!(check(b"{} "), Err(SignatureError::Mismatch));
    }
}
