//! Waiting for a future on a plain thread.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

/// Runs `future` to its end on this thread, which sleeps meanwhile. The future must be woken from another thread: it
/// must not need an async runtime that this thread drives.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            // A wake that came since the poll makes this return at once.
            Poll::Pending => thread::park(),
        }
    }
}

/// As [`block_on`], but gives up, and drops the future, when nothing has woken it for `longest`.
pub(super) fn block_on_for<T>(future: impl Future<Output = T>, longest: Duration) -> Option<T> {
    let bell = Arc::new(Bell::default());
    let waker = Arc::clone(&bell).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return Some(value),
            Poll::Pending if bell.rings_within(longest) => {}
            Poll::Pending => return None,
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Wakes a thread that waits for a time only.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// Waits until it was rung since the last time; false when it was not within `longest`.
    fn rings_within(&self, longest: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.wait_timeout_while(rung, longest, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rung)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ready_or_comes_in_time_is_given_and_what_does_not_come_is_given_up() {
        assert_eq!(block_on_for(async { 7 }, Duration::ZERO), Some(7));
        assert_eq!(block_on_for(std::future::pending::<()>(), Duration::from_millis(1)), None);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        thread::scope(|scope| {
            scope.spawn(move || sender.send(8).unwrap());
            assert_eq!(block_on_for(receiver, Duration::from_mins(1)).map(Result::ok), Some(Some(8)));
        });
    }
}
