//! A repository: made, opened, looked into.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::chunker::Chunker;
use super::fetch::{Fetcher, Ids};
use super::format::ChunkId;
use super::format::entry::Entry;
use super::format::index::Table;
use super::format::keys::{Config, ConfigError, RepositoryKeys, open_slot, seal_slot, slot_name};
use super::listing::ListingReader;
use super::load::{Purpose, snapshot_names};
use super::snapshot::{Head, NewSnapshot, SnapshotInfo, SnapshotName};
use super::target::{Target, Trouble};
use super::writer::SnapshotWriter;
use super::{BackupError, Progress, pieces};
use crate::base::{Clock, Id128, Random};
use crate::crypto::{Key, Keyring, MasterKey};

/// Written into every repository, so that it can be read without Mainstay.
const ABOUT: [(&str, &str); 3] = [
    ("RESTORE.txt", include_str!("../../packaging/restore/RESTORE.txt")),
    ("FORMAT.txt", include_str!("../../packaging/restore/FORMAT.txt")),
    ("restore.py", include_str!("../../packaging/restore/restore.py")),
];

const CONFIG: &str = "config";

/// Most bytes of the small files in the open.
const SMALL: u64 = 4096;

/// Most key slots looked at.
const MOST_SLOTS: usize = 100;

/// What opens a repository.
#[derive(Debug)]
pub enum Unlock<'a> {
    /// The master key of the server that made it.
    MasterKey(&'a MasterKey),
    /// The keyring of the running server, which holds that key.
    Keyring(&'a Keyring),
}

impl Unlock<'_> {
    /// The ids of master keys that may open the repository, each with its key for it; the one in use first.
    fn ways_in(&self, repository: &Id128) -> Vec<(String, Key)> {
        match self {
            Self::MasterKey(key) => vec![(key.id(), key.backup_key(repository.as_bytes()))],
            Self::Keyring(keyring) => keyring.backup_keys(repository.as_bytes()),
        }
    }
}

/// An open repository. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Repository(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) target: Arc<dyn Target>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) keys: Arc<RepositoryKeys>,
    pub(super) chunker: Chunker,
    /// The index for reading, once somebody has read.
    table: Mutex<Option<Arc<Table>>>,
}

