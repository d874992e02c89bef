//! What a client presents: nothing, an `Authorization` header, or a presigned query.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::time::Duration;

use http::{HeaderMap, header};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Policy, SignatureError};
use crate::base::Timestamp;
use crate::http::query::Query;

/// The only algorithm.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Longest validity of a presigned address: seven days.
pub(super) const EXPIRES_MAX: u64 = 604_800;
/// Most headers a signature may list.
const SIGNED_MAX: usize = 128;

/// How a request says who it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presented {
    /// It does not.
    Nothing,
    /// By the `Authorization` header.
    Header(Signature),
    /// By a presigned query.
    Query(Signature),
}

/// A signature as presented, parsed and unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub(super) access_key_id: String,
    /// `20130524`.
    pub(super) date: String,
    /// `20130524/us-east-1/s3/aws4_request`.
    pub(super) scope: String,
    region: String,
    service: String,
    /// `20130524T000000Z`.
    pub(super) timestamp: String,
    at: Timestamp,
    /// Set for a presigned query.
    pub(super) expires: Option<Duration>,
    /// Lower case, ascending, no duplicates.
    pub(super) signed_headers: Vec<String>,
    /// 64 lower-case hexadecimal digits.
    pub(super) signature: String,
}

impl Presented {
    /// Decides once how a request authenticates.
    ///
    /// # Errors
    /// Both ways at once, a version 2 signature, or one that is malformed.
    pub fn parse(headers: &HeaderMap, query: &Query) -> Result<Self, SignatureError> {
        let authorization = single(headers, header::AUTHORIZATION.as_str())?;
        let presigned = query.has("X-Amz-Signature") || query.has("X-Amz-Algorithm") || query.has("X-Amz-Credential");
        let version_2 = query.has("AWSAccessKeyId") || query.has("Signature");
        match (authorization, presigned) {
            (Some(_), _) if presigned || version_2 => Err(SignatureError::TwoWays),
            (Some(text), _) => Signature::from_header(text, headers).map(Self::Header),
            (None, true) => Signature::from_query(query).map(Self::Query),
            (None, false) if version_2 => Err(SignatureError::Version2),
            (None, false) => Ok(Self::Nothing),
        }
    }
}

