//! Wakers of our own between a future and its task: what is woken often need not be polled as often.
//!
//! A task that holds several futures polls them all whenever one is woken, and a future whose halves wake each other wakes
//! a task that is running anyway. A [`Bell`] knows whether it rang and passes it on only while somebody listens.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Ringing is noted, and wakes nobody.
const HUSHED: u8 = 1;
/// It has rung.
const RUNG: u8 = 2;

/// A waker that notes that it was woken, and wakes whoever listens unless it is hushed.
#[derive(Debug, Default)]
pub struct Bell {
    state: AtomicU8,
    listener: AtomicWaker,
}

impl Bell {
    /// A bell with nobody who listens, and the waker that rings it.
    pub fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        let waker = Waker::from(Arc::clone(&bell));
        (bell, waker)
    }

    /// From now on `listener` is woken, in place of who was before.
    pub fn listen(&self, listener: &Waker) {
        self.listener.register(listener);
    }

    /// From now on ringing is noted only; what was noted before is forgotten.
    pub fn hush(&self) {
        self.state.store(HUSHED, Ordering::SeqCst);
    }

    /// Ringing wakes again. Whether it rang while it was hushed, which woke nobody.
    pub fn unhush(&self) -> bool {
        self.state.swap(0, Ordering::SeqCst) & RUNG != 0
    }

    /// Nobody listens any more; ringing is noted.
    pub fn rest(&self) {
        self.hush();
        drop(self.listener.take());
    }

    /// Whether it has rung since that was last forgotten.
    pub fn has_rung(&self) -> bool {
        self.state.load(Ordering::SeqCst) & RUNG != 0
    }

    /// Forgets that it has rung.
    fn forget(&self) {
        self.state.fetch_and(!RUNG, Ordering::SeqCst);
    }

    fn ring(&self) {
        // Noted first: who unhushes it at the same time sees either this, or is woken.
        if self.state.fetch_or(RUNG, Ordering::SeqCst) & HUSHED == 0 {
            self.listener.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// A future that is polled only when it was woken, however often the task around it is.
#[derive(Debug)]
pub struct Drowsy<F> {
    future: F,
    bell: Arc<Bell>,
    waker: Waker,
    /// The task that is woken; `None` before the first poll.
    listener: Option<Waker>,
}

impl<F: Future + Unpin> Drowsy<F> {
    /// `future`, polled when it wants to be.
    pub fn new(future: F) -> Self {
        let (bell, waker) = Bell::new();
        Self { future, bell, waker, listener: None }
    }
}

impl<F: Future + Unpin> Future for Drowsy<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let listens = this.listener.as_ref().is_some_and(|listener| listener.will_wake(context.waker()));
        if listens && !this.bell.has_rung() {
            return Poll::Pending;
        }
        // Ringing took the listener away.
        this.bell.listen(context.waker());
        if !listens {
            this.listener = Some(context.waker().clone());
        }
        this.bell.forget();
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::poll_fn;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_hushed_bell_notes_and_another_one_wakes() {
        let (bell, waker) = Bell::new();
        let count = Arc::new(Count::default());
        bell.listen(&Waker::from(Arc::clone(&count)));
        bell.hush();
        waker.wake_by_ref();
        assert!(bell.has_rung() && count.0.load(Ordering::SeqCst) == 0);
        assert!(bell.unhush() && !bell.has_rung());
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(bell.has_rung());
        bell.hush();
        assert!(!bell.unhush());
    }

    #[test]
    fn a_bell_at_rest_holds_no_task() {
        let (bell, waker) = Bell::new();
        let count = Arc::new(Count::default());
        bell.listen(&Waker::from(Arc::clone(&count)));
        bell.rest();
        assert_eq!(Arc::strong_count(&count), 1);
        waker.wake();
        assert!(bell.has_rung() && count.0.load(Ordering::SeqCst) == 0);
    }

    #[test]
    fn a_drowsy_future_is_polled_when_it_was_woken_or_the_task_is_another() {
        let polls = Arc::new(AtomicUsize::new(0));
        let own = Arc::new(std::sync::Mutex::new(None::<Waker>));
        let future = {
            let (polls, own) = (Arc::clone(&polls), Arc::clone(&own));
            poll_fn(move |context| {
                *own.lock().unwrap() = Some(context.waker().clone());
                if polls.fetch_add(1, Ordering::SeqCst) == 2 { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        let mut drowsy = Drowsy::new(future);
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (one, two) = (Waker::from(Arc::clone(&first)), Waker::from(Arc::clone(&second)));
        let mut poll = |waker: &Waker| Pin::new(&mut drowsy).poll(&mut Context::from_waker(waker));
        assert!(poll(&one).is_pending() && poll(&one).is_pending());
        assert_eq!(polls.load(Ordering::SeqCst), 1);
        assert!(poll(&two).is_pending() && poll(&two).is_pending());
        assert_eq!(polls.load(Ordering::SeqCst), 2);
        own.lock().unwrap().take().unwrap().wake();
        assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
        assert!(poll(&two).is_ready());
    }
}
