//! A client of an S3 service, for backends and for backups.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::base::{Disk, Secret, disk};

/// Most bytes of a file with a secret.
const SECRET_MAX: u64 = 4096;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(15);

/// How a bucket of an S3 service is reached.
#[derive(Debug)]
pub struct S3Client<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// URL of the service; empty for Amazon's own in `region`.
    pub endpoint: &'a str,
    /// The region to sign for; empty for `us-east-1`.
    pub region: &'a str,
    /// The access key's id.
    pub access_key_id: &'a str,
    /// Its secret.
    pub secret_access_key: &'a Secret<String>,
    /// Whether the bucket's name is in the path.
    pub path_style: bool,
    /// Longest time of one request.
    pub request: Duration,
    /// Most further tries of a request that failed on the way or with 5xx.
    pub retries: usize,
    /// How long after the first try another may begin.
    pub retry_for: Duration,
}

impl S3Client<'_> {
    /// The client; nothing is asked of the service yet.
    ///
    /// # Errors
    /// It cannot be set up, such as for an endpoint that is no URL.
    pub fn build(&self) -> Result<AmazonS3, object_store::Error> {
        let region = if self.region.is_empty() { "us-east-1" } else { self.region };
        let retry =
            RetryConfig { max_retries: self.retries, retry_timeout: self.retry_for, backoff: BackoffConfig::default() };
        let options = ClientOptions::new();
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(self.bucket)
            .with_region(region)
            .with_access_key_id(self.access_key_id)
            .with_secret_access_key(self.secret_access_key.expose())
            .with_virtual_hosted_style_request(!self.path_style)
            .with_allow_http(true)
            .with_disable_bulk_delete(true)
            .with_client_options(
                options
                    .with_allow_http(true)
                    .with_timeout(self.request)
                    .with_connect_timeout(CONNECT.min(self.request)),
            )
            .with_retry(retry);
        if !self.endpoint.is_empty() {
            builder = builder.with_endpoint(self.endpoint.trim_end_matches('/'));
        }
        builder.build()
    }
}

/// The secret in the first line of `file`. Blocks.
///
/// # Errors
/// Why there is none, in words.
pub fn secret_in(from: &dyn Disk, file: &str) -> Result<Secret<String>, String> {
    let bytes = disk::read_file(from, file.as_ref(), SECRET_MAX)
        .map_err(|error| format!("cannot read {file}: {error}"))?
        .ok_or_else(|| format!("there is no file {file}"))?;
    let text = Secret::new(String::from_utf8_lossy(&bytes).into_owned());
    let line = text.expose().lines().next().unwrap_or_default().trim().to_owned();
    if line.is_empty() { Err(format!("{file} is empty")) } else { Ok(Secret::new(line)) }
}
