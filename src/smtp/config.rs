//! Settings of the SMTP door.

use crate::base::{ByteSize, Listen, Span};
use crate::settings;

settings! {
    /// Message submission over SMTP. User name: an access key id; password: derived from its secret as SES does
    /// (`mainstay env` prints both in `SMTP_URL`).
    pub struct SmtpConfig {
        /// Address to listen on; empty turns the door off. Loopback only: passwords are not encrypted here.
        pub listen: Listen = Listen::loopback(2525),
        /// Most connections served at once; the next one is answered `421` and closed.
        pub max_clients: u32 = 200,
        /// Longest wait for a client's next command or the next piece of a message.
        pub idle_timeout: Span = Span::mins(5),
        /// Most bytes of messages that all clients together have under way; past it a message is answered `452`, to be
        /// sent again later. Never less than one message of `mail.max_message`.
        pub max_held: ByteSize = ByteSize::mib(64),
        /// Failed commands after which a connection is closed.
        pub max_errors: u32 = 20,
    }
}
