//! One question or update, and its answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use super::wire::{self, Answer};
use crate::base::random::{self, Random};
use crate::edge::acme::failure::Failure;

/// Longest wait for a datagram, and for everything over TCP.
const DATAGRAM: Duration = Duration::from_secs(3);
const STREAM: Duration = Duration::from_secs(20);
/// Most addresses of a name server that are tried.
const MOST_ADDRESSES: usize = 4;
/// Most datagrams looked at that are no answer to the question.
const MOST_FOREIGN: usize = 16;

/// A number to know the answer by.
pub fn id(random: &dyn Random) -> u16 {
    u16::try_from(random::below(random, 1 << 16)).unwrap_or(0)
}

/// The addresses of a name server.
///
/// # Errors
/// It has none.
pub async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let found = lookup_host((host, port)).await;
    let found: Vec<_> =
        found.map_err(|error| Failure::told(format!("{host}: {error}")))?.take(MOST_ADDRESSES).collect();
    if found.is_empty() { Err(Failure::told(format!("{host} has no address"))) } else { Ok(found) }
}

/// Asks `server` for records `kind` of `name`, by datagram, and over TCP when the answer does not fit.
///
/// # Errors
/// No answer, or no answer to this.
pub async fn ask(server: SocketAddr, name: &str, kind: u16, random: &dyn Random) -> Result<Answer, Failure> {
    let wire = wire::name(name).ok_or_else(|| Failure::told(format!("{name} is no DNS name")))?;
    let id = id(random);
    let question = wire::question(id, &wire, kind, false);
    let fits = |answer: &Answer| {
        answer.id == id
            && answer.question.as_ref().is_some_and(|(asked, of)| asked.eq_ignore_ascii_case(name) && *of == kind)
    };
    let answer = timeout(DATAGRAM, by_datagram(server, &question, fits)).await;
    let answer = answer.map_err(|_elapsed| Failure::told(format!("no answer from {server}")))?;
    let answer = answer.map_err(|error| Failure::told(format!("{server}: {error}")))?;
    if !answer.truncated {
        return Ok(answer);
    }
    let (_, answer) = over_tcp(&[server], &question).await?;
    if fits(&answer) { Ok(answer) } else { Err(Failure::told(format!("{server} answered something else"))) }
}

async fn by_datagram(server: SocketAddr, question: &[u8], fits: impl Fn(&Answer) -> bool) -> std::io::Result<Answer> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut room = vec![0; 4096];
    for _ in 0..MOST_FOREIGN {
        let length = socket.recv(&mut room).await?;
        if let Some(answer) = room.get(..length).and_then(|bytes| Answer::read(bytes).ok()).filter(&fits) {
            return Ok(answer);
        }
    }
    Err(std::io::Error::other("its answers are malformed"))
}

/// Sends `message` to the first of `servers` that takes a connection; the answer as bytes and as read.
///
/// # Errors
/// No answer, or no DNS message. Whether it was acted on is unknown then.
pub async fn over_tcp(servers: &[SocketAddr], message: &[u8]) -> Result<(Vec<u8>, Answer), Failure> {
    let shown = servers.first().map(ToString::to_string).unwrap_or_default();
    let exchange = async {
        let mut stream = TcpStream::connect(servers).await?;
        let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
        // One write: some servers expect length and message in one segment.
        let mut out = length.to_be_bytes().to_vec();
        out.extend_from_slice(message);
        stream.write_all(&out).await?;
        let length = stream.read_u16().await?;
        let mut bytes = vec![0; length.into()];
        stream.read_exact(&mut bytes).await?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = timeout(STREAM, exchange).await;
    let bytes = bytes.map_err(|_elapsed| Failure::told(format!("no answer from {shown} within 20 s")))?;
    let bytes = bytes.map_err(|error| Failure::told(format!("{shown}: {error}")))?;
    let answer = Answer::read(&bytes).map_err(|error| Failure::told(format!("{shown}: {error}")))?;
    Ok((bytes, answer))
}
