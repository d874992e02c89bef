//! Listening sockets: one per worker on the same port (SO_REUSEPORT), or some from outside shared by all.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Socket, Type};

use super::config::{EdgeConfig, MAX_WORKERS};
use super::error::EdgeError;

/// Connections the kernel keeps waiting for each worker.
const BACKLOG: i32 = 1024;

/// Ports that are tried when any will do and TCP and UDP are to have the same.
const ATTEMPTS: u32 = 16;

/// The edge's bound sockets; nothing is accepted yet, but clients may already connect and wait.
#[derive(Debug)]
pub struct Listeners {
    workers: usize,
    http: Option<Shared>,
    https: Option<Shared>,
    http3: Option<Datagrams>,
}

/// Where HTTP/3 comes in.
#[derive(Debug)]
pub enum Datagrams {
    /// On this socket.
    Bound(UdpSocket),
    /// At this address, once whoever has it lets go of it: the process before serves what is open to its end.
    Taken(SocketAddr),
}

/// One address, a socket for each worker.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    sockets: Vec<TcpListener>,
}

/// One worker's sockets. There are several of a kind when a process before had more workers: each socket has its own queue
/// of connections, and none may stay without somebody who accepts.
#[derive(Debug)]
pub struct WorkerListeners {
    /// Plain HTTP.
    pub http: Vec<TcpListener>,
    /// HTTPS.
    pub https: Vec<TcpListener>,
    /// HTTP/3, which one worker has: a datagram must come to who has its connection.
    pub http3: Option<Datagrams>,
}

impl Listeners {
    /// Binds what `config` names. Port 0 takes a free port, the same for every worker.
    ///
    /// # Errors
    /// [`EdgeError::PortTaken`], [`EdgeError::PortForbidden`], [`EdgeError::Listen`]; no socket is left open.
    pub fn bind(config: &EdgeConfig) -> Result<Self, EdgeError> {
        let workers = workers(config);
        let bound = |listen: crate::base::Listen, key| listen.address().map(|at| bind(at, key, workers)).transpose();
        let http = bound(config.http, "edge.http")?;
        let (https, http3) = bind_https(config, workers)?;
        Ok(Self { workers, http, https, http3 })
    }

    /// Takes over sockets bound outside (systemd's `LISTEN_FDS`), in place of what `config` names. A kind of which there
    /// are none is off.
    ///
    /// # Errors
    /// [`EdgeError::System`]: a socket cannot be shared or is none.
    pub fn adopt(config: &EdgeConfig, http: Vec<TcpListener>, https: Vec<TcpListener>) -> Result<Self, EdgeError> {
        let workers = workers(config);
        let (http, https) = (share(http, workers)?, share(https, workers)?);
        let http3 = datagrams(config, https.as_ref())?;
        Ok(Self { workers, http, https, http3 })
    }

    /// Takes over sockets that a process before has bound by the same settings, and binds what it has not.
    ///
    /// # Errors
    /// As [`Self::adopt`] and [`Self::bind`].
    pub fn complete(config: &EdgeConfig, http: Vec<TcpListener>, https: Vec<TcpListener>) -> Result<Self, EdgeError> {
        let workers = workers(config);
        let had = |sockets: Vec<TcpListener>, listen: crate::base::Listen, key| match share(sockets, workers)? {
            None => listen.address().map(|at| bind(at, key, workers)).transpose(),
            shared => Ok(shared),
        };
        let http = had(http, config.http, "edge.http")?;
        let (https, http3) = match share(https, workers)? {
            None => bind_https(config, workers)?,
            shared => {
                let http3 = datagrams(config, shared.as_ref())?;
                (shared, http3)
            }
        };
        Ok(Self { workers, http, https, http3 })
    }

    /// The sockets of plain HTTP and of HTTPS.
    pub fn sockets(&self) -> (&[TcpListener], &[TcpListener]) {
        const NONE: &[TcpListener] = &[];
        let http = self.http.as_ref().map_or(NONE, |shared| &shared.sockets);
        (http, self.https.as_ref().map_or(NONE, |shared| &shared.sockets))
    }

