//! `control.sock`: how the commands speak to a running server, which holds the data folder's lock.
//!
//! One JSON line asked, one JSON line answered, then the connection ends:
//!
//! ```text
//! {"version":1,"ask":"status"}
//! {"version":1,"release":"0.1.0","answer":{…}}        or        {"version":1,"release":"0.1.0","error":"…"}
//! ```
//!
//! The socket has mode 0600 in a folder of mode 0700: who can connect may read the data folder anyway. A line asked has
//! at most [`ASK_LIMIT`] bytes, a line answered [`ANSWER_LIMIT`], an exchange takes at most [`PATIENCE`], and
//! [`MOST_AT_ONCE`] go on at once. Backups take longer and tell how far they are: see
//! [`control_backup`].

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::accepting::accept;
use super::control_analytics::{self, AnalyticsAsk};
use super::control_bans::{self, BansAsk};
use super::control_buckets::{self, BucketsAsk};
use super::control_keys::{self, KeysAsk};
use super::control_mail::{self, MailAsk};
use super::control_master::{self, MasterAsk};
use super::control_objects::{self, ObjectsAsk};
use super::control_people::{self, LinkWanted};
use super::handover::request::{Teller, Wanted};
use super::inherited::Kept;
use super::status::{Facts, Status, VERSION};
use super::{StartError, control_backup, control_cache, control_certificates};
use crate::base::supervise::Role;
use crate::base::{Disk, Supervisor};
use crate::issues::{Detail, EventView, Filter, IssuesError, Status as IssueStatus, Summary};
use crate::monitor::WhichKept;
use crate::objects::check::{Depth, Place};

/// Most bytes of a line asked.
pub const ASK_LIMIT: u64 = 4 << 10;
/// Most bytes of a line answered.
pub const ANSWER_LIMIT: u64 = 4 << 20;
/// Longest time of an exchange.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Most exchanges at once; further ones wait.
pub const MOST_AT_ONCE: usize = 8;
/// Most exchanges that wait for a backup, besides; further ones are refused.
pub const MOST_LONG: usize = 4;

/// Most issues of one answer: each has at most a few hundred bytes, so that they fit [`ANSWER_LIMIT`].
const ISSUES_SHOWN: usize = 100;

/// What the socket is called when it is handed to the next process.
pub const KEY: &str = "control.sock";

/// Version of this protocol.
const PROTOCOL: u32 = 1;

/// Longest path a Unix socket may have (`sun_path` without its end).
const LONGEST_PATH: usize = 107;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A [`Status`].
    Status,
    /// The settings read again.
    Reload,
    /// The lines of `mainstay env`.
    Env,
    /// The newest issues, all or those of one status.
    Issues {
        /// The status wanted.
        status: Option<IssueStatus>,
    },
    /// One issue.
    Issue {
        /// Its number.
        id: u64,
    },
    /// One event of an issue in full: the one of `number`, or the newest.
    Event {
        /// The issue.
        id: u64,
        /// The event's number.
        number: Option<u64>,
    },
    /// A one-time link to a page of the console.
    Link(LinkWanted),
    /// Every user, a line each.
    Users,
    /// Removes a second factor.
    DropSecondFactor {
        /// The user's e-mail address.
        email: String,
    },
    /// The text of a new API token.
    CreateToken {
        /// What to call it.
        label: String,
        /// What it may do.
        scopes: Vec<String>,
    },
    /// Sets where an issue stands.
    SetIssue {
        /// Its number.
        id: u64,
        /// Where it stands from now on.
        status: IssueStatus,
    },
    /// How backups stand.
    Backups,
    /// A backup now; see [`control_backup`](super::control_backup).
    BackupNow {
        /// Where to; the scheduled target when none is named.
        target: Option<String>,
    },
    /// A snapshot of what the command sends; see [`control_backup`](super::control_backup).
    BackupAdd {
        /// Its name.
        name: String,
        /// Where to; the scheduled target when none is named.
        target: Option<String>,
    },
    /// Every certificate.
    Certificates,
    /// Orders a certificate now.
    RenewCertificate {
        /// Its name.
        name: String,
    },
    /// A look at a piece of the object store; see [`control_objects`](super::control_objects).
    CheckObjects {
        /// Where the piece begins.
        from: Place,
        /// How much is looked at.
        depth: Depth,
    },
    /// Something about scrubs and sweeps; see [`control_objects`](super::control_objects).
    Objects(ObjectsAsk),
    /// Something about mail.
    Mail(MailAsk),
    /// Something about access keys; see [`control_keys`](super::control_keys).
    Keys(KeysAsk),
    /// Something about bans.
    Bans(BansAsk),
    /// How pages of a site were visited.
    Analytics(AnalyticsAsk),
    /// Something about buckets.
    Buckets(BucketsAsk),
    /// Something about the master key.
    Master(MasterAsk),
    /// Takes kept answers of apps away.
    PurgeCache(WhichKept),
    /// Another program in the place of this one; see [`handover`](super::handover).
    Upgrade {
        /// Its file; what is at the server's own path by now when none is named.
        program: Option<PathBuf>,
    },
}

