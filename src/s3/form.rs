//! Uploads from a browser's form: `POST` of `multipart/form-data` to a bucket (`PostObject`).
//!
//! A form carries its own proof: a policy, signed by whoever made the form, which says what the fields may hold, how large
//! the file may be, and until when ([`super::form_policy`]). Fields come first and are held in memory under caps; the
//! file comes last and streams to storage, and what stands behind it is not looked at. A field the policy does not speak
//! of is refused. A form without a policy is worth what an anonymous upload is worth.
//! Source: S3 API reference, "POST Object", "Browser-Based Uploads Using POST (AWS Signature Version 4)".

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};

use super::access::{Allowed, Judge, Need, holds_one};
use super::address::Address;
use super::buckets::SEALED;
use super::checksum::{Algorithm, Running};
use super::door::Services;
use super::error::{Code, S3Error};
use super::form_policy::{self, FormPolicy};
use super::gate::{FormProof, Gate};
use super::payload::{self, BodyFault};
use super::request::Request;
use super::respond;
use super::write;
use super::xml::{self, Writer};
use crate::accounts::AccessKey;
use crate::http::multipart::Multipart;
use crate::http::query::Query;
use crate::http::{Body, uri};
use crate::objects::{BodyError, BucketName, Checksum, Condition, ObjectInfo, ObjectKey, PutExpect};

/// Most bytes of all fields before the file, names and values.
const FIELDS_BYTES_MAX: usize = 64 << 10;

/// Most fields before the file.
const FIELDS_MAX: usize = 100;

/// Fields that become headers of the object, beside `x-amz-*`.
const HEADERS: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];

/// Fields that are the proof itself.
const PROOF: [&str; 5] = ["policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"];

/// Whether a request is a form for a bucket.
pub fn is_form(parts: &Parts) -> bool {
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    parts.method == Method::POST && kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data")
}

/// The fields before the file, by name in lower case.
#[derive(Debug, Default)]
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// A form read up to its file.
struct Form {
    rest: Multipart,
    fields: Fields,
    file_name: String,
}

impl Form {
    /// Reads the fields.
    async fn open(content_type: &str, body: Body) -> Result<Self, S3Error> {
        let mut rest = Multipart::new(content_type, body)?;
        let (mut fields, mut bytes) = (Fields::default(), 0_usize);
        while let Some(part) = rest.next_part().await? {
            let name = part.name.to_ascii_lowercase();
            if name == "file" {
                let path = part.file_name.unwrap_or_default();
                let file_name = path.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
                return Ok(Self { rest, fields, file_name });
            }
            let mut value = Vec::new();
            bytes = bytes.saturating_add(name.len());
            while let Some(chunk) = rest.chunk().await? {
                bytes = bytes.saturating_add(chunk.len());
                if bytes > FIELDS_BYTES_MAX {
                    let problem = format!("the fields of the form have more than {FIELDS_BYTES_MAX} bytes");
                    return Err(S3Error::new(Code::MaxPostPreDataLengthExceededError, problem));
                }
                value.extend_from_slice(&chunk);
            }
            let text = String::from_utf8(value).map_err(|_not_utf8| invalid(format!("field {name} is not UTF-8")))?;
            if fields.0.len() >= FIELDS_MAX {
                return Err(Code::MaxPostPreDataLengthExceededError.into());
            }
            if fields.0.insert(name.clone(), text).is_some() {
                return Err(invalid(format!("field {name} is given twice")));
            }
        }
        Err(invalid("the form has no field called file".to_owned()))
    }

    fn proof(&self) -> Result<Option<FormProof<'_>>, S3Error> {
        if ["awsaccesskeyid", "signature"].iter().any(|name| self.fields.get(name).is_some()) {
            return Err(crate::http::sigv4::SignatureError::Version2.into());
        }
        if PROOF.iter().all(|name| self.fields.get(name).is_none()) {
            return Ok(None);
        }
        let field = |name: &str| {
            let problem = || invalid(format!("a signed form needs the field {name}"));
            self.fields.get(name).ok_or_else(problem)
        };
        if field("x-amz-algorithm")? != "AWS4-HMAC-SHA256" {
            return Err(invalid("x-amz-algorithm must be AWS4-HMAC-SHA256".to_owned()));
        }
        Ok(Some(FormProof {
            policy: field("policy")?,
            credential: field("x-amz-credential")?,
            date: field("x-amz-date")?,
            signature: field("x-amz-signature")?,
        }))
    }

    /// The fields as headers of an ordinary upload. The type that the file's own part claims is not one of them: no
    /// policy speaks of it.
    fn headers(&self) -> Result<HeaderMap, S3Error> {
        let mut headers = HeaderMap::new();
        let wanted = |name: &str| HEADERS.contains(&name) || (name.starts_with("x-amz-") && !PROOF.contains(&name));
        for (name, value) in self.fields.0.iter().filter(|(name, _)| wanted(name)) {
            let problem = || invalid(format!("field {name} cannot be a header"));
            let header = HeaderName::try_from(name).map_err(|_no_name| problem())?;
            headers.insert(header, HeaderValue::from_bytes(value.as_bytes()).map_err(|_no_value| problem())?);
        }
        Ok(headers)
    }
}

