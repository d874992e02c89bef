//! Settings of backends, and what contradicts itself in them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::BackendName;
use crate::base::Span;
use crate::objects::ObjectsConfig;

/// What a backend is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// A bucket of an S3 service.
    #[default]
    S3,
}

crate::settings! {
    /// A place for bodies of objects other than this disk: a bucket of any S3 service.
    ///
    /// Bodies lie there sealed, under random names. The index, objects of up to 8 KiB and the keys stay here, so that what
    /// is there is of no use without them: make backups, which hold the bodies too.
    pub struct BackendConfig {
        /// Its name: up to 32 small letters, digits and `-`, not `local`. Buckets and bodies name it, so it stays as it is.
        pub name: String = String::new(),
        /// What it is; `s3` is all there is.
        pub kind: BackendKind = BackendKind::S3,
        /// URL of the S3 service; empty for Amazon's own in `region`.
        pub endpoint: String = String::new(),
        /// Region of that service.
        pub region: String = String::from("us-east-1"),
        /// Its bucket, which must be there.
        pub bucket: String = String::new(),
        /// What all names in it start with, followed by `/`; empty for nothing.
        pub prefix: String = String::new(),
        /// Id of the access key for it.
        pub access_key_id: String = String::new(),
        /// File whose first line is the secret of that access key.
        pub secret_access_key_file: String = String::new(),
        /// Whether the bucket's name is in the path (`https://host/bucket`) and not in the host's name.
        pub path_style: bool = true,
        /// Whether an endpoint on another machine may be plain `http://`. Bodies are sealed, but anybody on the way may
        /// answer in its place.
        pub allow_http: bool = false,
        /// Longest time of one request: 8 MiB at most.
        pub timeout: Span = Span::secs(60),
        /// Most requests at once.
        pub concurrency: u32 = 16,
        /// Whether scrubs read every byte there, too, and not only head and end of each body. Some services charge for it.
        pub scrub: bool = false,
    }
}

/// What is wrong with the backends in `config`: the setting, and what about it.
pub fn contradictions(config: &ObjectsConfig) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let mut names = BTreeSet::new();
    for backend in &config.backends {
        let name = &backend.name;
        let mut wrong = |what: String| out.push(("objects.backends", format!("objects.backends: {what}")));
        if let Err(error) = name.parse::<BackendName>() {
            wrong(error.to_string());
        }
        if !names.insert(name.as_str()) {
            wrong(format!("`{name}` is there twice"));
        }
        if backend.bucket.is_empty() {
            wrong(format!("`{name}` has no bucket"));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let prefix = &backend.prefix;
        let part_fits = |part: &str| !["", ".", ".."].contains(&part) && part.bytes().all(plain);
        if !prefix.is_empty() && (prefix.len() > 512 || !prefix.split('/').all(part_fits)) {
            wrong(format!(
                "`{name}`: the prefix `{prefix}` has other than parts of letters, digits, `-_.` with `/` between"
            ));
        }
        if backend.access_key_id.is_empty() || backend.secret_access_key_file.is_empty() {
            wrong(format!("`{name}` needs access_key_id and secret_access_key_file"));
        }
        if !(1..=256).contains(&backend.concurrency) {
            wrong(format!("`{name}`: concurrency = {} is not from 1 to 256", backend.concurrency));
        }
        if backend.timeout.duration().is_zero() {
            wrong(format!("`{name}`: timeout = 0s leaves no time"));
        }
        match scheme_and_host(&backend.endpoint) {
            _ if backend.endpoint.is_empty() => {}
            Some(("https", _)) => {}
            Some(("http", host)) if backend.allow_http || is_loopback(host) => {}
            Some(("http", host)) => wrong(format!(
                "`{name}`: the endpoint is plain http:// at {host}; write https://, or allow_http = true"
            )),
            _ => wrong(format!("`{name}`: the endpoint `{}` is no https:// URL of a host", backend.endpoint)),
        }
    }
    let default = config.default_backend.as_str();
    if !default.is_empty() && default != BackendName::LOCAL && !names.contains(default) {
        let what = format!("objects.default_backend = \"{default}\" is none of objects.backends");
        out.push(("objects.default_backend", what));
    }
    out
}

/// Scheme and host of a URL that is no more than those and a port.
fn scheme_and_host(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']) {
        return None;
    }
    let host = match rest.strip_prefix('[') {
        Some(six) => six.split_once(']')?.0,
        None => rest.split_once(':').map_or(rest, |(host, _)| host),
    };
    (!host.is_empty()).then_some((scheme, host))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut BackendConfig)) -> ObjectsConfig {
        let mut backend = BackendConfig {
            name: "cold".to_owned(),
            endpoint: "https://s3.example.com".to_owned(),
            bucket: "bodies".to_owned(),
            access_key_id: "id".to_owned(),
            secret_access_key_file: "/run/secret".to_owned(),
            ..BackendConfig::default()
        };
        change(&mut backend);
        ObjectsConfig { backends: vec![backend], ..ObjectsConfig::default() }
    }

    #[test]
    fn a_backend_as_the_manual_has_it_is_taken() {
        assert_eq!(contradictions(&config(|_| {})), []);
        let local = |endpoint: &str| config(|backend| endpoint.clone_into(&mut backend.endpoint));
        for endpoint in ["", "http://127.0.0.1:9000", "http://localhost:9000/", "http://[::1]:9000"] {
            assert_eq!(contradictions(&local(endpoint)), [], "{endpoint}");
        }
        assert_eq!(contradictions(&config(|backend| backend.prefix = "a/b.c".to_owned())), []);
        assert_eq!(
            contradictions(&ObjectsConfig { default_backend: "local".to_owned(), ..ObjectsConfig::default() }),
            []
        );
    }

    #[test]
    fn what_cannot_work_is_told_before_the_start() {
        let wrong: [fn(&mut BackendConfig); 9] = [
            |backend| backend.name = "local".to_owned(),
            |backend| backend.name = "Cold".to_owned(),
            |backend| backend.bucket.clear(),
            |backend| backend.prefix = "/a".to_owned(),
            |backend| backend.secret_access_key_file.clear(),
            |backend| backend.concurrency = 0,
            |backend| backend.timeout = Span::secs(0),
            |backend| backend.endpoint = "http://10.0.0.1".to_owned(),
            |backend| backend.endpoint = "s3.example.com".to_owned(),
        ];
        for (at, change) in wrong.into_iter().enumerate() {
            assert_eq!(contradictions(&config(change)).len(), 1, "{at}");
        }
        let mut twice = config(|_| {});
        twice.backends.push(twice.backends[0].clone());
        assert_eq!(contradictions(&twice).len(), 1);
        let nowhere = ObjectsConfig { default_backend: "cold".to_owned(), ..ObjectsConfig::default() };
        assert_eq!(contradictions(&nowhere)[0].0, "objects.default_backend");
    }
}
