//! The accept loop of the data folder's Unix sockets: so many at once, and further ones wait in the socket's queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::Shutdown;

/// Wait after an accept that failed for want of descriptors or memory.
const BREATH: Duration = Duration::from_millis(100);

/// Hands every connection that comes to `listener` to `begin`, with its place among at most `most`, until the server drains; `what`
/// comes there, for the log.
pub async fn accept(
    listener: UnixListener,
    most: usize,
    shutdown: Shutdown,
    what: &'static str,
    begin: impl Fn(UnixStream, OwnedSemaphorePermit),
) {
    let places = Arc::new(Semaphore::new(most));
    let mut draining = std::pin::pin!(shutdown.draining());
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = draining.as_mut() => return,
            next = next => next,
        };
        match (accepted, place) {
            (Ok((stream, _)), Ok(place)) => begin(stream, place),
            // Nobody closes the semaphore.
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                tracing::warn!(%error, what, "a connection cannot be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}
