//! One client's connection: what it has sent and not yet got an answer to, and what it has not read yet.

use std::io::{self, Read, Write};
use std::time::Duration;

use mio::{Registry, Token};

use super::encoder::{Encoder, Protocol};
use super::listen::Stream;
use super::protocol::{Decoder, Limits};
use crate::kv::Client;

/// Most bytes read from a client in one turn, a large argument apart.
pub const READ: usize = 64 << 10;
/// Most bytes read of a large argument in one turn.
const READ_LARGE: usize = 1 << 20;
/// Room for a reply buffer that is kept for the next client.
pub const KEEP: usize = 64 << 10;

/// Whether a client wants replies (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// It does.
    #[default]
    On,
    /// Not until `CLIENT REPLY ON`.
    Off,
    /// Not to the next command.
    SkipNext,
    /// Not to this one.
    Skip,
}

/// Whether a client waits for values that are on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cold {
    /// It does not.
    #[default]
    No,
    /// Its next request needs them: nothing of it is run until they are there.
    Wanted,
    /// They were read: the request runs now, whatever became of them.
    Read,
}

/// A client.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the socket or the client")]
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// What the loop calls it.
    pub token: Token,
    /// What the keyspace keeps about it.
    pub client: Client,
    /// The peer's address.
    pub peer: String,
    /// Our address.
    pub local: String,
    /// Version of the protocol it speaks.
    pub protocol: Protocol,
    /// Whether it has given the password, or need not.
    pub authenticated: bool,
    /// `CLIENT SETNAME`.
    pub name: String,
    /// `CLIENT SETINFO LIB-NAME`.
    pub library: String,
    /// `CLIENT SETINFO LIB-VER`.
    pub library_version: String,
    /// Whether it wants replies.
    pub replies: Replies,
    /// `CLIENT NO-EVICT`, remembered for `CLIENT LIST`.
    pub no_evict: bool,
    /// `MONITOR`.
    pub watches: bool,
    /// `CLIENT NO-TOUCH`, the same.
    pub no_touch: bool,
    /// Name of the last command.
    pub last_command: &'static str,
    /// Monotonic time of its arrival.
    pub since: Duration,
    /// Monotonic time of its last request.
    pub active: Duration,
    /// Waits in a blocking command: nothing further of it is run.
    pub blocked: bool,
    /// Whether its next request waits for the disk.
    pub cold: Cold,
    /// Closed once its replies are sent.
    pub closing: bool,
    /// The socket may have bytes for us.
    pub readable: bool,
    /// The peer has closed its side.
    pub ended: bool,
    /// Whole requests may wait in `input`.
    pub more: bool,
    /// Already among those to be served in this turn.
    pub listed: bool,
    /// Already among those whose replies are to be sent.
    pub dirty: bool,
    /// Monotonic time since which more than the soft limit waits.
    pub over_soft: Option<Duration>,
    /// Finds requests.
    pub decoder: Decoder,
    /// Bytes of a request under way; empty for most clients most of the time.
    pub input: Vec<u8>,
    /// Bytes of `input` that are dealt with.
    pub start: usize,
    /// Replies.
    pub out: Vec<u8>,
    /// Bytes of `out` that are sent.
    sent: usize,
    waits_for_room: bool,
}

/// What reading brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The peer is gone.
    End,
}

/// What sending brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Everything is sent.
    All,
    /// The rest waits until the socket has room.
    Part,
    /// The peer is gone.
    Failed,
}

impl Connection {
    /// A client that has said nothing yet.
    pub fn new(stream: Stream, token: Token, client: Client, addresses: (String, String), now: Duration) -> Self {
        let (peer, local) = addresses;
        Self {
            stream,
            token,
            client,
            peer,
            local,
            protocol: Protocol::default(),
            authenticated: false,
            name: String::new(),
            library: String::new(),
            library_version: String::new(),
            replies: Replies::default(),
            no_evict: false,
            watches: false,
            no_touch: false,
            last_command: "NULL",
            since: now,
            active: now,
            blocked: false,
            cold: Cold::No,
            closing: false,
            readable: true,
            ended: false,
            more: false,
            listed: false,
            dirty: false,
            over_soft: None,
            decoder: Decoder::default(),
            input: Vec::new(),
            start: 0,
            out: Vec::new(),
            sent: 0,
            waits_for_room: false,
        }
    }

