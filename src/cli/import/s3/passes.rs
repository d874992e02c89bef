//! The passes: every object the first time, then what has changed, and what is gone where that is asked for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use http::Method;

use super::answers::{Listed, Uploads, shown};
use super::service::{Ask, Failure, Kind as FailureKind};
use super::state::{Changes, Copied, ID, Notes, Row, State};
use super::transfer::{Outcome, Transfer, Write, list};
use crate::cli::import::copy::PASSES;
use crate::cli::import::notes::{Found, Kind};
use crate::cli::import::show::Bar;

/// Notes that are made together, and how long one waits at most while others are made.
const NOTED: usize = 256;
const NOTE_AFTER: Duration = Duration::from_secs(2);
/// Time between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// What becomes of objects that the bucket holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Refuse,
    Replace,
    Skip,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub policy: Policy,
    pub prefix: String,
    pub delete: bool,
    /// Whether tags alone make a difference.
    pub tags: bool,
    pub parallel: usize,
}

/// An object to be copied, its id, and the row it had.
struct Work {
    object: Listed,
    id: [u8; ID],
    before: Option<Row>,
    write: Write,
}

/// An import under way.
pub(super) struct Copier<'a> {
    transfer: &'a Transfer,
    notes: Arc<Notes>,
    pub state: State,
    /// What each pass of this run has found.
    pub passes: Vec<Found>,
    wanted: Wanted,
    done: Changes,
    found: Found,
    /// Objects looked at in this pass, for the bar.
    seen: u64,
    bar: Bar,
}

impl<'a> Copier<'a> {
    pub fn new(transfer: &'a Transfer, (notes, state): (Arc<Notes>, State), wanted: Wanted, bar: Bar) -> Self {
        let (done, found) = (Changes::default(), Found::default());
        Self { transfer, notes, state, passes: Vec::new(), wanted, done, found, seen: 0, bar }
    }

