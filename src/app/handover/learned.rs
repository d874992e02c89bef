//! What a process learns when another one has the data folder, on its way there: who is banned, which pages were seen, which
//! kept answers are no longer good.
//!
//! It goes over the channel on which the turn was given, in words of [`Learned`]. [`Learning`] is the end of the process that was
//! replaced: nothing that it holds back waits in more than a bounded place, and what was told to a process that did not come to
//! serve is told to the next. [`Hearing`] is the end of the process in its place: it takes in what has been said before its edge
//! accepts anybody, so that who was banned meanwhile does not get in, and listens until the other end is gone. A process that is
//! itself replaced passes on what it hears.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::channel::{Channel, ChannelError};
use super::message::{Banned, Learned, Page, Word};
use crate::analytics::{Analytics, Note};
use crate::bans::Bans;
use crate::edge::{Cache, Changed, Changes};

/// Bans, pages and places of one word: together less than the longest message, whatever they hold.
const AT_ONCE: [usize; 3] = [32, 8, 3];
/// Most words that wait to be sent, or for their receiver to serve.
const MOST: usize = 512;
/// Most pages, and most places of kept answers, that are held until they can be taken in.
const MOST_EARLY: usize = 4_096;
/// Wait when the other process takes nothing, or is not there yet.
const BREATH: Duration = Duration::from_millis(100);
/// Longest wait for the last words to be sent.
const LAST: Duration = Duration::from_secs(2);

/// The end of the process that was replaced.
#[derive(Debug)]
pub struct Learning {
    bans: Bans,
    analytics: Analytics,
    changes: Option<Arc<Changes>>,
    /// What the process before this one still tells.
    before: Option<Hearing>,
    pages: Vec<Note>,
    waiting: VecDeque<Word>,
    /// Told to a process that does not serve yet.
    told: Vec<Word>,
    to: To,
}

/// Who is told.
#[derive(Debug)]
enum To {
    /// Nobody yet.
    Nobody,
    /// A process that has its turn.
    Beginner(Arc<Channel>),
    /// The process that serves.
    Server(Arc<Channel>),
    /// Nobody any more.
    Over,
}

impl Learning {
    /// Begins to note what is learned, also from the process `before`.
    pub fn begin(bans: Bans, analytics: Analytics, cache: Option<&Cache>, before: Option<Hearing>) -> Self {
        let changes = cache.map(Cache::note_changes);
        let (waiting, told) = (VecDeque::new(), Vec::new());
        Self { bans, analytics, changes, before, pages: Vec::new(), waiting, told, to: To::Nobody }
    }

    /// A process at the other end of `channel` is given its turn.
    pub fn tell(&mut self, channel: Arc<Channel>) {
        self.to = To::Beginner(channel);
    }

    /// It serves.
    pub fn told(&mut self) {
        self.told.clear();
        if let To::Beginner(channel) = std::mem::replace(&mut self.to, To::Over) {
            self.to = To::Server(channel);
        }
    }

    /// It does not.
    pub fn not_told(&mut self) {
        for word in self.told.drain(..).rev() {
            self.waiting.push_front(word);
        }
        self.to = To::Nobody;
    }

    /// Passes on what is learned, until `other` is over.
    pub async fn beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            over = other => over,
            never = self.pass_on() => match never {},
        }
    }

    /// Passes on the last of it, when nothing is open any more.
    pub async fn end(mut self) {
        let last = async {
            loop {
                // Nobody waits here: what is there is there.
                let _none = self.analytics.left(&mut self.pages, AT_ONCE[1]).now_or_never();
                let more = self.collect();
                let sent = self.send();
                if matches!(self.to, To::Over | To::Nobody) || (sent && !more) {
                    return;
                }
                if !sent {
                    sleep(BREATH).await;
                }
            }
        };
        if timeout(LAST, last).await.is_err() {
            tracing::warn!("the process that took over does not hear the last this one has learned");
        }
    }

    async fn pass_on(&mut self) -> Infallible {
        loop {
            let more = self.collect();
            let sent = self.send();
            if matches!(self.to, To::Over) {
                // Nobody counts them, so nobody needs them.
                self.analytics.hang_up().await;
                pending::<()>().await;
            }
            if more && sent {
                continue;
            }
            if !sent || self.waiting.len() + self.told.len() >= MOST {
                sleep(BREATH).await;
                continue;
            }
            tokio::select! {
                () = self.bans.changed() => {}
                () = self.analytics.left(&mut self.pages, AT_ONCE[1]) => {}
                () = some(self.changes.as_ref()) => {}
                never = heard(&mut self.before) => match never {},
            }
        }
    }

    /// Makes a word of what is there; whether there was something.
    fn collect(&mut self) -> bool {
        if self.waiting.len() + self.told.len() >= MOST {
            return false;
        }
        let bans = self.bans.take_unsaved(AT_ONCE[0]).into_iter();
        let bans = bans.map(|(network, ban)| Banned { network: network.to_string(), ban }).collect();
        let pages = self.pages.drain(..);
        let pages = pages.map(|Note { site, kind, visit }| Page { site: site.to_string(), kind, visit }).collect();
        let changed = self.changes.as_ref().map(|changes| changes.take(AT_ONCE[2])).unwrap_or_default();
        let learned = Learned { bans, pages, changed };
        let some = learned != Learned::default();
        // A word each, so that all of them together need not fit into one.
        let Learned { bans, pages, changed } = learned;
        let none = Learned::default;
        for word in [Learned { bans, ..none() }, Learned { pages, ..none() }, Learned { changed, ..none() }] {
            if word != none() {
                self.waiting.push_back(Word::Learned(word));
            }
        }
        some
    }

    /// Sends what waits; whether nothing does any more.
    fn send(&mut self) -> bool {
        let (channel, serves) = match &self.to {
            To::Nobody => return self.waiting.is_empty(),
            To::Beginner(channel) => (Arc::clone(channel), false),
            To::Server(channel) => (Arc::clone(channel), true),
            To::Over => {
                self.waiting.clear();
                return true;
            }
        };
        while let Some(word) = self.waiting.pop_front() {
            match channel.offer(&word) {
                Ok(true) if serves => {}
                Ok(true) => self.told.push(word),
                Err(error) if serves => {
                    tracing::warn!(%error, "the process that took over is gone; what this one learns stays here");
                    self.to = To::Over;
                    self.waiting.clear();
                }
                // Full; or it is about to be told whether that process serves.
                Ok(false) | Err(_) => {
                    self.waiting.push_front(word);
                    return false;
                }
            }
        }
        true
    }
}

