//! `mainstay import redis`: data from elsewhere into the running server; [`s3`] has `mainstay import s3`.
//!
//! It reads a Redis as any client does (SCAN, DUMP, expiry) and writes what it reads through the server's
//! own Redis door (RESTORE with absolute expiry), so that everything passes the checks and limits every client passes
//! ([`copy`]). [`notes`] keeps what was copied, and [`state`] how far it is. What stands in an RDB file goes the same way ([`file`]).

mod address;
pub(super) mod arguments;
mod copy;
mod file;
mod notes;
pub(super) mod s3;
mod show;
mod state;
mod target;
mod wire;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use self::address::Address;
use self::arguments::RedisImport;
use self::copy::{Copier, Policy, Route};
use self::notes::{Found, Kind, VERSION};
use self::show::{Bar, Done};
use self::state::{Changes, Notes, State};
use self::target::Target;
use self::wire::{Client, Reply};
use super::say;
use super::settings::Shell;
use crate::app::control;
use crate::base::ids::hex;
use crate::base::{Clock, Disk as _, LocalDisk, Secret, SystemClock, SystemRandom, disk, random};
use crate::kv::config::DATABASES;

/// Most bytes of a file with a password.
const PASSWORD: u64 = 4096;
/// Most databases a source is asked about.
const MOST_DATABASES: u32 = 1024;
/// Notes older than this are not gone on with: the server's data may have long gone its own way.
const STALE: Duration = Duration::from_hours(7 * 24);

/// Runs `mainstay import redis`.
pub(super) fn redis(shell: &Shell, wanted: &RedisImport) -> anyhow::Result<()> {
    let policy = match (wanted.replace, wanted.skip) {
        (true, _) => Policy::Replace,
        (_, true) => Policy::Skip,
        _ => Policy::Refuse,
    };
    if let Some(path) = &wanted.rdb {
        let lines = control::env(&shell.existing_data()).context("the server that is imported into must be running")?;
        return file::import(path, wanted, policy, Target::connect(&lines)?);
    }
    let source = wanted.source.as_deref().context("name the source, or a file with --rdb")?;
    let mut address = Address::parse(source)?;
    if let Some(file) = &wanted.password_file {
        address.password = Some(password(file)?);
    } else if address.password.is_none() {
        address.password.clone_from(&shell.environment.redis_password);
    }
    let data = shell.existing_data();
    let lines = control::env(&data).context("the server that is imported into must be running")?;
    let mut target = Target::connect(&lines)?;
    let mut source = Client::connect(&address, wanted.cacert.as_deref(), target.most)?;
    let routes = routes(&mut source, address.db, wanted.to)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let path = notes_path(&data, &address, wanted.to)?;
    if wanted.fresh && LocalDisk.entry(&path)?.is_some() {
        LocalDisk.remove_file(&path)?;
    }
    let notes = Notes::open(&path)?;
    let state = if let Some(state) = notes.state::<State>()? {
        if clock.now().since(state.touched) > STALE {
            bail!("an import from here was left on {}; --fresh begins anew", state.touched);
        }
        // Nobody is told when this fails.
        let _ = writeln!(std::io::stderr(), "going on with the import of {}", state.started);
        State { touched: clock.now(), ..state }
    } else {
        if policy == Policy::Refuse {
            let mut full = routes.iter().filter(|route| route.keys > 0);
            full.try_for_each(|route| refuse_full(&mut target, route.to, "source"))
                .inspect_err(|_| drop(LocalDisk.remove_file(&path)))?;
        }
        fresh(&*clock)
    };
    notes.commit(Changes::default(), &state)?;
    let bar = Bar::new(Arc::clone(&clock), routes.iter().map(|route| route.keys).sum(), "keys");
    let mut copier = Copier::new(source, target, (&notes, state), policy, bar)?;
    let quiet = copier.run(&routes).context("interrupted; the same command goes on from here")?;
    let mut skipped = 0;
    notes.each(|row| skipped += u64::from(row.kind == Kind::Skipped))?;
    let done = Done { source: address.to_string(), state: &copier.state, skipped, left: notes.left()?, quiet };
    let text = if wanted.json { format!("{}\n", serde_json::to_string_pretty(&done.json())?) } else { done.text() };
    say(&text)?;
    if !quiet {
        bail!(
            "the source is being written to, and what changed during the last pass may be missing; \
             stop what writes there and run the same command again: it copies only what has changed"
        );
    }
    let left = done.left.0;
    drop(copier);
    drop(notes);
    if !wanted.keep_notes {
        LocalDisk.remove_file(&path)?;
    }
    if left > 0 {
        bail!("not everything could be imported; left out: {left}");
    }
    Ok(())
}

fn password(file: &Path) -> anyhow::Result<Secret<String>> {
    let told = || format!("{}", file.display());
    let bytes = disk::read_file(&LocalDisk, file, PASSWORD).with_context(told)?.with_context(told)?;
    let text = String::from_utf8(bytes).map_err(|_invalid| anyhow::anyhow!("the password is no UTF-8"))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The databases of the source that have keys, and where they go.
fn routes(source: &mut Client, only: Option<u32>, to: Option<u8>) -> anyhow::Result<Vec<Route>> {
    if to.is_some() && only.is_none() {
        bail!("--to is for one database, which the address names: redis://host/3");
    }
    let mut routes = Vec::new();
    for db in only.map_or(0..MOST_DATABASES, |db| db..db.saturating_add(1)) {
        match source.call(&[b"SELECT", db.to_string().as_bytes()])? {
            Reply::Error(error) if only.is_some() || db == 0 => bail!("the source has no database {db}: {error}"),
            // It was the one after the last.
            Reply::Error(_) => break,
            _ => {}
        }
        let Reply::Integer(keys) = source.ask(&[b"DBSIZE"])? else { bail!("DBSIZE is not answered as Redis does") };
        let keys = u64::try_from(keys).unwrap_or(0);
        let place = to.map_or(db, u32::from);
        match u8::try_from(place).ok().filter(|place| *place < DATABASES) {
            Some(to) => routes.push(Route { from: db, to, keys }),
            None if keys > 0 => bail!(
                "database {place} is not there, only 0 to {}; import the source's database {db} by itself with --to",
                DATABASES - 1
            ),
            None => {}
        }
    }
    Ok(routes)
}

/// Refuses a database that holds keys; `from` is what is imported.
fn refuse_full(target: &mut Target, db: u8, from: &str) -> anyhow::Result<()> {
    let there = target.size(db)?;
    if there > 0 {
        bail!(
            "database {db} holds {there} keys already: --replace overwrites those the {from} has too, --skip keeps them; \
             nothing was imported"
        );
    }
    Ok(())
}

fn fresh(clock: &dyn Clock) -> State {
    State {
        version: VERSION,
        started: clock.now(),
        touched: clock.now(),
        secret: random::bytes::<32>(&SystemRandom),
        functions: false,
        pass: 1,
        databases: 0,
        removing: false,
        cursor: 0,
        copied: 0,
        bytes: 0,
        found: Found::default(),
        passes: Vec::new(),
    }
}

/// The file of notes: one for each source and database, without its password.
fn notes_path(data: &Path, address: &Address, to: Option<u8>) -> anyhow::Result<PathBuf> {
    let folder = data.join("import");
    if LocalDisk.entry(&folder)?.is_none() {
        LocalDisk.create_dir(&folder)?;
    }
    let name = blake3::hash(format!("{address} {:?} {to:?}", address.db).as_bytes());
    Ok(folder.join(format!("redis-{}.redb", hex(&name.as_bytes()[..8]))))
}