    /// Whether nothing of it is run now.
    pub fn waits(&self) -> bool {
        self.blocked || self.cold == Cold::Wanted
    }

    /// A writer of replies to this client.
    pub const fn encoder(&mut self) -> Encoder<'_> {
        Encoder::new(&mut self.out, self.protocol)
    }

    /// What it may send now.
    pub const fn limits(&self, bulk: u64) -> Limits {
        if self.authenticated { Limits::authenticated(bulk) } else { Limits::unauthenticated() }
    }

    /// Bytes of replies that wait.
    pub fn pending(&self) -> usize {
        self.out.len() - self.sent + usize::from(self.stream.holds())
    }

    /// Bytes held for this client.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.input.capacity() + self.out.capacity() + self.decoder.memory()
    }

    /// Reads once into `target`.
    pub fn receive(&mut self, target: &mut [u8]) -> Received {
        match self.stream.read(target) {
            Ok(0) => Received::End,
            Ok(count) => {
                // Less than asked for: the socket is empty, and the loop will hear of more. A peer that has closed
                // announces nothing any more, so its end has to be read.
                self.readable = count == target.len() || self.ended || self.stream.has_more();
                Received::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Received::Nothing
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Received::Nothing,
            Err(_) => Received::End,
        }
    }

    /// Reads once behind what `input` holds. A large argument gets larger reads, but never much more memory than has
    /// arrived of it.
    pub fn receive_behind(&mut self) -> Received {
        let length = self.input.len();
        let wanted = self.decoder.wanted(length - self.start);
        let room = wanted.clamp(READ, READ_LARGE);
        self.input.resize(length + room, 0);
        let mut input = std::mem::take(&mut self.input);
        let received = self.receive(input.get_mut(length..).unwrap_or_default());
        let count = if let Received::Bytes(count) = received { count } else { 0 };
        input.truncate(length + count);
        self.input = input;
        received
    }

    /// Forgets `used` more bytes of `input`, and gives back what a large request left behind.
    pub fn consume(&mut self, used: usize) {
        self.start += used;
        if self.start >= self.input.len() {
            self.input = Vec::new();
            self.start = 0;
            self.decoder.shrink();
        } else if self.start > self.input.len() / 2 {
            self.input.drain(..self.start);
            self.start = 0;
        }
    }

    /// Sends what the socket takes, in one call.
    pub fn send(&mut self, registry: &Registry) -> Sent {
        let rest = self.out.get(self.sent..).unwrap_or_default();
        if rest.is_empty() && !self.stream.holds() {
            return Sent::All;
        }
        match self.stream.write(rest) {
            Ok(count) => self.sent += count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return Sent::Failed,
        }
        if self.pending() == 0 {
            self.sent = 0;
            self.out.clear();
            return Sent::All;
        }
        if self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if !self.waits_for_room {
            if self.stream.register_writes(registry, self.token).is_err() {
                return Sent::Failed;
            }
            self.waits_for_room = true;
        }
        Sent::Part
    }

    /// Replaces replies that must not leave: `ranges` of `out`, ascending, each become the error `text`.
    pub fn retract(&mut self, ranges: &[(usize, usize)], text: &str) {
        let old = std::mem::take(&mut self.out);
        let mut at = 0;
        for (start, end) in ranges {
            self.out.extend_from_slice(old.get(at..*start).unwrap_or_default());
            if end > start {
                use crate::kv::Reply;
                self.encoder().error(text);
            }
            at = *end;
        }
        self.out.extend_from_slice(old.get(at..).unwrap_or_default());
    }
}
