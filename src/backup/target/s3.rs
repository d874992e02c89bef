//! A bucket as target, by `object_store`: Amazon's S3, another Mainstay, MinIO, `rclone serve s3`, and the like.
//!
//! Path style only, since it works everywhere. Files are written with `If-None-Match: *`; where a service does not know
//! that (it answers 501), the name is looked for first, which is enough: names are random or the hash of the content.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::runtime::Handle;

use super::{Listed, S3Access, Target, TargetError, Trouble};
use crate::backup::format::pack::LARGEST_PACK;
use crate::objects::backends::S3Client;

/// A whole request, a pack of 16 MiB on a slow line included.
const REQUEST: Duration = Duration::from_mins(5);

/// How long a failing request is tried again.
const RETRIES: Duration = Duration::from_mins(2);

/// A bucket and a prefix in it.
#[derive(Debug)]
pub struct S3Target {
    store: Arc<AmazonS3>,
    prefix: String,
    label: String,
    runtime: Handle,
}

impl S3Target {
    /// The files of `bucket` below `prefix`. Nothing is asked of the service yet.
    ///
    /// # Errors
    /// The access cannot be set up, such as an endpoint that is no URL.
    pub fn new(bucket: &str, prefix: &str, access: &S3Access, runtime: Handle) -> Result<Self, TargetError> {
        let label = if prefix.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{prefix}") };
        let client = S3Client {
            bucket,
            endpoint: &access.endpoint,
            region: &access.region,
            access_key_id: &access.access_key_id,
            secret_access_key: &access.secret_access_key,
            path_style: true,
            request: REQUEST,
            retries: 8,
            retry_for: RETRIES,
        };
        match client.build() {
            Ok(store) => Ok(Self { store: Arc::new(store), prefix: prefix.to_owned(), label, runtime }),
            Err(error) => Err(TargetError {
                target: label,
                doing: "setting up",
                name: "the S3 client".to_owned(),
                trouble: Trouble::Other,
                source: error.into(),
            }),
        }
    }

    fn path(&self, name: &str) -> Path {
        match (self.prefix.as_str(), name) {
            ("", name) => Path::from(name),
            (prefix, "") => Path::from(prefix),
            (prefix, name) => Path::from(format!("{prefix}/{name}")),
        }
    }

    fn error(&self, doing: &'static str, name: &str, source: object_store::Error) -> TargetError {
        use object_store::Error;
        let trouble = match &source {
            Error::NotFound { .. } => Trouble::Missing,
            Error::AlreadyExists { .. } | Error::Precondition { .. } => Trouble::Exists,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Trouble::Refused,
            other if is_full(other) => Trouble::Full,
            _ => Trouble::Other,
        };
        TargetError { target: self.label.clone(), doing, name: name.to_owned(), trouble, source: source.into() }
    }

    fn too_large(&self, name: &str, bytes: u64, limit: u64) -> TargetError {
        TargetError {
            target: self.label.clone(),
            doing: "reading",
            name: name.to_owned(),
            trouble: Trouble::TooLarge,
            source: format!("{bytes} bytes, allowed are {limit}").into(),
        }
    }
}

/// Whether the service says that there is no room: 507, or the words of AWS and `MinIO` for it.
fn is_full(error: &object_store::Error) -> bool {
    let text = error.to_string();
    ["507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"].iter().any(|mark| text.contains(mark))
}

/// Whether all of a file came where a part was asked for.
fn is_whole(error: &object_store::Error) -> bool {
    error.to_string().contains("non-partial response")
}

fn knows_no_condition(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotImplemented { .. }) || error.to_string().contains("501 Not Implemented")
}

impl Target for S3Target {
    fn label(&self) -> &str {
        &self.label
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError> {
        let path = self.path(name);
        let body = bytes::Bytes::copy_from_slice(bytes);
        let write_once = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let first = self.runtime.block_on(self.store.put_opts(&path, body.clone().into(), write_once));
        match first {
            Ok(_) => Ok(()),
            Err(error) if knows_no_condition(&error) => {
                if self.size(name)?.is_some() {
                    let taken =
                        object_store::Error::AlreadyExists { path: path.to_string(), source: "it is there".into() };
                    return Err(self.error("writing", name, taken));
                }
                let put = self.runtime.block_on(self.store.put(&path, body.into()));
                put.map(|_| ()).map_err(|error| self.error("writing", name, error))
            }
            // A request that was tried again after a lost answer finds its own first try.
            Err(object_store::Error::AlreadyExists { path: taken, source }) => {
                match self.get(name, bytes.len() as u64) {
                    Ok(there) if there == bytes => Ok(()),
                    _ => Err(self.error("writing", name, object_store::Error::AlreadyExists { path: taken, source })),
                }
            }
            Err(error) => Err(self.error("writing", name, error)),
        }
    }

    fn get(&self, name: &str, limit: u64) -> Result<Vec<u8>, TargetError> {
        let path = self.path(name);
        let read = self.runtime.block_on(async {
            let answer = self.store.get(&path).await?;
            if answer.meta.size > limit {
                return Ok(Err(answer.meta.size));
            }
            answer.bytes().await.map(Ok)
        });
        match read {
            Ok(Ok(bytes)) => Ok(bytes.into()),
            Ok(Err(size)) => Err(self.too_large(name, size, limit)),
            Err(error) => Err(self.error("reading", name, error)),
        }
    }

    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, TargetError> {
        let range = GetRange::Bounded(offset..offset.saturating_add(len as u64));
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let path = self.path(name);
        let read = self.runtime.block_on(async { self.store.get_opts(&path, options).await?.bytes().await });
        match read {
            // A service may answer with all of a file (RFC 9110, 14.2); rclone's does when the range reaches past its end.
            Err(error) if is_whole(&error) => {
                let whole = self.get(name, LARGEST_PACK)?;
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
                let end = start.saturating_add(len).min(whole.len());
                Ok(whole.get(start..end).unwrap_or_default().to_vec())
            }
            read => read.map(Into::into).map_err(|error| self.error("reading", name, error)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, TargetError> {
        let path = self.path(prefix);
        let lead = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        self.runtime.block_on(async {
            let mut out = Vec::new();
            let mut found = self.store.list(Some(&path));
            while let Some(item) = found.next().await {
                let item = item.map_err(|error| self.error("listing", prefix, error))?;
                if let Some(name) = item.location.as_ref().strip_prefix(&lead) {
                    out.push(Listed { name: name.to_owned(), size: item.size });
                }
            }
            Ok(out)
        })
    }

    fn delete(&self, name: &str) -> Result<(), TargetError> {
        match self.runtime.block_on(self.store.delete(&self.path(name))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("deleting", name, error)),
        }
    }

    fn size(&self, name: &str) -> Result<Option<u64>, TargetError> {
        match self.runtime.block_on(self.store.head(&self.path(name))) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("looking for", name, error)),
        }
    }
}
