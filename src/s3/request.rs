//! A verified request's head, as the operations read it.

use http::request::Parts;
use http::{HeaderMap, Method};

use super::address::Address;
use super::error::{Code, S3Error};
use super::gate::Verified;
use crate::http::query::Query;
use crate::http::uri;
use crate::objects::{BucketName, ObjectKey, Target, VersionId};

/// Headers that change what a request means and that this server does not follow. To ignore one would be to do something
/// else than asked: to store in the clear what was to be sealed with the client's key, to overwrite what was to be
/// appended to.
const REFUSED: [&str; 11] = [
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-write",
    "x-amz-mfa",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-rename-source",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
];

/// The head of a request that passed the gate.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its query.
    pub query: Query,
    /// What it is about.
    pub address: Address,
    /// Scheme and authority it came to, such as `https://s3.example.com`.
    pub origin: String,
    /// Whether it has no body at all.
    pub bodyless: bool,
    verified: Verified,
}

impl Request {
    /// Puts the head together.
    ///
    /// # Errors
    /// It asks for something this server does not do ([`Code::NotImplemented`]), or for a version it does not have.
    pub fn new(
        parts: Parts,
        query: Query,
        address: Address,
        origin: String,
        bodyless: bool,
        verified: Verified,
    ) -> Result<Self, S3Error> {
        let request = Self { method: parts.method, headers: parts.headers, query, address, origin, bodyless, verified };
        if let Some(name) = REFUSED.iter().find(|name| request.field(name).is_some()) {
            return Err(S3Error::new(Code::NotImplemented, format!("header {name} is not supported")));
        }
        match request.field("x-amz-server-side-encryption") {
            None | Some("AES256") => {}
            Some(other) => {
                let problem =
                    format!("server-side encryption {other} is not supported; objects are always sealed (AES256)");
                return Err(S3Error::new(Code::NotImplemented, problem));
            }
        }
        // A write always makes the newest version; only tags can be put on an older one.
        let writes = matches!(request.method, Method::PUT | Method::POST) && !request.query.has("tagging");
        if writes && request.version()?.is_some_and(|version| version != VersionId::Null) {
            return Err(S3Error::new(Code::InvalidArgument, "this operation does not take a version id"));
        }
        Ok(request)
    }

    /// The version asked for; `None` for the newest.
    ///
    /// # Errors
    /// [`Code::NoSuchVersion`] for an id this server never gives out.
    pub fn version(&self) -> Result<Option<VersionId>, S3Error> {
        match self.query.get("versionId") {
            None | Some("") => Ok(None),
            Some(id) => Ok(Some(id.parse()?)),
        }
    }

    /// The object it is about, and which version of it.
    ///
    /// # Errors
    /// Those of [`Request::object`] and [`Request::version`].
    pub fn target(&self) -> Result<(BucketName, Target), S3Error> {
        let (bucket, key) = self.object()?;
        Ok((bucket, Target { key, version: self.version()? }))
    }

    /// Whose key signed it.
    pub const fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The value of header `name` (in lower case), or of the parameter that stands for it in a presigned address: SDKs
    /// move `x-amz-*` headers into the query there.
    pub fn field(&self, name: &str) -> Option<&str> {
        match self.headers.get(name) {
            Some(value) => std::str::from_utf8(value.as_bytes()).ok(),
            None if self.verified.presigned() && name.starts_with("x-amz-") => self.query.get(name),
            None => None,
        }
    }

    /// `x-amz-*` fields whose names start with `prefix`, without it.
    pub fn fields<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let headers = self.headers.iter().filter_map(move |(name, value)| {
            Some((name.as_str().strip_prefix(prefix)?, std::str::from_utf8(value.as_bytes()).ok()))
        });
        let query = self.query.iter().filter(|_| self.verified.presigned());
        let query = query.filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, Some(value))));
        headers.chain(query)
    }

    /// The bucket it is about.
    ///
    /// # Errors
    /// It is about none; the router does not let that happen.
    pub fn bucket(&self) -> Result<BucketName, S3Error> {
        match &self.address {
            Address::Service => Err(Code::MethodNotAllowed.into()),
            Address::Bucket(bucket) | Address::Object(bucket, _) => Ok(bucket.clone()),
        }
    }

    /// The object it is about.
    ///
    /// # Errors
    /// It is about none; the router does not let that happen.
    pub fn object(&self) -> Result<(BucketName, ObjectKey), S3Error> {
        match &self.address {
            Address::Object(bucket, key) => Ok((bucket.clone(), key.clone())),
            Address::Service | Address::Bucket(_) => Err(Code::MethodNotAllowed.into()),
        }
    }

    /// The address of an object, as seen from the client.
    pub fn location(&self, bucket: &BucketName, key: &ObjectKey) -> String {
        let key = uri::encode_path(key.as_str());
        let by_host = self.origin.split_once("://").is_some_and(|(_, host)| host.starts_with(&format!("{bucket}.")));
        if by_host { format!("{}/{key}", self.origin) } else { format!("{}/{bucket}/{key}", self.origin) }
    }

    /// A parameter that is a number up to `most`; `otherwise` when absent.
    ///
    /// # Errors
    /// It is no number.
    pub fn count(&self, name: &'static str, otherwise: usize, most: usize) -> Result<usize, S3Error> {
        match self.query.get(name) {
            None | Some("") => Ok(otherwise),
            Some(text) => match text.parse::<u32>() {
                Ok(number) => Ok((number as usize).min(most)),
                Err(_) => Err(S3Error::new(Code::InvalidArgument, format!("{name} is no number from 0 to 2147483647"))),
            },
        }
    }
}
