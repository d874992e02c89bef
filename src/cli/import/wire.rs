//! A client of a Redis server: RESP2, blocking, everything bounded.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};

use super::address::{Address, Reach};
use crate::base::{LocalDisk, disk};
use crate::http::client::tls;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may say nothing, or take nothing.
const PATIENCE: Duration = Duration::from_mins(2);
/// Longest line of a reply.
const LINE: u64 = 64 << 10;
/// Most elements of an array.
const ELEMENTS: u64 = 1 << 20;
/// How deep arrays may lie in each other.
const DEPTH: usize = 4;
/// Most bytes of a file with certificates.
const CERTIFICATES: u64 = 4 << 20;

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A line, such as `OK`.
    Simple(String),
    /// An error's line.
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Self>),
    /// A string of so many bytes, more than was wanted; they were read and dropped.
    TooLong(u64),
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection.
pub(super) struct Client {
    stream: BufReader<Box<dyn Stream>>,
    out: Vec<u8>,
    most: u64,
}

impl Client {
    /// Connects and authenticates. Strings of replies may have `most` bytes; with `cacert`, the certificates in it are
    /// trusted too.
    pub fn connect(address: &Address, cacert: Option<&Path>, most: u64) -> anyhow::Result<Self> {
        let stream: Box<dyn Stream> = match &address.reach {
            Reach::Unix(path) => {
                let stream = UnixStream::connect(path).with_context(|| format!("no connection to {address}"))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Reach::Tcp { host, port, tls: false } => Box::new(tcp(host, *port)?),
            Reach::Tcp { host, port, tls: true } => {
                let config = Arc::new(tls(authorities(cacert)?)?);
                let name = ServerName::try_from(host.clone()).context("the host's name is none TLS knows")?;
                Box::new(StreamOwned::new(ClientConnection::new(config, name)?, tcp(host, *port)?))
            }
        };
        let mut client = Self { stream: BufReader::with_capacity(64 << 10, stream), out: Vec::new(), most };
        if let Some(password) = &address.password {
            let password = password.expose().as_bytes();
            let told = match &address.user {
                Some(user) => client.ask(&[b"AUTH", user.as_bytes(), password]),
                None => client.ask(&[b"AUTH", password]),
            };
            told.with_context(|| format!("{address} lets nobody in with this password"))?;
        }
        client.ask(&[b"PING"]).with_context(|| format!("{address}"))?;
        Ok(client)
    }

    /// Puts a command among those that [`Self::flush`] sends.
    pub fn push(&mut self, arguments: &[&[u8]]) {
        // Writing into a Vec cannot fail.
        let _ = write!(self.out, "*{}\r\n", arguments.len());
        for argument in arguments {
            let _ = write!(self.out, "${}\r\n", argument.len());
            self.out.extend_from_slice(argument);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Sends what was pushed.
    pub fn flush(&mut self) -> io::Result<()> {
        let stream = self.stream.get_mut();
        let sent = stream.write_all(&self.out).and_then(|()| stream.flush());
        self.out = Vec::new();
        sent
    }

    /// The next reply.
    pub fn read(&mut self) -> io::Result<Reply> {
        let mut left = self.most;
        read(&mut self.stream, self.most, &mut left, 0)
    }

    /// A command and its reply, an error included.
    pub fn call(&mut self, arguments: &[&[u8]]) -> io::Result<Reply> {
        self.push(arguments);
        self.flush()?;
        self.read()
    }

    /// A command that must not fail.
    pub fn ask(&mut self, arguments: &[&[u8]]) -> anyhow::Result<Reply> {
        match self.call(arguments)? {
            Reply::Error(error) => bail!("{error}"),
            reply => Ok(reply),
        }
    }
}

fn tcp(host: &str, port: u16) -> anyhow::Result<TcpStream> {
    let told = || format!("no connection to {host}:{port}");
    let mut last = None;
    for address in (host, port).to_socket_addrs().with_context(told)? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error).with_context(told),
        None => bail!("{host} has no address"),
    }
}

/// The certificates in `file`.
pub(super) fn authorities(file: Option<&Path>) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let Some(path) = file else { return Ok(Vec::new()) };
    let told = || format!("{}", path.display());
    let bytes = disk::read_file(&LocalDisk, path, CERTIFICATES).with_context(told)?.with_context(told)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.with_context(|| format!("{}: no certificates in PEM", path.display()))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what it answers is not Redis' protocol")
}

/// Reads a reply whose strings may have `most` bytes each and `left` together.
fn read(stream: &mut impl BufRead, most: u64, left: &mut u64, depth: usize) -> io::Result<Reply> {
    let mut line = Vec::new();
    stream.take(LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, text) = line.strip_suffix(b"\r\n").and_then(|line| line.split_first()).ok_or_else(malformed)?;
    let text = printable(text);
    let number = || text.parse::<i64>().map_err(|_other| malformed());
    Ok(match kind {
        b'+' => Reply::Simple(text),
        b'-' => Reply::Error(text),
        b':' => Reply::Integer(number()?),
        b'$' => match u64::try_from(number()?) {
            Err(_negative) => Reply::Null,
            Ok(len) if len > most.min(*left) => {
                io::copy(&mut stream.take(len), &mut io::sink())?;
                end(stream)?;
                Reply::TooLong(len)
            }
            Ok(len) => {
                let mut bytes = Vec::new();
                stream.take(len).read_to_end(&mut bytes)?;
                if bytes.len() as u64 != len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                end(stream)?;
                *left = left.saturating_sub(len);
                Reply::Bulk(bytes)
            }
        },
        b'*' => match u64::try_from(number()?) {
            Err(_negative) => Reply::Null,
            Ok(count) if count > ELEMENTS || depth >= DEPTH => return Err(malformed()),
            Ok(count) => {
                let depth = depth.saturating_add(1);
                Reply::Array((0..count).map(|_| read(stream, most, left, depth)).collect::<io::Result<_>>()?)
            }
        },
        _ => return Err(malformed()),
    })
}

/// The line end behind a string.
fn end(stream: &mut impl BufRead) -> io::Result<()> {
    let mut end = [0; 2];
    stream.read_exact(&mut end)?;
    if end == *b"\r\n" { Ok(()) } else { Err(malformed()) }
}

/// Foreign bytes for a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8], most: u64) -> io::Result<Reply> {
        read(&mut &*bytes, most, &mut most.clone(), 0)
    }

    #[test]
    fn replies_are_read() {
        let text = b"*5\r\n+OK\r\n-ERR x\x1b\r\n:-3\r\n$3\r\na\r\n\r\n$-1\r\n";
        let bulk = Reply::Bulk(b"a\r\n".to_vec());
        let error = Reply::Error(String::from("ERR x\u{fffd}"));
        let all = vec![Reply::Simple(String::from("OK")), error, Reply::Integer(-3), bulk, Reply::Null];
        assert_eq!(read_all(text, 10).unwrap(), Reply::Array(all));
    }

    #[test]
    fn what_is_too_long_is_dropped_and_the_rest_goes_on() {
        let found = read_all(b"*2\r\n$11\r\nhello world\r\n:1\r\n", 10).unwrap();
        assert_eq!(found, Reply::Array(vec![Reply::TooLong(11), Reply::Integer(1)]));
        for wrong in
            [&b"*9999999\r\n"[..], b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", b"$5\r\nhelloxx", b"$9\r\nhe", b"?\r\n"]
        {
            assert!(read_all(wrong, 100).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_more_than_an_error(bytes: Vec<u8>) {
            let _ = read_all(&bytes, 64);
        }
    }
}
