//! Listening sockets passed on: by a service manager (systemd's `LISTEN_FDS`, by name: `FileDescriptorName=s3.listen`), or by
//! the process before, which hands its own over ([`handover`](super::handover)).
//!
//! The sockets outlive the process: a restart, or an upgrade, then refuses no connection, and with those of a service
//! manager a unit needs no capability for low ports.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use listenfd::ListenFd;

/// A listening socket, and where it comes from.
#[derive(Debug)]
pub struct Passed {
    /// The setting whose place it takes.
    pub key: String,
    /// Whether it is a Unix socket.
    pub unix: bool,
    /// What the setting said when a Mainstay bound it; `None` when a service manager made it.
    pub bound: Option<String>,
    /// The socket.
    pub socket: OwnedFd,
}

/// The sockets passed on to this process that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Passed>);

impl Inherited {
    /// Takes over what a service manager passed to this process; `names` are those of `LISTEN_FDNAMES`, in order. A socket
    /// without a name, or of an unknown kind, is left alone with a warning.
    pub fn take(names: &[String]) -> Self {
        let mut passed = ListenFd::from_env();
        let mut out = Vec::new();
        for index in 0..passed.len() {
            let Some(name) = names.get(index) else {
                tracing::warn!(index, "a socket was passed without a name: give it one with FileDescriptorName=");
                continue;
            };
            let key = name.clone();
            if let Ok(Some(listener)) = passed.take_tcp_listener(index) {
                out.push(Passed { key, unix: false, bound: None, socket: listener.into() });
            } else if let Ok(Some(listener)) = passed.take_unix_listener(index) {
                out.push(Passed { key, unix: true, bound: None, socket: listener.into() });
            } else {
                tracing::warn!(name, "a socket was passed that does not listen for streams");
            }
        }
        Self(out)
    }

    /// What the process before has handed over.
    pub const fn handed_over(sockets: Vec<Passed>) -> Self {
        Self(sockets)
    }

    /// Whether a service manager made a socket for the setting `key`.
    pub fn is_given(&self, key: &str) -> bool {
        self.0.iter().any(|passed| passed.key == key && passed.bound.is_none())
    }

    /// The TCP listeners for the setting `key`, which says `setting` now: what a process before bound by another text is
    /// closed.
    pub fn tcp(&mut self, key: &str, setting: &str) -> Vec<TcpListener> {
        self.fitting(key, setting, false).into_iter().map(|passed| passed.socket.into()).collect()
    }

    /// The Unix listener for the setting `key`, as [`Self::tcp`].
    pub fn unix(&mut self, key: &str, setting: &str) -> Option<UnixListener> {
        self.fitting(key, setting, true).pop().map(|passed| passed.socket.into())
    }

    fn fitting(&mut self, key: &str, setting: &str, unix: bool) -> Vec<Passed> {
        let (mut of_key, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|passed| passed.key == key && passed.unix == unix);
        self.0 = rest;
        of_key.retain(|passed| passed.bound.as_deref().is_none_or(|bound| bound == setting));
        of_key
    }

    /// The names nobody asked for, which are no setting's.
    pub fn left_over(&self) -> Vec<&str> {
        self.0.iter().map(|passed| passed.key.as_str()).collect()
    }
}

/// Another descriptor of every listening socket of this process, to be handed to the next one. Clones are the same.
///
/// Whoever stops for good must let go of them first, or clients would wait in queues from which nobody takes them.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<Vec<Passed>>>);

impl Kept {
    /// Keeps another descriptor of `socket`, which serves the setting `key`.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn keep(&self, key: &str, unix: bool, bound: Option<String>, socket: &impl AsFd) -> std::io::Result<()> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        self.all().push(Passed { key: key.to_owned(), unix, bound, socket });
        Ok(())
    }

    /// The sockets.
    pub fn all(&self) -> MutexGuard<'_, Vec<Passed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of them.
    pub fn close(&self) {
        self.all().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(key: &str, bound: Option<&str>) -> (Passed, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let bound = bound.map(str::to_owned);
        (Passed { key: key.to_owned(), unix: false, bound, socket: listener.into() }, port)
    }

    #[test]
    fn sockets_serve_on_while_their_setting_stays_and_those_of_a_manager_always() {
        let (stays, port) = passed("s3.listen", Some("127.0.0.1:0"));
        let (moved, _) = passed("smtp.listen", Some("127.0.0.1:25"));
        let (given, _) = passed("edge.http", None);
        let (unknown, _) = passed("ftp.listen", None);
        let mut inherited = Inherited::handed_over(vec![stays, moved, given, unknown]);
        assert!(inherited.is_given("edge.http") && !inherited.is_given("s3.listen"));
        let found = inherited.tcp("s3.listen", "127.0.0.1:0");
        assert_eq!(found[0].local_addr().unwrap().port(), port);
        assert!(inherited.tcp("smtp.listen", "127.0.0.1:2525").is_empty());
        assert_eq!(inherited.tcp("edge.http", "").len(), 1);
        assert!(inherited.unix("redis.socket", "x").is_none());
        assert_eq!(inherited.left_over(), ["ftp.listen"]);
    }

    #[test]
    fn a_kept_socket_takes_connections_until_it_is_let_go_of() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Kept::default();
        kept.keep("s3.listen", false, Some(address.to_string()), &listener).unwrap();
        drop(listener);
        assert!(std::net::TcpStream::connect(address).is_ok());
        kept.clone().close();
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}
