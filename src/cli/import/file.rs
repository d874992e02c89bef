//! An RDB file as the source: read once from start to end, one value in memory at a time beside what is being sent.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::copy::{Policy, why};
use super::show::Bar;
use super::target::{Item, Target};
use super::wire::printable;
use crate::base::SystemClock;
use crate::cli::say;
use crate::kv::config::DATABASES;
use crate::kv::rdb::{FileReader, Found, wrap};

/// Bytes of values that are sent together.
const BATCH: usize = 4 << 20;
/// Of so many things that were left out it is told what they are.
const NAMED: usize = 20;
/// Bytes of the file in one step of the bar.
const STEP: u64 = 1 << 10;

/// What an import has come to.
struct Import {
    target: Target,
    policy: Policy,
    /// Databases that were looked at before their first key was written.
    begun: Vec<u8>,
    db: u8,
    batch: Vec<Item>,
    batch_bytes: usize,
    copied: u64,
    bytes: u64,
    skipped: u64,
    left: u64,
    named: Vec<String>,
}

/// Imports what is in the file at `path`; `to` is the place of a file that has one database.
pub(super) fn import(path: &Path, to: Option<u8>, policy: Policy, target: Target, as_json: bool) -> anyhow::Result<()> {
    let told = || format!("{}", path.display());
    if let Some(to) = to.filter(|to| *to >= DATABASES) {
        bail!("database {to} is not there, only 0 to {}", DATABASES - 1);
    }
    let most = usize::try_from(target.most).unwrap_or(usize::MAX);
    let file = File::open(path).with_context(told)?;
    let len = file.metadata().with_context(told)?.len();
    let mut reader = FileReader::new(BufReader::with_capacity(1 << 20, file), most).with_context(told)?;
    let mut bar = Bar::new(Arc::new(SystemClock::new()), len / STEP, "KiB");
    let (begun, batch, named) = (Vec::new(), Vec::new(), Vec::new());
    let mut import =
        Import { target, policy, begun, db: 0, batch, batch_bytes: 0, copied: 0, bytes: 0, skipped: 0, left: 0, named };
    let mut only = None;
    let read = loop {
        let found = match reader.advance() {
            Ok(Some(found)) => found,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        if let (Some(_), Found::Value { db, .. }) = (to, &found)
            && *only.get_or_insert(*db) != *db
        {
            bail!("--to is for one database, and the file holds more");
        }
        import.found(found, to)?;
        bar.tell("reading", reader.position() / STEP, import.bytes);
    };
    import.send()?;
    bar.end();
    say(&import.told(path, as_json)?)?;
    read.with_context(|| format!("{} was read only up to where it is damaged", path.display()))?;
    if import.left > 0 {
        bail!("not everything could be imported; left out: {}", import.left);
    }
    Ok(())
}

impl Import {
    fn found(&mut self, found: Found, to: Option<u8>) -> anyhow::Result<()> {
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
                let own = u8::try_from(db).ok().filter(|db| *db < DATABASES);
                let Some(place) = to.or(own) else {
                    self.leave(|| format!("database {db}, key \"{}\": no such database here", name(&key)));
                    return Ok(());
                };
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
                // 0 stands for never.
                let expires = expires.map_or(0, |at| at.max(1));
                self.batch_bytes = self.batch_bytes.saturating_add(value.len()).saturating_add(key.len());
                self.batch.push(Item { key, expires, payload: wrap(value) });
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
        if self.policy == Policy::Refuse && !self.begun.contains(&db) {
            let there = self.target.size(db)?;
            if there > 0 {
                bail!(
                    "database {db} holds {there} keys already: --replace overwrites those the file has too, --skip keeps them"
                );
            }
            self.begun.push(db);
        }
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

    fn told(&self, path: &Path, as_json: bool) -> anyhow::Result<String> {
        let Self { copied, bytes, skipped, left, named, .. } = self;
        if as_json {
            let value = json!({
                "source": path.display().to_string(), "copied": copied, "bytes": bytes, "skipped": skipped,
                "left_out": left, "left_out_named": named,
            });
            return Ok(format!("{}\n", serde_json::to_string_pretty(&value)?));
        }
        let mut out = format!("copied {copied} values, {bytes} bytes, from {}\n", path.display());
        if *skipped > 0 {
            // Writing into a String cannot fail.
            let _ = writeln!(out, "there already, and left as they were: {skipped}");
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
