//! Settings of the Redis door.

use crate::base::{ByteSize, Listen, Span};

crate::settings! {
    /// The Redis door: RESP2 and RESP3 over TCP and a Unix socket.
    pub struct RedisConfig {
        /// Address of the TCP listener. Nothing turns it off.
        pub listen: Listen = Listen::loopback(6379),
        /// Address of the TCP listener for TLS (`rediss://`); off by default. Its certificates are the edge's, by the name the
        /// client asks for; who names none gets that of `edge.domain`. Nothing turns it off.
        pub tls_listen: Listen = Listen::OFF,
        /// Longest time a TLS handshake may take.
        pub tls_handshake: Span = Span::secs(10),
        /// Path of the Unix socket, relative to the data folder; the cheapest way for apps on the same machine. Nothing
        /// turns it off.
        pub socket: String = "redis.sock".to_owned(),
        /// Permissions of the Unix socket, octal.
        pub socket_mode: String = "600".to_owned(),
        /// Whether clients must give the password (`AUTH`, or `redis://default:…@…`). May be off only where the TCP
        /// listeners are loopback.
        pub require_auth: bool = true,
        /// Most clients at once; the next one is told `ERR max number of clients reached`.
        pub max_clients: u32 = 10_000,
        /// Longest argument of a command.
        pub max_bulk: ByteSize = ByteSize::mib(512),
        /// Most bytes of one request under way; a client that needs more is closed.
        pub max_query: ByteSize = ByteSize::gib(1),
        /// A client that says nothing for so long is closed, unless it is blocked or subscribed. `0s` waits for ever.
        pub timeout: Span = Span::secs(0),
        /// Most bytes of replies that wait for a client to read them; beyond it, the client is closed. 0 sets no limit.
        pub output_limit: ByteSize = ByteSize::gib(1),
        /// The same for a client with subscriptions.
        pub pubsub_output_limit: ByteSize = ByteSize::mib(32),
        /// A client with subscriptions is also closed when more than this waits for longer than `pubsub_soft_span`.
        pub pubsub_soft_limit: ByteSize = ByteSize::mib(8),
        /// See `pubsub_soft_limit`.
        pub pubsub_soft_span: Span = Span::secs(60),
        /// Whether clients may stop the server with `SHUTDOWN`.
        pub allow_shutdown: bool = false,
    }
}
