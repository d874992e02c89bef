//! Answers on a disk that loses, tears, refuses and fills up.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use tokio::time::timeout;

use super::super::flights::{Flights, Outcome, Turn};
use super::super::freshness::Arrival;
use super::*;
use crate::base::Shutdown;
use crate::testing::{Fault, FaultyDisk, TestClock, TestRandom};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const MEMORY: u64 = 8 << 20;
const LARGE: usize = WHOLE as usize + 200_000;

struct Bench {
    tier: Arc<Tier>,
    shelves: Arc<Shelves>,
    disk: FaultyDisk,
    clock: Arc<TestClock>,
    supervisor: Supervisor,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.supervisor.shutdown().force();
    }
}

fn site() -> Arc<str> {
    "a.example/".into()
}

fn key(target: &str) -> Arc<Key> {
    Arc::new(Key::of(&site(), true, &"a.example".parse().unwrap(), None, target))
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at / 7 % 251) as u8).collect()
}

fn lines(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// A tier on `disk`, which has looked through all files.
async fn bench_of(disk: &FaultyDisk, clock: &Arc<TestClock>, capacity: u64, seed: u64) -> Bench {
    let shelves = Arc::new(Shelves::new(MEMORY, Counter::default()));
    let supervisor = Supervisor::new(Shutdown::new());
    let place = Place {
        disk: Arc::new(disk.clone()),
        folder: PathBuf::from("edge/cache"),
        key: Secret::from_bytes([5; 32]),
        clock: Arc::clone(clock) as _,
        random: Arc::new(TestRandom::new(seed)),
        supervisor: supervisor.clone(),
        reserve: (0, 0),
    };
    let tier = Tier::new(place, &shelves, MEMORY, &Metrics::new());
    tier.reload(capacity, &[site()]).unwrap();
    let bench = Bench { tier, shelves, disk: disk.clone(), clock: Arc::clone(clock), supervisor };
    bench.until(|bench| !*bench.tier.starting.lock().unwrap()).await;
    bench
}

async fn bench() -> Bench {
    bench_of(&FaultyDisk::new(), &Arc::new(TestClock::default()), 1 << 30, 1).await
}

impl Bench {
    async fn until(&self, is: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is(self) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("it never comes to that");
    }

    fn head(&self, request: &HeaderMap, more: &[(&'static str, &'static str)]) -> Head {
        let now = self.clock.monotonic();
        let arrival = Arrival { asked: now, received: now, at: self.clock.now(), default: None };
        let mut headers = lines(more);
        headers.entry("cache-control").or_insert(HeaderValue::from_static("max-age=600"));
        Head::judged(request, StatusCode::OK, &headers, arrival).unwrap()
    }

    async fn store_for(&self, target: &str, head: Head, body: &[u8]) -> bool {
        let key = key(target);
        let Some(mut spill) = self.tier.begin(&key, &head, self.shelves.tick()) else { return false };
        for piece in body.chunks(100_000) {
            let Some(leave) = spill.leave(piece.len(), true).await else { return false };
            spill.put(Bytes::copy_from_slice(piece), Some(leave));
        }
        self.ended(&key, spill, head).await
    }

    async fn ended(&self, key: &Arc<Key>, spill: Spill, head: Head) -> bool {
        // Those of the last one may still be leaving.
        let flights = Arc::<Flights>::default();
        let lead = flights.lead(key).unwrap();
        let Turn::Wait(waiting) = flights.join(key) else { panic!("nobody leads") };
        spill.end(head, Some(lead));
        timeout(PATIENCE, waiting.outcome()).await.unwrap() == Outcome::Stored
    }

    async fn store(&self, target: &str, body: &[u8]) -> bool {
        self.store_for(target, self.head(&HeaderMap::new(), &[("etag", "\"v1\"")]), body).await
    }

    async fn look(&self, target: &str) -> Option<Arc<Stored>> {
        self.tier.look(&key(target), &HeaderMap::new(), true).await.0
    }

    async fn read(&self, target: &str) -> Option<Vec<u8>> {
        let stored = self.look(target).await?;
        let body = crate::http::body::read(stored.body.part(0, stored.body.len()), LARGE * 2).await;
        Some(body.unwrap().to_vec())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.disk.list(&self.tier.place.folder).unwrap().into_iter().map(|entry| entry.path).collect()
    }

    /// The same disk, after the process was killed.
    async fn killed(&self) -> Self {
        bench_of(&self.disk.kill(), &self.clock, 1 << 30, 99).await
    }
}

#[tokio::test]
async fn what_is_stored_comes_back_also_after_a_kill() {
    let bench = bench().await;
    let sizes = [0, 1, 65_536, 65_537, 200_000, LARGE];
    for size in sizes {
        assert!(bench.store(&format!("/{size}"), &bytes(size)).await, "{size}");
    }
    bench.clock.advance(Duration::from_mins(1));
    let again = bench.killed().await;
    for bench in [&bench, &again] {
        for size in sizes {
            assert_eq!(bench.read(&format!("/{size}")).await.unwrap(), bytes(size), "{size}");
        }
        let stored = bench.look("/1").await.unwrap();
        let age = stored.life.age(bench.clock.monotonic());
        assert_eq!((age.as_secs(), stored.life.lifetime().as_secs()), (60, 600));
        assert_eq!((stored.status, &stored.headers["etag"]), (StatusCode::OK, &HeaderValue::from_static("\"v1\"")));
        let kept = bench.tier.kept()[&site()];
        assert_eq!((kept.answers, kept.bytes), (sizes.len() as u64, bench.tier.index.totals().1));
    }
    assert!(again.look("/2").await.is_none());
}

#[tokio::test]
async fn parts_are_read_from_the_middle() {
    let bench = bench().await;
    let body = bytes(LARGE);
    bench.store("/x", &body).await;
    let stored = bench.look("/x").await.unwrap();
    assert!(matches!(stored.body, Content::Disk(_)));
    for (first, end) in
        [(0, 1), (65_535, 65_537), (65_536, 400_000), (300_000, LARGE as u64), (LARGE as u64 - 1, LARGE as u64)]
    {
        let read = crate::http::body::read(stored.body.part(first, end), LARGE).await.unwrap();
        assert_eq!(read.as_ref(), &body[first as usize..end as usize], "{first} {end}");
    }
}

#[tokio::test]
async fn answers_to_other_requests_are_others() {
    let bench = bench().await;
    let (german, english) = (lines(&[("accept-language", "de")]), lines(&[("accept-language", "en")]));
    let vary = [("vary", "accept-language")];
    bench.store_for("/x", bench.head(&german, &vary), b"ja").await;
    let place = key("/x");
    assert!(matches!(bench.tier.look(&place, &english, true).await, (None, true)));
    bench.store_for("/x", bench.head(&english, &vary), b"yes").await;
    let again = bench.killed().await;
    for bench in [&bench, &again] {
        for (request, size) in [(&german, 2), (&english, 3)] {
            assert_eq!(bench.tier.look(&place, request, true).await.0.unwrap().body.len(), size);
        }
    }
    // A newer one in place of the older.
    bench.store_for("/x", bench.head(&german, &vary), b"doch").await;
    assert_eq!(bench.tier.look(&place, &german, true).await.0.unwrap().body.len(), 4);
    assert_eq!((bench.tier.index.totals().0, bench.files().len()), (2, 2));
}

#[tokio::test]
async fn a_changed_byte_is_never_served() {
    let bench = bench().await;
    for (at, mask) in [(0, 1), (20, 4), (60, 128), (110, 1), (1200, 2), (150_000, 1)] {
        bench.store("/x", &bytes(200_000)).await;
        let files = bench.files();
        assert_eq!(files.len(), 1);
        bench.disk.flip(&files[0], at, mask).unwrap();
        assert!(bench.look("/x").await.is_none(), "{at}");
        bench.until(|bench| bench.files().is_empty()).await;
    }
    // Of a large one what is good comes, then it breaks off, and then it is gone.
    bench.store("/x", &bytes(LARGE)).await;
    bench.disk.flip(&bench.files()[0], WHOLE, 1).unwrap();
    let stored = bench.look("/x").await.unwrap();
    assert!(crate::http::body::read(stored.body.part(0, LARGE as u64), LARGE).await.is_err());
    assert!(bench.look("/x").await.is_none());
    assert_eq!(bench.tier.counts.damaged.value(), 7);
}

#[tokio::test]
async fn leftovers_and_files_of_others_go_at_a_start() {
    let bench = bench().await;
    bench.store("/x", b"x").await;
    let folder = &bench.tier.place.folder;
    for name in ["0123456789abcdef0123456789abcdef", "notes.txt"] {
        let file = bench.disk.open(&folder.join(name), OpenMode::CreateNew).unwrap();
        file.write_at(0, &[0; 3000]).unwrap();
    }
    let again = bench.killed().await;
    assert_eq!((again.files().len(), again.read("/x").await.unwrap()), (1, b"x".to_vec()));
    // Turned off, nothing stays.
    let off = bench_of(&bench.disk.kill(), &bench.clock, 0, 3).await;
    assert!(off.files().is_empty() && off.look("/x").await.is_none());
}

#[tokio::test]
async fn a_power_cut_leaves_what_is_whole_or_nothing() {
    let (small, large) = (bytes(200_000), bytes(LARGE));
    let clock = Arc::new(TestClock::default());
    let run = async |disk: &FaultyDisk| {
        let bench = bench_of(disk, &clock, 1 << 30, 1).await;
        bench.store("/small", &small).await;
        bench.store("/large", &large).await;
    };
    let disk = FaultyDisk::new();
    run(&disk).await;
    for step in 1..=disk.operations() {
        let disk = FaultyDisk::new();
        disk.cut_power_at(step);
        run(&disk).await;
        for seed in 0..2 {
            let bench = bench_of(&disk.crash(seed), &clock, 1 << 30, 2).await;
            for (target, body) in [("/small", &small), ("/large", &large)] {
                let read = bench.read(target).await;
                assert!(read.is_none_or(|read| read == *body), "{target} after {step}, {seed}");
            }
        }
    }
}

#[tokio::test]
async fn a_full_disk_stops_storing_for_a_while() {
    let bench = bench().await;
    assert!(bench.store("/a", &bytes(100_000)).await);
    bench.clock.advance(Duration::from_secs(2));
    bench.disk.limit_space(Some(150_000));
    assert!(!bench.store("/b", &bytes(100_000)).await);
    assert!(!bench.tier.takes() && bench.files().len() == 1);
    let view = |bench: &Bench| bench.tier.view(1, 0).unwrap();
    assert_eq!((view(&bench).state, view(&bench).passed), (DiskState::Refusing, 1));
    assert!(view(&bench).error.is_some_and(|error| error.contains("space")));
    assert_eq!(bench.read("/a").await.unwrap(), bytes(100_000));
    bench.disk.limit_space(None);
    assert!(!bench.store("/b", &bytes(100_000)).await);
    bench.clock.advance(PAUSE);
    assert!(bench.store("/b", &bytes(100_000)).await);
    assert_eq!((view(&bench).state, view(&bench).error), (DiskState::Ready, None));
    // What the disk refuses is no better.
    for fault in [Fault::Io, Fault::ShortWrite, Fault::NoSpace] {
        bench.disk.fail_at(2, fault);
        assert!(!bench.store("/c", &bytes(100_000)).await, "{fault:?}");
        bench.disk.heal();
        bench.clock.advance(PAUSE);
    }
    assert!(bench.store("/c", &bytes(100_000)).await);
}

#[tokio::test]
async fn what_was_used_least_recently_makes_room() {
    let clock = Arc::new(TestClock::default());
    let bench = bench_of(&FaultyDisk::new(), &clock, 450_000, 1).await;
    for number in 0..20 {
        assert!(bench.store(&format!("/{number}"), &bytes(100_000)).await);
        assert!(bench.look("/0").await.is_some(), "{number}");
        assert!(bench.tier.index.totals().1 <= 450_000 && bench.files().len() <= 4);
    }
    assert!(bench.look("/19").await.is_some() && bench.look("/10").await.is_none());
    // What does not fit at all does not stay either.
    assert!(!bench.store("/large", &bytes(500_000)).await);
    assert!(bench.tier.index.totals().1 <= 450_000);
}

#[tokio::test]
async fn a_purge_takes_files_away_and_what_is_being_written() {
    let bench = bench().await;
    for target in ["/a/1", "/a/2", "/b"] {
        bench.store(target, b"x").await;
    }
    let which = WhichKept::Place { host: Some("A.example".to_owned()), prefix: "/a/".to_owned() };
    assert_eq!((bench.tier.purge(&which), bench.files().len()), (2, 1));
    let head = bench.head(&HeaderMap::new(), &[]);
    for change in [0, 1] {
        let place = key("/a/1");
        let spill = bench.tier.begin(&place, &head, bench.shelves.tick()).unwrap();
        assert!(bench.tier.begin(&place, &head, bench.shelves.tick()).is_none(), "one at a time");
        if change == 0 {
            bench.tier.void(&place);
        } else {
            bench.tier.purge(&which);
        }
        assert!(!bench.ended(&place, spill, head.clone()).await);
    }
    // What began before the place changed does not even begin to be stored.
    let began = bench.shelves.tick();
    bench.shelves.void(&key("/a/1"));
    assert!(bench.tier.begin(&key("/a/1"), &head, began).is_none());
    assert_eq!(bench.tier.purge(&WhichKept::All), 1);
    assert!(bench.files().is_empty() && bench.tier.index.totals() == (0, 0));
    assert!(bench.tier.takes());
}

#[tokio::test]
async fn what_is_purged_while_a_start_looks_is_not_found() {
    let bench = bench().await;
    for target in ["/a", "/b", "/c"] {
        bench.store(target, b"x").await;
    }
    let spots: Vec<_> = bench.tier.index.purge(&WhichKept::All);
    let index = Index::default();
    index.begin_start();
    index.void(&key("/a"));
    index.purge(&WhichKept::Place { host: None, prefix: "/b".to_owned() });
    for (rank, spot) in (1..).zip(&spots) {
        assert_eq!(index.found(spot, rank, 1 << 30, 1 << 30), &*spot.key.target == "/c", "{}", spot.key.target);
    }
    index.end_start();
    assert!(!index.found(&spots[0], 9, 1 << 30, 1 << 30));
}

#[tokio::test]
async fn what_leaves_memory_is_on_disk_and_comes_back_when_it_is_hot() {
    let bench = bench().await;
    let keep = |target: &str, size: usize| {
        let head = bench.head(&HeaderMap::new(), &[]);
        let room = bench.shelves.room(head.bytes()).unwrap();
        let body = bench.shelves.room(size as u64).unwrap().hold(bytes(size));
        assert!(bench.shelves.put(&key(target), &Arc::new(head.with(body, room)), bench.shelves.tick()));
    };
    for number in 0..120 {
        keep(&format!("/{number}"), 100_000);
        assert!(bench.shelves.budget().used() <= MEMORY);
        bench.until(|bench| bench.tier.queue.available_permits() == bench.tier.queue_bytes as usize).await;
    }
    let none = HeaderMap::new();
    let in_memory = |target: &str| bench.shelves.find(&key(target), &none, Duration::ZERO).stored.is_some();
    assert!(in_memory("/119") && !in_memory("/0"));
    assert_eq!(bench.read("/0").await.unwrap(), bytes(100_000));
    assert!(!in_memory("/0"));
    assert_eq!(bench.read("/0").await.unwrap(), bytes(100_000));
    assert!(in_memory("/0"));
    // Once more out of memory it needs no new file.
    let written = bench.tier.counts.written.value();
    let stored = bench.shelves.find(&key("/0"), &none, Duration::ZERO).stored.unwrap();
    assert_eq!(bench.tier.take_over(&key("/0"), vec![stored], bench.shelves.tick()), 0);
    assert_eq!(bench.tier.counts.written.value(), written);
}

#[tokio::test]
async fn a_stop_moves_what_is_in_memory_to_disk() {
    let bench = bench().await;
    for (target, control) in [("/long", "max-age=600"), ("/short", "max-age=5")] {
        let head = bench.head(&HeaderMap::new(), &[("cache-control", control)]);
        let room = bench.shelves.room(head.bytes()).unwrap();
        let stored = Arc::new(head.with(Bytes::from_static(b"body"), room));
        bench.shelves.put(&key(target), &stored, bench.shelves.tick());
    }
    let head = bench.head(&HeaderMap::new(), &[]);
    let half = bench.tier.begin(&key("/half"), &head, bench.shelves.tick()).unwrap();
    bench.supervisor.shutdown().drain();
    bench.supervisor.shutdown().force();
    let supervisor = bench.supervisor.clone();
    tokio::task::spawn_blocking(move || supervisor.join_threads()).await.unwrap();
    drop(half);
    assert_eq!(bench.files().len(), 1);
    let again = bench.killed().await;
    assert_eq!(again.read("/long").await.unwrap(), b"body");
    assert!(again.look("/short").await.is_none());
}

#[tokio::test]
async fn a_head_is_written_anew_when_the_app_says_that_it_is_good() {
    let bench = bench().await;
    let body = bytes(LARGE);
    bench.store("/x", &body).await;
    bench.clock.advance(Duration::from_secs(700));
    let known = bench.look("/x").await.unwrap();
    let now = bench.clock.monotonic();
    let arrival = Arrival { asked: now, received: now, at: bench.clock.now(), default: None };
    let told = lines(&[("etag", "\"v1\""), ("x-news", "1")]);
    let head = known.renewed(&HeaderMap::new(), &told, arrival).unwrap().head;
    let Content::Disk(opened) = &known.body else { panic!("it is in memory") };
    assert!(bench.tier.renew(opened, &head, bench.shelves.tick()).await);
    bench.clock.advance(Duration::from_secs(10));
    let again = bench.killed().await;
    for bench in [&bench, &again] {
        let stored = bench.look("/x").await.unwrap();
        assert_eq!(
            (&stored.headers["x-news"], stored.life.age(bench.clock.monotonic()).as_secs()),
            (&HeaderValue::from_static("1"), 10)
        );
        assert_eq!(bench.read("/x").await.unwrap(), body);
    }
    // A place that changed meanwhile, and an answer that is gone, are not renewed.
    let began = bench.shelves.tick();
    bench.shelves.void(&key("/x"));
    assert!(!bench.tier.renew(opened, &head, began).await);
    assert!(bench.look("/x").await.is_none());
    assert!(!bench.tier.renew(opened, &head, bench.shelves.tick()).await);
}

#[tokio::test]
async fn a_disk_that_does_not_keep_up_holds_nobody_up() {
    let bench = bench().await;
    let head = bench.head(&HeaderMap::new(), &[]);
    let mut spill = bench.tier.begin(&key("/x"), &head, bench.shelves.tick()).unwrap();
    let all = spill.leave(bench.tier.queue_bytes as usize, false).await.unwrap();
    assert!(spill.leave(1, false).await.is_none() && spill.is_behind());
    drop(spill);
    // Another may begin at once, and wait.
    let mut again = bench.tier.begin(&key("/x"), &head, bench.shelves.tick()).unwrap();
    drop(all);
    assert!(again.leave(1, true).await.is_some() && !again.is_behind());
    drop(again);
    bench.until(|bench| bench.files().is_empty()).await;
}