/// Takes a form in; gives the key whose holder made it, beside the answer.
///
/// # Errors
/// The form is malformed; its policy is not signed, has expired or does not allow what the form holds; whose key signed
/// may not store the object; the file is too small or too large; storage fails: what the key held stays.
pub async fn serve(
    services: &Services,
    gate: Gate<'_>,
    mut parts: Parts,
    address: Address,
    origin: String,
    body: Body,
) -> Result<(Response<Body>, Option<Arc<AccessKey>>), S3Error> {
    let Address::Bucket(bucket) = address else { return Err(Code::MethodNotAllowed.into()) };
    let query = parts.uri.query().unwrap_or_default();
    if !query.is_empty() || parts.headers.contains_key(header::AUTHORIZATION) {
        return Err(S3Error::new(Code::InvalidRequest, "a form is signed in its fields alone and has no query"));
    }
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut form = Form::open(content_type.unwrap_or_default(), body).await?;
    let key = form.fields.get("key").ok_or_else(|| invalid("the form has no field called key".to_owned()))?;
    let key = key.replace("${filename}", &form.file_name);
    form.fields.0.insert("key".to_owned(), key.clone());
    let key: ObjectKey = key.parse()?;
    let (proof, now) = (form.proof()?, gate.now);
    let signed = proof.is_some();
    let policy = proof.as_ref().map(|proof| FormPolicy::decode(proof.policy)).transpose()?;
    let verified = gate.admit_form(proof)?;
    let range = match policy {
        Some(policy) => check(&policy, &form.fields, &bucket, now)?,
        None => (0, u64::MAX),
    };
    (parts.method, parts.headers) = (Method::PUT, form.headers()?);
    let request =
        Request::new(parts, Query::default(), Address::Object(bucket.clone(), key.clone()), origin, false, verified)?;
    let judge = Judge::new(services, &request).await?;
    let condition = match judge.admit(&[Need::write(&bucket, &key)])? {
        Allowed::Whole => Condition::Any,
        Allowed::NewOnly => Condition::Absent,
    };
    let mut metadata = write::metadata(&request)?;
    if let Some(document) = form.fields.get("tagging") {
        metadata.tags = super::tags::parse_document(&xml::parse(document.as_bytes(), "Tagging")?)?;
    }
    let announced = payload::checksum_in_head(&request)?;
    metadata.checksum = announced
        .as_ref()
        .map(|(algorithm, value)| Checksum { algorithm: algorithm.name().to_owned(), value: value.clone() });
    let expect = PutExpect { condition, ..PutExpect::default() };
    let (fields, file) = (form.fields, File::new(form.rest, range, announced));
    let stored = services.objects.put(&bucket, &key, metadata, expect, file.stream()).await;
    let info = stored.map_err(|error| match S3Error::from(error) {
        error if error.code == Code::PreconditionFailed => holds_one(),
        error => error,
    })?;
    let response = answer(&request, &fields, signed, &bucket, &key, &info);
    Ok((response, request.verified().key().cloned()))
}

/// Holds the fields against the policy; gives the least and most bytes of the file.
fn check(
    policy: &FormPolicy,
    fields: &Fields,
    bucket: &BucketName,
    now: crate::base::Timestamp,
) -> Result<(u64, u64), S3Error> {
    let lookup = |name: &str| match name {
        "bucket" => Some(bucket.as_str()),
        name => fields.get(name),
    };
    if fields.get("bucket").is_some_and(|given| given != bucket.as_str()) {
        return Err(invalid("the form is for another bucket".to_owned()));
    }
    let exempt = |name: &str| matches!(name, "policy" | "x-amz-signature" | "bucket") || name.starts_with("x-ignore-");
    let names = fields.0.keys().map(String::as_str).filter(|name| !exempt(name));
    policy.check(names, lookup, now).map_err(form_policy::PolicyFault::refused)
}

