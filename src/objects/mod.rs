//! Buckets and objects: the S3 data model without the S3 protocol.
//!
//! What it promises:
//! - **Acknowledged means synced**, bytes before the index row that names them; a crash in between leaves a file that
//!   nothing refers to.
//! - **A changed byte is an error, never an answer**: every body is sealed in segments that are verified before they
//!   leave.
//! - **Memory per request is constant**, whatever the size of the object.
//! - **The cost of an operation does not grow** with the number of objects in a bucket.
//!
//! In its folder:
//! - `blobs/ab/<id>`: bodies, sealed, under random names ([`blob`] has the format); `<id>.tmp` while they grow;
//! - `keys/<bucket id>`: the buckets' keys, wrapped by the keyring;
//! - `buckets/<bucket id>`: what each bucket is and has set, sealed (`bucket_files.rs`);
//! - `index/export-<number>`: the index, sealed, as of an hour ago or less ([`export`]);
//! - `quarantine/<id>`: blobs that nothing refers to any more, put aside by a sweep for the operator to look at.
//!
//! Names, metadata and bodies of up to 8 KiB are in the index ([`index`] has tables, keys and rows). Other bodies may also be
//! at backends ([`backends`]); [`place`] has what is remembered of that, [`moving`] takes them from one to another.
//!
//! The path of an upload: `put.rs` -> `receive.rs` (stream to blob, two batches of segments in turn) -> `blob/` (sealed,
//! written, synced, named) -> one transaction that makes it visible and writes down what it replaces -> `garbage.rs`
//! (removes that). The path of a download: `get.rs` (look-up, first batch) -> `reader.rs` (the rest, one batch ahead).
//! What becomes of a key's older versions is `versions.rs`. Backups read through `backup.rs`. Listings are `walk.rs`, multipart uploads `uploads.rs` and `parts.rs`, leftovers `sweep.rs`,
//! looking whether all is there `check.rs` and, behind the scenes, `scrub.rs` and `damage.rs`, what is set for a bucket `settings.rs`,
//! what files it takes `file_rules.rs` and `sniff.rs`,
//! what ends by itself `lifecycle.rs` and `expire.rs`, how much a bucket may hold `usage.rs`, another master key `rewrap.rs`, another key of a bucket `key_change.rs` and `key_walk.rs`. An index that is lost is made
//! anew by [`rebuild`].
//!
//! Start reading at [`types`] (what goes in and out), then [`service`].

pub mod backends;
mod background;
pub mod backup;
mod blob;
pub mod body;
mod bucket_files;
mod buckets;
pub mod check;
pub mod config;
mod copy;
pub mod damage;
pub mod details;
pub mod error;
mod expire;
mod export;
pub mod file_rules;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
mod garbage;
mod get;
mod guards;
mod index;
mod joined;
pub mod key_change;
mod key_walk;
mod keys;
pub mod lifecycle;
mod list;
mod list_versions;
mod metrics;
pub mod moving;
pub mod names;
mod object_parts;
mod parts;
mod place;
pub mod policy;
pub mod public;
mod put;
mod reader;
pub mod rebuild;
mod receive;
pub mod rewrap;
pub mod scrub;
pub mod service;
pub mod settings;
mod settle;
pub mod sniff;
mod space;
pub mod sweep;
#[cfg(test)]
pub(crate) mod tests;
pub mod types;
mod uploads;
pub mod usage;
pub mod usage_days;
mod versions;
mod walk;

pub use backends::{BackendConfig, BackendName, contradictions};
pub use body::ObjectBody;
pub use config::ObjectsConfig;
pub use damage::Damage;
pub use details::{BucketDetail, BucketSet};
pub use error::{BodyError, ObjectError};
pub use file_rules::{Extension, FileFault, FileRules, MediaRange};
pub use moving::MoveStatus;
pub use names::{BucketName, NameError, ObjectKey, PartNumber, UploadId, VersionId};
pub use parts::PART_LEAST;
pub use put::DELETE_MANY_MAX;
pub use scrub::{ScrubCounts, ScrubEnded, ScrubRunning, ScrubStatus};
pub use service::Objects;
pub use settings::BucketSettings;
pub use sweep::{AskedSweep, Swept};
pub use types::{
    Bucket, Checksum, Condition, CopyMetadata, CopySource, Created, Deleted, Etag, EtagError, Found, ListPage,
    ListQuery, Metadata, ObjectInfo, ObjectPart, ObjectSummary, PartChoice, PartInfo, PartPage, PutExpect, RangeSpec,
    Target, UploadInfo, UploadPage, UploadQuery, VersionPage, VersionQuery, VersionSummary, Versioning,
};
