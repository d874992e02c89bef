//! The channel between the two processes: a pair of sockets that keep messages apart (`SOCK_SEQPACKET`). A message is a JSON
//! value of at most [`LONGEST`] bytes, with up to [`MOST_SOCKETS`] descriptors beside it (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most bytes of a message.
const LONGEST: usize = 64 << 10;
/// Most descriptors beside a message; the edge has 32 workers with two each at most, the other doors one each.
pub const MOST_SOCKETS: usize = 128;

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side is gone.
    #[error("it ended without a word")]
    Ended,
    /// Nothing came in time.
    #[error("it said nothing within {} seconds", .0.as_secs())]
    Late(Duration),
    /// What came is no message.
    #[error("its message is not understood: {0}")]
    Message(String),
    /// The operating system refuses.
    #[error("the channel to it failed: {0}")]
    Io(#[from] io::Error),
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends, the second for another process.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// The end that was passed as `socket`.
    pub const fn of(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends `message` with `sockets`. Blocks for as long as the other side takes nothing.
    ///
    /// # Errors
    /// What the operating system says: `BrokenPipe` when the other side is gone.
    pub fn send<T: Serialize>(&self, message: &T, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.sent(message, sockets, SendFlags::empty())
    }

    /// Sends `message` if there is room for it on its way now; whether there was.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn offer<T: Serialize>(&self, message: &T) -> io::Result<bool> {
        match self.sent(message, &[], SendFlags::DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            sent => sent.map(|()| true),
        }
    }

    fn sent<T: Serialize>(&self, message: &T, sockets: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
        if sockets.len() > MOST_SOCKETS {
            return Err(io::Error::other(format!("{} sockets are too many to hand over", sockets.len())));
        }
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::Error::other("the sockets do not fit beside the message"));
        }
        // Without SIGPIPE: who is gone is an error like others.
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut beside, flags | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message and what is beside it. Blocks, at most `within`.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub fn receive<T: DeserializeOwned>(&self, within: Option<Duration>) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        if let Some(within) = within
            && !readable(&self.0, within)?
        {
            return Err(ChannelError::Late(within));
        }
        self.received(RecvFlags::empty())
    }

    /// The next message, if one has come.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub fn take<T: DeserializeOwned>(&self) -> Result<Option<T>, ChannelError> {
        match self.received(RecvFlags::DONTWAIT) {
            Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            received => received.map(|(message, _sockets)| Some(message)),
        }
    }

    /// The same socket, for who waits until it has something to read.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn watched(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    fn received<T: DeserializeOwned>(&self, flags: RecvFlags) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut beside, flags) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Err(ChannelError::Ended),
                received => break received.map_err(io::Error::from)?,
            }
        };
        let mut sockets = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                sockets.extend(passed);
            }
        }
        if received.bytes == 0 {
            return Err(ChannelError::Ended);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(ChannelError::Message("it is too long".to_owned()));
        }
        let message = serde_json::from_slice(bytes.get(..received.bytes).unwrap_or_default());
        message.map(|message| (message, sockets)).map_err(|error| ChannelError::Message(error.to_string()))
    }
}

/// Whether `socket` has something to read, or has ended, within `limit`. Blocks.
///
/// # Errors
/// What the operating system says.
pub fn readable(socket: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let limit =
        Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX), tv_nsec: limit.subsec_nanos().into() };
    let mut watched = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
    loop {
        match poll(&mut watched, Some(&limit)) {
            // It may then wait longer, which no caller minds.
            Err(rustix::io::Errno::INTR) => {}
            outcome => return Ok(outcome? > 0),
        }
    }
}