#[derive(Serialize, Deserialize)]
struct Question {
    version: u32,
    ask: Ask,
}

/// Told apart from [`Question`] so that a later version's question still says which version it is.
#[derive(Deserialize)]
struct QuestionVersion {
    version: u32,
}

/// A line of the server.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Reply {
    pub version: u32,
    pub release: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How far a long answer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<serde_json::Value>,
}

impl Reply {
    /// A line of this release, with nothing in it yet.
    pub fn new() -> Self {
        Self { version: PROTOCOL, release: VERSION.to_owned(), ..Self::default() }
    }

    /// Its bytes.
    pub fn line(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The answer in it.
    pub fn taken<T: DeserializeOwned>(self) -> Result<T, ControlError> {
        if self.release != VERSION {
            return Err(ControlError::Release { server: self.release });
        }
        self.taken_of_any_release()
    }

    /// The answer in it, which may be of another release.
    pub fn taken_of_any_release<T: DeserializeOwned>(self) -> Result<T, ControlError> {
        if self.version != PROTOCOL {
            return Err(ControlError::Release { server: self.release });
        }
        match (self.answer, self.error) {
            (Some(answer), _) => Ok(serde_json::from_value(answer)?),
            (None, error) => Err(ControlError::Refused(error.unwrap_or_default())),
        }
    }
}

/// Why a command got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens: no server runs on the folder.
    #[error("no server runs on {folder}", folder = folder.display())]
    NotRunning {
        /// The data folder.
        folder: PathBuf,
    },
    /// The server cannot be reached or does not answer.
    #[error("{path}: {source}; the server may be busy, or belong to another user (try sudo)", path = path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Server and command are of different releases.
    #[error(
        "the server is Mainstay {server}, this command is Mainstay {VERSION}; use the same release for both (`mainstay upgrade` has the server run the new one)"
    )]
    Release {
        /// The server's release.
        server: String,
    },
    /// The server refuses.
    #[error("the server says: {0}")]
    Refused(String),
    /// The answer is none.
    #[error("the server's answer is not understood: {0}")]
    Answer(#[from] serde_json::Error),
}

/// The socket's path in a data folder.
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

/// Listens in `folder`, whose lock this process holds, and answers from `facts` until the server drains; `before` is the
/// socket of the process before, whose commands wait in it. Must run inside a runtime. The socket is also put into `kept`.
///
/// # Errors
/// [`StartError::Socket`].
pub fn start(
    disk: &dyn Disk,
    folder: &Path,
    facts: Arc<Facts>,
    supervisor: &Supervisor,
    before: Option<std::os::unix::net::UnixListener>,
    kept: &Kept,
) -> Result<(), StartError> {
    let path = socket(folder);
    let unusable = |instead| {
        let path = path.clone();
        move |source| StartError::Socket { path, source, instead }
    };
    if path.as_os_str().len() > LONGEST_PATH {
        let source = io::Error::new(io::ErrorKind::InvalidFilename, "a Unix socket's path has at most 107 bytes");
        return Err(unusable("choose a data folder with a shorter path")(source));
    }
    let listener = match before {
        Some(listener) => listener,
        None => private_socket(disk, &path)?,
    };
    let shared = kept.keep(KEY, true, Some(String::new()), &listener).and_then(|()| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    let listener = shared.map_err(unusable("let the server have more open files"))?;
    let accepting = serve(listener, facts, supervisor.clone());
    supervisor.task("control", Role::Critical, accepting);
    Ok(())
}

/// Listens at `path`, for the folder's owner alone; what has that name goes: who left it is gone, as the folder's lock is ours.
///
/// # Errors
/// [`StartError::Socket`].
pub(super) fn private_socket(disk: &dyn Disk, path: &Path) -> Result<std::os::unix::net::UnixListener, StartError> {
    let unusable = |instead| move |source| StartError::Socket { path: path.to_owned(), source, instead };
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unusable("remove what has that name")(error));
        }
        _ => {}
    }
    let bound = std::os::unix::net::UnixListener::bind(path).and_then(|listener| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    });
    bound.map_err(unusable("choose a data folder on a file system that has sockets"))
}

