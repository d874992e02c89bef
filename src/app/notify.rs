//! Tells the service manager when the server is ready and when it stops (`sd_notify(3)`: `Type=notify`), so that a
//! `systemctl start` or `restart` returns when every door answers, and units ordered behind it start no earlier.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What the service manager can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Every door that is on answers.
    Ready,
    /// What is under way is being finished.
    Stopping,
    /// Another process has taken over; this one only finishes what it has.
    Moved(u32),
}

impl News {
    fn text(self) -> String {
        match self {
            Self::Ready => "READY=1\nSTATUS=serving".to_owned(),
            Self::Stopping => "STOPPING=1\nSTATUS=finishing what is under way".to_owned(),
            Self::Moved(pid) => format!("MAINPID={pid}\nSTATUS=serving, upgraded without a stop"),
        }
    }
}

/// The way to the service manager, if one waits for news.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<String>,
}

impl Notifier {
    /// For the socket that `NOTIFY_SOCKET` names: a path, or with `@` at its start a name in the abstract space.
    pub const fn new(socket: Option<String>) -> Self {
        Self { socket }
    }

    /// Tells `news`. Failing is worth a warning and nothing more: the service manager gives up on its own terms.
    pub fn tell(&self, news: News) {
        let Some(name) = &self.socket else { return };
        if let Err(error) = send(name, &news.text()) {
            tracing::warn!(%error, "the service manager's socket (NOTIFY_SOCKET) takes no news");
        }
    }
}

fn send(name: &str, text: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // Never waited for: the queue of a manager that reads nothing must not hold the server up.
    socket.set_nonblocking(true)?;
    let address = match name.strip_prefix('@') {
        Some(hidden) => SocketAddr::from_abstract_name(hidden)?,
        None => SocketAddr::from_pathname(name)?,
    };
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn the_manager_hears_of_ready_stopping_and_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.to_str().map(str::to_owned));
        notifier.tell(News::Ready);
        assert!(heard(&manager).starts_with("READY=1\n"));
        notifier.tell(News::Stopping);
        assert!(heard(&manager).starts_with("STOPPING=1\n"));
        notifier.tell(News::Moved(42));
        assert!(heard(&manager).starts_with("MAINPID=42\n"));
    }

    #[test]
    fn a_name_in_the_abstract_space_is_found_too() {
        let name = format!("mainstay-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::new(Some(format!("@{name}"))).tell(News::Ready);
        assert!(heard(&manager).starts_with("READY=1\n"));
    }

    #[test]
    fn without_a_manager_and_with_one_that_is_gone_nothing_happens() {
        Notifier::default().tell(News::Ready);
        Notifier::new(Some(String::from("/nowhere/notify"))).tell(News::Stopping);
    }
}
