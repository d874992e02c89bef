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
//! Start reading at [`types`] (what goes in and out) and [`names`].

pub mod body;
pub mod config;
pub mod error;
pub mod names;
pub mod types;

pub use body::ObjectBody;
pub use config::ObjectsConfig;
pub use error::{BodyError, ObjectError};
pub use names::{BucketName, NameError, ObjectKey, PartNumber, UploadId};
pub use types::{
    Bucket, Checksum, Condition, CopyMetadata, CopySource, Created, Etag, EtagError, Found, ListPage, ListQuery,
    Metadata, ObjectInfo, ObjectSummary, PartChoice, PartInfo, PartPage, PutExpect, RangeSpec, UploadInfo, UploadPage,
    UploadQuery,
};