/// Waits until something is noted.
async fn some(changes: Option<&Arc<Changes>>) {
    match changes {
        Some(changes) => changes.some().await,
        None => pending().await,
    }
}

/// Listens to the process `before`, if there is one.
///
/// # Cancel safety
/// Nothing is missed.
pub async fn heard(before: &mut Option<Hearing>) -> Infallible {
    match before {
        Some(before) => before.go_on().await,
        None => pending().await,
    }
}

/// The end of the process that took over.
#[derive(Debug)]
pub struct Hearing {
    channel: Arc<Channel>,
    bans: Bans,
    analytics: Analytics,
    /// Where kept answers are.
    cache: Option<Arc<Cache>>,
    /// What was heard before this process knew its sites; `None` once it does.
    early: Option<Early>,
    over: bool,
}

/// Pages, and kept answers that are no longer good.
#[derive(Debug, Default)]
struct Early {
    pages: Vec<Page>,
    changed: Vec<Changed>,
}

impl Hearing {
    /// Listens at `channel`.
    pub const fn new(channel: Arc<Channel>, bans: Bans, analytics: Analytics) -> Self {
        let early = Early { pages: Vec::new(), changed: Vec::new() };
        Self { channel, bans, analytics, cache: None, early: Some(early), over: false }
    }

    /// This process knows its sites: what was said of their pages and their kept answers, in `cache`, is taken in, and from now on
    /// at once. Blocks while everything that is kept is no longer good and there is some on disk.
    pub fn serves(&mut self, cache: Option<&Arc<Cache>>) {
        self.cache = cache.map(Arc::clone);
        let Early { pages, changed } = self.early.take().unwrap_or_default();
        self.count(pages);
        if let Some(cache) = cache {
            for changed in changed {
                cache.learn(changed);
            }
        }
        self.listen();
    }

    /// Takes in what has been said by now.
    pub fn listen(&mut self) {
        while !self.over {
            match self.channel.take::<Word>() {
                Ok(Some(Word::Learned(learned))) => self.take_in(learned),
                Ok(Some(Word::Sockets(_) | Word::Go)) => {}
                Ok(None) => return,
                // Of a later release, perhaps.
                Err(ChannelError::Message(error)) => tracing::warn!(error, "the process before is not understood"),
                Err(ChannelError::Ended) => self.over = true,
                Err(error) => {
                    tracing::warn!(%error, "the process before is not heard any more");
                    self.over = true;
                }
            }
        }
    }

    fn take_in(&mut self, learned: Learned) {
        for Banned { network, ban } in learned.bans {
            match network.parse() {
                Ok(network) => self.bans.learn(network, ban),
                Err(error) => tracing::warn!(%error, network, "a ban of the process before is not understood"),
            }
        }
        if let Some(early) = &mut self.early {
            let room = MOST_EARLY.saturating_sub(early.pages.len());
            early.pages.extend(learned.pages.into_iter().take(room));
            early.changed.extend(learned.changed);
            if early.changed.len() > MOST_EARLY {
                early.changed = vec![Changed::All];
            }
            return;
        }
        self.count(learned.pages);
        let Some(cache) = &self.cache else { return };
        for changed in learned.changed {
            if changed == Changed::All {
                let cache = Arc::clone(cache);
                // It may wait for the disk.
                tokio::task::spawn_blocking(move || cache.learn(Changed::All));
            } else {
                cache.learn(changed);
            }
        }
    }

    fn count(&self, pages: Vec<Page>) {
        for Page { site, kind, visit } in pages {
            self.analytics.learn(&site, kind, visit);
        }
    }

    /// Goes on listening.
    async fn go_on(&mut self) -> Infallible {
        if !self.over
            && let Err(error) = self.listen_on().await
        {
            tracing::warn!(%error, "the process before is not heard any more");
            self.over = true;
        }
        pending().await
    }

    async fn listen_on(&mut self) -> io::Result<()> {
        let watched = StdStream::from(self.channel.watched()?);
        watched.set_nonblocking(true)?;
        // For its waking alone; the channel reads.
        let watched = UnixStream::from_std(watched)?;
        while !self.over {
            watched.readable().await?;
            let _all_read = watched.try_io(Interest::READABLE, || {
                self.listen();
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
        }
        Ok(())
    }
}
