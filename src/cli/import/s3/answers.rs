//! What an S3 server says of a bucket's objects: listings, heads, tags.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::service::{Failure, Kind};
use crate::base::Timestamp;
use crate::base::ids::{hex, hex_decode};
use crate::cli::import::wire::printable;
use crate::http::{conditional, uri};
use crate::objects::names::KEY_BYTES_MAX;
use crate::s3::checksum::Algorithm;
use crate::s3::xml::Element;

/// Headers that an object keeps, beside its user metadata.
const KEPT: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::EXPIRES,
];
/// What names of user metadata begin with.
const USER: &str = "x-amz-meta-";
/// rclone's name for when an object was last changed.
const MTIME: HeaderName = HeaderName::from_static("x-amz-meta-mtime");

/// An object in a listing. Two that are equal are the same object, unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub key: String,
    /// Without quotes.
    pub etag: String,
    pub size: u64,
    /// When it was last changed, in ms since 1970; 0 when nobody says.
    pub modified: u64,
}

/// A page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub objects: Vec<Listed>,
    /// Keys that no object can have here, with the reason.
    pub strange: Vec<(String, String)>,
    /// What asks for the next page.
    pub next: Option<String>,
}

impl Page {
    /// Reads the answer to `ListObjectsV2`.
    pub fn parse(document: &Element) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::new(Kind::Fatal, format!("the listing cannot be read: {what}"));
        let encoded = document.word_of("EncodingType").is_some_and(|kind| kind.eq_ignore_ascii_case("url"));
        let mut page = Self::default();
        for entry in document.all("Contents") {
            let written = entry.text_of("Key").ok_or_else(|| wrong("an object has no key"))?;
            // Of the encodings in use all write a plus as %2B, and some a space as a plus.
            let key = if encoded { uri::decode_query(written) } else { Ok(written.to_owned()) };
            let key = match key {
                Ok(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => key,
                Ok(key) => {
                    let text = format!("its key has {} bytes, allowed are 1 to {KEY_BYTES_MAX}", key.len());
                    page.strange.push((written.to_owned(), text));
                    continue;
                }
                Err(error) => {
                    page.strange.push((written.to_owned(), error.to_string()));
                    continue;
                }
            };
            let size = entry.word_of("Size").and_then(|text| text.parse().ok());
            page.objects.push(Listed {
                etag: bare(entry.word_of("ETag").ok_or_else(|| wrong("an object has no ETag"))?),
                size: size.ok_or_else(|| wrong("an object has no size"))?,
                modified: entry.word_of("LastModified").and_then(millis).unwrap_or(0),
                key,
            });
        }
        if document.word_of("IsTruncated").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            let token = document.text_of("NextContinuationToken").filter(|token| !token.is_empty());
            page.next =
                Some(token.ok_or_else(|| wrong("more follows, and nothing says how to ask for it"))?.to_owned());
        }
        Ok(page)
    }
}

/// A page of a bucket's uploads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Uploads {
    /// Keys and upload ids.
    pub uploads: Vec<(String, String)>,
    /// Key and upload id behind which the next page begins.
    pub next: Option<(String, String)>,
}

impl Uploads {
    /// Reads the answer to `ListMultipartUploads`, asked for with keys encoded.
    pub fn parse(document: &Element) -> Option<Self> {
        let text = |element: &Element, name: &str| uri::decode_query(element.text_of(name)?).ok();
        let pair = |element: &Element, key, id| Some((text(element, key)?, element.word_of(id)?.to_owned()));
        let more = document.word_of("IsTruncated") == Some("true");
        let next = if more { Some(pair(document, "NextKeyMarker", "NextUploadIdMarker")?) } else { None };
        let uploads = document.all("Upload").map(|upload| pair(upload, "Key", "UploadId")).collect::<Option<_>>()?;
        Some(Self { uploads, next })
    }
}

/// An entity tag without its quotes.
fn bare(etag: &str) -> String {
    let etag = etag.trim();
    etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(etag).to_owned()
}

/// A moment of RFC 3339.
fn millis(text: &str) -> Option<u64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

/// A checksum the source has of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub algorithm: Algorithm,
    pub value: String,
    /// Whether it is one of the parts' checksums.
    pub composite: bool,
}

