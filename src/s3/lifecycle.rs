//! `GetBucketLifecycleConfiguration`, `PutBucketLifecycleConfiguration`, `DeleteBucketLifecycle`, and the header that
//! tells when an object ends.
//!
//! What Amazon S3 refuses is refused here, with its codes; transitions to other storage classes too, since there is one.
//! Source: S3 API reference, `PutBucketLifecycleConfiguration`; user guide, "Lifecycle configuration elements".

use http::{HeaderMap, HeaderName, Response, StatusCode};

use super::access::may_end;
use super::door::Services;
use super::error::{Code, S3Error};
use super::payload::SealedBody;
use super::request::Request;
use super::respond;
use super::tags;
use super::xml::{Element, Writer};
use crate::base::Timestamp;
use crate::http::{Body, conditional, uri};
use crate::objects::lifecycle::{Expiration, KEEP_MAX, LifecycleFilter, LifecycleRule, Noncurrent, first_end};
use crate::objects::{BucketName, ObjectInfo};

/// Most rules of a bucket.
const RULES_MAX: usize = 1000;

/// Most characters of a rule's name.
const ID_MAX: usize = 255;

/// Most tags of a rule: as many as an object has.
const TAGS_MAX: usize = 10;

/// Most bytes of a rule's prefix: as many as an object's key has.
const PREFIX_MAX: usize = 1024;

const DAY: u64 = 24 * 60 * 60 * 1000;

/// `GetBucketLifecycleConfiguration`.
///
/// # Errors
/// The bucket does not exist or has no lifecycle; storage fails.
pub async fn get(services: &Services, bucket: &BucketName) -> Result<Response<Body>, S3Error> {
    let settings = services.objects.bucket_settings(bucket).await?;
    if settings.lifecycle.is_empty() {
        return Err(Code::NoSuchLifecycleConfiguration.into());
    }
    let mut xml = Writer::new("LifecycleConfiguration");
    for rule in &settings.lifecycle {
        write_rule(&mut xml, rule);
    }
    Ok(respond::document(xml))
}

/// `PutBucketLifecycleConfiguration`.
///
/// # Errors
/// A rule that is none, or that this server does not follow; [`Code::AccessDenied`] for a rule about what the key may not
/// delete itself; the bucket does not exist; storage fails: the bucket has the
/// lifecycle it had.
pub async fn put(
    services: &Services,
    request: &Request,
    bucket: &BucketName,
    body: SealedBody,
) -> Result<Response<Body>, S3Error> {
    let document = body.document(request, "LifecycleConfiguration").await?.ok_or(Code::MalformedXML)?;
    let rules = parse(&document)?;
    for rule in &rules {
        may_end(request, bucket, &rule.filter.prefix)?;
    }
    services.objects.change_bucket_settings(bucket, move |settings| settings.lifecycle.clone_from(&rules)).await?;
    Ok(respond::empty(StatusCode::OK))
}

