//! A server's own data out of a repository that is damaged in one place: all the rest comes back, what is lost is named.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use futures_util::{StreamExt as _, stream};

use super::*;
use crate::backup::format::pack::{open_pack, pack_hash};
use crate::backup::own::losses::Losses;
use crate::backup::own::restore::{Damage, RestoreError, RestoreWorld, Restored, into_folder};
use crate::backup::own::{self, FILES, Keyspace, OwnData};
use crate::base::{ByteSize, Shutdown, Supervisor};
use crate::crypto::Keyring;
use crate::crypto::keyring::MasterSource;
use crate::jobs::Jobs;
use crate::kv::effect::{Effect, read};
use crate::kv::persist::{OnDamage, Place, Restored as Piece, recover};
use crate::objects::types::{Metadata, PutExpect};
use crate::objects::{BucketName, ObjectError, Objects, ObjectsConfig};
use crate::store::{DataFile, Direction, OBJECTS, Opening, Store, StoreConfig, StoreError, Table, WriteTx};
use crate::telemetry::Metrics;
use crate::testing::Act;

const DATA: &str = "/data";
const COPY: &str = "/copy";

type Rows = BTreeMap<(String, String), BTreeMap<Vec<u8>, Vec<u8>>>;

/// What a server has open.
struct Server {
    stores: Vec<Store>,
    objects: Objects,
    place: Place,
}

impl Server {
    /// Opens the folder `data` on `disk`.
    fn open(disk: &FaultyDisk, data: &str, master: &MasterKey, clock: &Arc<TestClock>) -> Self {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let folder = Path::new(data);
        let metrics = Metrics::new();
        let supervisor = Supervisor::new(Shutdown::new());
        let source = MasterSource::Given { key: master.clone(), from: "test" };
        let keyring = Arc::new(Keyring::open(Arc::clone(&shared), random(), folder, source, false).unwrap());
        let open = |(file, key): &(&'static DataFile, &str)| {
            let opening = Opening {
                folder,
                key: keyring.key(key).unwrap(),
                config: &StoreConfig { cache: ByteSize::mib(1) },
                disk: Arc::clone(&shared),
                clock: Arc::clone(clock) as Arc<dyn Clock>,
                random: &SystemRandom,
                supervisor: &supervisor,
                metrics: &Metrics::new(),
            };
            Store::open(file, opening).unwrap()
        };
        let stores: Vec<Store> = FILES.iter().map(open).collect();
        let index = stores[1].clone();
        let jobs = Jobs::new(index.clone(), clock.clone(), random(), supervisor, &metrics);
        let config = ObjectsConfig::default();
        let (root, ring) = (folder.join("objects"), Arc::clone(&keyring));
        let objects =
            Objects::open(Arc::clone(&shared), root, index, ring, jobs, clock.clone(), random(), &metrics, config);
        let place = Place {
            disk: shared,
            random: random(),
            folder: crate::kv::persist::folder(folder),
            key: keyring.key("kv/journal").unwrap(),
            segment_bytes: 1 << 20,
            on_damage: OnDamage::Refuse,
        };
        Self { stores, objects: objects.unwrap(), place }
    }

    fn rows(&self) -> Rows {
        let mut out = Rows::new();
        for store in &self.stores {
            let snapshot = store.snapshot().unwrap();
            for table in snapshot.tables().unwrap() {
                let all = snapshot.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX);
                out.insert((store.file().to_owned(), table.name().to_owned()), all.unwrap().into_iter().collect());
            }
        }
        out
    }

    async fn object(&self, bucket: &str, key: &str) -> Result<Vec<u8>, ObjectError> {
        let (bucket, key) = (bucket.parse().unwrap(), key.parse().unwrap());
        let mut body = self.objects.get(&bucket, &key, None).await?.body;
        let mut out = Vec::new();
        while let Some(chunk) = body.next().await {
            out.extend_from_slice(&chunk?);
        }
        Ok(out)
    }

    fn close(self) {
        self.stores.iter().for_each(Store::close_blocking);
    }
}

/// How much a server has.
#[derive(Clone, Copy)]
struct Amount {
    /// Hundredths of the rows that make several pieces of each table.
    rows: u32,
    /// Objects in each bucket.
    objects: u32,
    /// Keys of 16,000 bytes.
    keys: u8,
}

/// Several chunks of everything.
const PLENTY: Amount = Amount { rows: 100, objects: 45, keys: 40 };

/// Some of everything.
const LITTLE: Amount = Amount { rows: 2, objects: 2, keys: 3 };

