//! Why the server does not start, each with the way out.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::accounts::AccountsError;
use crate::crypto::{KeyringError, MasterKeyError};
use crate::edge::EdgeError;
use crate::kv::persist::PersistError;
use crate::objects::ObjectError;
use crate::resp::RespError;
use crate::store::StoreError;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the data folder.
    #[error("{path} is in use by the Mainstay with process id {pid}; stop that one, or choose another folder with --data", path = path.display())]
    Locked {
        /// The data folder.
        path: PathBuf,
        /// Who has it, as far as the lock file tells.
        pid: String,
    },
    /// There is no data folder where a command expects one.
    #[error("there is no data folder at {path}; run `mainstay serve` first, or name the folder with --data", path = path.display())]
    NoFolder {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A restore needs an empty folder.
    #[error("{path} is not empty: it holds `{found}`; restore into a folder that is not there yet", path = path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// Something in it.
        found: String,
    },
    /// A restore into the folder was cut off.
    #[error(
        "{path} holds a restore that did not come to its end, and is not served; repeat the restore into it, or remove it",
        path = path.display()
    )]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// The rate limits cannot be set up.
    #[error("rate limits: {0}")]
    Limits(#[from] crate::limits::LimitsError),
    /// Backups cannot be set up.
    #[error("backups: {0}")]
    Backup(#[from] crate::backup::service::ServiceError),
    /// The data folder cannot be used.
    #[error("{path}: {what}: {source}; {instead}", path = path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the operating system says.
        source: io::Error,
        /// What to do.
        instead: &'static str,
    },
    /// A listener's address cannot be had.
    #[error("{key}: cannot listen on {address}: {source}; {instead}")]
    Address {
        /// The setting.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
        /// What to do.
        instead: String,
    },
    /// A Unix socket cannot be made.
    #[error("{path}: cannot make the socket: {source}; {instead}", path = path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
        /// What to do.
        instead: &'static str,
    },
    /// The master key given is none.
    #[error("{from}: {source}")]
    MasterKey {
        /// Where it was given.
        from: String,
        /// What is wrong with it.
        source: MasterKeyError,
    },
    /// Only the master key before was given.
    #[error("{from} is given, and no master key that follows it; give the new one by MAINSTAY_MASTER_KEY_FILE")]
    PreviousAlone {
        /// Where it was given.
        from: &'static str,
    },
    /// The file that should hold the first account's password cannot be read.
    #[error("MAINSTAY_ADMIN_PASSWORD_FILE: cannot read {path}: {source}", path = path.display())]
    AdminFile {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file that should hold the master key cannot be read.
    #[error("{from}: cannot read {path}: {source}", path = path.display())]
    MasterFile {
        /// Where the file was named.
        from: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The keyring does not open.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A data file does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index of the object store does not open.
    #[error(
        "{0}; `mainstay objects rebuild-index` makes the object index anew from the stored files, and keeps the one there is"
    )]
    Index(#[source] StoreError),
    /// There are buckets, and no index that names them.
    #[error(
        "{path} is missing, though there are buckets in `objects`: put it back, or run `mainstay objects rebuild-index`, which makes it anew from the stored files",
        path = path.display()
    )]
    NoIndex {
        /// Where it should be.
        path: PathBuf,
    },
    /// The credentials do not read.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The first account cannot be made as the environment says.
    #[error("{from}: {source}")]
    Admin {
        /// The variables.
        from: &'static str,
        /// What is wrong.
        source: AccountsError,
    },
    /// The object store does not open.
    #[error("the object store in {path} does not open: {source}", path = path.display())]
    Objects {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        source: ObjectError,
    },
    /// The keyspace does not come back.
    #[error(transparent)]
    Keyspace(#[from] PersistError),
    /// The Redis door does not open.
    #[error(transparent)]
    Redis(#[from] RespError),
    /// The TLS library refuses its own defaults: never in a released program.
    #[error("issues.own_errors: {0}")]
    OwnErrors(rustls::Error),
    /// The edge does not start.
    #[error(transparent)]
    Edge(#[from] EdgeError),
    /// Mail cannot be set up.
    #[error("{key}: {reason}")]
    Mail {
        /// The setting.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// This process was to take over from another one.
    #[error("cannot take over: {reason}")]
    Handover {
        /// Why not.
        reason: String,
    },
    /// A thread does not start.
    #[error("cannot start {what}: {source}")]
    Thread {
        /// Which one.
        what: &'static str,
        /// What the operating system says.
        source: io::Error,
    },
}
