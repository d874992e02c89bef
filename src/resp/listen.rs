//! Where clients come in: TCP listeners and the Unix socket.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use super::error::RespError;
use super::tls::TlsStream;
use crate::base::Disk;

/// Idle time after which the kernel begins to ask whether a TCP peer still lives, and between two questions.
const KEEPALIVE: Duration = Duration::from_mins(5);

/// A listener of either kind.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// The Unix socket.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Where it is. The file stays: whoever takes over serves it on.
        path: PathBuf,
    },
}

/// A connection of either kind.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// The Unix socket.
    Unix(UnixStream),
    /// TCP with TLS.
    Tls(Box<TlsStream>),
}

/// Has the kernel find out when the peer of `stream` is gone.
pub fn keep_alive(stream: &impl std::os::fd::AsFd) {
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
    // A refusal costs only that.
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

impl Listener {
    /// Takes over a bound TCP listener.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Tcp(TcpListener::from_std(listener)))
    }

    /// Binds the Unix socket at `path` with permissions `mode` (octal text). A socket file that nobody answers on is
    /// what an ended process left behind, and replaced.
    ///
    /// # Errors
    /// [`RespError`].
    pub fn unix(disk: &Arc<dyn Disk>, path: &Path, mode: &str) -> Result<Self, RespError> {
        let failed = |source| RespError::Socket { path: path.to_owned(), source };
        let bits = u32::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o777);
        let bits = bits.ok_or_else(|| RespError::SocketMode(mode.to_owned()))?;
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(RespError::SocketInUse { path: path.to_owned() });
        }
        // Bound under another name and renamed, so that the socket never shows with wider permissions.
        let temporary = path.with_extension("new");
        if disk.entry(&temporary).map_err(failed)?.is_some() {
            disk.remove_file(&temporary).map_err(failed)?;
        }
        let listener = UnixListener::bind(&temporary).map_err(failed)?;
        std::fs::set_permissions(&temporary, PermissionsExt::from_mode(bits)).map_err(failed)?;
        disk.rename(&temporary, path).map_err(failed)?;
        Ok(Self::Unix { listener, path: path.to_owned() })
    }

    /// Takes over a bound Unix listener, which clients reach at `path`.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn adopted(listener: std::os::unix::net::UnixListener, path: PathBuf) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Unix { listener: UnixListener::from_std(listener), path })
    }

    /// The next waiting connection, with the peer and the local address as `CLIENT LIST` shows them; `None` when it was one
    /// of a peer whom `shut_out` names, and is closed.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn accept(&self, shut_out: impl Fn(IpAddr) -> bool) -> io::Result<Option<(Stream, String, String)>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                if shut_out(peer.ip()) {
                    return Ok(None);
                }
                // Refusals only cost speed; the connection itself is good.
                let _ = stream.set_nodelay(true);
                keep_alive(&stream);
                let local = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
                Ok(Some((Stream::Tcp(stream), peer.to_string(), local)))
            }
            Self::Unix { listener, path } => {
                let (stream, _) = listener.accept()?;
                let name = format!("{}:0", path.display());
                Ok(Some((Stream::Unix(stream), name.clone(), name)))
            }
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix { listener, .. } => listener,
        }
    }

    /// Lets the loop know of waiting connections.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().register(registry, token, Interest::READABLE)
    }

    /// The TCP port.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Self::Unix { .. } => None,
        }
    }

    /// Another descriptor of the same Unix socket; `None` of a TCP listener.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn same_unix(&self) -> io::Result<Option<std::os::unix::net::UnixListener>> {
        match self {
            Self::Tcp(_) => Ok(None),
            Self::Unix { listener, .. } => listener.as_fd().try_clone_to_owned().map(|same| Some(same.into())),
        }
    }

    /// Stops listening.
    pub fn close(mut self, registry: &Registry) {
        // Nothing is lost by a failure here: the listener is closed right after.
        let _ = self.source().deregister(registry);
    }
}

impl Stream {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
            Self::Tls(stream) => &mut stream.socket,
        }
    }

    /// Whether another read may bring something without news from the kernel.
    pub fn has_more(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.has_more())
    }

    /// Whether something that was written waits here for room in the socket.
    pub fn holds(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.holds())
    }

    /// Lets the loop know when there is something to read.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().register(registry, token, Interest::READABLE)
    }

    /// Lets the loop know as well when there is room to write.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn register_writes(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().reregister(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Ends the connection.
    pub fn close(&mut self, registry: &Registry) {
        // The peer may have closed before: nothing to do about it.
        let _ = self.source().deregister(registry);
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tls(stream) => {
                stream.say_goodbye();
                stream.socket.shutdown(Shutdown::Both)
            }
        };
    }
}

impl Read for Stream {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(target),
            Self::Unix(stream) => stream.read(target),
            Self::Tls(stream) => stream.read(target),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("tcp"),
            },
            Self::Unix { path, .. } => path.display().fmt(f),
        }
    }
}