async fn serve(listener: UnixListener, facts: Arc<Facts>, supervisor: Supervisor) {
    let long = Arc::new(Semaphore::new(MOST_LONG));
    let shutdown = supervisor.shutdown().clone();
    accept(listener, MOST_AT_ONCE, shutdown, "a command", |stream, place| {
        let (facts, long) = (Arc::clone(&facts), Arc::clone(&long));
        supervisor.task("control exchange", Role::Ordinary, async move {
            if let Err(error) = exchange(stream, &facts, place, &long).await {
                tracing::debug!(%error, "a command left early");
            }
        });
    })
    .await;
}

async fn exchange(
    mut stream: UnixStream,
    facts: &Facts,
    place: OwnedSemaphorePermit,
    long: &Semaphore,
) -> io::Result<()> {
    let late = |_elapsed| io::Error::from(io::ErrorKind::TimedOut);
    let asked = tokio::time::timeout(PATIENCE, question(&mut stream)).await.map_err(late)??;
    let asked = match asked {
        Ok(Ask::Upgrade { program }) => {
            facts.upgrades.ask(Wanted { program, told: Teller::new(stream) }).await;
            return Ok(());
        }
        Ok(ask @ (Ask::BackupNow { .. } | Ask::BackupAdd { .. })) => {
            // It takes its time, in which others want to ask.
            drop(place);
            match long.try_acquire() {
                Ok(_place) => return control_backup::exchange(stream, ask, &facts.backups).await,
                Err(_all_taken) => Err("too many backups wait already".to_owned()),
            }
        }
        asked => asked,
    };
    let answering = async {
        let (answer, error) = answer(asked, facts).await;
        stream.write_all(&Reply { answer, error, ..Reply::new() }.line()?).await?;
        stream.shutdown().await
    };
    tokio::time::timeout(PATIENCE, answering).await.map_err(late)?
}

/// What is asked; the inner error is for whoever asks.
async fn question(stream: &mut UnixStream) -> io::Result<Result<Ask, String>> {
    let mut line = Vec::new();
    let mut limited = stream.take(ASK_LIMIT);
    while !line.ends_with(b"\n") && limited.read_buf(&mut line).await? > 0 {}
    Ok(understand(&line))
}

async fn answer(asked: Result<Ask, String>, facts: &Facts) -> (Option<serde_json::Value>, Option<String>) {
    match asked {
        Ok(Ask::Status) => (serde_json::to_value(facts.status().await).ok(), None),
        Ok(Ask::Env) => (serde_json::to_value(facts.env()).ok(), None),
        Ok(ask @ (Ask::Link(_) | Ask::Users | Ask::DropSecondFactor { .. } | Ask::CreateToken { .. })) => {
            told(control_people::answer(ask, facts).await)
        }
        Ok(Ask::Keys(asked)) => told(control_keys::answer(asked, facts).await),
        Ok(Ask::Buckets(asked)) => told(control_buckets::answer(asked, facts).await),
        Ok(Ask::Master(asked)) => told(control_master::answer(asked, facts).await),
        Ok(Ask::Bans(asked)) => told(control_bans::answer(asked, facts).await),
        Ok(Ask::Analytics(asked)) => told(control_analytics::answer(&asked, facts).await),
        Ok(Ask::PurgeCache(which)) => told(control_cache::purge(&which, facts).await),
        Ok(Ask::Issues { status }) => told(newest(facts, status).await),
        Ok(Ask::Issue { id }) => told(facts.issues.show(id).await),
        Ok(Ask::Event { id, number }) => told(facts.issues.event(id, number).await),
        Ok(Ask::SetIssue { id, status }) => told(facts.issues.set_status(id, status).await),
        Ok(Ask::Backups) => (serde_json::to_value(facts.backups.status()).ok(), None),
        Ok(Ask::BackupNow { .. } | Ask::BackupAdd { .. } | Ask::Upgrade { .. }) => {
            (None, Some("it is answered elsewhere".to_owned()))
        }
        Ok(Ask::Certificates) => told(control_certificates::list(facts)),
        Ok(Ask::RenewCertificate { name }) => told(control_certificates::renew(facts, &name)),
        Ok(Ask::CheckObjects { from, depth }) => told(facts.objects.check(from, depth).await),
        Ok(Ask::Objects(asked)) => control_objects::answer(asked, facts).await,
        Ok(Ask::Reload) => told(facts.reloader.reload().await),
        Ok(Ask::Mail(ask)) => control_mail::answer(facts, ask).await,
        Err(error) => (None, Some(error)),
    }
}

