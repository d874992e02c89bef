//! What keeps the edge from starting.

use std::net::SocketAddr;

use crate::store::StoreError;

/// A setting of the edge that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value outside what its key allows.
    #[error("{key} is `{value}`, allowed is {allowed}")]
    Value {
        /// The setting.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// Both listeners on one address.
    #[error("edge.http and edge.https are both {0}: give one of them another port")]
    SamePort(SocketAddr),
    /// Two sites want the same requests.
    #[error("edge.sites names host `{host}` with path `{path}` twice")]
    SiteTwice {
        /// The host as written; empty for every host.
        host: String,
        /// The path as written.
        path: String,
    },
}

/// Why the edge did not start. Nothing listens by then.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The settings contradict themselves.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Somebody else has the port.
    #[error(
        "{address} is taken by another program: set {key} to a free address (flag or file: `{key} = \"{suggestion}\"`), or to \"\" to turn it off"
    )]
    PortTaken {
        /// The setting.
        key: &'static str,
        /// The address wanted.
        address: SocketAddr,
        /// An address that would not collide.
        suggestion: SocketAddr,
    },
    /// A port below 1024 without the right to it.
    #[error(
        "no permission to listen on {address}: set {key} to a port above 1023, or give the program CAP_NET_BIND_SERVICE"
    )]
    PortForbidden {
        /// The setting.
        key: &'static str,
        /// The address wanted.
        address: SocketAddr,
    },
    /// A port for datagrams below 1024 without the right to it.
    #[error(
        "no permission to receive datagrams on {address}, which {key} needs: give the program CAP_NET_BIND_SERVICE (a socket for TCP that was passed on is not enough), or turn {key} off"
    )]
    DatagramsForbidden {
        /// The setting.
        key: &'static str,
        /// The address wanted.
        address: SocketAddr,
    },
    /// The operating system refuses the socket for another reason.
    #[error("cannot listen on {address} ({key})")]
    Listen {
        /// The setting.
        key: &'static str,
        /// The address wanted.
        address: SocketAddr,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// The certificate could not be made or read.
    #[error("self-signed certificate: {0}")]
    Certificate(String),
    /// A certificate in files.
    #[error("edge.certificates: {0}")]
    Files(String),
    /// A file that a certificate authority's settings name.
    #[error("edge.acme.authorities: {0}")]
    Authority(String),
    /// A file that the settings of a DNS provider name.
    #[error("edge.acme.dns: {0}")]
    Dns(String),
    /// The internal authority.
    #[error("edge.internal_ca: {0}")]
    InternalCa(String),
    /// The certificate could not be stored or loaded.
    #[error("the certificate cannot be stored")]
    Store(#[from] StoreError),
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A thread, a runtime or the log file could not be had.
    #[error("{what}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
}
