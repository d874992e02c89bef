//! The PROXY protocol: what a load balancer that passes bytes on says about a connection before its first byte.
//!
//! Both forms are read, the line and the binary one, as `proxy-protocol.txt` (versions 1 and 2, of 2020/03/05) has them. Nothing behind the header is taken off the stream. Additions (TLV) are passed over.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// How a header in binary begins (section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// How a line begins (section 2.1).
const WORD: &[u8] = b"PROXY ";
/// Most bytes of a line, with its end (section 2.1).
const LINE_MAX: usize = 107;
/// Most bytes behind the first 16 of a header in binary: the longest addresses take 216, and additions such as a
/// certificate's names some hundred.
const BINARY_MAX: usize = 4096;

/// Why a connection is not one that a proxy announces.
#[derive(Debug, thiserror::Error)]
pub enum ProxyProtocolError {
    /// It ended, or failed.
    #[error("the connection ended before its PROXY header did: {0}")]
    Io(#[from] io::Error),
    /// What came is no header.
    #[error("no PROXY header: {0}")]
    Malformed(&'static str),
}

use ProxyProtocolError::Malformed;

/// Reads the header off the beginning of `stream`: the client's address, or `None` when the proxy speaks for itself (its
/// own health checks) or of an address that is no IP address.
///
/// # Errors
/// [`ProxyProtocolError`]; the connection cannot be used then.
///
/// # Cancel safety
/// None: bytes that were read are gone. Who drops it closes the connection.
pub async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    let mut begin = [0; SIGNATURE.len()];
    stream.read_exact(&mut begin).await?;
    if begin == SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        let [command, family, rest @ ..] = fixed;
        let length = usize::from(u16::from_be_bytes(rest));
        if length > BINARY_MAX {
            return Err(Malformed("it is too long"));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        return binary(command, family, &body);
    }
    if !begin.starts_with(WORD) {
        return Err(Malformed("it begins with neither form"));
    }
    let mut line = begin.to_vec();
    loop {
        // Looked at before it is taken: what follows the line is the client's.
        let mut seen = [0; LINE_MAX];
        let room = LINE_MAX.saturating_sub(line.len());
        let count = stream.peek(seen.get_mut(..room).unwrap_or_default()).await?;
        let seen = seen.get_mut(..count).unwrap_or_default();
        if seen.is_empty() {
            return Err(Malformed("its line does not end"));
        }
        let end = seen.iter().position(|byte| *byte == b'\n');
        let take = end.map_or(count, |at| at.saturating_add(1));
        let taken = seen.get_mut(..take).unwrap_or_default();
        stream.read_exact(taken).await?;
        line.extend_from_slice(taken);
        if end.is_some() {
            return text(&line);
        }
    }
}

/// A line, with its end.
fn text(line: &[u8]) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    let line = line.strip_suffix(b"\r\n").ok_or(Malformed("its line does not end in CR LF"))?;
    let line = std::str::from_utf8(line).map_err(|_not_utf8| Malformed("its line is no text"))?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let (Some(source), Some(destination), Some(from), Some(to), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed("its line has not two addresses and two ports"));
    };
    let address = |text: &str| -> Result<IpAddr, ProxyProtocolError> {
        let address: IpAddr = text.parse().map_err(|_no_address| Malformed("an address is none"))?;
        match family {
            "TCP4" if address.is_ipv4() => Ok(address),
            "TCP6" if address.is_ipv6() => Ok(address),
            _ => Err(Malformed("an address is not of the family")),
        }
    };
    let port = |text: &str| -> Result<u16, ProxyProtocolError> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| plain).ok_or(Malformed("a port is none"))
    };
    address(destination)?;
    port(to)?;
    Ok(Some(SocketAddr::new(address(source)?, port(from)?)))
}

/// What follows the signature: version with command, family with transport, and what they announce.
fn binary(command: u8, family: u8, body: &[u8]) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    match command {
        // LOCAL: the proxy's own connection, whatever addresses say.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(Malformed("its version or command is unknown")),
    }
    let short = Malformed("its addresses are cut off");
    match family >> 4 {
        // AF_UNSPEC, and AF_UNIX: nobody that could be named.
        0 | 3 => Ok(None),
        1 => {
            let Some((addresses, _)) = body.split_first_chunk::<12>() else { return Err(short) };
            let [a, b, c, d, _, _, _, _, high, low, ..] = *addresses;
            Ok(Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low]))))
        }
        2 => {
            let Some((addresses, _)) = body.split_first_chunk::<36>() else { return Err(short) };
            let Some((source, rest)) = addresses.split_first_chunk::<16>() else { return Err(short) };
            let Some((_, ports)) = rest.split_first_chunk::<16>() else { return Err(short) };
            let Some((port, _)) = ports.split_first_chunk::<2>() else { return Err(short) };
            Ok(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes(*port))))
        }
        _ => Err(Malformed("its family is unknown")),
    }
}

/// Reads `bytes` as either form, for the fuzzer.
#[cfg(any(test, feature = "testing"))]
pub(super) fn parse(bytes: &[u8]) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    match bytes.strip_prefix(&SIGNATURE) {
        Some([command, family, _, _, body @ ..]) => binary(*command, *family, body),
        Some(_) => Err(Malformed("it is cut off")),
        None => text(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> Option<String> {
        parse(bytes).ok().map(|address| address.map_or_else(|| "-".to_owned(), |address| address.to_string()))
    }

    #[test]
    fn lines_tell_the_client_or_nobody() {
        for (line, client) in [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", "192.0.2.7:56324"),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 443\r\n", "[2001:db8::7]:1"),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"),
            ("PROXY UNKNOWN\r\n", "-"),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "-"),
        ] {
            assert_eq!(said(line.as_bytes()).as_deref(), Some(client), "{line}");
        }
    }

    #[test]
    fn lines_that_are_not_exactly_so_are_refused() {
        for line in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 1\r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.1 56324 443\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n",
            "PROXY TCP4 192.0.2.7 x 1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(said(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn the_binary_form_tells_the_client_or_nobody() {
        let header = |command: u8, family: u8, body: &[u8]| {
            let length = u16::try_from(body.len()).unwrap().to_be_bytes();
            [SIGNATURE.as_slice(), &[command, family], &length, body].concat()
        };
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 187];
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        (six[15], six[33]) = (7, 9);
        assert_eq!(said(&header(0x21, 0x11, &four)).as_deref(), Some("192.0.2.7:56324"));
        assert_eq!(
            said(&header(0x21, 0x11, &[four.as_slice(), &[4, 0, 1, 9]].concat())).as_deref(),
            Some("192.0.2.7:56324")
        );
        assert_eq!(said(&header(0x21, 0x21, &six)).as_deref(), Some("[2001:db8::7]:9"));
        assert_eq!(said(&header(0x20, 0x11, &four)).as_deref(), Some("-"));
        assert_eq!(said(&header(0x21, 0x00, &[])).as_deref(), Some("-"));
        assert_eq!(said(&header(0x21, 0x31, &[0; 216])).as_deref(), Some("-"));
        for (command, family, body) in [
            (0x11, 0x11, four.as_slice()),
            (0x22, 0x11, &four),
            (0x21, 0x41, &four),
            (0x21, 0x11, &four[..11]),
            (0x21, 0x21, &six[..35]),
        ] {
            assert_eq!(said(&header(command, family, body)), None);
        }
    }
}
