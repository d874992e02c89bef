//! Presigned addresses of objects, at the S3 door: another origin than the console's, so whatever an object holds, it is
//! not a page of this console.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;

use crate::accounts::AccessKeys;
use crate::base::Timestamp;
use crate::http::sigv4::{Grant, PathRule, Policy, Signer, presign};
use crate::http::uri;

/// Where the S3 door is, and whose key signs.
#[derive(Clone, Default)]
pub struct Share {
    /// The access keys; the first one signs.
    pub keys: Option<Arc<AccessKeys>>,
    /// The region signatures name.
    pub region: String,
    /// Host and port of the door itself, for browsers that came without TLS.
    pub direct: Option<String>,
    /// Host (and port) of the door on the edge, for browsers that came through it.
    pub edge: Option<String>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({:?}, {:?})", self.direct, self.edge)
    }
}

impl Share {
    /// An address that gives out `bucket`/`key` until `expires` has passed; `query` holds further parameters. `secure`
    /// says whether the browser came over TLS. `None` when the S3 door is off or no key is there.
    pub fn link(
        &self,
        (bucket, key): (&str, &str),
        query: &[(&str, &str)],
        expires: Duration,
        secure: bool,
        now: Timestamp,
    ) -> Option<String> {
        let (scheme, host) = match (&self.edge, &self.direct) {
            (Some(edge), direct) if secure || direct.is_none() => ("https", edge),
            (_, Some(direct)) => ("http", direct),
            _ => return None,
        };
        let own = self.keys.as_ref()?.primary()?;
        let signer = Signer { access_key_id: own.id.clone(), secret: own.secret.clone() };
        let policy = Policy { service: "s3", region: &self.region, path: PathRule::Once };
        let path = format!("/{}/{}", uri::encode_component(bucket), uri::encode_path(key));
        let grant = Grant { method: &Method::GET, host, path: &path, query, headers: &[], expires };
        presign(&signer, policy, grant, now).ok().map(|address| format!("{scheme}://{host}{address}"))
    }
}
