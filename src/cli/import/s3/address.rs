//! Which bucket of which server, and whose key opens it.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::base::{LocalDisk, Secret, disk};
use crate::config::Environment;

/// Most bytes of a file with credentials.
const FILE: u64 = 64 << 10;

/// How requests name the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `host/bucket/key`.
    Path,
    /// `bucket.host/key`.
    VirtualHost,
}

/// A bucket of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub secure: bool,
    /// Host, and the port where one is named.
    pub authority: String,
    pub bucket: String,
    pub style: Style,
}

/// As it was given.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme(), self.authority, self.bucket)
    }
}

impl Address {
    /// Reads a URL. Errors never repeat it, as somebody may have put a secret into it.
    pub fn parse(url: &str, style: Style) -> anyhow::Result<Self> {
        const FORM: &str = "the source is written https://host/bucket or http://host:port/bucket";
        let (scheme, rest) = url.split_once("://").context(FORM)?;
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => bail!(FORM),
        };
        let (authority, path) = rest.split_once('/').context("the source names no bucket: https://host/bucket")?;
        if authority.contains('@') {
            bail!("no key belongs into the address, where others can see it: see --credentials-file");
        }
        let bucket = path.trim_end_matches('/');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if bucket.contains('/') {
            bail!("the source is a bucket; part of one is chosen with --prefix");
        }
        if authority.is_empty() || bucket.is_empty() || !bucket.bytes().all(plain) {
            bail!(FORM);
        }
        let address = Self { secure, authority: authority.to_owned(), bucket: bucket.to_owned(), style };
        address.host().parse::<http::uri::Authority>().context(FORM)?;
        Ok(address)
    }

    pub const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// What requests are sent to: host and port.
    pub fn host(&self) -> String {
        match self.style {
            Style::Path => self.authority.clone(),
            Style::VirtualHost => format!("{}.{}", self.bucket, self.authority),
        }
    }

    /// What the path of every request begins with.
    pub fn lead(&self) -> String {
        match self.style {
            Style::Path => format!("/{}", self.bucket),
            Style::VirtualHost => String::new(),
        }
    }
}

/// An access key.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub id: String,
    pub secret: Secret<String>,
    /// What goes with a key that is lent for a while.
    pub token: Option<Secret<String>>,
}

impl Credentials {
    /// The key in `file`, else that of the environment.
    pub fn find(file: Option<&Path>, environment: &Environment) -> anyhow::Result<Self> {
        if let Some(path) = file {
            let told = || format!("{}", path.display());
            let bytes = disk::read_file(&LocalDisk, path, FILE).with_context(told)?.with_context(told)?;
            let text = String::from_utf8(bytes).map_err(|_invalid| anyhow::anyhow!("the file is no UTF-8"));
            return text.and_then(|text| Self::parse(&text)).with_context(told);
        }
        match (&environment.aws_access_key_id, &environment.aws_secret_access_key) {
            (Some(id), Some(secret)) => {
                let token = environment.aws_session_token.clone();
                Ok(Self { id: id.clone(), secret: secret.clone(), token })
            }
            _ => bail!(
                "the source's access key is missing: give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the \
                 environment, or --credentials-file"
            ),
        }
    }

    /// Reads lines of names and values, as a shell's or as a file of AWS's tools. Errors repeat nothing of it.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut id, mut secret, mut token) = (None, None, None);
        for line in text.lines().map(str::trim) {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = value.trim();
            let bare = [('"', '"'), ('\'', '\'')]
                .into_iter()
                .find_map(|(open, close)| value.strip_prefix(open)?.strip_suffix(close));
            let value = bare.unwrap_or(value).to_owned();
            let slot = match name.trim().to_ascii_lowercase().as_str() {
                "aws_access_key_id" => &mut id,
                "aws_secret_access_key" => &mut secret,
                "aws_session_token" => &mut token,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                bail!("the file holds more than one key; leave the one of the source");
            }
        }
        let (Some(id), Some(secret)) = (id, secret) else {
            bail!("the file has no lines AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…")
        };
        Ok(Self { id, secret: Secret::new(secret), token: token.map(Secret::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_in_the_path_or_in_the_host() {
        let parse = |url, style| Address::parse(url, style).unwrap();
        let path = parse("https://minio:9000/photos/", Style::Path);
        assert_eq!((path.host(), path.lead()), (String::from("minio:9000"), String::from("/photos")));
        let host = parse("http://s3.example.com/photos", Style::VirtualHost);
        assert_eq!((host.host(), host.lead()), (String::from("photos.s3.example.com"), String::new()));
        assert_eq!(host.to_string(), "http://s3.example.com/photos");
        assert_eq!(parse("http://[::1]:9000/a_b", Style::Path).authority, "[::1]:9000");
    }

    #[test]
    fn what_is_no_bucket_is_refused_without_repeating_it() {
        for url in [
            "hunter2",
            "s3://hunter2",
            "https://hunter2",
            "https://minio/",
            "https:///bucket",
            "https://key:hunter2@minio/bucket",
            "https://minio/bucket/hunter2",
            "https://minio/hunter2?x",
            "https://a b/bucket",
        ] {
            let told = format!("{:#}", Address::parse(url, Style::Path).unwrap_err());
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn credentials_are_read_from_either_form_of_file() {
        for text in [
            "AWS_ACCESS_KEY_ID=id\nexport AWS_SECRET_ACCESS_KEY='se=cret'\n",
            "[default]\naws_access_key_id = id\nregion = x\naws_secret_access_key = se=cret\n",
        ] {
            let found = Credentials::parse(text).unwrap();
            assert_eq!((found.id.as_str(), found.secret.expose().as_str()), ("id", "se=cret"));
            assert!(found.token.is_none() && !format!("{found:?}").contains("se=cret"));
        }
        for text in ["", "AWS_ACCESS_KEY_ID=id", "aws_access_key_id=a\naws_access_key_id=b\naws_secret_access_key=c"] {
            Credentials::parse(text).unwrap_err();
        }
        Credentials::find(None, &Environment::default()).unwrap_err();
    }
}
