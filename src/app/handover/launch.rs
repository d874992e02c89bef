//! Starting another program in the place of this one.
//!
//! The new process must not be a child of the one it replaces: a service manager hears of the end of its own children only,
//! and orphans become its children. So the program is started twice: the first process ([`Stage::Launch`]) starts the second
//! and ends at once.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::channel::{Channel, readable};
use super::message::VERSION;
use crate::base::Clock;

/// Tells a program that it is started in the place of another, and how far that is: see [`Stage`].
pub const VARIABLE: &str = "MAINSTAY_HANDOVER";

/// What a service manager passed to this process, and not to the next one.
const OF_THIS_PROCESS: [&str; 3] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

/// The program of this process, also when its file has been replaced or removed.
const SELF: &str = "/proc/self/exe";

/// Longest time a program may take to tell its version, or to check the settings, or to start itself again.
const ANSWER: Duration = Duration::from_secs(20);

/// Most bytes of what a program prints that are read.
const PRINTED: usize = 64 << 10;

/// Longest time a process that was killed may take to end.
const DYING: Duration = Duration::from_secs(10);

/// How far the start of a program in the place of another is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is to start itself again, and to end.
    Launch,
    /// It is to serve.
    Serve,
}

impl Stage {
    fn text(self) -> String {
        match self {
            Self::Launch => format!("launch-{VERSION}"),
            Self::Serve => format!("serve-{VERSION}"),
        }
    }

    /// What `text`, the value of [`VARIABLE`], asks for.
    ///
    /// # Errors
    /// It is of a release whose conversation this one does not know.
    pub fn of(text: &str) -> Result<Self, String> {
        let known = [Self::Launch, Self::Serve].into_iter().find(|stage| stage.text() == text);
        known.ok_or_else(|| {
            format!("{VARIABLE}={text} is of a release that cannot be followed by this one: restart the server")
        })
    }
}

/// The program this process runs, for starting it or another one anew.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Its file; empty where nothing can be started.
    pub path: PathBuf,
    /// Its arguments, without the name.
    pub arguments: Vec<OsString>,
    /// The settings file that the arguments name.
    pub config: Option<PathBuf>,
}

impl Program {
    /// Of this process, which was started with `arguments`.
    pub fn of_this_process(arguments: Vec<OsString>, config: Option<PathBuf>) -> Self {
        Self { path: own_path(), arguments, config }
    }

    /// Starts `file` in the place of this process: the channel to it. Blocks, at most [`ANSWER`].
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, file: &Path) -> Result<Channel, String> {
        let (ours, theirs) = Channel::pair().map_err(|error| format!("no channel to it can be made: {error}"))?;
        let mut child = spawned(file, &self.arguments, Stage::Launch, theirs)
            .map_err(|error| format!("{} does not start: {error}", file.display()))?;
        match ended_within(&mut child, ANSWER) {
            Ok(Some(status)) if status.success() => Ok(ours),
            Ok(Some(status)) => {
                Err(format!("{} does not start ({status}); the server's log may say why", file.display()))
            }
            Ok(None) => Err(format!("{} does not come to start itself again", file.display())),
            Err(error) => Err(format!("{} cannot be waited for: {error}", file.display())),
        }
    }

    /// Starts the program of this process itself, as [`Self::start`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_same(&self) -> Result<Channel, String> {
        self.start(Path::new(SELF))
    }

    /// Whether `file` is a program that can take over with these settings: the version it tells. Blocks.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn check(&self, file: &Path, clock: &dyn Clock) -> Result<String, String> {
        let shown = file.display();
        let about = fs::metadata(file).map_err(|error| format!("{shown}: {error}"))?;
        if !about.is_file() || about.permissions().mode() & 0o111 == 0 {
            return Err(format!("{shown} is no program: it must be an executable file"));
        }
        let told =
            printed(file, &[OsString::from("version")], clock).map_err(|why| format!("{shown} version: {why}"))?;
        let version = told.trim().strip_prefix("mainstay ").filter(|version| !version.contains('\n'));
        let version = version
            .ok_or_else(|| format!("{shown} is no Mainstay: asked for its version, it prints {:?}", short(&told)))?;
        let mut asked = vec![OsString::from("config"), OsString::from("check")];
        if let Some(config) = &self.config {
            asked.extend([OsString::from("--config"), config.clone().into_os_string()]);
        }
        printed(file, &asked, clock).map_err(|why| format!("Mainstay {version} cannot use the settings: {why}"))?;
        Ok(version.to_owned())
    }
}