/// Reads `bytes`, cut into pieces of `size`, as a form with the boundary `b`, and holds its fields against the policy it
/// brings: the fields, and the bytes that its file may have. For the fuzzer.
#[cfg(any(test, feature = "testing"))]
pub async fn read_for_fuzzing(bytes: &[u8], size: usize) -> Option<(BTreeMap<String, String>, Option<(u64, u64)>)> {
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        bytes.chunks(size.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let body = Body::from_stream(stream::iter(pieces));
    let form = Form::open("multipart/form-data; boundary=b", body).await.ok()?;
    let _ = (form.headers(), form.proof());
    let policy = form.fields.get("policy").and_then(|text| FormPolicy::decode(text).ok());
    let bucket: BucketName = "photos".parse().ok()?;
    let range = policy.and_then(|policy| check(&policy, &form.fields, &bucket, crate::base::Timestamp(0)).ok());
    Some((form.fields.0, range))
}

/// The file of a form, counted and summed as it streams.
struct File {
    rest: Multipart,
    bytes: u64,
    range: (u64, u64),
    checking: Option<(Algorithm, Running, String)>,
}

impl File {
    fn new(rest: Multipart, range: (u64, u64), announced: Option<(Algorithm, String)>) -> Self {
        let checking = announced.map(|(algorithm, value)| (algorithm, algorithm.start(), value));
        Self { rest, bytes: 0, range, checking }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        let Some(chunk) = self.rest.chunk().await? else {
            if self.bytes < self.range.0 {
                return Err(BodyFault::FileTooSmall { least: self.range.0 });
            }
            let Some((algorithm, running, value)) = self.checking.take() else { return Ok(None) };
            return if running.finish() == value { Ok(None) } else { Err(BodyFault::Checksum(algorithm.name())) };
        };
        self.bytes = self.bytes.saturating_add(chunk.len() as u64);
        if self.bytes > self.range.1 {
            return Err(BodyFault::FileTooLarge { most: self.range.1 });
        }
        if let Some((_, running, _)) = &mut self.checking {
            running.update(&chunk);
        }
        Ok(Some(chunk))
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
        stream::unfold(Some(self), |file| async {
            let mut file = file?;
            match file.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(file))),
                Ok(None) => None,
                Err(fault) => Some((Err(BodyError::new(fault)), None)),
            }
        })
    }
}

/// 204, or what the form asks for: 200, 201 with a document, or a redirect. Only a signed form leads elsewhere, or
/// anybody could have this origin lead to theirs.
fn answer(
    request: &Request,
    fields: &Fields,
    signed: bool,
    bucket: &BucketName,
    key: &ObjectKey,
    info: &ObjectInfo,
) -> Response<Body> {
    let etag = format!("\"{}\"", info.etag);
    let wanted = fields.get("success_action_redirect").or_else(|| fields.get("redirect"));
    let target = wanted.filter(|_| signed).and_then(|target| redirect(target, bucket, key, &etag));
    let mut response = match (&target, fields.get("success_action_status")) {
        (Some(_), _) => respond::empty(StatusCode::SEE_OTHER),
        (None, Some("200")) => respond::empty(StatusCode::OK),
        (None, Some("201")) => {
            let mut xml = Writer::plain("PostResponse");
            xml.leaf("Location", request.location(bucket, key)).leaf("Bucket", bucket).leaf("Key", key);
            xml.leaf("ETag", &etag);
            let mut response = respond::document(xml);
            *response.status_mut() = StatusCode::CREATED;
            response
        }
        _ => respond::empty(StatusCode::NO_CONTENT),
    };
    let headers = response.headers_mut();
    let location = target.unwrap_or_else(|| request.location(bucket, key));
    respond::set(headers, header::LOCATION, &location);
    respond::set_etag(headers, &info.etag);
    respond::set_version(headers, info);
    respond::set_checksum(headers, info.metadata.checksum.as_ref());
    headers.insert(SEALED.0, SEALED.1);
    response
}

/// The address to lead to, with what was stored behind it.
fn redirect(target: &str, bucket: &BucketName, key: &ObjectKey, etag: &str) -> Option<String> {
    let parsed: Uri = target.parse().ok()?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) || parsed.host().is_none() {
        return None;
    }
    let joint = if parsed.query().is_some() { '&' } else { '?' };
    let (key, etag) = (uri::encode_component(key.as_str()), uri::encode_component(etag));
    Some(format!("{target}{joint}bucket={bucket}&key={key}&etag={etag}"))
}

fn invalid(problem: String) -> S3Error {
    S3Error::new(Code::InvalidArgument, problem)
}