impl Signature {
    fn from_header(text: &str, headers: &HeaderMap) -> Result<Self, SignatureError> {
        use SignatureError::Header as Malformed;
        if text.starts_with("AWS ") {
            return Err(SignatureError::Version2);
        }
        let fields = text.strip_prefix(ALGORITHM).ok_or(Malformed("only AWS4-HMAC-SHA256 is supported"))?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or(Malformed("a field has no value"))?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return Err(Malformed("it has an unknown field")),
            };
            if place.replace(value).is_some() {
                return Err(Malformed("a field is given twice"));
            }
        }
        let (Some(credential), Some(signed), Some(signature)) = (credential, signed, signature) else {
            return Err(Malformed("it needs Credential, SignedHeaders and Signature"));
        };
        let timestamp = request_time(headers)?;
        Self::new(credential, signed, signature, timestamp, None).map_err(Malformed)
    }

    fn from_query(query: &Query) -> Result<Self, SignatureError> {
        use SignatureError::Parameters;
        let need = |name, problem| query.get(name).ok_or(Parameters(problem));
        if need("X-Amz-Algorithm", "X-Amz-Algorithm is missing")? != ALGORITHM {
            return Err(Parameters("X-Amz-Algorithm only supports AWS4-HMAC-SHA256"));
        }
        let expires = need("X-Amz-Expires", "X-Amz-Expires is missing")?;
        let expires = digits(expires)
            .filter(|seconds| (1..=EXPIRES_MAX).contains(seconds))
            .ok_or(Parameters("X-Amz-Expires must be a number of seconds from 1 to 604800"))?;
        Self::new(
            need("X-Amz-Credential", "X-Amz-Credential is missing")?,
            need("X-Amz-SignedHeaders", "X-Amz-SignedHeaders is missing")?,
            need("X-Amz-Signature", "X-Amz-Signature is missing")?,
            need("X-Amz-Date", "X-Amz-Date is missing")?.to_owned(),
            Some(Duration::from_secs(expires)),
        )
        .map_err(Parameters)
    }

    fn new(
        credential: &str,
        signed: &str,
        signature: &str,
        timestamp: String,
        expires: Option<Duration>,
    ) -> Result<Self, &'static str> {
        // Split from the right: an access key id may hold slashes, the rest may not.
        let mut parts = credential.rsplitn(5, '/');
        let (Some("aws4_request"), Some(service), Some(region), Some(date), Some(access_key_id)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("the credential is not of the form key/date/region/service/aws4_request");
        };
        let at = parse_timestamp(&timestamp).ok_or("the date is not of the form 20130524T000000Z")?;
        if !timestamp.starts_with(date) || date.len() != 8 {
            return Err("the date in the credential is not the day of the request");
        }
        let mut signed_headers: Vec<String> = signed.split(';').map(str::to_owned).collect();
        if signed_headers.len() > SIGNED_MAX {
            return Err("too many signed headers");
        }
        if signed_headers.iter().any(|name| name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase())) {
            return Err("signed headers are written in lower case");
        }
        signed_headers.sort_unstable();
        let listed = signed_headers.len();
        signed_headers.dedup();
        if signed_headers.len() != listed {
            return Err("a signed header is listed twice");
        }
        if signature.len() != 64 || !signature.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err("the signature is not 64 lower-case hexadecimal digits");
        }
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            date: date.to_owned(),
            scope: format!("{date}/{region}/{service}/aws4_request"),
            region: region.to_owned(),
            service: service.to_owned(),
            timestamp,
            at,
            expires,
            signed_headers,
            signature: signature.to_owned(),
        })
    }

    /// Whose key is said to have signed.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    pub(super) fn check_scope(&self, policy: Policy<'_>) -> Result<(), SignatureError> {
        if self.service != policy.service {
            return Err(SignatureError::Service(self.service.clone()));
        }
        if self.region != policy.region {
            return Err(SignatureError::Region { got: self.region.clone(), expected: policy.region.to_owned() });
        }
        Ok(())
    }

    pub(super) fn check_time(&self, now: Timestamp, skew: Duration) -> Result<(), SignatureError> {
        match self.expires {
            Some(_) if self.at.since(now) > skew => Err(SignatureError::NotYet { from: self.at }),
            Some(span) if now.since(self.at) > span => Err(SignatureError::Expired { from: self.at, span }),
            None if self.at.since(now).max(now.since(self.at)) > skew => {
                Err(SignatureError::Skew { sent: self.at, now })
            }
            _ => Ok(()),
        }
    }
}

/// The value of header `name`, which must not be there twice; `None` also for bytes that are no text.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(SignatureError::DuplicateHeader(name.to_owned()));
    }
    Ok(first.and_then(|value| value.to_str().ok()))
}

/// `x-amz-date`, or `date` in either form.
fn request_time(headers: &HeaderMap) -> Result<String, SignatureError> {
    if let Some(text) = single(headers, "x-amz-date")? {
        return Ok(text.to_owned());
    }
    let text = single(headers, header::DATE.as_str())?
        .ok_or(SignatureError::Header("the request has neither an x-amz-date nor a date header"))?;
    if parse_timestamp(text).is_some() {
        return Ok(text.to_owned());
    }
    jiff::fmt::rfc2822::parse(text)
        .map(|at| at.with_time_zone(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string())
        .or(Err(SignatureError::Header("the date header is no date")))
}

/// `20130524T000000Z`.
pub(super) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    if day.len() != 8 || time.len() != 6 || !day.bytes().chain(time.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let at = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?.to_zoned(TimeZone::UTC).ok()?;
    u64::try_from(at.timestamp().as_second()).ok().map(Timestamp::from_seconds)
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
