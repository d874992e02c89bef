//! What clients are sent without having asked just now: served blocking pops and published messages.

use std::sync::Arc;

use super::client::ClientId;
use super::reply::{Reply, Value};

/// A message for one client. The door encodes it for that client's protocol and drops it when the client is gone.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Whom it is for.
    pub client: ClientId,
    /// What to send.
    pub message: Message,
}

/// What a delivery carries.
#[derive(Clone, Debug)]
pub enum Message {
    /// The reply of a blocking command; the client is no longer blocked.
    Served(Value),
    /// A published message.
    Published(Arc<Published>),
}

/// A message published to a channel.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// The subscribed pattern, for `pmessage`.
    pub pattern: Option<Box<[u8]>>,
    /// The channel it was published to.
    pub channel: Box<[u8]>,
    /// The message.
    pub payload: Box<[u8]>,
    /// Whether the channel is a sharded one, for `smessage`.
    pub sharded: bool,
}

impl Message {
    /// Writes the message into `reply`: one value, or one push frame.
    pub fn write(&self, reply: &mut dyn Reply) {
        match self {
            Self::Served(value) => value.write(reply),
            Self::Published(published) => {
                reply.push(if published.pattern.is_some() { 4 } else { 3 });
                match &published.pattern {
                    Some(pattern) => {
                        reply.bulk(b"pmessage");
                        reply.bulk(pattern);
                    }
                    None if published.sharded => reply.bulk(b"smessage"),
                    None => reply.bulk(b"message"),
                }
                reply.bulk(&published.channel);
                reply.bulk(&published.payload);
            }
        }
    }

    /// Bytes the message takes on the wire, roughly; for the door's output caps.
    pub fn size(&self) -> usize {
        match self {
            Self::Served(_) => 64,
            Self::Published(published) => {
                64 + published.pattern.as_ref().map_or(0, |pattern| pattern.len())
                    + published.channel.len()
                    + published.payload.len()
            }
        }
    }
}
