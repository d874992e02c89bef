//! Why a stream or a connection ends (RFC 9114 section 8.1, RFC 9204 section 6).

use quinn::VarInt;

/// An error code of HTTP/3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u32);

impl Code {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0x100);
    /// This server failed.
    pub const INTERNAL_ERROR: Self = Self(0x102);
    /// A stream that may not be there.
    pub const STREAM_CREATION_ERROR: Self = Self(0x103);
    /// A stream that must stay open was closed.
    pub const CLOSED_CRITICAL_STREAM: Self = Self(0x104);
    /// A frame in the wrong place.
    pub const FRAME_UNEXPECTED: Self = Self(0x105);
    /// A frame that is none.
    pub const FRAME_ERROR: Self = Self(0x106);
    /// Too much of anything.
    pub const EXCESSIVE_LOAD: Self = Self(0x107);
    /// Settings that are none.
    pub const SETTINGS_ERROR: Self = Self(0x109);
    /// A control stream that does not begin with settings.
    pub const MISSING_SETTINGS: Self = Self(0x10a);
    /// A request nobody has looked at: the client may ask again elsewhere.
    pub const REQUEST_REJECTED: Self = Self(0x10b);
    /// A request that does not go on.
    pub const REQUEST_CANCELLED: Self = Self(0x10c);
    /// A request that breaks off before its head is over.
    pub const REQUEST_INCOMPLETE: Self = Self(0x10d);
    /// A malformed message.
    pub const MESSAGE_ERROR: Self = Self(0x10e);
    /// A head that cannot be read.
    pub const DECOMPRESSION_FAILED: Self = Self(0x200);
    /// The client changes a table that there is not.
    pub const ENCODER_STREAM_ERROR: Self = Self(0x201);

    /// As it is sent.
    pub const fn number(self) -> VarInt {
        VarInt::from_u32(self.0)
    }
}

/// What ends because of something a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One request.
    Stream(Code),
    /// The connection.
    Connection(Code),
}
