//! The passes: every key the first time, then what has changed and what is gone.

use anyhow::{Context as _, bail};

use super::notes::{Found, Kind};
use super::show::Bar;
use super::state::{Changes, FUNCTIONS, ID, Notes, Row, State, Value};
use super::target::{Item, Target, each, scan};
use super::wire::{Client, Reply, printable};

/// Bytes of values that are sent together.
const BATCH: usize = 4 << 20;
/// Most keys that are asked for at once; fewer where values are large.
const WINDOW: usize = 256;
/// Most passes: a source that is written to all the time would keep an import busy for ever.
pub(super) const PASSES: u32 = 4;
/// Notes that are made together when nothing is written.
const NOTED: usize = 4096;
/// Where the source does not tell when a key expires but how long it has: what is no difference, in ms.
const TOLERANCE: u64 = 1000;

/// What becomes of keys that the databases hold already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Refuse,
    Replace,
    Skip,
}

/// How the source tells when keys expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    /// `PEXPIRETIME`, since Redis 7.0.
    Moment,
    /// `PTTL`, counted from the source's `TIME`.
    Left,
}

/// A value to be written, its key's id, and the row it had.
type Waiting = (Item, [u8; ID], Option<Row>);

/// A database and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub from: u32,
    pub to: u8,
    /// Keys in it.
    pub keys: u64,
}

/// An import under way.
pub(super) struct Copier<'a> {
    source: Client,
    target: Target,
    notes: &'a Notes,
    pub state: State,
    policy: Policy,
    expiry: Expiry,
    /// What the server has by now, to be noted with the next intention.
    done: Changes,
    batch: Vec<Waiting>,
    batch_bytes: usize,
    /// Keys that are asked for at once.
    window: usize,
    /// Keys looked at in this pass, for the bar.
    seen: u64,
    bar: Bar,
}