/// `DeleteBucketLifecycle`; fine when there is none.
///
/// # Errors
/// The bucket does not exist; storage fails.
pub async fn delete(services: &Services, bucket: &BucketName) -> Result<Response<Body>, S3Error> {
    services.objects.change_bucket_settings(bucket, |settings| settings.lifecycle.clear()).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// Sets `x-amz-expiration`, when the bucket's lifecycle ends the object, which is the newest version of `key`.
///
/// # Errors
/// Storage fails.
pub async fn describe(
    headers: &mut HeaderMap,
    services: &Services,
    bucket: &BucketName,
    key: &str,
    info: &ObjectInfo,
) -> Result<(), S3Error> {
    let settings = services.objects.bucket_settings(bucket).await?;
    let end = first_end(&settings.lifecycle, key, info.modified, info.size, &info.metadata.tags);
    if let Some((at, rule)) = end {
        let text =
            format!("expiry-date=\"{}\", rule-id=\"{}\"", conditional::format_date(at), uri::encode_component(rule));
        respond::set(headers, HeaderName::from_static("x-amz-expiration"), &text);
    }
    Ok(())
}

fn write_rule(xml: &mut Writer, rule: &LifecycleRule) {
    xml.start("Rule").leaf("ID", &rule.id);
    let filter = &rule.filter;
    if filter.old_form {
        xml.leaf("Prefix", &filter.prefix);
    } else {
        xml.start("Filter");
        let parts = usize::from(!filter.prefix.is_empty())
            .saturating_add(filter.tags.len())
            .saturating_add(usize::from(filter.larger_than.is_some()))
            .saturating_add(usize::from(filter.smaller_than.is_some()));
        if parts > 1 {
            xml.start("And");
        }
        if parts == 0 || !filter.prefix.is_empty() {
            xml.leaf("Prefix", &filter.prefix);
        }
        for (key, value) in &filter.tags {
            xml.start("Tag").leaf("Key", key).leaf("Value", value).end();
        }
        xml.maybe("ObjectSizeGreaterThan", filter.larger_than).maybe("ObjectSizeLessThan", filter.smaller_than);
        if parts > 1 {
            xml.end();
        }
        xml.end();
    }
    xml.leaf("Status", if rule.enabled { "Enabled" } else { "Disabled" });
    if let Some(expiration) = rule.expiration {
        xml.start("Expiration");
        match expiration {
            Expiration::Days(days) => xml.leaf("Days", days),
            Expiration::Date(date) => xml.leaf("Date", Timestamp(date)),
            Expiration::Markers => xml.leaf("ExpiredObjectDeleteMarker", true),
        };
        xml.end();
    }
    if let Some(Noncurrent { days, keep }) = rule.noncurrent {
        xml.start("NoncurrentVersionExpiration");
        xml.leaf("NoncurrentDays", days).maybe("NewerNoncurrentVersions", keep).end();
    }
    if let Some(days) = rule.abort_days {
        xml.start("AbortIncompleteMultipartUpload").leaf("DaysAfterInitiation", days).end();
    }
    xml.end();
}

fn parse(document: &Element) -> Result<Vec<LifecycleRule>, S3Error> {
    only(document, &["Rule"])?;
    if document.children.is_empty() || document.children.len() > RULES_MAX {
        return Err(Code::MalformedXML.into());
    }
    let mut rules: Vec<LifecycleRule> = Vec::new();
    for element in &document.children {
        let mut rule = parse_rule(element)?;
        if rule.id.is_empty() {
            let free = |number: &usize| !rules.iter().any(|other| other.id == format!("rule-{number}"));
            rule.id = format!("rule-{}", (1..=RULES_MAX).find(free).unwrap_or_default());
        }
        if rules.iter().any(|other| other.id == rule.id) {
            return Err(S3Error::new(
                Code::InvalidArgument,
                "Rule ID must be unique. Found same ID for more than one rule",
            ));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn parse_rule(element: &Element) -> Result<LifecycleRule, S3Error> {
    if ["Transition", "NoncurrentVersionTransition"].iter().any(|name| element.child(name).is_some()) {
        return Err(S3Error::new(Code::NotImplemented, "there is one storage class, so there are no transitions"));
    }
    only(
        element,
        &[
            "ID",
            "Prefix",
            "Filter",
            "Status",
            "Expiration",
            "NoncurrentVersionExpiration",
            "AbortIncompleteMultipartUpload",
        ],
    )?;
    let id = element.text_of("ID").unwrap_or_default().to_owned();
    if id.chars().count() > ID_MAX {
        return Err(S3Error::new(Code::InvalidArgument, "ID length should not exceed allowed limit of 255"));
    }
    let enabled = match element.word_of("Status") {
        Some("Enabled") => true,
        Some("Disabled") => false,
        _ => return Err(Code::MalformedXML.into()),
    };
    let filter = match (element.child("Filter"), element.text_of("Prefix")) {
        (Some(filter), None) => parse_filter(filter)?,
        (None, Some(prefix)) => {
            LifecycleFilter { prefix: prefix.to_owned(), old_form: true, ..LifecycleFilter::default() }
        }
        (Some(_), Some(_)) | (None, None) => return Err(Code::MalformedXML.into()),
    };
    let rule = LifecycleRule {
        id,
        enabled,
        expiration: element.child("Expiration").map(parse_expiration).transpose()?,
        noncurrent: element.child("NoncurrentVersionExpiration").map(parse_noncurrent).transpose()?,
        abort_days: element.child("AbortIncompleteMultipartUpload").map(parse_abort).transpose()?,
        filter,
    };
    if rule.expiration.is_none() && rule.noncurrent.is_none() && rule.abort_days.is_none() {
        return Err(S3Error::new(Code::InvalidRequest, "At least one action needs to be specified in a rule"));
    }
    let filter = &rule.filter;
    if filter.prefix.len() > PREFIX_MAX {
        return Err(S3Error::new(Code::InvalidRequest, "The maximum size of a prefix is 1024."));
    }
    let narrow = !filter.tags.is_empty() || filter.larger_than.is_some() || filter.smaller_than.is_some();
    if narrow && (rule.abort_days.is_some() || rule.expiration == Some(Expiration::Markers)) {
        let problem =
            "AbortIncompleteMultipartUpload and ExpiredObjectDeleteMarker cannot be specified with tags or sizes";
        return Err(S3Error::new(Code::InvalidRequest, problem));
    }
    if filter.old_form && rule.noncurrent.is_some_and(|rule| rule.keep.is_some()) {
        return Err(S3Error::new(Code::InvalidRequest, "NewerNoncurrentVersions needs a Filter"));
    }
    Ok(rule)
}

fn parse_filter(element: &Element) -> Result<LifecycleFilter, S3Error> {
    const PARTS: [&str; 4] = ["Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"];
    let parts = match (element.child("And"), element.children.len()) {
        (Some(and), 1) if and.children.len() > 1 => and,
        (None, 0 | 1) => element,
        _ => return Err(Code::MalformedXML.into()),
    };
    only(parts, &PARTS)?;
    for name in ["Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan"] {
        if parts.all(name).count() > 1 {
            return Err(Code::MalformedXML.into());
        }
    }
    let size = |name| parts.word_of(name).map(|text| text.parse::<u64>().or(Err(Code::MalformedXML))).transpose();
    let filter = LifecycleFilter {
        prefix: parts.text_of("Prefix").unwrap_or_default().to_owned(),
        tags: tags::parse_elements(parts, TAGS_MAX)?,
        larger_than: size("ObjectSizeGreaterThan")?,
        smaller_than: size("ObjectSizeLessThan")?,
        old_form: false,
    };
    if filter.larger_than.zip(filter.smaller_than).is_some_and(|(least, most)| most <= least) {
        let problem = "ObjectSizeLessThan must be greater than ObjectSizeGreaterThan";
        return Err(S3Error::new(Code::InvalidRequest, problem));
    }
    Ok(filter)
}

fn parse_expiration(element: &Element) -> Result<Expiration, S3Error> {
    only(element, &["Days", "Date", "ExpiredObjectDeleteMarker"])?;
    let one = <&[Element; 1]>::try_from(element.children.as_slice()).or(Err(Code::MalformedXML))?;
    let [one] = one;
    match one.name.as_str() {
        "Days" => Ok(Expiration::Days(days(one, "'Days' for Expiration action must be a positive integer")?)),
        "Date" => {
            let at: Option<jiff::Timestamp> = one.text.trim().parse().ok();
            let at = at.and_then(|at| u64::try_from(at.as_millisecond()).ok()).ok_or(Code::MalformedXML)?;
            if at % DAY != 0 {
                return Err(S3Error::new(Code::InvalidArgument, "'Date' must be at midnight GMT"));
            }
            Ok(Expiration::Date(at))
        }
        _ if one.text.trim() == "true" => Ok(Expiration::Markers),
        _ => Err(Code::MalformedXML.into()),
    }
}

fn parse_noncurrent(element: &Element) -> Result<Noncurrent, S3Error> {
    only(element, &["NoncurrentDays", "NewerNoncurrentVersions"])?;
    let problem = "'NoncurrentDays' for NoncurrentVersionExpiration action must be a positive integer";
    let days = days(element.child("NoncurrentDays").ok_or(Code::MalformedXML)?, problem)?;
    let problem = "'NewerNoncurrentVersions' must be an integer from 1 to 100";
    let keep = match element.child("NewerNoncurrentVersions") {
        None => None,
        Some(keep) => match self::days(keep, problem)? {
            keep @ 1..=KEEP_MAX => Some(keep),
            _ => return Err(S3Error::new(Code::InvalidArgument, problem)),
        },
    };
    Ok(Noncurrent { days, keep })
}

fn parse_abort(element: &Element) -> Result<u32, S3Error> {
    only(element, &["DaysAfterInitiation"])?;
    let problem = "'DaysAfterInitiation' for AbortIncompleteMultipartUpload action must be a positive integer";
    days(element.child("DaysAfterInitiation").ok_or(Code::MalformedXML)?, problem)
}

/// A positive number.
fn days(element: &Element, problem: &str) -> Result<u32, S3Error> {
    let number: i64 = element.text.trim().parse().or(Err(Code::MalformedXML))?;
    match u32::try_from(number) {
        Ok(days @ 1..=2_147_483_647) => Ok(days),
        _ => Err(S3Error::new(Code::InvalidArgument, problem)),
    }
}

/// Nothing but `names` stands in `element`: what is not followed must not be passed over.
fn only(element: &Element, names: &[&str]) -> Result<(), S3Error> {
    let known = element.children.iter().all(|child| names.contains(&child.name.as_str()));
    if known { Ok(()) } else { Err(Code::MalformedXML.into()) }
}
