//! A client's connection under TLS, as the loop reads and writes it. The handshake is over by then ([`super::handshake`]).
//!
//! What the loop relies on:
//! - a read that brings less than asked for has left nothing behind, unless [`TlsStream::has_more`] says otherwise;
//! - what a write took may still wait here as ciphertext ([`TlsStream::holds`]); the next write sends it first.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;
use rustls::ServerConnection;

/// Most records looked at in one read beyond those that fill it. A peer may send empty ones without end.
const RECORDS: usize = 64;
/// Bytes that are encrypted before the socket gets them.
const PIECE: usize = 64 << 10;

/// A TCP connection with its TLS session.
#[derive(Debug)]
pub struct TlsStream {
    /// The connection.
    pub socket: TcpStream,
    session: ServerConnection,
    /// The socket may have more, or the end was seen and not told yet.
    more: bool,
}

impl TlsStream {
    /// A connection whose handshake is over.
    pub const fn new(socket: TcpStream, session: ServerConnection) -> Self {
        Self { socket, session, more: true }
    }

    /// Whether another read may bring something without news from the socket.
    pub const fn has_more(&self) -> bool {
        self.more
    }

    /// Whether ciphertext waits for room in the socket.
    pub fn holds(&self) -> bool {
        self.session.wants_write()
    }

    /// Tells the peer that nothing more comes, as far as the socket takes it at once.
    pub fn say_goodbye(&mut self) {
        self.session.send_close_notify();
        // The connection is closed next, whatever becomes of this.
        let _ = self.flush_records();
    }

    /// Takes what the socket has, at most a record. `Ok(0)` at its end.
    fn fill(&mut self) -> io::Result<usize> {
        let count = self.session.read_tls(&mut self.socket)?;
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says why, if there is room for it.
            let _ = self.flush_records();
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(count)
    }

    /// Sends ciphertext; whether all of it went.
    fn flush_records(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Read for TlsStream {
    /// Fills `target` as far as what has arrived goes. `Ok(0)` at the end, `Interrupted` when records came that hold
    /// nothing and more may follow.
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.more = true;
        let mut count = 0_usize;
        let mut barren = 0_usize;
        while let Some(rest) = target.get_mut(count..).filter(|rest| !rest.is_empty()) {
            match self.session.reader().read(rest) {
                // The peer has said goodbye.
                Ok(0) => return Ok(count),
                Ok(some) => {
                    count = count.saturating_add(some);
                    barren = 0;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The connection ended without a goodbye, which clients do.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(count),
                Err(error) => return if count > 0 { Ok(count) } else { Err(error) },
            }
            if barren > RECORDS {
                return if count > 0 { Ok(count) } else { Err(ErrorKind::Interrupted.into()) };
            }
            barren = barren.saturating_add(1);
            match self.fill() {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.more = false;
                    // Answers of the session's own, to an update of keys.
                    self.flush_records()?;
                    return if count > 0 { Ok(count) } else { Err(error) };
                }
                // What came before is served first; the next read fails again.
                Err(_) if count > 0 => return Ok(count),
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }
}

impl Write for TlsStream {
    /// Takes as much of `bytes` as the socket has room for, and up to [`PIECE`] more.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0_usize;
        while self.flush_records()? {
            let Some(piece) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else { break };
            let piece = piece.get(..PIECE).unwrap_or(piece);
            match self.session.writer().write(piece)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                some => taken = taken.saturating_add(some),
            }
        }
        if taken == 0 && !bytes.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_records().map(|_all| ())
    }
}
