//! Listening sockets passed on by a service manager (systemd's `LISTEN_FDS`), by name: `FileDescriptorName=s3.listen`.
//!
//! A unit then needs no capability for low ports, and an upgrade refuses no connection: the sockets outlive the process.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// The sockets passed on, by the setting whose place they take.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: BTreeMap<String, TcpListener>,
    unix: BTreeMap<String, UnixListener>,
}

impl Inherited {
    /// Takes over what was passed to this process; `names` are those of `LISTEN_FDNAMES`, in order. A socket without a
    /// name, or of an unknown kind, is left alone with a warning.
    pub fn take(names: &[String]) -> Self {
        let mut passed = ListenFd::from_env();
        let mut out = Self::default();
        for index in 0..passed.len() {
            let Some(name) = names.get(index) else {
                tracing::warn!(index, "a socket was passed without a name: give it one with FileDescriptorName=");
                continue;
            };
            if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
                out.tcp.insert(name.clone(), listener);
            } else if let Ok(Some(listener)) = passed.take_unix_listener(index) {
                out.unix.insert(name.clone(), listener);
            } else {
                tracing::warn!(name, "a socket was passed that does not listen for streams");
            }
        }
        out
    }

    /// The TCP listener for the setting `key`.
    pub fn tcp(&mut self, key: &str) -> Option<TcpListener> {
        self.tcp.remove(key)
    }

    /// The Unix listener for the setting `key`.
    pub fn unix(&mut self, key: &str) -> Option<UnixListener> {
        self.unix.remove(key)
    }

    /// The names nobody asked for, which are no setting's.
    pub fn left_over(&self) -> Vec<&str> {
        self.tcp.keys().chain(self.unix.keys()).map(String::as_str).collect()
    }
}
