//! What can be asked of `mainstay import redis`.

use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(in crate::cli) struct RedisImport {
    /// redis://[user:password@]host[:port][/db], rediss://… for TLS, or unix://[user:password@]/path[?db=N]
    ///
    /// Without a database in it, all of them. A password is better given by `REDISCLI_AUTH` or --password-file: others on
    /// the machine can see arguments.
    #[arg(required_unless_present = "rdb")]
    pub source: Option<String>,

    /// Read this RDB file (dump.rdb) instead of asking a server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "password_file", "cacert", "fresh", "keep_notes"])]
    pub rdb: Option<PathBuf>,

    /// Of a damaged file import what comes before the damage; without this, nothing
    #[arg(long, requires = "rdb")]
    pub damaged: bool,

    /// Into this database, when the source names one, or when the file holds one
    #[arg(long, value_name = "DB")]
    pub to: Option<u8>,

    /// Import though the databases hold keys: those the source has too are replaced, the others stay
    #[arg(long, conflicts_with = "skip")]
    pub replace: bool,

    /// Import though the databases hold keys: those that are there stay as they are
    #[arg(long)]
    pub skip: bool,

    /// File with the source's password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Certificate authorities (PEM) to trust besides the machine's
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,

    /// Forget an import from this source that was interrupted, and begin anew
    #[arg(long)]
    pub fresh: bool,

    /// Keep the notes of what was copied, so that running the command again copies only what has changed by then
    #[arg(long)]
    pub keep_notes: bool,

    /// JSON instead
    #[arg(long)]
    pub json: bool,
}