impl<'a> Copier<'a> {
    pub fn new(
        mut source: Client,
        target: Target,
        (notes, state): (&'a Notes, State),
        policy: Policy,
        bar: Bar,
    ) -> anyhow::Result<Self> {
        let expiry = match source.call(&[b"PEXPIRETIME", b"mainstay"])? {
            Reply::Integer(_) => Expiry::Moment,
            _ => Expiry::Left,
        };
        Ok(Self {
            source,
            target,
            notes,
            state,
            policy,
            expiry,
            done: Changes::default(),
            batch: Vec::new(),
            batch_bytes: 0,
            window: 16,
            seen: 0,
            bar,
        })
    }

    /// Goes on from where the state says until a pass finds nothing; whether one did.
    pub fn run(&mut self, routes: &[Route]) -> anyhow::Result<bool> {
        if !self.state.functions {
            self.functions()?;
            self.state.functions = true;
            self.note()?;
        }
        if self.state.pass > 1 {
            self.done.clear_left = true;
            if self.state.cursor > 0 || self.state.databases > 0 || self.state.removing {
                // What it has been through may have changed since: it is begun again, as another.
                self.state.pass = self.state.pass.saturating_add(1);
                (self.state.databases, self.state.removing, self.state.cursor) = (0, false, 0);
            }
        }
        let last = self.state.pass.saturating_add(PASSES.saturating_sub(1));
        loop {
            self.pass(routes)?;
            let found = self.state.found;
            let first = self.state.pass == 1;
            self.state.passes.push(found);
            self.state.found = Found::default();
            self.state.pass = self.state.pass.saturating_add(1);
            (self.state.databases, self.state.removing, self.state.cursor) = (0, false, 0);
            let quiet = !first && found.is_nothing();
            if quiet || self.state.pass > last {
                self.note()?;
                self.bar.end();
                return Ok(quiet);
            }
            self.done.clear_left = true;
            self.note()?;
        }
    }

    fn pass(&mut self, routes: &[Route]) -> anyhow::Result<()> {
        self.seen = 0;
        while let Some(route) = routes.get(self.state.databases as usize) {
            self.source.ask(&[b"SELECT", route.from.to_string().as_bytes()])?;
            self.target.select(route.to)?;
            while !self.state.removing {
                let (next, mut keys) = scan(&mut self.source, self.state.cursor)?;
                // A page may name a key twice.
                keys.sort_unstable();
                keys.dedup();
                self.copy(route.to, &keys)?;
                self.send(route.to)?;
                self.seen = self.seen.saturating_add(keys.len() as u64);
                self.state.cursor = next;
                self.state.removing = next == 0;
                if self.done.len() > NOTED {
                    self.note()?;
                }
                let doing = if self.state.pass == 1 { "copying" } else { "comparing" };
                self.bar.tell(doing, self.seen, self.state.bytes);
            }
            self.note()?;
            while self.state.removing {
                let next = if self.state.pass > 1 { self.remove(route.to)? } else { 0 };
                self.state.cursor = next;
                self.state.removing = next != 0;
            }
            self.state.databases = self.state.databases.saturating_add(1);
            self.note()?;
        }
        Ok(())
    }

    fn note(&mut self) -> anyhow::Result<()> {
        self.notes.commit(std::mem::take(&mut self.done), &self.state)
    }

    /// Reads the values of `keys` and sends on what the server does not have like that.
    fn copy(&mut self, db: u8, keys: &[Vec<u8>]) -> anyhow::Result<()> {
        let mut rest = keys;
        while !rest.is_empty() {
            let (some, after) = rest.split_at(self.window.min(rest.len()));
            rest = after;
            let ask: &[u8] = match self.expiry {
                Expiry::Moment => b"PEXPIRETIME",
                Expiry::Left => b"PTTL",
            };
            self.source.push(&[b"TIME"]);
            for key in some {
                self.source.push(&[b"DUMP", key]);
                self.source.push(&[ask, key]);
            }
            self.source.flush().context("the source does not take a request")?;
            let now = clock(self.source.read().context("the source does not answer")?)?;
            let ids: Vec<[u8; ID]> = some.iter().map(|key| self.state.id(db, key)).collect();
            let rows = self.notes.rows(&ids)?;
            let mut bytes = 0_usize;
            for (key, (id, row)) in some.iter().zip(ids.into_iter().zip(rows)) {
                let value = self.source.read().context("the source does not answer")?;
                let expires = self.source.read().context("the source does not answer")?;
                let gone = expires == Reply::Integer(-2);
                let expires = match (expires, self.expiry) {
                    (Reply::Integer(at), Expiry::Moment) => u64::try_from(at).unwrap_or(0),
                    (Reply::Integer(left), Expiry::Left) => {
                        u64::try_from(left).map_or(0, |left| now.saturating_add(left.max(1)))
                    }
                    (Reply::Error(error), _) => bail!("the source does not tell when a key expires: {error}"),
                    _ => bail!("the source does not tell when a key expires"),
                };
                match value {
                    // It went meanwhile.
                    Reply::Null => {}
                    _ if gone => {}
                    Reply::Bulk(payload) => {
                        bytes = bytes.saturating_add(payload.len());
                        self.value(db, Item { key: key.clone(), expires, payload }, id, row)?;
                    }
                    Reply::TooLong(len) => {
                        bytes = bytes.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
                        let most = self.target.most;
                        self.leave(
                            db,
                            key,
                            (id, row),
                            &format!("{len} bytes, and {most} are allowed (redis.max_bulk)"),
                        );
                    }
                    Reply::Error(error) if error.starts_with("NOPERM") || error.starts_with("ERR unknown") => {
                        bail!("the source does not allow DUMP: {error}")
                    }
                    Reply::Error(error) => self.leave(db, key, (id, row), &format!("the source says {error}")),
                    _ => bail!("DUMP is not answered as Redis does"),
                }
            }
            // About as much as one batch is under way at a time.
            let each = bytes / some.len().max(1);
            self.window = (BATCH / each.max(1)).clamp(1, WINDOW).min(self.window.saturating_mul(2));
        }
        Ok(())
    }

    /// Takes a value into the batch if the server does not have it like that.
    fn value(&mut self, db: u8, item: Item, id: [u8; ID], row: Option<Row>) -> anyhow::Result<()> {
        let seen = |row: Row| Row { pass: self.state.pass, ..row };
        if let Some(row) = row {
            let Value { expires, digest } = row.facts;
            let apart = expires.abs_diff(item.expires);
            let both = (expires == 0) == (item.expires == 0);
            let same = both && apart <= if self.expiry == Expiry::Left { TOLERANCE } else { 0 };
            let same = same && digest == self.state.digest(&item.payload);
            if row.kind == Kind::Skipped || row.kind == Kind::Written && same {
                self.done.rows.push((id, Some(seen(row))));
                return Ok(());
            }
        }
        self.batch_bytes = self.batch_bytes.saturating_add(item.payload.len()).saturating_add(item.key.len());
        self.batch.push((item, id, row));
        if self.batch_bytes >= BATCH { self.send(db) } else { Ok(()) }
    }

    /// Writes the batch.
    fn send(&mut self, db: u8) -> anyhow::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if self.policy != Policy::Replace {
            batch = self.without_others(batch)?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        let pass = self.state.pass;
        for (item, id, _) in &batch {
            let facts = Value { expires: item.expires, ..Value::default() };
            self.done.rows.push((*id, Some(Row { kind: Kind::Intended, pass, facts })));
        }
        self.note()?;
        let (mut items, mut rest) = (Vec::new(), Vec::new());
        for (item, id, row) in batch {
            items.push(item);
            rest.push((id, row));
        }
        let reasons = self.target.restore(&items)?;
        for ((item, (id, before)), reason) in items.iter().zip(rest).zip(reasons) {
            if let Some(reason) = reason {
                let reason = why(&item.payload, &reason);
                self.leave(db, &item.key, (id, before), &reason);
                continue;
            }
            let facts = Value { expires: item.expires, digest: self.state.digest(&item.payload) };
            self.done.rows.push((id, Some(Row { kind: Kind::Written, pass, facts })));
            self.done.left.push((id, None));
            self.state.copied = self.state.copied.saturating_add(1);
            self.state.bytes = self.state.bytes.saturating_add(item.payload.len() as u64);
            let found = &mut self.state.found;
            let count = if before.is_none() { &mut found.new } else { &mut found.changed };
            *count = count.saturating_add(1);
        }
        Ok(())
    }

    /// The batch without keys that the server has and that are not from here.
    fn without_others(&mut self, batch: Vec<Waiting>) -> anyhow::Result<Vec<Waiting>> {
        let unknown: Vec<&[u8]> =
            batch.iter().filter(|(.., row)| row.is_none()).map(|(item, ..)| item.key.as_slice()).collect();
        let mut there = self.target.each(b"EXISTS", &unknown)?.into_iter();
        let mut out = Vec::new();
        for (item, id, row) in batch {
            if row.is_none() && there.next() == Some(true) {
                self.done.rows.push((id, Some(Row::bare(Kind::Skipped, self.state.pass))));
            } else {
                out.push((item, id, row));
            }
        }
        Ok(out)
    }

    fn leave(&mut self, db: u8, key: &[u8], (id, row): ([u8; ID], Option<Row>), reason: &str) {
        let name = &key[..key.len().min(200)];
        self.done.left.push((id, Some(format!("database {db}, key \"{}\": {reason}", printable(name)))));
        // An older value of it may be there: it stays, and is not taken for gone.
        if let Some(row) = row.filter(|row| row.kind != Kind::Skipped) {
            self.done.rows.push((id, Some(Row { kind: Kind::Intended, pass: self.state.pass, ..row })));
        }
    }

    /// Removes what is from here and what the source does not have any more, in one page of the server's keys.
    fn remove(&mut self, db: u8) -> anyhow::Result<u64> {
        let (next, keys) = self.target.scan(self.state.cursor)?;
        let mut unseen: Vec<&[u8]> = Vec::new();
        let ids: Vec<[u8; ID]> = keys.iter().map(|key| self.state.id(db, key)).collect();
        for (key, row) in keys.iter().zip(self.notes.rows(&ids)?) {
            if row.is_some_and(|row| row.kind != Kind::Skipped && row.pass < self.state.pass) {
                unseen.push(key);
            }
        }
        if unseen.is_empty() {
            return Ok(next);
        }
        // The source may have got it back since.
        let there = each(&mut self.source, b"EXISTS", &unseen)?;
        let part = |wanted: bool| -> Vec<&[u8]> {
            unseen.iter().zip(&there).filter(|(_, there)| **there == wanted).map(|(key, _)| *key).collect()
        };
        let (gone, back) = (part(false), part(true));
        self.target.remove(&gone)?;
        for key in &gone {
            self.done.rows.push((self.state.id(db, key), None));
        }
        self.state.found.removed = self.state.found.removed.saturating_add(gone.len() as u64);
        let back: Vec<Vec<u8>> = back.into_iter().map(<[u8]>::to_vec).collect();
        self.copy(db, &back)?;
        self.send(db)?;
        self.note()?;
        Ok(next)
    }

    /// Libraries of functions, which are the server's and not a database's.
    fn functions(&mut self) -> anyhow::Result<()> {
        // A source before 7.0 has none.
        let Reply::Bulk(payload) = self.source.call(&[b"FUNCTION", b"DUMP"])? else { return Ok(()) };
        let policy: &[u8] = if self.policy == Policy::Replace { b"REPLACE" } else { b"APPEND" };
        if let Some(error) = self.target.functions(&payload, policy)? {
            self.done.left.push((FUNCTIONS, Some(format!("libraries of functions: {error}"))));
        }
        Ok(())
    }
}

/// Why a value is not taken, in words for who knows what it is.
pub(super) fn why(payload: &[u8], error: &str) -> String {
    match payload.first() {
        Some(6 | 7) => String::from("a module's type, which only that module can read"),
        Some(22..=25) => String::from("a hash with lifetimes of single fields, which are not known here"),
        _ => error.to_owned(),
    }
}

/// The source's clock, in ms.
fn clock(reply: Reply) -> anyhow::Result<u64> {
    let Reply::Array(parts) = reply else { bail!("the source does not tell its time") };
    let [Reply::Bulk(seconds), Reply::Bulk(micros)] = parts.as_slice() else {
        bail!("the source does not tell its time")
    };
    let (seconds, micros): (u64, u64) = (printable(seconds).parse()?, printable(micros).parse()?);
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}