/// The newest issues of one status, or of all.
async fn newest(facts: &Facts, status: Option<IssueStatus>) -> Result<Vec<Summary>, IssuesError> {
    let filter = Filter { status, limit: ISSUES_SHOWN, ..Filter::default() };
    Ok(facts.issues.list(filter).await?.issues)
}

/// An answer, or why there is none.
pub(super) fn told<T: Serialize, E: std::fmt::Display>(
    result: Result<T, E>,
) -> (Option<serde_json::Value>, Option<String>) {
    match result {
        Ok(answer) => (serde_json::to_value(answer).ok(), None),
        Err(error) => (None, Some(error.to_string())),
    }
}

fn understand(line: &[u8]) -> Result<Ask, String> {
    let version: QuestionVersion =
        serde_json::from_slice(line).map_err(|error| format!("the question is not understood: {error}"))?;
    if version.version != PROTOCOL {
        return Err(format!("this server speaks version {PROTOCOL} of the control protocol, not {}", version.version));
    }
    let question: Question =
        serde_json::from_slice(line).map_err(|error| format!("the question is not understood: {error}"))?;
    Ok(question.ask)
}

/// Asks the server that runs on `folder` for its status. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn status(folder: &Path) -> Result<Status, ControlError> {
    ask(folder, Ask::Status)
}

/// Asks the server that runs on `folder` for the lines of `mainstay env`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn env(folder: &Path) -> Result<Vec<(String, String)>, ControlError> {
    ask(folder, Ask::Env)
}

/// Asks the server that runs on `folder` how its backups stand. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn backups(folder: &Path) -> Result<crate::backup::status::BackupStatus, ControlError> {
    ask(folder, Ask::Backups)
}

/// Asks the server that runs on `folder` for its newest issues. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn issues(folder: &Path, status: Option<IssueStatus>) -> Result<Vec<Summary>, ControlError> {
    ask(folder, Ask::Issues { status })
}

/// Asks the server that runs on `folder` for issue `id`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn issue(folder: &Path, id: u64) -> Result<Detail, ControlError> {
    ask(folder, Ask::Issue { id })
}

/// Asks the server that runs on `folder` for one event of issue `id`, the newest without a `number`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn event(folder: &Path, id: u64, number: Option<u64>) -> Result<EventView, ControlError> {
    ask(folder, Ask::Event { id, number })
}

/// Tells the server that runs on `folder` where issue `id` stands. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn set_issue(folder: &Path, id: u64, status: IssueStatus) -> Result<Summary, ControlError> {
    ask(folder, Ask::SetIssue { id, status })
}

pub(super) fn ask<T: DeserializeOwned>(folder: &Path, ask: Ask) -> Result<T, ControlError> {
    let stream = connect(folder, ask)?;
    let path = socket(folder);
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_LIMIT).read_to_end(&mut answer);
    read.map_err(|source| ControlError::Io { path, source })?;
    serde_json::from_slice::<Reply>(&answer)?.taken()
}

/// Asks the server that runs on `folder`; its lines come from the stream.
pub(super) fn connect(folder: &Path, ask: Ask) -> Result<std::os::unix::net::UnixStream, ControlError> {
    let path = socket(folder);
    let failed = |source| ControlError::Io { path: path.clone(), source };
    let mut stream = match std::os::unix::net::UnixStream::connect(&path) {
        Ok(stream) => stream,
        // A socket nobody listens on is left by a killed server.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(ControlError::NotRunning { folder: folder.to_owned() });
        }
        Err(error) => return Err(failed(error)),
    };
    stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE))).map_err(failed)?;
    let mut line = serde_json::to_vec(&Question { version: PROTOCOL, ask })?;
    line.push(b'\n');
    stream.write_all(&line).map_err(failed)?;
    Ok(stream)
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
