//! The server's own data as a source of backups.
//!
//! **One moment.** Every door acknowledges a change only when it is committed or written to the journal. A backup first
//! has all files stay that it may need (`objects`, `kv`), then holds back the commits of all stores at once, takes a
//! snapshot of each, notes how far the keyspace's journal is written, and lets go: some milliseconds. Call that moment M.
//! Whatever any door acknowledged before M is in the backup: a store commits nothing between its pause and M, so what it
//! acknowledged by M was in its snapshot; a reply of the keyspace leaves behind the write. What is in the backup was
//! committed or written before M, so when a client saw `a` acknowledged and only then asked for `b`, and `b` is in the
//! backup, `a` is too, whichever doors they went through. Transactions are whole or absent in each of them.
//!
//! **What is in it**, as entries of a snapshot of the source `mainstay`, in this order:
//!
//! | path | content |
//! |---|---|
//! | `about.json` | format (2), release, and the moment |
//! | `bucket-keys/<bucket id>` | keys of buckets, wrapped |
//! | `edge/self-signed.pem` | the public part of the certificate made at the first start |
//! | `keys/ring` | the keyring: every key wrapped by the master key, which is *not* in a backup |
//! | `keyspace` | see [`kv::persist::export`](crate::kv::persist::export) |
//! | `keyspace-names` | which keys each piece of it is about, for the day on which one is lost |
//! | `objects/<blob id>` | see [`objects::backup`](crate::objects::backup) |
//! | `stores/<file>` | rows of a data file, see [`store::dump`](crate::store::dump) |
//!
//! Rows and keys are [in pieces](super::pieces) since format 2: a damaged chunk costs the rows or keys in it, and [`losses`] says what
//! becomes of those that depend on them.
//!
//! Sessions, credentials, the mail queue, jobs and captured errors are rows. Values lie in the clear in these streams, so
//! that the repository finds what it has already; the repository seals them.
//!
//! **After a restore** of an older state nothing is sealed twice under one key and nonce: data files and journal draw a
//! fresh salt at every opening, and blobs repeat a nonce only over the same bytes. Mail that was accepted and delivered
//! after M, or was on its way at M, is delivered again: at least once is the promise of the queue.

mod error;
mod keys;
pub mod losses;
mod read;
pub mod restore;
pub mod single;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{Clock, Disk, Timestamp};
use crate::kv::persist::{Cut, Live, Place};
use crate::objects::Objects;
use crate::objects::backup::KeptBlobs;
use crate::store::{DataFile, ISSUES, OBJECTS, Pause, STATE, Snapshot, Store};

pub(super) use read::{Contents, add};

/// The source's name.
pub const SOURCE: &str = "mainstay";

/// Format of the entries, in `about.json`.
pub(super) const FORMAT: u32 = 2;

pub(super) const ABOUT: &str = "about.json";
pub(super) const BUCKET_KEYS: &str = "bucket-keys";
pub(super) const CERTIFICATE: &str = "edge/self-signed.pem";
pub(super) const RING: &str = "keys/ring";
pub(super) const KEYSPACE: &str = "keyspace";
pub(super) const KEYSPACE_NAMES: &str = "keyspace-names";
pub(super) const BLOBS: &str = "objects";
pub(super) const STORES: &str = "stores";

/// The data files with the names of their keys, in the order of their names.
pub const FILES: [(&DataFile, &str); 3] =
    [(&ISSUES, "store/issues"), (&OBJECTS, "store/objects"), (&STATE, "store/state")];

/// How often the moment is tried when commits could not be held back long enough.
const TRIES: u32 = 5;

/// Where the server's own data is.
#[derive(Debug)]
pub struct OwnData {
    /// The data folder.
    pub data: PathBuf,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// `issues.redb`, `objects.redb`, `state.redb`.
    pub stores: Vec<Store>,
    /// Blobs and their keys.
    pub objects: Objects,
    /// The keyspace.
    pub keyspace: Keyspace,
}

/// How the keyspace is read.
#[derive(Debug)]
pub enum Keyspace {
    /// It is being served.
    Live(Live),
    /// Nobody has it open, and nobody will before the backup is done.
    AtRest(Place),
}

/// What the first entry says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct About {
    pub format: u32,
    pub release: String,
    pub moment: Timestamp,
}

/// All data at one moment.
pub(super) struct Moment {
    pub at: Timestamp,
    /// How long commits stood still.
    pub pause: Duration,
    pub snapshots: Vec<(&'static str, Box<dyn Snapshot>)>,
    pub keyspace: Option<Cut>,
    pub _blobs: KeptBlobs,
}

impl OwnData {
    /// All data as it is now. Blocks for milliseconds, and so does everyone who commits.
    ///
    /// # Errors
    /// A store is closed, the keyspace's folder cannot be listed, or the machine is too busy to stand still for a moment.
    pub(super) fn moment(&self, clock: &dyn Clock) -> Result<Moment, String> {
        for _ in 0..TRIES {
            if let Some(moment) = self.try_moment(clock)? {
                return Ok(moment);
            }
        }
        Err(format!("commits could not be held back for a moment, {TRIES} times; the machine is too busy"))
    }

    fn try_moment(&self, clock: &dyn Clock) -> Result<Option<Moment>, String> {
        let blobs = self.objects.keep_blobs();
        let held = match &self.keyspace {
            Keyspace::Live(live) => Some(live.hold().map_err(|error| error.to_string())?),
            Keyspace::AtRest(_) => None,
        };
        let start = clock.monotonic();
        let mut pauses = Vec::new();
        for store in &self.stores {
            pauses.push(store.pause_blocking().map_err(|error| error.to_string())?);
        }
        let mut snapshots = Vec::new();
        for store in &self.stores {
            snapshots.push((store.file(), store.snapshot().map_err(|error| error.to_string())?));
        }
        let live = held.map(crate::kv::persist::export::Held::cut);
        let at = clock.now();
        // Every pause ends, whatever the others say.
        let held_back = pauses.into_iter().map(Pause::end).fold(true, |all, held| all & held);
        let pause = clock.monotonic().saturating_sub(start);
        if !held_back {
            return Ok(None);
        }
        let keyspace = match (live, &self.keyspace) {
            (None, Keyspace::AtRest(place)) => Cut::at_rest(place.clone()).map_err(|error| error.to_string())?,
            (live, _) => live,
        };
        Ok(Some(Moment { at, pause, snapshots, keyspace, _blobs: blobs }))
    }
}