/// What an answer says of an object.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// Without quotes.
    pub etag: String,
    /// Bytes of the answer's body, or of the one a `HEAD` stands for.
    pub length: u64,
    /// When it was last changed, in seconds since 1970, which is all that this header tells; 0 when it is missing.
    pub modified: u64,
    /// Number of tags.
    pub tags: u32,
    pub sum: Option<Sum>,
    /// What the object keeps.
    pub kept: HeaderMap,
    /// Whether its ETag can be an MD5 of what is read.
    plain: bool,
}

impl Head {
    /// Reads an answer's headers.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Failure> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        let wrong = |what: &str| Failure::new(Kind::Refused, format!("the source does not tell its {what}"));
        let kind = text("x-amz-checksum-type").unwrap_or_default();
        let sum = Algorithm::all().find_map(|algorithm| {
            let value = text(algorithm.header())?.to_owned();
            let composite = kind.eq_ignore_ascii_case("COMPOSITE") || value.contains('-');
            Some(Sum { algorithm, value, composite })
        });
        let sealed = text("x-amz-server-side-encryption").unwrap_or_default();
        Ok(Self {
            etag: bare(text("etag").ok_or_else(|| wrong("ETag"))?),
            length: number("content-length").ok_or_else(|| wrong("length"))?,
            modified: text("last-modified").and_then(conditional::parse_date).map_or(0, Timestamp::seconds),
            tags: number("x-amz-tagging-count").and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            sum,
            kept: kept(headers),
            // What a key service sealed has another tag (S3 API reference, "Object", ETag).
            plain: !sealed.starts_with("aws:") && text("x-amz-server-side-encryption-customer-algorithm").is_none(),
        })
    }

    /// The MD5 the bytes must have.
    pub fn md5(&self) -> Option<[u8; 16]> {
        let mut md5 = [0; 16];
        hex_decode(self.etag.to_ascii_lowercase().as_bytes(), &mut md5).filter(|()| self.plain)?;
        Some(md5)
    }

    /// The number of parts its ETag tells of.
    pub fn parts(&self) -> Option<u16> {
        parts(&self.etag)
    }

    /// Notes when it was last changed in its metadata, unless that is there.
    pub fn note_mtime(&mut self) {
        if !self.kept.contains_key(MTIME) && self.modified > 0 {
            self.kept.insert(MTIME, self.modified.into());
        }
    }
}

/// The number of parts an ETag tells of.
pub(super) fn parts(etag: &str) -> Option<u16> {
    let (digest, parts) = etag.split_once('-')?;
    let is_digest = digest.len() == 32 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    parts.parse().ok().filter(|parts| is_digest && (1..=10_000).contains(parts))
}

/// The ETag of an object whose parts have these MD5s.
pub(super) fn etag_of(md5s: &[[u8; 16]]) -> String {
    use md5::{Digest as _, Md5};
    format!("{}-{}", hex(&Md5::digest(md5s.concat())), md5s.len())
}

/// An MD5 as `Content-MD5` writes it.
pub(super) fn content_md5(md5: [u8; 16]) -> String {
    STANDARD.encode(md5)
}

fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::new();
    for name in KEPT.iter().chain(headers.keys().filter(|name| name.as_str().starts_with(USER))) {
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if let (false, Ok(value)) = (values.is_empty(), HeaderValue::from_bytes(&values.join(&b','))) {
            out.insert(name.clone(), value);
        }
    }
    out
}

/// Where in the object the answer to a request for a part of it stands: the first byte, and the object's length.
pub(super) fn range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, whole) = text.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, whole.trim().parse().ok()?))
}

/// The answer to `GetObjectTagging`, as the header that sets the same tags.
pub(super) fn tagging(document: &Element) -> Option<String> {
    let mut pairs = Vec::new();
    for tag in document.child("TagSet")?.all("Tag") {
        let (key, value) = (tag.text_of("Key")?, tag.text_of("Value").unwrap_or_default());
        pairs.push(format!("{}={}", uri::encode_component(key), uri::encode_component(value)));
    }
    // Their order says nothing, and is another at every server.
    pairs.sort_unstable();
    Some(pairs.join("&"))
}

