//! What can be asked of `mainstay import s3`.

use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(in crate::cli) struct S3Import {
    /// The bucket: `https://host[:port]/bucket`, or `http://…`
    pub source: String,

    /// The bucket it goes into, made when it is not there [default: one of the same name]
    #[arg(long, value_name = "BUCKET")]
    pub into: Option<String>,

    /// Only keys that begin with this
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub prefix: String,

    /// The source's region
    #[arg(long, default_value = "us-east-1")]
    pub region: String,

    /// File with the source's access key: lines `AWS_ACCESS_KEY_ID=…` and `AWS_SECRET_ACCESS_KEY=…`
    ///
    /// A file of AWS's own tools with one profile does too. Without this, the key is taken from the environment variables of
    /// these names, and `AWS_SESSION_TOKEN` with it.
    #[arg(long, value_name = "FILE")]
    pub credentials_file: Option<PathBuf>,

    /// Certificate authorities (PEM) to trust besides the machine's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Name the bucket in the host (bucket.host) instead of in the path
    #[arg(long)]
    pub virtual_host: bool,

    /// Import though the bucket holds objects: those the source has too are replaced, the others stay
    #[arg(long, conflicts_with = "skip")]
    pub replace: bool,

    /// Import though the bucket holds objects: those that are there stay as they are
    #[arg(long)]
    pub skip: bool,

    /// Also remove objects that an earlier pass imported and that the source does not have any more
    #[arg(long)]
    pub delete: bool,

    /// Also compare the tags of objects that have not changed, with a request for each
    #[arg(long)]
    pub tags: bool,

    /// Keep when each object was last changed, as rclone does: in its metadata as `mtime`
    #[arg(long)]
    pub mtime: bool,

    /// Do not hold the bytes against the source's entity tags, for a source that makes them of something else
    #[arg(long)]
    pub no_etag_check: bool,

    /// Objects under way at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub parallel: u8,

    /// Forget an import from this source that was made or interrupted before, and begin anew
    #[arg(long)]
    pub fresh: bool,

    /// Drop the notes of what was copied at the end: running the command again would copy everything
    #[arg(long)]
    pub forget: bool,

    /// JSON instead
    #[arg(long)]
    pub json: bool,
}
