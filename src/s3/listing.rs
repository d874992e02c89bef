//! Listing a bucket's keys: `ListObjects`, `ListObjectsV2`.
//!
//! Both are the same walk; they differ in how a page names the next one, and in the document.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;

use super::buckets::write_owner;
use super::door::Services;
use super::error::{Code, S3Error};
use super::request::Request;
use super::respond;
use super::xml::Writer;
use crate::http::{Body, uri};
use crate::objects::{BucketName, ListPage, ListQuery, ObjectSummary};

/// Most entries on a page.
const PAGE_MAX: usize = 1000;

/// Which of the two operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `ListObjects`: pages by `marker`.
    V1,
    /// `ListObjectsV2`: pages by `continuation-token`.
    V2,
}

/// How keys are written into the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Plain,
    /// Percent-encoded, for clients whose XML parser cannot take every key.
    Url,
}

impl Encoding {
    /// Reads `encoding-type`.
    ///
    /// # Errors
    /// It is not `url`.
    pub fn parse(request: &Request) -> Result<Self, S3Error> {
        match request.query.get("encoding-type") {
            None | Some("") => Ok(Self::Plain),
            Some("url") => Ok(Self::Url),
            Some(_) => Err(S3Error::new(Code::InvalidArgument, "encoding-type must be url")),
        }
    }

    /// `text` as it is written.
    pub fn write(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Plain => Cow::Borrowed(text),
            Self::Url => Cow::Owned(uri::encode_path(text)),
        }
    }

    /// The value of the element `EncodingType`.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Url => Some("url"),
        }
    }
}

/// A listing.
#[derive(Debug)]
pub struct ListObjects {
    bucket: BucketName,
    flavour: Flavour,
    prefix: String,
    delimiter: Option<String>,
    /// `marker` or `start-after` as given.
    marker: Option<String>,
    /// `continuation-token` as given.
    token: Option<String>,
    after: Option<String>,
    max_keys: usize,
    encoding: Encoding,
    owners: bool,
}

impl ListObjects {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A number, token or encoding that is none.
    pub fn parse(request: &Request, flavour: Flavour) -> Result<Self, S3Error> {
        let text = |name| request.query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let marker = match flavour {
            Flavour::V1 => text("marker"),
            Flavour::V2 => text("start-after"),
        };
        let token = if flavour == Flavour::V2 { text("continuation-token") } else { None };
        let after = match &token {
            Some(token) => Some(parse_token(token)?),
            None => marker.clone(),
        };
        Ok(Self {
            bucket: request.bucket()?,
            flavour,
            prefix: text("prefix").unwrap_or_default(),
            delimiter: text("delimiter"),
            marker,
            token,
            after,
            max_keys: request.count("max-keys", PAGE_MAX, PAGE_MAX)?,
            encoding: Encoding::parse(request)?,
            owners: flavour != Flavour::V2 || request.query.get("fetch-owner") == Some("true"),
        })
    }

    /// Lists a page.
    ///
    /// # Errors
    /// The bucket does not exist; storage fails.
    pub async fn run(self, services: &Services) -> Result<Response<Body>, S3Error> {
        let query = ListQuery {
            prefix: self.prefix.clone(),
            delimiter: self.delimiter.clone(),
            after: self.after.clone(),
            max_keys: self.max_keys,
        };
        let page = services.objects.list(&self.bucket, query).await?;
        Ok(respond::document(self.write(&page)))
    }

    fn write(&self, page: &ListPage) -> Writer {
        let encode = |text: &str| self.encoding.write(text).into_owned();
        let next = page.next.as_deref();
        let mut xml = Writer::new("ListBucketResult");
        xml.leaf("Name", &self.bucket).leaf("Prefix", encode(&self.prefix));
        match self.flavour {
            Flavour::V1 => {
                xml.leaf("Marker", encode(self.marker.as_deref().unwrap_or_default()));
                xml.maybe("NextMarker", next.map(encode));
            }
            Flavour::V2 => {
                xml.leaf("KeyCount", page.objects.len().saturating_add(page.common_prefixes.len()));
                xml.maybe("StartAfter", self.marker.as_deref().map(encode));
                xml.maybe("ContinuationToken", self.token.as_deref());
                xml.maybe("NextContinuationToken", next.map(token));
            }
        }
        xml.leaf("MaxKeys", self.max_keys);
        xml.maybe("Delimiter", self.delimiter.as_deref().map(encode));
        xml.maybe("EncodingType", self.encoding.name());
        xml.leaf("IsTruncated", next.is_some());
        for object in &page.objects {
            self.write_object(&mut xml, object);
        }
        for prefix in &page.common_prefixes {
            xml.start("CommonPrefixes").leaf("Prefix", encode(prefix)).end();
        }
        xml
    }

    fn write_object(&self, xml: &mut Writer, object: &ObjectSummary) {
        xml.start("Contents").leaf("Key", self.encoding.write(&object.key));
        xml.leaf("LastModified", object.modified).leaf("ETag", format_args!("\"{}\"", object.etag));
        xml.leaf("Size", object.size).leaf("StorageClass", "STANDARD");
        if self.owners {
            write_owner(xml, "Owner");
        }
        xml.end();
    }
}

/// A continuation token: the last entry of the page, wrapped so that nobody takes it for a key.
fn token(after: &str) -> String {
    URL_SAFE_NO_PAD.encode(after)
}

fn parse_token(token: &str) -> Result<String, S3Error> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    bytes.ok_or_else(|| S3Error::new(Code::InvalidArgument, "the continuation token is none of this server's"))
}
