//! What every HTTP door shares: the accept loop and its limits, bodies, and the parsing of signed requests.
//!
//! Promises: a connection, a head, a body and a wait each have a cap ([`ServeConfig`]); hyper supplies the parsing, the
//! timeouts it lacks (first byte, slow body, slow reader, idle HTTP/2) are here; HTTP/3 is read here too ([`h3`]). Nothing here knows a
//! door's protocol.
//!
//! Start reading at [`handler`] (what a door implements), then [`server`] (accept) and [`connection`] (one client).

pub mod bell;
pub mod body;
pub mod chunked;
pub mod client;
pub mod conditional;
pub mod config;
pub mod connection;
pub mod h3;
pub mod handler;
mod load;
pub mod multipart;
pub mod origin;
mod patience;
mod pieces;
pub mod query;
pub mod range;
pub mod server;
#[cfg(test)]
mod server_tests;
pub mod sigv4;
pub mod uri;

pub use body::Body;
pub use config::ServeConfig;
pub use connection::Server;
pub use handler::{Answer, Handler, Lasting, Peer, RouterHandler, ShutOut};
pub use server::{adopt, bind, serve};
