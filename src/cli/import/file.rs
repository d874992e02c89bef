//! An RDB file as the source: checked from start to end before anything is written, then read once more, one value in
//! memory at a time beside what is being sent.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::arguments::RedisImport;
use super::copy::{Policy, why};
use super::refuse_full;
use super::show::Bar;
use super::target::{Item, Target};
use super::wire::printable;
use crate::base::{Clock, SystemClock};
use crate::cli::say;
use crate::kv::config::DATABASES;
use crate::kv::rdb::{FOOTER, FileError, FileReader, Found, wrap};

/// Bytes of values that are sent together.
const BATCH: usize = 4 << 20;
/// Of so many things that were left out it is told what they are.
const NAMED: usize = 20;
/// Bytes of the file in one step of the bar.
const STEP: u64 = 1 << 10;

/// What a file holds, found before anything of it is imported.
#[derive(Default)]
struct Contents {
    /// The databases that its keys are for here.
    places: BTreeSet<u8>,
    /// Where it is damaged, when it is.
    damage: Option<FileError>,
}

/// What an import has come to.
struct Import {
    target: Target,
    policy: Policy,
    clock: Arc<dyn Clock>,
    /// Where the keys of a file with one database go.
    to: Option<u8>,
    db: u8,
    batch: Vec<Item>,
    batch_bytes: usize,
    copied: u64,
    bytes: u64,
    skipped: u64,
    expired: u64,
    left: u64,
    named: Vec<String>,
}

