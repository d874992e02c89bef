//! Reading an object: `GetObject`, `HeadObject`.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::buckets::SEALED;
use super::door::Services;
use super::error::{Code, S3Error};
use super::lifecycle;
use super::request::Request;
use super::respond::{set, set_checksum, set_etag, set_version};
use crate::http::conditional::{self, Verdict};
use crate::http::range::{self, ByteRange};
use crate::http::{Body, Lasting};
use crate::objects::{BucketName, Metadata, ObjectInfo, PartNumber, RangeSpec, Target};

/// Parameters of a (signed) address that replace what the object says about itself.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-cache-control", header::CACHE_CONTROL),
    ("response-content-disposition", header::CONTENT_DISPOSITION),
    ("response-content-encoding", header::CONTENT_ENCODING),
    ("response-content-language", header::CONTENT_LANGUAGE),
    ("response-content-type", header::CONTENT_TYPE),
    ("response-expires", header::EXPIRES),
];

/// What of the object is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Head and bytes.
    Bytes,
    /// The head alone.
    Head,
}

/// Which of the bytes.
#[derive(Clone, Copy, Debug)]
enum Section {
    All,
    Range(RangeSpec),
    Part(PartNumber),
}

/// `GetObject` or `HeadObject`.
#[derive(Debug)]
pub struct GetObject {
    bucket: BucketName,
    target: Target,
    want: Want,
    section: Section,
}

impl GetObject {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A part number that is none, or one together with a range.
    pub fn parse(request: &Request, want: Want) -> Result<Self, S3Error> {
        let (bucket, target) = request.target()?;
        // Or anybody could have this origin serve an object as what it is not (S3 API reference, GetObject).
        let overrides = OVERRIDES.iter().any(|(parameter, _)| request.query.has(parameter));
        if overrides && request.verified().key().is_none() {
            let problem = "Request specific response headers cannot be used for anonymous GET requests.";
            return Err(S3Error::new(Code::InvalidRequest, problem));
        }
        let range = request.field("range").and_then(range::parse).map(range_spec);
        let part = request.query.get("partNumber").map(part_number).transpose()?;
        let section = match (range, part) {
            (None, None) => Section::All,
            (Some(range), None) => Section::Range(range),
            (None, Some(part)) => Section::Part(part),
            (Some(_), Some(_)) => {
                return Err(S3Error::new(Code::InvalidRequest, "Range and partNumber cannot be used together"));
            }
        };
        Ok(Self { bucket, target, want, section })
    }

    /// Sends the object, or 304 or 412 as the conditions come out.
    ///
    /// # Errors
    /// The object does not exist, the range lies outside, storage fails. A failure while the body is under way ends the
    /// connection, so that no client takes half an object for all of it.
    pub async fn run(mut self, services: &Services, request: &Request) -> Result<Response<Body>, S3Error> {
        if let Some(response) = self.check_conditions(services, request).await? {
            return Ok(response);
        }
        let (objects, bucket, target) = (&services.objects, &self.bucket, &self.target);
        let mut lasting = false;
        let (info, range, parts, body) = match (self.section, self.want) {
            (Section::Part(part), want) => {
                let found = objects.get_part(bucket, target, part).await?;
                lasting = !found.body.needs_index();
                let body = if want == Want::Bytes { Body::from_stream(found.body) } else { Body::empty() };
                (found.info, found.range, Some(found.parts), body)
            }
            (section, Want::Bytes) => {
                let spec = if let Section::Range(spec) = section { Some(spec) } else { None };
                let found = objects.get_version(bucket, target, spec).await?;
                lasting = !found.body.needs_index();
                (found.info, found.range, None, Body::from_stream(found.body))
            }
            (section, Want::Head) => {
                let info = objects.head_version(bucket, target).await?;
                let range = match section {
                    Section::Range(spec) => spec.resolve(info.size)?,
                    _ => 0..info.size,
                };
                (info, range, None, Body::empty())
            }
        };
        let mut response = Response::new(body);
        if lasting {
            response.extensions_mut().insert(Lasting);
        }
        let whole = matches!(self.section, Section::All);
        if !whole {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        let headers = response.headers_mut();
        describe(headers, &info);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_LENGTH, range.end.saturating_sub(range.start).into());
        if !whole && !range.is_empty() {
            let text = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), info.size);
            set(headers, header::CONTENT_RANGE, &text);
        }
        if let Some(parts) = parts.filter(|parts| *parts > 0) {
            headers.insert(HeaderName::from_static("x-amz-mp-parts-count"), parts.into());
        }
        if whole && request.field("x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case("enabled")) {
            set_checksum(headers, info.metadata.checksum.as_ref());
        }
        for (parameter, name) in OVERRIDES {
            if let Some(value) = request.query.get(parameter) {
                set(headers, name, value);
            }
        }
        let serving =
            if objects.bucket_settings(bucket).await?.files.download { Serving::Saved } else { Serving::Shown };
        protect(headers, serving);
        if self.target.version.is_none() {
            lifecycle::describe(headers, services, bucket, target.key.as_str(), &info).await?;
        }
        Ok(response)
    }

    /// Conditions come before the range (RFC 9110 section 13.2.2), so they need a look of their own.
    async fn check_conditions(
        &mut self,
        services: &Services,
        request: &Request,
    ) -> Result<Option<Response<Body>>, S3Error> {
        const CONDITIONS: [HeaderName; 5] = [
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
            header::IF_RANGE,
        ];
        if !CONDITIONS.iter().any(|name| request.headers.contains_key(name)) {
            return Ok(None);
        }
        let info = services.objects.head_version(&self.bucket, &self.target).await?;
        let etag = info.etag.to_string();
        if let Some(validator) = request.field("if-range")
            && !conditional::names(validator, &etag)
            && conditional::parse_date(validator).is_none_or(|date| date.seconds() != info.modified.seconds())
        {
            self.section = Section::All;
        }
        match conditional::evaluate(&request.headers, &etag, info.modified) {
            Verdict::Proceed => Ok(None),
            Verdict::Failed => Err(Code::PreconditionFailed.into()),
            Verdict::NotModified => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                let headers = response.headers_mut();
                set_etag(headers, &info.etag);
                set(headers, header::LAST_MODIFIED, &conditional::format_date(info.modified));
                set_some(headers, header::CACHE_CONTROL, info.metadata.cache_control.as_deref());
                set_some(headers, header::EXPIRES, info.metadata.expires.as_deref());
                Ok(Some(response))
            }
        }
    }
}

