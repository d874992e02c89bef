//! Which bucket and key a request is about.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::error::S3Error;
use crate::http::uri;
use crate::objects::{BucketName, ObjectKey};

/// What a request addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The server as a whole.
    Service,
    /// A bucket.
    Bucket(BucketName),
    /// An object in a bucket.
    Object(BucketName, ObjectKey),
}

impl Address {
    /// Reads the address from `authority` (host and port) and the `path` as sent: `<bucket>.<domain>/<key>` under one of
    /// `domains`, else `/<bucket>/<key>`. Path segments are decoded once, after they were split.
    ///
    /// # Errors
    /// A name that breaks its rules, or a broken percent-encoding.
    pub fn parse(authority: &str, path: &str, domains: &[String]) -> Result<Self, S3Error> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (bucket, key) = match bucket_of_host(authority, domains) {
            Some(bucket) => (bucket, path),
            None if path.is_empty() => return Ok(Self::Service),
            None => {
                let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
                (uri::decode(bucket)?, key)
            }
        };
        let bucket: BucketName = bucket.parse()?;
        match key {
            "" => Ok(Self::Bucket(bucket)),
            key => Ok(Self::Object(bucket, uri::decode(key)?.parse()?)),
        }
    }
}

/// `photos` of `photos.s3.example.com:9000`, where `s3.example.com` is a domain. The longest domain counts, whole
/// labels only: a suffix match without the dot let `evil-example.com` pass elsewhere.
fn bucket_of_host(authority: &str, domains: &[String]) -> Option<String> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.to_ascii_lowercase();
    if domains.iter().any(|domain| domain.eq_ignore_ascii_case(&host)) {
        return None;
    }
    let prefixes = domains.iter().filter(|domain| !domain.is_empty()).filter_map(|domain| {
        host.strip_suffix(domain.to_ascii_lowercase().as_str()).and_then(|rest| rest.strip_suffix('.'))
    });
    prefixes.min_by_key(|prefix| prefix.len()).filter(|prefix| !prefix.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::s3::error::Code;

    fn parse(authority: &str, path: &str) -> Result<Address, Code> {
        let domains = ["s3.localhost".to_owned(), "localhost".to_owned(), "s3.example.com".to_owned()];
        Address::parse(authority, path, &domains).map_err(|error| error.code)
    }

    fn object(bucket: &str, key: &str) -> Address {
        Address::Object(bucket.parse().unwrap(), key.parse().unwrap())
    }

    #[test]
    fn paths_name_bucket_and_key() {
        assert_eq!(parse("localhost:9000", "/"), Ok(Address::Service));
        assert_eq!(parse("localhost:9000", ""), Ok(Address::Service));
        for path in ["/photos", "/photos/"] {
            assert_eq!(parse("127.0.0.1:9000", path), Ok(Address::Bucket("photos".parse().unwrap())));
        }
        assert_eq!(parse("[::1]:9000", "/photos/a%20b/%2Fc/../d//"), Ok(object("photos", "a b//c/../d//")));
    }

    #[test]
    fn hosts_name_the_bucket_under_a_domain() {
        assert_eq!(parse("photos.localhost:9000", "/a"), Ok(object("photos", "a")));
        assert_eq!(parse("photos.s3.localhost", "/"), Ok(Address::Bucket("photos".parse().unwrap())));
        assert_eq!(parse("a.b.c.S3.example.com", "/k"), Ok(object("a.b.c", "k")));
        assert_eq!(parse("s3.localhost", "/photos/a"), Ok(object("photos", "a")));
    }

    #[test]
    fn a_domain_matches_whole_labels_only() {
        assert_eq!(parse("evils3.example.com", "/photos/a"), Ok(object("photos", "a")));
        assert_eq!(parse("example.org", "/photos/a"), Ok(object("photos", "a")));
    }

    #[test]
    fn an_escaped_slash_does_not_split_bucket_from_key() {
        assert_eq!(parse("h", "/photos%2Fsecret"), Err(Code::InvalidBucketName));
        assert_eq!(parse("h", "/photos/%zz"), Err(Code::InvalidURI));
        assert_eq!(parse("h", "/photos/%252e"), Ok(object("photos", "%2e")));
    }

    proptest! {
        #[test]
        fn any_key_survives_the_path(key in ".{1,40}") {
            let path = format!("/photos/{}", uri::encode_path(&key));
            prop_assert_eq!(parse("h", &path), Ok(object("photos", &key)));
        }
    }
}