/// Imports what is in the file that `wanted` names, which is read twice: to see whether it is whole and has a place here,
/// then to import it. Nothing is imported when something is wrong with it, unless `--damaged` asks for what comes before
/// the damage.
pub(super) fn import(path: &Path, wanted: &RedisImport, policy: Policy, mut target: Target) -> anyhow::Result<()> {
    let to = wanted.to;
    if let Some(to) = to.filter(|to| *to >= DATABASES) {
        bail!("database {to} is not there, only 0 to {}", DATABASES - 1);
    }
    let told = || path.display().to_string();
    let mut file = File::open(path).with_context(told)?;
    let metadata = file.metadata().with_context(told)?;
    if !metadata.is_file() {
        bail!("{} is no file", path.display());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let steps = metadata.len() / STEP;
    // The payload of a value has the footer more, and is one argument to the server.
    let most = usize::try_from(target.most).unwrap_or(usize::MAX).saturating_sub(FOOTER);

    let bar = Bar::new(Arc::clone(&clock), steps, "KiB");
    let contents = look_through(reader(&file, most).with_context(told)?, to, bar)?;
    if let Some(damage) = contents.damage.filter(|_damage| !wanted.damaged) {
        let path = path.display();
        return Err(anyhow::Error::new(damage).context(format!(
            "{path} is damaged, and nothing was imported; --damaged imports what comes before the damage"
        )));
    }
    if policy == Policy::Refuse {
        for db in contents.places {
            refuse_full(&mut target, db, "file")?;
        }
    }

    file.rewind().with_context(told)?;
    let mut bar = Bar::new(Arc::clone(&clock), steps, "KiB");
    let (batch, named) = (Vec::new(), Vec::new());
    let (db, batch_bytes, copied, bytes, skipped, expired, left) = (0, 0, 0, 0, 0, 0, 0);
    let mut import =
        Import { target, policy, clock, to, db, batch, batch_bytes, copied, bytes, skipped, expired, left, named };
    let mut reader = reader(&file, most).with_context(told)?;
    let outcome = import.run(&mut reader, &mut bar);
    bar.end();
    say(&import.told(path, outcome.is_ok(), wanted.json)?)?;
    outcome.with_context(|| {
        let path = path.display();
        format!("{path} was not imported to its end; what was copied stays, and --skip or --replace go on from there")
    })?;
    if import.left > 0 {
        bail!("not everything could be imported; left out: {}", import.left);
    }
    Ok(())
}

fn reader(file: &File, most: usize) -> Result<FileReader<BufReader<&File>>, FileError> {
    FileReader::new(BufReader::with_capacity(1 << 20, file), most)
}

/// Reads a file to its end, or to its damage.
fn look_through(mut reader: FileReader<BufReader<&File>>, to: Option<u8>, mut bar: Bar) -> anyhow::Result<Contents> {
    let mut contents = Contents::default();
    let mut only = None;
    loop {
        match reader.advance() {
            Ok(Some(Found::Value { db, .. })) => {
                if to.is_some() && *only.get_or_insert(db) != db {
                    bail!("--to is for one database, and the file holds more; nothing was imported");
                }
                contents.places.extend(place(db, to));
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(damage) => {
                contents.damage = Some(damage);
                break;
            }
        }
        bar.tell("checking", reader.position() / STEP, 0);
    }
    bar.end();
    Ok(contents)
}

/// The database here for what is in database `db` of the file.
fn place(db: u64, to: Option<u8>) -> Option<u8> {
    to.or_else(|| u8::try_from(db).ok().filter(|db| *db < DATABASES))
}

impl Import {
    /// Imports until the end or something that nothing goes on after; what was read before has then been written.
    fn run(&mut self, reader: &mut FileReader<BufReader<&File>>, bar: &mut Bar) -> anyhow::Result<()> {
        loop {
            match reader.advance() {
                Ok(Some(found)) => self.found(found)?,
                Ok(None) => return self.send(),
                Err(damage) => {
                    self.send()?;
                    return Err(damage.into());
                }
            }
            bar.tell("reading", reader.position() / STEP, self.bytes);
        }
    }

    fn found(&mut self, found: Found) -> anyhow::Result<()> {
        match found {
            Found::Library(code) => {
                if let Some(error) = self.target.library(&code, self.policy == Policy::Replace)? {
                    if self.policy == Policy::Skip && error.contains("already exists") {
                        self.skipped = self.skipped.saturating_add(1);
                    } else {
                        self.leave(|| format!("a library of functions: {error}"));
                    }
                }
            }
            Found::Module => self.leave(|| "what a module keeps, which only that module can read".to_owned()),
            Found::Value { db, key, expires, kind, value } => {
                let Some(place) = place(db, self.to) else {
                    self.leave(|| format!("database {db}, key \"{}\": no such database here", name(&key)));
                    return Ok(());
                };
                if expires.is_some_and(|at| at <= self.clock.now().millis()) {
                    self.expired = self.expired.saturating_add(1);
                    return Ok(());
                }
                let Some(value) = value else {
                    let most = self.target.most;
                    self.leave(|| {
                        let key = name(&key);
                        format!("database {db}, key \"{key}\" (type {kind}): more than {most} bytes (redis.max_bulk)")
                    });
                    return Ok(());
                };
                if self.db != place || self.batch_bytes >= BATCH {
                    self.send()?;
                    self.db = place;
                }
                self.batch_bytes = self.batch_bytes.saturating_add(value.len()).saturating_add(key.len());
                // 0 stands for never.
                self.batch.push(Item { key, expires: expires.unwrap_or(0), payload: wrap(value) });
            }
        }
        Ok(())
    }

    fn leave(&mut self, name: impl FnOnce() -> String) {
        self.left = self.left.saturating_add(1);
        if self.named.len() < NAMED {
            self.named.push(name());
        }
    }

    /// Writes the batch, and returns once it is on the server's disk.
    fn send(&mut self) -> anyhow::Result<()> {
        let mut items = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if items.is_empty() {
            return Ok(());
        }
        let db = self.db;
        self.target.select(db)?;
        if self.policy == Policy::Skip {
            let keys: Vec<&[u8]> = items.iter().map(|item| item.key.as_slice()).collect();
            let mut there = self.target.each(b"EXISTS", &keys)?.into_iter();
            let all = items.len();
            items.retain(|_| there.next() == Some(false));
            self.skipped = self.skipped.saturating_add((all - items.len()) as u64);
        }
        let reasons = self.target.restore(&items)?;
        for (item, reason) in items.iter().zip(reasons) {
            if let Some(reason) = reason {
                self.leave(|| format!("database {db}, key \"{}\": {}", name(&item.key), why(&item.payload, &reason)));
            } else {
                self.copied = self.copied.saturating_add(1);
                self.bytes = self.bytes.saturating_add(item.payload.len() as u64);
            }
        }
        Ok(())
    }

    fn told(&self, path: &Path, complete: bool, as_json: bool) -> anyhow::Result<String> {
        let Self { copied, bytes, skipped, expired, left, named, .. } = self;
        if as_json {
            let value = json!({
                "source": path.display().to_string(), "copied": copied, "bytes": bytes, "skipped": skipped,
                "expired": expired, "complete": complete, "left_out": left, "left_out_named": named,
            });
            return Ok(format!("{}\n", serde_json::to_string_pretty(&value)?));
        }
        let mut out = format!("copied {copied} values, {bytes} bytes, from {}\n", path.display());
        if *skipped > 0 {
            // Writing into a String cannot fail.
            let _ = writeln!(out, "there already, and left as they were: {skipped}");
        }
        if *expired > 0 {
            let _ = writeln!(out, "expired since the file was written: {expired}");
        }
        for line in named {
            let _ = writeln!(out, "left out: {line}");
        }
        if *left > named.len() as u64 {
            let _ = writeln!(out, "left out in all: {left}");
        }
        Ok(out)
    }
}

/// A key as it is shown: its first bytes.
fn name(key: &[u8]) -> String {
    printable(key.get(..200).unwrap_or(key))
}