    /// Where plain HTTP really listens.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|shared| shared.address)
    }

    /// Where HTTPS really listens.
    pub fn https(&self) -> Option<SocketAddr> {
        self.https.as_ref().map(|shared| shared.address)
    }

    /// Where HTTP/3 is answered, now or once the port is free.
    pub fn http3(&self) -> Option<SocketAddr> {
        self.http3.as_ref().and(self.https())
    }

    /// The sockets, worker by worker.
    pub fn split(self) -> Vec<WorkerListeners> {
        let mut all: Vec<_> =
            (0..self.workers).map(|_| WorkerListeners { http: Vec::new(), https: Vec::new(), http3: None }).collect();
        if let Some(first) = all.first_mut() {
            first.http3 = self.http3;
        }
        let sockets = |shared: Option<Shared>| shared.map(|shared| shared.sockets).unwrap_or_default();
        for (index, socket) in sockets(self.http).into_iter().enumerate() {
            if let Some(worker) = all.get_mut(index % self.workers) {
                worker.http.push(socket);
            }
        }
        for (index, socket) in sockets(self.https).into_iter().enumerate() {
            if let Some(worker) = all.get_mut(index % self.workers) {
                worker.https.push(socket);
            }
        }
        all
    }
}

/// At least one socket for each of `workers`; `None` when there are none.
fn share(sockets: Vec<TcpListener>, workers: usize) -> Result<Option<Shared>, EdgeError> {
    let failed = |source| EdgeError::System { what: "cannot use the sockets handed in", source };
    let Some(first) = sockets.first() else { return Ok(None) };
    let address = first.local_addr().map_err(failed)?;
    let more = workers.saturating_sub(sockets.len());
    let shared: Vec<_> =
        sockets.iter().cycle().take(more).map(TcpListener::try_clone).collect::<io::Result<_>>().map_err(failed)?;
    let sockets = sockets.into_iter().chain(shared).collect();
    Ok(Some(Shared { address, sockets }))
}

/// Workers to start: as configured, else one for each core.
fn workers(config: &EdgeConfig) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let asked = if config.workers == 0 { cores() } else { config.workers as usize };
    asked.clamp(1, MAX_WORKERS)
}

fn bind(address: SocketAddr, key: &'static str, workers: usize) -> Result<Shared, EdgeError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => {
            let port = if address.port() < 1024 { address.port() + 8000 } else { address.port().wrapping_add(100) };
            EdgeError::PortTaken { key, address, suggestion: SocketAddr::new(address.ip(), port) }
        }
        io::ErrorKind::PermissionDenied => EdgeError::PortForbidden { key, address },
        _ => EdgeError::Listen { key, address, source },
    };
    if address.port() != 0 {
        // With SO_REUSEPORT alone a second Mainstay of the same user would silently take half of the connections.
        // Without it the kernel tells; the moment between the two is too short to matter.
        drop(socket(address, Reuse::Address).map_err(failed)?);
    }
    let first = socket(address, Reuse::Port).map_err(failed)?;
    let address = first.local_addr().map_err(failed)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(socket(address, Reuse::Port).map_err(failed)?);
    }
    Ok(Shared { address, sockets })
}

/// The sockets of HTTPS and HTTP/3. A port that is ours to choose is free for both.
fn bind_https(config: &EdgeConfig, workers: usize) -> Result<(Option<Shared>, Option<Datagrams>), EdgeError> {
    let Some(address) = config.https.address() else { return Ok((None, None)) };
    let mut attempts = if address.port() == 0 { ATTEMPTS } else { 1 };
    loop {
        let https = bind(address, "edge.https", workers)?;
        let http3 = datagrams(config, Some(&https))?;
        attempts -= 1;
        if attempts == 0 || !matches!(http3, Some(Datagrams::Taken(_))) {
            return Ok((Some(https), http3));
        }
    }
}