impl Repository {
    /// Makes a repository at `target`. Blocks.
    ///
    /// # Errors
    /// [`BackupError::AlreadyThere`]; [`BackupError::Target`]: without a `config` it is none yet, and can be made again.
    pub fn create(
        target: Arc<dyn Target>,
        unlock: &Unlock<'_>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, BackupError> {
        let there = || BackupError::AlreadyThere { target: target.label().to_owned() };
        if target.size(CONFIG)?.is_some() {
            return Err(there());
        }
        for (name, text) in ABOUT {
            put_or_there(target.as_ref(), name, text.as_bytes())?;
        }
        let id = Id128::random(random.as_ref());
        let key = Key::random(random.as_ref());
        if let Some((master, wrapping)) = unlock.ways_in(&id).first() {
            let slot = seal_slot(id, master, wrapping, &key, random.as_ref());
            target.put(&slot_name(random.as_ref()), &slot)?;
        }
        // Last: whoever sees it finds the key. Of two makers one wins, the other's slot opens nothing.
        match target.put(CONFIG, Config::new(id, clock.now(), &key).as_bytes()) {
            Ok(()) => Ok(Self::with_key(target, clock, random, id, &key)),
            Err(error) if error.trouble == Trouble::Exists => Err(there()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the repository at `target`. Blocks.
    ///
    /// `known_head` is what [`Repository::head`] or [`SnapshotWriter::finish`] gave last; a repository that lacks it, or
    /// has another snapshot of that name, was rolled back or replaced. Without it (a restore on another machine) nothing
    /// can notice that.
    ///
    /// # Errors
    /// [`BackupError::NoRepository`], [`BackupError::WrongKey`], [`BackupError::Newer`], [`BackupError::Damaged`],
    /// [`BackupError::RolledBack`], [`BackupError::MissingSnapshot`], [`BackupError::Forged`].
    pub fn open(
        target: Arc<dyn Target>,
        unlock: &Unlock<'_>,
        known_head: Option<&Head>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, BackupError> {
        let (config, key, _) = unlocked(target.as_ref(), unlock)?;
        let repository = Self::with_key(target, clock, random, config.id, &key);
        if let Some(known) = known_head {
            repository.check_head(known)?;
        }
        Ok(repository)
    }

    /// Has the repository at `target` open with the master key in use, when it opens with one before it: every key of the
    /// keyring finds a way in of its own from then on. Blocks.
    ///
    /// # Errors
    /// As [`Repository::open`]; it is as it was.
    pub fn let_in(target: &dyn Target, keyring: &Keyring, random: &dyn Random) -> Result<(), BackupError> {
        let unlock = Unlock::Keyring(keyring);
        let (config, key, by) = unlocked(target, &unlock)?;
        if let Some((master, wrapping)) = unlock.ways_in(&config.id).first().filter(|(master, _)| *master != by) {
            target.put(&slot_name(random), &seal_slot(config.id, master, wrapping, &key, random))?;
        }
        Ok(())
    }

    fn with_key(target: Arc<dyn Target>, clock: Arc<dyn Clock>, random: Arc<dyn Random>, id: Id128, key: &Key) -> Self {
        let keys = Arc::new(RepositoryKeys::new(id, key));
        let chunker = Chunker::new(keys.chunker());
        Self(Arc::new(Inner { target, clock, random, keys, chunker, table: Mutex::new(None) }))
    }

    /// What people call the place it is at.
    pub fn label(&self) -> &str {
        self.0.target.label()
    }

    /// The newest snapshot; to be kept outside the repository and given to the next [`Repository::open`]. `None` while
    /// there is no snapshot. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Target`], [`BackupError::Damaged`].
    pub fn head(&self) -> Result<Option<Head>, BackupError> {
        let Some(name) = snapshot_names(self.0.target.as_ref())?.pop() else { return Ok(None) };
        let (_, hash) = self.0.read_snapshot(&name)?;
        Ok(Some(Head { name, hash }))
    }

    /// Every snapshot, oldest first. Blocks.
    ///
    /// # Errors
    /// The first of what [`Repository::survey`] finds wrong.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>, BackupError> {
        let (snapshots, problems) = self.survey()?;
        problems.into_iter().next().map_or(Ok(snapshots), Err)
    }

    /// Every snapshot that can be read, oldest first, and all that is wrong with the others and with the chain:
    /// [`BackupError::Forged`], [`BackupError::MissingSnapshot`], [`BackupError::Damaged`]. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Target`]: the target cannot be read at all.
    pub fn survey(&self) -> Result<(Vec<SnapshotInfo>, Vec<BackupError>), BackupError> {
        let mut found = Vec::new();
        let mut problems = Vec::new();
        let names = snapshot_names(self.0.target.as_ref())?;
        for name in &names {
            match self.0.read_snapshot(name) {
                Ok(snapshot) => found.push(snapshot),
                // Pruned between the listing and the look.
                Err(BackupError::NoSuchSnapshot { .. }) => {}
                Err(error) => problems.push(error),
            }
        }
        let dropped = match self.0.dropped() {
            Ok(dropped) => dropped,
            Err(error) => {
                problems.push(error);
                BTreeSet::new()
            }
        };
        for (snapshot, _) in &found {
            for head in &snapshot.previous {
                match found.iter().find(|(other, _)| other.name == head.name) {
                    Some((_, hash)) if *hash == head.hash => {}
                    Some(_) => problems.push(BackupError::Forged { name: head.name.to_string() }),
                    None if dropped.contains(&head.name) || names.contains(&head.name) => {}
                    None => problems.push(BackupError::MissingSnapshot { name: head.name.to_string() }),
                }
            }
        }
        Ok((found.into_iter().map(|(snapshot, _)| snapshot).collect(), problems))
    }

    /// The snapshot called `name`. Blocks.
    ///
    /// # Errors
    /// [`BackupError::NoSuchSnapshot`], [`BackupError::Damaged`].
    pub fn snapshot(&self, name: &SnapshotName) -> Result<SnapshotInfo, BackupError> {
        Ok(self.0.read_snapshot(name)?.0)
    }

    /// Begins a snapshot; nothing of it is seen before [`SnapshotWriter::finish`]. Packs a killed run left are adopted.
    /// Starts the pipeline's threads. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Target`], [`BackupError::Damaged`].
    pub fn begin(&self, new: NewSnapshot, progress: Progress) -> Result<SnapshotWriter, BackupError> {
        SnapshotWriter::new(self, new, progress)
    }

    /// The entries of a snapshot in the order of their paths, read as they are asked for. Blocks.
    ///
    /// As an item: [`BackupError::Damaged`], [`BackupError::MissingChunk`]; the next item is then the next entry that could
    /// be read.
    pub fn entries(&self, snapshot: &SnapshotInfo) -> Entries {
        Entries { repository: self.clone(), listing: ListingReader::new(&snapshot.listing), state: None, over: false }
    }

    /// The content of `entry`. Its reads fail with an error that names what is damaged. Blocks.
    pub fn read(&self, entry: &Entry) -> ContentReader {
        let (ids, in_pieces) = (Ids::new(&entry.content), pieces::is_in_pieces(entry));
        ContentReader { repository: self.clone(), ids, in_pieces, state: None, chunk: Vec::new(), at: 0 }
    }

    /// The index for reading.
    pub(super) fn table(&self) -> Result<Arc<Table>, BackupError> {
        let mut kept = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = kept.as_ref() {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(self.0.load(Purpose::Read, &Progress::new())?.table);
        *kept = Some(Arc::clone(&table));
        Ok(table)
    }

    /// Lets go of the index: it changed, or another needs its room.
    pub(super) fn forget_table(&self) {
        *self.0.table.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn fetcher(&self) -> Fetcher {
        Fetcher::new(Arc::clone(&self.0.keys), Arc::clone(&self.0.target))
    }

    fn check_head(&self, known: &Head) -> Result<(), BackupError> {
        let names = snapshot_names(self.0.target.as_ref())?;
        if names.contains(&known.name) {
            let (_, hash) = self.0.read_snapshot(&known.name)?;
            return if hash == known.hash { Ok(()) } else { Err(BackupError::Forged { name: known.name.to_string() }) };
        }
        let found = names.last().map_or(0, SnapshotName::sequence);
        if found < known.name.sequence() {
            let target = self.label().to_owned();
            return Err(BackupError::RolledBack { target, found, known: known.name.sequence() });
        }
        if self.0.dropped()?.contains(&known.name) {
            return Ok(());
        }
        Err(BackupError::MissingSnapshot { name: known.name.to_string() })
    }
}

fn put_or_there(target: &dyn Target, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
    match target.put(name, bytes) {
        Err(error) if error.trouble != Trouble::Exists => Err(error.into()),
        _ => Ok(()),
    }
}

/// The config of the repository at `target`, its key, and the id of the master key that opens it.
fn unlocked(target: &dyn Target, unlock: &Unlock<'_>) -> Result<(Config, Key, String), BackupError> {
    let config = match target.get(CONFIG, SMALL) {
        Ok(bytes) => Config::decode(&bytes),
        Err(error) if error.trouble == Trouble::Missing => {
            return Err(BackupError::NoRepository { target: target.label().to_owned() });
        }
        Err(error) => return Err(error.into()),
    };
    let config = config.map_err(|error| match error {
        ConfigError::Newer(found) => BackupError::Newer { name: CONFIG.to_owned(), found, known: 1 },
        ConfigError::Damaged => BackupError::damaged(CONFIG, "it is no repository's"),
    })?;
    let (key, by) = find_key(target, &config, unlock)?;
    if !config.is_whole(&key) {
        return Err(BackupError::damaged(CONFIG, "it was altered"));
    }
    Ok((config, key, by))
}

/// The repository's key, and the id of the master key that opens it: the one in use, if that does.
fn find_key(target: &dyn Target, config: &Config, unlock: &Unlock<'_>) -> Result<(Key, String), BackupError> {
    let ways_in = unlock.ways_in(&config.id);
    let slots = target.list("keys")?;
    let mut found: Option<(usize, Key)> = None;
    for slot in slots.iter().take(MOST_SLOTS) {
        let bytes = match target.get(&slot.name, SMALL) {
            Ok(bytes) => bytes,
            Err(error) if [Trouble::Missing, Trouble::TooLarge].contains(&error.trouble) => continue,
            Err(error) => return Err(error.into()),
        };
        let before = found.as_ref().map_or(usize::MAX, |(at, _)| *at);
        for (at, (master, wrapping)) in ways_in.iter().enumerate().take(before) {
            if let Some(key) = open_slot(&bytes, config.id, master, wrapping).filter(|key| config.is_of(key)) {
                found = Some((at, key));
                break;
            }
        }
        if matches!(found, Some((0, _))) {
            break;
        }
    }
    let by = |at: usize| ways_in.get(at).map(|(master, _)| master.clone()).unwrap_or_default();
    match found {
        Some((at, key)) => Ok((key, by(at))),
        None => Err(BackupError::WrongKey { target: target.label().to_owned(), slots: slots.len(), given: by(0) }),
    }
}

/// Entries of a snapshot.
#[derive(Debug)]
pub struct Entries {
    repository: Repository,
    listing: ListingReader,
    state: Option<(Arc<Table>, Fetcher)>,
    over: bool,
}

impl Iterator for Entries {
    type Item = Result<Entry, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let state = match self.state.take() {
            Some(state) => state,
            None => match self.repository.table() {
                Ok(table) => (table, self.repository.fetcher()),
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            },
        };
        let (table, fetcher) = self.state.insert(state);
        self.listing.next(table, fetcher)
    }
}

/// Bytes of an entry.
#[derive(Debug)]
pub struct ContentReader {
    repository: Repository,
    ids: Ids,
    in_pieces: bool,
    state: Option<(Arc<Table>, Fetcher)>,
    chunk: Vec<u8>,
    at: usize,
}

impl ContentReader {
    fn refill(&mut self) -> Result<bool, BackupError> {
        let state = match self.state.take() {
            Some(state) => state,
            None => (self.repository.table()?, self.repository.fetcher()),
        };
        let (table, fetcher) = self.state.insert(state);
        let Some(id) = self.ids.next(|id: &ChunkId| fetcher.chunk(table, id)) else { return Ok(false) };
        let id = id?;
        self.chunk = fetcher.chunk(table, &id)?;
        self.at = 0;
        if self.in_pieces {
            let (_, bytes) = pieces::split(&self.chunk)
                .ok_or_else(|| BackupError::damaged(format!("chunk {id}"), "it is no piece"))?;
            self.at = self.chunk.len().saturating_sub(bytes.len());
        }
        Ok(true)
    }
}

impl io::Read for ContentReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if target.is_empty() {
            return Ok(0);
        }
        while self.at >= self.chunk.len() {
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let ready = self.chunk.get(self.at..).unwrap_or_default();
        let count = ready.len().min(target.len());
        if let (Some(to), Some(from)) = (target.get_mut(..count), ready.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}