/// What a server had at the backup.
struct There {
    rows: Rows,
    objects: Vec<(&'static str, String, Vec<u8>)>,
    keys: u8,
}

fn fill(store: &Store, table: &'static str, rows: u32, bytes: usize) {
    let put = move |tx: &mut dyn WriteTx| {
        (0..rows)
            .try_for_each(|number| tx.put(Table::new(table), &number.to_be_bytes(), &noise(u64::from(number), bytes)))
    };
    store.write_blocking::<_, StoreError>(put).unwrap();
}

/// Objects by bucket and key.
fn objects(each: u32) -> Vec<(&'static str, String, Vec<u8>)> {
    let mut out = Vec::new();
    for number in 0..each {
        out.push(("photos", format!("small/{number:03}"), noise(u64::from(number), 5_000)));
        out.push(("papers", format!("{number:03}"), noise(u64::from(number) + 100, 5_000)));
    }
    out.push(("photos", "large".to_owned(), noise(999, 300_000)));
    out
}

/// The effect that sets the key `k` and `number`: see `kv/effect.rs`.
fn set_effect(number: u8) -> Vec<u8> {
    let value = noise(u64::from(number), 16_000);
    // 16,000 as LEB128.
    [&[6, 0, 2, b'k', number][..], &[0; 8], &[0x80, 0x7d], &value].concat()
}

/// Numbers of the keys in `place`, all of which have their value.
fn keys(place: &Place) -> Vec<u8> {
    let mut out = Vec::new();
    recover(place, &mut |restored| {
        if let Piece::Effects(bytes) = restored {
            for effect in read(bytes) {
                match effect.map_err(|error| error.to_string())? {
                    Effect::Set { key: [b'k', number], value, .. } => {
                        assert!(value == noise(u64::from(*number), 16_000));
                        out.push(*number);
                    }
                    Effect::Delete { key: [b'k', number], .. } => out.retain(|kept| kept != number),
                    other => panic!("{other:?}"),
                }
            }
        }
        Ok(())
    })
    .unwrap();
    out
}

/// A server with something in every table that matters, and a snapshot of it.
async fn backed_up(amount: Amount) -> (Fixture, There, SnapshotInfo) {
    let fixture = Fixture::new();
    let server = Server::open(&fixture.disk, DATA, &fixture.key, &fixture.clock);
    let [issues, _, state] = [0, 1, 2].map(|at| server.stores[at].clone());
    let rows = |plenty: u32| (plenty * amount.rows).div_ceil(100);
    fill(&issues, "issues.events", rows(200), 1000);
    fill(&issues, "issues.rows", rows(20), 100);
    for table in ["accounts.access_keys", "accounts.second_factors", "accounts.users"] {
        fill(&state, table, rows(10), 200);
    }
    fill(&state, "accounts.audit", rows(250), 1000);
    fill(&state, "mail.messages", rows(130), 1000);
    fill(&state, "mail.due", rows(130), 20);
    for bucket in ["photos", "papers"] {
        server.objects.create_bucket(&bucket.parse::<BucketName>().unwrap()).await.unwrap();
    }
    let objects = objects(amount.objects);
    for (bucket, key, bytes) in objects.clone() {
        let body = stream::iter([Ok(bytes::Bytes::from(bytes))]);
        let (bucket, key) = (bucket.parse().unwrap(), key.parse().unwrap());
        server.objects.put(&bucket, &key, Metadata::default(), PutExpect::default(), body).await.unwrap();
    }
    let (mut journal, _) = recover(&server.place, &mut |_| Ok(())).unwrap();
    for number in 0..amount.keys {
        journal.append(&set_effect(number), None).unwrap();
    }
    drop(journal);
    let there = There { rows: server.rows(), objects, keys: amount.keys };
    let own = OwnData {
        data: PathBuf::from(DATA),
        disk: Arc::new(fixture.disk.clone()),
        stores: server.stores.clone(),
        objects: server.objects.clone(),
        keyspace: Keyspace::AtRest(server.place.clone()),
    };
    let repository = fixture.open();
    let mut writer = repository.begin(new_snapshot(own::SOURCE, fixture.clock.now()), Progress::new()).unwrap();
    let moment = own.moment(fixture.clock.as_ref()).unwrap();
    own::add(&own, moment, "test", &mut writer).unwrap();
    let snapshot = writer.finish().unwrap().info;
    drop(own);
    server.close();
    (fixture, there, snapshot)
}

fn restore(fixture: &Fixture, snapshot: &SnapshotInfo, damage: Damage) -> Result<Restored, RestoreError> {
    let supervisor = Supervisor::new(Shutdown::new());
    let world = RestoreWorld {
        disk: Arc::new(fixture.disk.clone()),
        clock: fixture.clock(),
        random: random(),
        supervisor,
        store: StoreConfig { cache: ByteSize::mib(1) },
        journal_segment: ByteSize::mib(1),
        keep_master: true,
    };
    // Without power there is no folder either.
    let _ = fixture.disk.create_dir(Path::new(COPY));
    into_folder(&fixture.try_open(None)?, snapshot, Path::new(COPY), &fixture.key, &world, damage, &Progress::new())
}

/// Every place a chunk begins in a pack: the pack and a byte inside the chunk.
fn chunks(fixture: &Fixture) -> Vec<(PathBuf, u64)> {
    let repository = fixture.open();
    let mut out = Vec::new();
    for path in fixture.names("packs") {
        let file = crate::base::disk::read_file(&fixture.disk, &path, 1 << 30).unwrap().unwrap();
        let name = path.strip_prefix(PLACE).unwrap().to_str().unwrap();
        let (_, entries) = open_pack(&repository.0.keys, pack_hash(name).unwrap(), &file).unwrap();
        let mut at = 40;
        for entry in entries {
            out.push((path.clone(), at + 5));
            at += u64::from(entry.sealed);
        }
    }
    out
}

/// What came back is what was there, but for what is told to be lost; returns whether anything is.
async fn check(fixture: &Fixture, was: &There, restored: &Restored, place: &str) -> bool {
    let losses = &restored.losses;
    let server = Server::open(&fixture.disk, COPY, &fixture.key, &fixture.clock);
    let found = server.rows();
    let people =
        |table: &str| table.starts_with("accounts.") && !["accounts.audit", "accounts.failures"].contains(&table);
    let mut gone = Vec::new();
    for ((file, table), all) in &was.rows {
        let there = found.get(&(file.clone(), table.clone())).cloned().unwrap_or_default();
        assert!(there.iter().all(|(key, value)| all.get(key) == Some(value)), "{place}: {table}");
        if there.len() < all.len() {
            let (room, _) = table.split_once('.').unwrap();
            let told = losses.rows.iter().any(|lost| lost.table == *table || lost.lost.is_none())
                || losses.left_out.iter().any(|left| left.contains(room) || people(table))
                || (room == "objects" && !losses.is_none());
            assert!(told, "{place}: {table} has {} of {}: {losses:?}", there.len(), all.len());
            gone.push(table.clone());
        }
    }
    if gone.iter().any(|table| people(table)) {
        assert!(found.iter().all(|((_, table), rows)| !people(table) || rows.is_empty()), "{place}: {losses:?}");
    }
    for (bucket, key, bytes) in &was.objects {
        let name = format!("{bucket}/{key}");
        match server.object(bucket, key).await {
            Ok(read) => assert!(read == *bytes, "{place}: {name}"),
            Err(ObjectError::NoSuchKey | ObjectError::NoSuchBucket) => {
                let told = losses.objects.contains(&name) || losses.rows.iter().any(|lost| lost.file == OBJECTS.name());
                assert!(told, "{place}: {name} {losses:?}");
            }
            Err(error) => assert!(restored.lost.contains(&name), "{place}: {name}: {error} {restored:?}"),
        }
    }
    let there = keys(&server.place);
    for number in 0..was.keys {
        let key = format!("k{} (database 0)", [number].escape_ascii());
        assert!(
            there.contains(&number) != losses.keys.contains(&key) || restored_nothing_of_keys(losses),
            "{place}: {key}"
        );
    }
    server.close();
    !gone.is_empty() || there.len() < usize::from(was.keys) || !restored.lost.is_empty()
}

/// Whether it cannot be told which keys are lost, and that is said.
fn restored_nothing_of_keys(losses: &Losses) -> bool {
    losses.parts.iter().any(|part| part.contains("it cannot be told which keys") || part.contains("the keyspace, if"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_costs_what_is_in_it_whichever_it_is() {
    let (fixture, there, snapshot) = backed_up(PLENTY).await;
    let places = chunks(&fixture);
    assert!(places.len() > 12, "{}", places.len());
    let mut costly = 0;
    for (pack, at) in places {
        let hurt = fixture.on(fixture.disk.kill());
        hurt.disk.flip(&pack, at, 1).unwrap();
        let place = format!("{} at {at}", pack.display());
        let restored =
            restore(&hurt, &snapshot, Damage::KeepTheRest).unwrap_or_else(|error| panic!("{place}: {error}"));
        let lost = check(&hurt, &there, &restored, &place).await;
        costly += u32::from(lost);
        assert!(lost <= !(restored.losses.is_none() && restored.damaged.is_empty()), "{place}");
    }
    // How many depends on where chunks end.
    assert!(costly > 3, "{costly}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pack_costs_what_is_in_it_whichever_it_is() {
    let (fixture, there, snapshot) = backed_up(PLENTY).await;
    for pack in fixture.names("packs") {
        let hurt = fixture.on(fixture.disk.kill());
        hurt.remove(&pack);
        let place = pack.display().to_string();
        let restored =
            restore(&hurt, &snapshot, Damage::KeepTheRest).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(!restored.losses.is_none(), "{place}");
        check(&hurt, &there, &restored, &place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_lost_rows_is_not_served_unless_that_is_asked_for() {
    let (fixture, there, snapshot) = backed_up(PLENTY).await;
    let whole = fixture.on(fixture.disk.kill());
    let restored = restore(&whole, &snapshot, Damage::Refuse).unwrap();
    assert!(restored.losses.is_none() && restored.damaged.is_empty());
    assert!(!check(&whole, &there, &restored, "undamaged").await);
    let mut refused = 0;
    for (pack, at) in chunks(&fixture).into_iter().step_by(5) {
        let hurt = fixture.on(fixture.disk.kill());
        hurt.disk.flip(&pack, at, 1).unwrap();
        let marker = Path::new(COPY).join(own::restore::UNFINISHED);
        let report = Path::new(COPY).join(own::restore::REPORT);
        match restore(&hurt, &snapshot, Damage::Refuse) {
            Ok(restored) => assert!(restored.losses.is_none()),
            Err(RestoreError::Losses { losses }) => {
                refused += 1;
                assert!(!losses.is_none() && hurt.disk.entry(&marker).unwrap().is_some());
                assert!(hurt.disk.entry(&report).unwrap().is_some());
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0, "{refused}");
}

/// Which part of a data folder `path` is in: the three data files are written alike, and so is what one folder holds.
fn part(path: &Path) -> &str {
    let inside = path.strip_prefix(COPY).unwrap_or(path);
    let first = inside.iter().next().and_then(|name| name.to_str()).unwrap_or_default();
    if first.contains(".redb") { "data file" } else { first }
}

/// Steps at which to cut: the first of each kind in each part of the folder, some drawn ones, and the last.
fn cuts(steps: &[(Act, PathBuf)], drawn: usize) -> Vec<u64> {
    let mut firsts = BTreeMap::new();
    for (at, (act, path)) in (1..).zip(steps) {
        firsts.entry((*act, part(path))).or_insert(at);
    }
    let steps = steps.len() as u64;
    let dice = TestRandom::new(steps);
    let drawn = (0..drawn).map(|_| {
        let mut bytes = [0; 8];
        dice.fill(&mut bytes);
        u64::from_le_bytes(bytes) % steps + 1
    });
    let all: BTreeSet<u64> = firsts.into_values().chain(drawn).chain(steps - 2..=steps + 1).collect();
    all.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_cut_off_at_any_kind_of_step_is_marked_or_whole_and_can_be_repeated() {
    let (fixture, there, snapshot) = backed_up(LITTLE).await;
    let base = fixture.on(fixture.disk.crash(0));
    let whole = base.on(base.disk.kill());
    whole.disk.trace();
    restore(&whole, &snapshot, Damage::Refuse).unwrap();
    let steps = whole.disk.steps();
    let cuts = cuts(&steps, 4);
    let (mut marked, mut done) = (0, 0);
    for (round, step) in cuts.into_iter().enumerate() {
        let cut = base.on(base.disk.kill());
        cut.disk.cut_power_at(step);
        let outcome = restore(&cut, &snapshot, Damage::Refuse);
        cut.disk.heal();
        let outcomes = [
            ("power cut", cut.disk.crash(step)),
            ("another power cut", cut.disk.crash(step + 1)),
            ("kill", cut.disk.kill()),
        ];
        let repeated = round % outcomes.len();
        for (nth, (what, disk)) in outcomes.into_iter().enumerate() {
            let place = format!("{what} at step {step}, {:?}", steps.get(usize::try_from(step).unwrap() - 1));
            let after = base.on(disk);
            let folder = Path::new(COPY);
            let is_there = |name: &str| after.disk.entry(&folder.join(name)).is_ok_and(|entry| entry.is_some());
            let has_data = || FILES.iter().any(|(file, _)| is_there(file.name())) || is_there("keys");
            let is_marked = is_there(own::restore::UNFINISHED);
            let is_whole = !is_marked && has_data();
            assert!(is_whole || outcome.is_err(), "{place}");
            marked += u32::from(is_marked);
            done += u32::from(is_whole);
            if nth != repeated && !is_whole {
                continue;
            }
            if is_marked {
                own::restore::clear(&after.disk, folder).unwrap();
                assert!(!is_there(own::restore::UNFINISHED) && !FILES.iter().any(|(file, _)| is_there(file.name())));
            }
            if !is_whole {
                restore(&after, &snapshot, Damage::Refuse).unwrap_or_else(|error| panic!("{place}: {error}"));
            }
            assert!(!check(&after, &there, &Restored::default(), &place).await, "{place}");
        }
    }
    assert!(marked > 20 && done > 0, "{marked} {done}");
}
