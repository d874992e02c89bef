//! Listeners, bound before anything else, so that a taken port is told before any data is touched.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use super::StartError;
use super::inherited::Inherited;
use crate::base::Listen;

/// Connections the kernel holds for a listener until they are accepted.
const BACKLOG: i32 = 1024;

/// The bound listeners by their setting's key.
#[derive(Debug, Default)]
pub struct Sockets(BTreeMap<&'static str, TcpListener>);

impl Sockets {
    /// Binds every door that is on, unless its socket was passed on. Non-blocking, as async code wants them.
    ///
    /// # Errors
    /// [`StartError::Address`] for the first address that cannot be had.
    pub fn bind(doors: &[(&'static str, Listen)], inherited: &mut Inherited) -> Result<Self, StartError> {
        let mut out = BTreeMap::new();
        for (key, listen) in doors {
            if let Some(listener) = inherited.tcp(key, &listen.to_string()).pop() {
                out.insert(*key, listener);
            } else if let Some(address) = listen.address() {
                let bound = bind(address).map_err(|source| {
                    let instead = way_out(key, address, &source);
                    StartError::Address { key, address, source, instead }
                })?;
                out.insert(*key, bound);
            }
        }
        Ok(Self(out))
    }

    /// Where the door of `key` listens; `None` when it is off. With port 0, the port that was found.
    pub fn address(&self, key: &str) -> Option<SocketAddr> {
        self.0.get(key).and_then(|listener| listener.local_addr().ok())
    }

    /// The listeners by their setting's key.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &TcpListener)> {
        self.0.iter().map(|(key, listener)| (*key, listener))
    }

    /// Hands over the listener of `key`; `None` when the door is off.
    pub fn take(&mut self, key: &str) -> Option<TcpListener> {
        self.0.remove(key)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // Or a restart would wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two listeners here, whatever the host's default.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn way_out(key: &str, address: SocketAddr, error: &io::Error) -> String {
    let variable = format!("MAINSTAY_{}", key.to_ascii_uppercase().replace('.', "__"));
    let other = SocketAddr::new(address.ip(), address.port().wrapping_add(10_000).max(1024));
    let elsewhere = format!("set {key} to another address, as in `{variable}={other}`, or to nothing to turn it off");
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "port {} is taken by another program: stop it (`ss -ltnp` shows which), or {elsewhere}",
                address.port()
            )
        }
        io::ErrorKind::PermissionDenied if address.port() < 1024 => format!(
            "ports below 1024 need CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE); give it, or {elsewhere}"
        ),
        io::ErrorKind::AddrNotAvailable => format!("this machine has no address {}; {elsewhere}", address.ip()),
        _ => elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(doors: &[(&'static str, Listen)]) -> Result<Sockets, StartError> {
        Sockets::bind(doors, &mut Inherited::default())
    }

    #[test]
    fn port_0_finds_a_free_port_and_reports_it() {
        let mut sockets = bound(&[("a.listen", Listen::loopback(0)), ("b.listen", Listen::OFF)]).unwrap();
        assert_ne!(sockets.address("a.listen").unwrap().port(), 0);
        assert!(sockets.address("b.listen").is_none() && sockets.take("b.listen").is_none());
        assert!(sockets.take("a.listen").is_some());
    }

    #[test]
    fn a_taken_port_is_told_with_the_setting_and_how_to_change_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let told = bound(&[("s3.listen", Listen::loopback(port))]).unwrap_err().to_string();
        assert!(told.starts_with(&format!("s3.listen: cannot listen on 127.0.0.1:{port}")), "{told}");
        assert!(told.contains("MAINSTAY_S3__LISTEN=127.0.0.1:"), "{told}");
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        let listen = Listen(Some("192.0.2.1:0".parse().unwrap()));
        let told = bound(&[("s3.listen", listen)]).unwrap_err().to_string();
        assert!(told.contains("this machine has no address 192.0.2.1"), "{told}");
    }
}