/// The socket for HTTP/3, on the port of HTTPS.
fn datagrams(config: &EdgeConfig, https: Option<&Shared>) -> Result<Option<Datagrams>, EdgeError> {
    let key = "edge.http3";
    let Some(address) = https.filter(|_| config.http3).map(|https| https.address) else { return Ok(None) };
    match bind_datagrams(address) {
        Ok(socket) => Ok(Some(Datagrams::Bound(socket))),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(Some(Datagrams::Taken(address))),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(EdgeError::DatagramsForbidden { key, address })
        }
        Err(source) => Err(EdgeError::Listen { key, address, source }),
    }
}

/// Binds `address` for datagrams, for this process alone: what two share is dealt out by the kernel, which knows nothing of
/// connections.
///
/// # Errors
/// What the operating system says.
pub fn bind_datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reuse {
    /// Ports whose last connections are still in `TIME_WAIT`.
    Address,
    /// The same, and ports on which this user listens already.
    Port,
}

fn socket(address: SocketAddr, reuse: Reuse) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse == Reuse::Port)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two listeners here, whatever the host's default.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Listen;

    fn config(http: Listen) -> EdgeConfig {
        EdgeConfig { http, https: Listen::loopback(0), workers: 3, ..EdgeConfig::default() }
    }

    #[test]
    fn port_zero_takes_one_free_port_for_all_workers() {
        let listeners = Listeners::bind(&config(Listen::OFF)).unwrap();
        assert_eq!(listeners.http(), None);
        let address = listeners.https().unwrap();
        assert_ne!(address.port(), 0);
        let workers = listeners.split();
        assert_eq!(workers.len(), 3);
        for worker in workers {
            assert_eq!(worker.https[0].local_addr().unwrap(), address);
        }
    }

    #[test]
    fn a_taken_port_is_told_with_its_setting_even_when_the_taker_shares() {
        let first = Listeners::bind(&config(Listen::loopback(0))).unwrap();
        let taken = Listen(first.http());
        let error = Listeners::bind(&config(taken)).unwrap_err().to_string();
        assert!(error.contains("edge.http") && error.contains(&taken.to_string()), "{error}");
    }

    #[test]
    fn sockets_from_outside_are_shared_by_all_workers() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listeners = Listeners::adopt(&config(Listen::OFF), vec![socket], Vec::new()).unwrap();
        assert_eq!((listeners.http(), listeners.https()), (Some(address), None));
        assert!(listeners.split().iter().all(|worker| worker.http.len() == 1));
    }

    #[test]
    fn http_3_has_the_port_of_https_for_one_worker_and_waits_for_it_when_it_is_taken() {
        let with = |https| EdgeConfig { http3: true, https, ..config(Listen::OFF) };
        let listeners = Listeners::bind(&with(Listen::loopback(0))).unwrap();
        let address = listeners.https().unwrap();
        assert_eq!(listeners.http3(), Some(address));
        let workers = listeners.split();
        let Some(Datagrams::Bound(socket)) = &workers[0].http3 else { panic!("not bound") };
        assert_eq!(socket.local_addr().unwrap(), address);
        assert!(workers[1].http3.is_none());

        let sockets = workers.iter().flat_map(|worker| &worker.https).map(|socket| socket.try_clone().unwrap());
        let after = Listeners::complete(&with(Listen(Some(address))), Vec::new(), sockets.collect()).unwrap();
        assert!(matches!(after.split()[0].http3, Some(Datagrams::Taken(at)) if at == address));
        assert!(Listeners::bind(&config(Listen::OFF)).unwrap().http3().is_none());
    }

    #[test]
    fn fewer_workers_accept_from_all_sockets_of_more() {
        let before = Listeners::bind(&config(Listen::OFF)).unwrap();
        let address = before.https();
        let sockets = before.sockets().1.iter().map(|socket| socket.try_clone().unwrap()).collect();
        let one = EdgeConfig { workers: 2, ..config(Listen::loopback(0)) };
        let after = Listeners::complete(&one, Vec::new(), sockets).unwrap();
        assert_eq!(after.https(), address);
        assert_ne!(after.http(), None, "what the process before did not have is bound");
        let counts: Vec<usize> = after.split().iter().map(|worker| worker.https.len()).collect();
        assert_eq!(counts, [2, 1]);
    }
}
