//! Why the Redis door cannot open.

use std::io;
use std::path::PathBuf;

/// What keeps the door shut.
#[derive(Debug, thiserror::Error)]
pub enum RespError {
    /// The Unix socket cannot be made.
    #[error("cannot listen on `{}` (redis.socket): {source}", path.display())]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process answers on the Unix socket.
    #[error("`{}` (redis.socket) is in use by another process: stop it or choose another path", path.display())]
    SocketInUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// `redis.socket_mode` is no octal number.
    #[error("redis.socket_mode is `{0}`: write octal permissions such as `600` or `660`")]
    SocketMode(String),
    /// Authentication is off on an address others can reach.
    #[error(
        "redis.require_auth is off, but {setting} is {address}, which other machines can reach: turn it on, or listen on 127.0.0.1"
    )]
    Open {
        /// The setting that says so.
        setting: &'static str,
        /// Where the door would listen.
        address: std::net::SocketAddr,
    },
    /// The operating system refuses what an event loop needs.
    #[error("cannot start the Redis door: {0}")]
    Loop(#[source] io::Error),
}
