//! How much one client may ask for.

use crate::base::{ByteSize, Span};

crate::settings! {
    /// Limits of an HTTP listener.
    pub struct ServeConfig {
        /// Most connections served at once; the next one is answered `503` and closed.
        pub max_connections: u32 = 2048,
        /// Longest wait for a request's head: from the connection's first moment, and between requests on a kept-alive
        /// connection.
        pub head_timeout: Span = Span::secs(30),
        /// Longest wait for the next 4 KiB of a request's body.
        pub body_timeout: Span = Span::secs(30),
        /// Longest wait for a client to take the next 4 KiB of a response; in HTTP/2 16 KiB, for each by itself.
        pub write_timeout: Span = Span::secs(60),
        /// Largest request head (request line and headers).
        pub max_head: ByteSize = ByteSize::kib(64),
        /// Most headers in a request.
        pub max_headers: u32 = 100,
        /// Most requests in flight on one HTTP/2 connection.
        pub max_streams: u32 = 100,
    }
}