/// Reads a part number.
///
/// # Errors
/// It is no number from 1 to 10,000.
pub fn part_number(text: &str) -> Result<PartNumber, S3Error> {
    let problem = || S3Error::new(Code::InvalidArgument, "part number must be an integer from 1 to 10000");
    let number: u64 = text.parse().or(Err(problem()))?;
    PartNumber::try_from(number).or(Err(problem()))
}

/// A range as storage takes it.
pub const fn range_spec(range: ByteRange) -> RangeSpec {
    match range {
        ByteRange::FromTo(first, last) => RangeSpec::FromTo(first, last),
        ByteRange::From(first) => RangeSpec::From(first),
        ByteRange::Last(count) => RangeSpec::Last(count),
    }
}

fn describe(headers: &mut HeaderMap, info: &ObjectInfo) {
    let Metadata {
        content_type,
        cache_control,
        content_disposition,
        content_encoding,
        content_language,
        expires,
        user,
        tags,
        checksum: _,
    } = &info.metadata;
    set_etag(headers, &info.etag);
    set_version(headers, info);
    set(headers, header::LAST_MODIFIED, &conditional::format_date(info.modified));
    set(headers, header::CONTENT_TYPE, content_type.as_deref().unwrap_or("binary/octet-stream"));
    set_some(headers, header::CACHE_CONTROL, cache_control.as_deref());
    set_some(headers, header::CONTENT_DISPOSITION, content_disposition.as_deref());
    set_some(headers, header::CONTENT_ENCODING, content_encoding.as_deref());
    set_some(headers, header::CONTENT_LANGUAGE, content_language.as_deref());
    set_some(headers, header::EXPIRES, expires.as_deref());
    for (name, value) in user {
        if let Ok(name) = HeaderName::try_from(format!("x-amz-meta-{name}")) {
            set(headers, name, value);
        }
    }
    if !tags.is_empty() {
        headers.insert(HeaderName::from_static("x-amz-tagging-count"), tags.len().into());
    }
    headers.insert(SEALED.0, SEALED.1);
}

fn set_some(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value {
        set(headers, name, value);
    }
}

/// What browsers do with the objects of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serving {
    /// They show them.
    Shown,
    /// They save them, whatever anybody says.
    Saved,
}

/// What users upload must not act on an app's origin: types are taken at their word, and markup runs in a sandbox
/// without scripts.
fn protect(headers: &mut HeaderMap, serving: Serving) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if serving == Serving::Saved {
        let said = headers.get(header::CONTENT_DISPOSITION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // The name to save it under stays.
        let saved = match said.split_once(';') {
            Some((_, parameters)) => format!("attachment;{parameters}"),
            None => "attachment".to_owned(),
        };
        set(headers, header::CONTENT_DISPOSITION, &saved);
        // Drawn inside another page a picture may need its own style, and nothing else.
        let policy = HeaderValue::from_static("sandbox; default-src 'none'; style-src 'unsafe-inline'");
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        return;
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.to_ascii_lowercase();
    if ["html", "xml", "svg"].iter().any(|markup| content_type.contains(markup)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_served_into_a_sandbox() {
        for (content_type, sandboxed) in [
            ("text/html; charset=utf-8", true),
            ("image/SVG+xml", true),
            ("application/xhtml+xml", true),
            ("image/png", false),
        ] {
            let mut headers = HeaderMap::new();
            set(&mut headers, header::CONTENT_TYPE, content_type);
            protect(&mut headers, Serving::Shown);
            assert_eq!(headers.contains_key(header::CONTENT_SECURITY_POLICY), sandboxed, "{content_type}");
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }

    #[test]
    fn a_bucket_of_downloads_has_everything_saved_under_its_name() {
        for (said, saved) in [
            (None, "attachment"),
            (Some("inline"), "attachment"),
            (Some("inline; filename=\"a.html\""), "attachment; filename=\"a.html\""),
            (Some("attachment; filename=a"), "attachment; filename=a"),
        ] {
            let mut headers = HeaderMap::new();
            set_some(&mut headers, header::CONTENT_DISPOSITION, said);
            protect(&mut headers, Serving::Saved);
            assert_eq!(headers[header::CONTENT_DISPOSITION], saved);
            assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("sandbox;"));
        }
    }
}