/// A key on a terminal.
pub(super) fn shown(key: &str) -> String {
    let text: String = printable(key.as_bytes()).chars().take(200).collect();
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::s3::xml;

    fn page(text: &str) -> Result<Page, Failure> {
        let text = format!("<ListBucketResult>{text}</ListBucketResult>");
        Page::parse(&xml::parse(text.as_bytes(), "ListBucketResult").unwrap())
    }

    fn entry(key: &str) -> String {
        format!(
            "<Contents><Key>{key}</Key><ETag>&quot;ab&quot;</ETag><Size>7</Size>\
             <LastModified>2026-11-01T10:00:00.500Z</LastModified></Contents>"
        )
    }

    #[test]
    fn a_page_is_read_with_keys_encoded_or_not() {
        let found = page(&format!("<EncodingType>url</EncodingType>{}", entry("a+b%2Bc%2F%C3%BC/d"))).unwrap();
        let listed =
            Listed { key: String::from("a b+c/ü/d"), etag: String::from("ab"), size: 7, modified: 1_793_527_200_500 };
        assert_eq!(found, Page { objects: vec![listed], ..Page::default() });
        let found = page(&format!(
            "{}<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
            entry("a+%zz")
        ))
        .unwrap();
        assert_eq!((found.objects[0].key.as_str(), found.next.as_deref()), ("a+%zz", Some("t")));
    }

    #[test]
    fn a_key_that_cannot_be_is_named_and_a_page_that_leads_nowhere_is_an_error() {
        let found =
            page(&format!("<EncodingType>url</EncodingType>{}{}", entry("%ff"), entry(&"k".repeat(1025)))).unwrap();
        assert_eq!((found.objects.len(), found.strange.len()), (0, 2));
        page("<IsTruncated>true</IsTruncated>").unwrap_err();
        page("<Contents><Key>a</Key></Contents>").unwrap_err();
    }

    #[test]
    fn a_head_keeps_what_the_object_is_and_nothing_of_the_answer() {
        let headers: HeaderMap = [
            ("etag", "\"9e107d9d372bb6826bd81d3542a419d6\""),
            ("content-length", "12"),
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("x-amz-meta-who", "me"),
            ("x-amz-tagging-count", "2"),
            ("x-amz-checksum-sha256", "abc="),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("date", "x"),
            ("server", "x"),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        let mut head = Head::parse(&headers).unwrap();
        assert_eq!((head.length, head.tags, head.modified), (12, 2, 784_111_777));
        assert!(head.md5().is_some() && head.parts().is_none());
        assert_eq!(head.kept.len(), 3);
        head.note_mtime();
        assert_eq!(head.kept[MTIME], "784111777");
        let mut sealed = headers.clone();
        sealed.insert("x-amz-server-side-encryption", HeaderValue::from_static("aws:kms"));
        assert_eq!(Head::parse(&sealed).unwrap().md5(), None);
    }

    #[test]
    fn the_etag_of_parts_is_read_and_written() {
        assert_eq!(parts("9e107d9d372bb6826bd81d3542a419d6-3"), Some(3));
        for other in ["9e107d9d372bb6826bd81d3542a419d6", "x-3", "9e107d9d372bb6826bd81d3542a419d6-0"] {
            assert_eq!(parts(other), None);
        }
        assert_eq!(etag_of(&[[0; 16]]), "4ae71336e44bf9bf79d2752e234818a5-1");
    }

    #[test]
    fn uploads_are_read() {
        let text = "<L><Upload><Key>a%20b</Key><UploadId>1</UploadId></Upload><IsTruncated>true</IsTruncated>\
                    <NextKeyMarker>a%20b</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker></L>";
        let pair = (String::from("a b"), String::from("1"));
        let found = Uploads::parse(&xml::parse(text.as_bytes(), "L").unwrap());
        assert_eq!(found, Some(Uploads { uploads: vec![pair.clone()], next: Some(pair) }));
    }

    #[test]
    fn tags_become_the_header_that_sets_them() {
        let text = "<Tagging><TagSet><Tag><Key>b</Key><Value/></Tag>\
                    <Tag><Key>a b</Key><Value>c&amp;d</Value></Tag></TagSet></Tagging>";
        let tags = tagging(&xml::parse(text.as_bytes(), "Tagging").unwrap());
        assert_eq!(tags.as_deref(), Some("a%20b=c%26d&b="));
    }

    proptest! {
        #[test]
        fn any_listing_is_read_or_refused(text in "(<(Contents|Key|ETag|Size|IsTruncated)>|</[A-Z][a-z]+>|[a-z0-9%+\" ]){0,40}") {
            if let Ok(document) = xml::parse(format!("<L>{text}</L>").as_bytes(), "L") {
                let _ = Page::parse(&document);
            }
        }
    }
}
