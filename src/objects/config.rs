//! Settings of the object store.

use super::backends::BackendConfig;
use crate::base::{ByteSize, Span};

crate::settings! {
    /// Buckets and objects.
    pub struct ObjectsConfig {
        /// Largest body of one upload request: a whole object or one part of a multipart upload.
        ///
        /// Amazon S3 allows 5 GiB. A multipart upload of 10,000 parts may exceed it accordingly.
        pub max_put: ByteSize = ByteSize::gib(5),
        /// Most buckets.
        pub max_buckets: u32 = 10_000,
        /// Free space kept on the disk: below it uploads are refused, while reading and deleting go on.
        ///
        /// The larger of this and `reserve_percent` counts.
        pub reserve: ByteSize = ByteSize::mib(256),
        /// Free space kept on the disk, in percent of its size.
        pub reserve_percent: u8 = 2,
        /// Age at which a multipart upload that was neither completed nor aborted is removed with its parts.
        pub upload_expiry: Span = Span::days(7),
        /// How often it is looked for what the lifecycles of buckets end. Days end at midnight (UTC), as those of Amazon S3.
        pub lifecycle_every: Span = Span::hours(6),
        /// How often leftovers of interrupted uploads are looked for. They are also looked for at every start.
        pub sweep_every: Span = Span::days(1),
        /// How long files that a sweep has put aside, since nothing refers to them, are kept in `objects/quarantine` before
        /// they are removed; `0s` keeps them until somebody takes them away.
        pub quarantine: Span = Span::secs(0),
        /// How often the index is exported into `objects/index`, sealed; `0s` for never.
        ///
        /// What `mainstay objects rebuild-index` makes a lost index anew from, with the stored files: small objects (up to
        /// 8 KiB) and deletions since the last export are what the loss costs. The two newest exports stay. An index so
        /// large that this would keep the disk busy is exported less often.
        pub export_every: Span = Span::hours(1),
        /// How often every stored byte is read and verified, from the beginning of one pass to that of the next; `0s` only
        /// when it is asked for (`mainstay objects scrub`).
        ///
        /// A pass goes on after a restart where it was. What it finds damaged is in `mainstay status`, the console and the
        /// log, and comes back whole from a backup.
        pub scrub_every: Span = Span::days(30),
        /// Most bytes read a second for that; `0` for as fast as the disk gives them.
        pub scrub_rate: ByteSize = ByteSize::mib(20),
        /// Places for bodies other than this disk, each a bucket of an S3 service. `mainstay objects move` takes the bodies
        /// of a bucket from one to another while they are in use.
        pub backends: Vec<BackendConfig> = Vec::new(),
        /// Where the bodies of new buckets go: the name of a backend, or empty for this disk.
        pub default_backend: String = String::new(),
        /// Most bytes a second of a move between backends; `0` for as fast as it goes.
        pub move_rate: ByteSize = ByteSize::mib(20),
    }
}