    /// Gives up the uploads that an interrupted run has left.
    pub async fn tidy(&self) -> anyhow::Result<()> {
        let target = &self.transfer.target;
        let mut after: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", ""), ("encoding-type", "url"), ("prefix", self.wanted.prefix.as_str())];
            if let Some((key, upload)) = &after {
                query.extend([("key-marker", key.as_str()), ("upload-id-marker", upload.as_str())]);
            }
            let ask = || Ask::new(Method::GET, "", &query);
            let listed = target.patiently(async || target.document(ask(), "ListMultipartUploadsResult").await).await?;
            let page = Uploads::parse(&listed).context("the server's uploads cannot be read")?;
            let ids: Vec<[u8; ID]> = page.uploads.iter().map(|(key, _)| self.state.id(key)).collect();
            for ((key, upload), row) in page.uploads.iter().zip(self.rows(ids).await?) {
                if row.is_some_and(|row| row.kind == Kind::Intended) {
                    let query = [("uploadId", upload.as_str())];
                    // Where that fails the server removes it by itself, later.
                    let _ = target.ask(Ask::new(Method::DELETE, key, &query)).await;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Makes passes until one finds nothing; whether one did.
    pub async fn run(&mut self) -> anyhow::Result<bool> {
        let last = self.state.pass.saturating_add(PASSES.saturating_sub(1));
        loop {
            (self.seen, self.found, self.done.clear_left) = (0, Found::default(), true);
            let fresh = self.state.pass == 1;
            self.note().await?;
            self.copy().await?;
            if self.wanted.delete && !fresh {
                self.remove().await?;
            }
            self.note().await?;
            self.passes.push(self.found);
            let quiet = !fresh && self.found.is_nothing();
            if quiet || self.state.pass >= last {
                self.bar.end();
                return Ok(quiet);
            }
            self.state.pass = self.state.pass.saturating_add(1);
        }
    }

    /// Goes through the source's keys and copies what the server does not have like that.
    async fn copy(&mut self) -> anyhow::Result<()> {
        let transfer = self.transfer;
        let mut running = FuturesUnordered::new();
        let mut queue: VecDeque<Work> = VecDeque::new();
        let (mut token, mut more): (Option<String>, bool) = (None, true);
        let mut looks = tokio::time::interval(LOOK);
        let mut noted = tokio::time::Instant::now();
        loop {
            while running.len() < self.wanted.parallel
                && let Some(work) = queue.pop_front()
            {
                running.push(one(transfer, work));
            }
            if more && queue.is_empty() && running.len() < self.wanted.parallel {
                let page = transfer.list(&self.wanted.prefix, token.as_deref()).await?;
                for (key, reason) in page.strange {
                    self.done.left.push((self.state.id(&key), Some(format!("{}: {reason}", shown(&key)))));
                }
                queue = self.decide(page.objects).await?;
                (more, token) = (page.next.is_some(), page.next);
                continue;
            }
            tokio::select! {
                done = running.next() => match done {
                    Some((work, outcome)) => self.take(&work, outcome)?,
                    None => break,
                },
                _ = looks.tick() => self.tell(),
            }
            let due = self.done.len() > 0 && noted.elapsed() >= NOTE_AFTER;
            if due || self.done.len() >= NOTED {
                self.note().await?;
                noted = tokio::time::Instant::now();
            }
        }
        self.note().await
    }

    /// What of a page is to be copied; the intention is on disk when this returns.
    async fn decide(&mut self, objects: Vec<Listed>) -> anyhow::Result<VecDeque<Work>> {
        self.seen = self.seen.saturating_add(objects.len() as u64);
        let ids: Vec<[u8; ID]> = objects.iter().map(|object| self.state.id(&object.key)).collect();
        let rows = self.rows(ids.clone()).await?;
        let pass = self.state.pass;
        let (mut wanted, mut alike) = (VecDeque::new(), Vec::new());
        for (object, (id, before)) in objects.into_iter().zip(ids.into_iter().zip(rows)) {
            let same = before.filter(|row| match row.kind {
                Kind::Skipped => true,
                Kind::Written => row.facts.mark == self.state.mark(&object),
                Kind::Intended => false,
            });
            if let Some(row) = same.filter(|row| self.wanted.tags && row.kind == Kind::Written) {
                alike.push((object, id, row));
            } else if let Some(row) = same {
                self.done.rows.push((id, Some(Row { pass, ..row })));
            } else {
                let free = before.is_none() && self.wanted.policy != Policy::Replace;
                let write = if free { Write::New } else { Write::Over };
                wanted.push_back(Work { object, id, before, write });
            }
        }
        if self.wanted.policy == Policy::Skip {
            wanted = self.without_others(wanted).await?;
        }
        wanted.extend(self.with_other_tags(alike).await?);
        self.done.rows.extend(wanted.iter().map(|work| (work.id, Some(Row::bare(Kind::Intended, pass)))));
        if self.done.len() > 0 {
            self.note().await?;
        }
        Ok(wanted)
    }

    /// Without objects that the server has and that are not from here.
    async fn without_others(&mut self, works: VecDeque<Work>) -> anyhow::Result<VecDeque<Work>> {
        let transfer = self.transfer;
        let looked = stream::iter(works).map(|work| async move {
            let there = work.before.is_none() && transfer.is_there(&work.object.key).await?;
            Ok::<_, Failure>((work, there))
        });
        let mut looked = std::pin::pin!(looked.buffered(self.wanted.parallel));
        let mut out = VecDeque::new();
        while let Some(work) = looked.next().await {
            match work? {
                (work, true) => self.done.rows.push((work.id, Some(self.skipped()))),
                (work, false) => out.push_back(work),
            }
        }
        Ok(out)
    }

    /// Of objects that are as they were copied, those that have other tags now.
    async fn with_other_tags(&mut self, alike: Vec<(Listed, [u8; ID], Row)>) -> anyhow::Result<Vec<Work>> {
        let (transfer, pass) = (self.transfer, self.state.pass);
        let asked = stream::iter(alike).map(|(object, id, row)| async move {
            let tags = transfer.source.patiently(async || transfer.tags(&object.key).await).await;
            (object, id, row, tags)
        });
        let mut asked = std::pin::pin!(asked.buffered(self.wanted.parallel));
        let mut out = Vec::new();
        while let Some((object, id, row, tags)) = asked.next().await {
            match tags {
                Ok(tags) if row.facts.tags != self.state.tags(&tags) => {
                    out.push(Work { object, id, before: Some(row), write: Write::Over });
                    continue;
                }
                Ok(_) => {}
                // As if it had not been listed.
                Err(failure) if failure.kind == FailureKind::Missing => continue,
                Err(failure) if matches!(failure.kind, FailureKind::Fatal | FailureKind::Unreachable) => {
                    bail!("{failure}")
                }
                Err(failure) => {
                    let reason = format!("the tags of {} cannot be compared: {failure}", shown(&object.key));
                    self.done.left.push((id, Some(reason)));
                }
            }
            self.done.rows.push((id, Some(Row { pass, ..row })));
        }
        Ok(out)
    }

    fn skipped(&self) -> Row {
        Row::bare(Kind::Skipped, self.state.pass)
    }

    /// Takes in what became of an object.
    fn take(&mut self, work: &Work, outcome: Result<Outcome, Failure>) -> anyhow::Result<()> {
        let pass = self.state.pass;
        let row = match outcome {
            Ok(Outcome::Copied { bytes, etag, tags }) => {
                self.state.copied = self.state.copied.saturating_add(1);
                self.state.bytes = self.state.bytes.saturating_add(bytes);
                let found = &mut self.found;
                let count = if work.before.is_none() { &mut found.new } else { &mut found.changed };
                *count = count.saturating_add(1);
                // As it was listed: what has changed since differs in the next listing.
                let (mark, etag) = (self.state.mark(&work.object), self.state.etag(&etag));
                let facts = Copied { mark, tags: self.state.tags(&tags), etag };
                Some(Row { kind: Kind::Written, pass, facts })
            }
            // As if it had not been listed.
            Ok(Outcome::Gone) => work.before,
            Ok(Outcome::There) => Some(self.skipped()),
            Err(failure) if failure.kind == FailureKind::Fatal => bail!("{failure}"),
            Err(failure) => {
                let reason = format!("{}: {failure}", shown(&work.object.key));
                self.done.left.push((work.id, Some(reason)));
                // Some form of it may be here: it is tried again by the next pass.
                Some(Row::bare(Kind::Intended, pass))
            }
        };
        self.done.rows.push((work.id, row));
        Ok(())
    }

    /// Removes what is from here and what the source does not have any more.
    async fn remove(&mut self) -> anyhow::Result<()> {
        let mut token: Option<String> = None;
        loop {
            let page = list(&self.transfer.target, &self.wanted.prefix, token.as_deref()).await?;
            let ids: Vec<[u8; ID]> = page.objects.iter().map(|object| self.state.id(&object.key)).collect();
            let rows = self.rows(ids.clone()).await?;
            for (object, (id, row)) in page.objects.iter().zip(ids.into_iter().zip(rows)) {
                let Some(row) = row.filter(|row| row.kind != Kind::Skipped && row.pass < self.state.pass) else {
                    continue;
                };
                // What an app has written here since is the app's.
                if row.kind == Kind::Written && row.facts.etag != self.state.etag(&object.etag) {
                    self.done.rows.push((id, Some(self.skipped())));
                    continue;
                }
                match self.transfer.look(&object.key).await {
                    Err(failure) if failure.kind == FailureKind::Missing => {}
                    Err(failure) => bail!("{failure}"),
                    // It has come back since it was listed: another pass copies it.
                    Ok(_) => {
                        self.found.changed = self.found.changed.saturating_add(1);
                        continue;
                    }
                }
                self.delete(object).await?;
                self.done.rows.push((id, None));
                self.found.removed = self.found.removed.saturating_add(1);
            }
            self.bar.tell("removing", self.seen, self.transfer.meter.load(Ordering::Relaxed));
            self.note().await?;
            token = page.next;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// Removes an object of the server, as long as it is the one that was listed.
    async fn delete(&self, object: &Listed) -> anyhow::Result<()> {
        let target = &self.transfer.target;
        let ask = || Ask::new(Method::DELETE, &object.key, &[]).with("if-match", &format!("\"{}\"", object.etag));
        match target.patiently(async || target.ask(ask()?).await).await {
            Err(failure) if !matches!(failure.kind, FailureKind::Condition | FailureKind::Missing) => {
                bail!("{failure}")
            }
            _ => Ok(()),
        }
    }

    fn tell(&mut self) {
        let doing = if self.state.pass == 1 { "copying" } else { "comparing" };
        self.bar.tell(doing, self.seen, self.transfer.meter.load(Ordering::Relaxed));
    }

    async fn rows(&self, ids: Vec<[u8; ID]>) -> anyhow::Result<Vec<Option<Row>>> {
        let notes = Arc::clone(&self.notes);
        tokio::task::spawn_blocking(move || notes.rows(&ids)).await?
    }

    async fn note(&mut self) -> anyhow::Result<()> {
        let (notes, state) = (Arc::clone(&self.notes), self.state.clone());
        let changes = std::mem::take(&mut self.done);
        tokio::task::spawn_blocking(move || notes.commit(changes, &state)).await?
    }
}

async fn one(transfer: &Transfer, work: Work) -> (Work, Result<Outcome, Failure>) {
    let outcome = transfer.copy(&work.object, work.write).await;
    (work, outcome)
}
