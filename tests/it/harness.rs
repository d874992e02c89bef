//! Starts, asks and stops servers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for a line of the log. The machine may be busy with a build.
const PATIENCE: Duration = Duration::from_mins(1);

/// Every TCP listener, on a free port.
const LISTENERS: [(&str, &str); 6] = [
    ("MAINSTAY_EDGE__HTTP", "127.0.0.1:0"),
    ("MAINSTAY_EDGE__HTTPS", "127.0.0.1:0"),
    ("MAINSTAY_CONSOLE__LISTEN", "127.0.0.1:0"),
    ("MAINSTAY_SMTP__LISTEN", "127.0.0.1:0"),
    ("MAINSTAY_S3__LISTEN", "127.0.0.1:0"),
    ("MAINSTAY_REDIS__LISTEN", "127.0.0.1:0"),
];

/// The built binary in an empty environment, away from any `mainstay.toml` of the source folder.
pub fn mainstay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.env_clear().envs(LISTENERS).current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command
}

/// What a command said.
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// Runs the binary with `arguments` to its end.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Said {
    said(&mainstay().args(arguments).output().unwrap())
}

/// What `output` said.
pub fn said(output: &Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A server that is ready. Dropped, it is killed, and its folder removed unless it was given.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// The data folder.
    pub data: PathBuf,
    folder: Option<TempDir>,
}

impl Server {
    /// A server on a fresh folder.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server on a fresh folder, with more in its environment.
    pub fn start_with(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self::start_in(&folder.path().join("data"), environment);
        server.folder = Some(folder);
        server
    }

    /// A server on the folder `data`, which stays.
    pub fn start_in(data: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = mainstay();
        command.arg("serve").arg("--data").arg(data).envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::Builder::new()
            .spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)))
            .unwrap();
        let mut server = Self { child, lines, seen: Vec::new(), data: data.to_owned(), folder: None };
        server.wait_for("ready; ");
        server
    }

    /// Reads the log until a line holds `text`; panics with the log when none comes.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no line with {text:?} ({error}) in:\n{}", self.seen.join("\n")),
            }
            if let Some(line) = self.seen.last().filter(|line| line.contains(text)) {
                return line.clone();
            }
        }
    }

    /// The lines of `mainstay env`.
    pub fn env(&self) -> BTreeMap<String, String> {
        let said = self.command(&["env", "--json"]);
        assert_eq!(said.code, 0, "{}", said.err);
        serde_json::from_str(&said.out).unwrap()
    }

    /// What `mainstay status --json` prints.
    pub fn status(&self) -> Value {
        let said = self.command(&["status", "--json"]);
        assert_eq!(said.code, 0, "{}", said.err);
        serde_json::from_str(&said.out).unwrap()
    }

    /// Where the door of the setting `key` listens.
    pub fn address(&self, key: &str) -> String {
        let status = self.status();
        let door = status["doors"].as_array().unwrap().iter().find(|door| door["setting"] == key);
        door.unwrap_or_else(|| panic!("no door {key} in {status}"))["address"].as_str().unwrap().to_owned()
    }

    /// Runs a command against this server's folder.
    pub fn command(&self, arguments: &[&str]) -> Said {
        said(&mainstay().args(arguments).arg("--data").arg(&self.data).output().unwrap())
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends the server as an operator would; its exit code.
    pub fn stop(self) -> i32 {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits for a server that was told to stop; its exit code.
    pub fn ended(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Ends the server as an operator would; everything it logged.
    pub fn stop_and_read_log(mut self) -> String {
        self.signal(Signal::TERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        self.seen.extend(self.lines.iter());
        std::mem::take(&mut self.seen).join("\n")
    }

    /// Ends the server as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status code and whole answer of a plain GET of `path` at `address`.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("no HTTP answer: {answer}")), answer)
}