/// Where the file of this process's program is, or was.
fn own_path() -> PathBuf {
    let link = fs::read_link(SELF).unwrap_or_default();
    // The kernel says so of a file that has been replaced; the new one has the name now.
    let name = link.to_string_lossy();
    name.strip_suffix(" (deleted)").map_or_else(|| link.clone(), PathBuf::from)
}

/// Starts this program again, to serve in the place of the process that holds the other end of `channel`. What follows is
/// the end of this process.
///
/// # Errors
/// It does not start.
pub fn relaunch(arguments: &[OsString], channel: OwnedFd) -> io::Result<()> {
    // By its name, which tools show; not if that is another program by now.
    let path = own_path();
    let same = |one: fs::Metadata, other: fs::Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    let is_this = fs::metadata(&path).and_then(|named| Ok(same(named, fs::metadata(SELF)?))).unwrap_or(false);
    let file = if is_this { path.as_path() } else { Path::new(SELF) };
    spawned(file, arguments, Stage::Serve, channel).map(drop)
}

fn spawned(file: &Path, arguments: &[OsString], stage: Stage, channel: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(file);
    command.args(arguments).env(VARIABLE, stage.text()).stdin(Stdio::from(channel));
    if file == Path::new(SELF) {
        command.arg0("mainstay");
    }
    for name in OF_THIS_PROCESS {
        command.env_remove(name);
    }
    command.spawn()
}

/// What `file` prints on both outputs, when it succeeds.
fn printed(file: &Path, arguments: &[OsString], clock: &dyn Clock) -> Result<String, String> {
    let failed = |error: io::Error| error.to_string();
    let (reader, writer) = io::pipe().map_err(failed)?;
    let mut child = {
        let mut command = Command::new(file);
        command.args(arguments).stdin(Stdio::null()).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        command.spawn().map_err(failed)?
        // The command ends here, and with it our copies of what the child writes into.
    };
    let heard = heard(reader.into(), clock);
    // Who is still printing has had its time.
    let patience = if matches!(heard, Ok(Some(_))) { ANSWER } else { Duration::ZERO };
    let ended = ended_within(&mut child, patience).map_err(failed)?;
    let Some(text) = heard.map_err(failed)? else {
        return Err(format!("no answer within {} seconds", ANSWER.as_secs()));
    };
    match ended {
        Some(status) if status.success() => Ok(text),
        Some(status) if text.trim().is_empty() => Err(status.to_string()),
        Some(_) => Err(short(&text)),
        None => Err("it does not end".to_owned()),
    }
}

/// The first [`PRINTED`] bytes of what comes out of `pipe`, which is read to its end; `None` when that takes too long.
fn heard(pipe: OwnedFd, clock: &dyn Clock) -> io::Result<Option<String>> {
    let waited = pipe.try_clone()?;
    let mut pipe = io::PipeReader::from(pipe);
    let until = clock.monotonic() + ANSWER;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = until.saturating_sub(clock.monotonic());
        if left.is_zero() || !readable(&waited, left)? {
            return Ok(None);
        }
        match pipe.read(&mut buffer)? {
            0 => return Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            count if bytes.len() < PRINTED => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            _ => {}
        }
    }
}

/// The end of `text`, where the reason stands.
fn short(text: &str) -> String {
    let text = text.trim();
    text.get(text.floor_char_boundary(text.len().saturating_sub(2000))..).unwrap_or_default().to_owned()
}

/// How `child` ended; `None` when it had to be killed after `limit`.
fn ended_within(child: &mut Child, limit: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let ended = match Life::of(child.id()) {
        Ok(life) => life.ends_within(limit)?,
        // It is gone already.
        Err(_) => true,
    };
    if !ended {
        // It may have ended by itself by now; either way it is gone after the wait.
        let _ = child.kill();
    }
    let status = child.wait()?;
    Ok(ended.then_some(status))
}

/// Another process, held so that its number cannot come to mean another one.
#[derive(Debug)]
pub struct Life(OwnedFd);

impl Life {
    /// The process `pid`.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Whether it ends within `limit`. Blocks.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn ends_within(&self, limit: Duration) -> io::Result<bool> {
        readable(&self.0, limit)
    }

    /// Kills it and waits for its end; says whether it ended. Blocks.
    pub fn end(&self) -> bool {
        // It may have ended already.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
        self.ends_within(DYING).unwrap_or(false)
    }
}
