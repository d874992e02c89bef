//! Values on disk: answers are the same wherever values are, nothing is lost, and the disk may fail.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::replay::{TEMPLATES, check_sums, draws, fill, play, snapshot};
use super::{Session, text};
use crate::kv::cold::Cold;
use crate::kv::config::KvConfig;
use crate::kv::eviction::{Eviction, Policy};
use crate::kv::keyspace::Keyspace;
use crate::kv::memory::Means;
use crate::kv::persist::checkpoint::Block;
use crate::kv::persist::value::{load_all, put_item};
use crate::kv::{Walk, commands};
use crate::testing::{Fault, FaultyDisk, TestRandom};

const FOLDER: &str = "/kv/cold";

/// Gives `session` cold files on `disk`, in segments of `segment_bytes`.
fn with_disk(session: &mut Session, disk: &FaultyDisk, segment_bytes: u64) {
    use crate::base::Disk;
    disk.create_dir(Path::new("/kv")).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let cold = Cold::open(disk, Path::new(FOLDER), segment_bytes, &TestRandom::new(5)).unwrap();
    session.keyspace.spill_to(cold);
}

/// Moves as much as there is to move; the limit is what it was afterwards.
fn spill(keyspace: &mut Keyspace, bytes_left: usize) {
    let limit = keyspace.memory_limit();
    keyspace.limit_memory(bytes_left);
    keyspace.keep_within(Means::Move);
    keyspace.limit_memory(limit);
}

/// What the loop and the loader do about garbage, on one thread.
fn compact(keyspace: &mut Keyspace) {
    let mut scan = keyspace.tidy_cold();
    while let Some(next) = scan {
        scan = keyspace.compact(&next.run());
    }
}

/// Reads everything back.
fn thaw_all(keyspace: &mut Keyspace) {
    for store in 0..16 {
        let keys: Vec<Vec<u8>> =
            keyspace.databases[usize::from(store)].entries.iter().map(|entry| entry.key().to_vec()).collect();
        for key in keys {
            keyspace.thaw_key(store, &key).unwrap();
        }
    }
}

fn cold_keys(session: &Session) -> usize {
    session.keyspace.database_info(0).cold
}

fn long(at: usize) -> String {
    format!("{at}-").repeat(120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_keyspace_whose_values_come_and_go_answers_as_one_that_keeps_them(seed: u64, steps in 50usize..300) {
        let mut draw = draws(seed);
        let (mut kept, mut moving) = (Session::tiny(), Session::tiny());
        let disk = FaultyDisk::new();
        with_disk(&mut moving, &disk, 2_000);
        for _ in 0..steps {
            let words = fill(TEMPLATES[draw(u32::try_from(TEMPLATES.len()).unwrap()) as usize], &mut draw);
            // What is drawn depends on the form, and a value that was read back may be packed again.
            if words[0] == "SPOP" {
                continue;
            }
            match draw(8) {
                0..3 => spill(&mut moving.keyspace, 1),
                3 => spill(&mut moving.keyspace, 600),
                4 => compact(&mut moving.keyspace),
                5 => {
                    // As the loader does it.
                    let args: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
                    let command = commands::lookup(args[0]);
                    let values = command.map(|command| moving.keyspace.wanted(command, &moving.clients[0], &args));
                    for wanted in values.unwrap_or_default() {
                        let read = wanted.read();
                        prop_assert!(moving.keyspace.take_in((wanted, read)));
                    }
                }
                _ => {}
            }
            prop_assert_eq!(play(&mut kept, &words), play(&mut moving, &words), "{:?}", words);
            check_sums(&moving.keyspace);
            let millis = u64::from(draw(12));
            for session in [&mut kept, &mut moving] {
                session.advance(millis);
                session.keyspace.end_waits();
                session.keyspace.tick(8);
            }
        }
        // A checkpoint finds every value, wherever it is.
        let mut recovered = Keyspace::new(moving.keyspace.config().clone(), Arc::new(TestRandom::new(3)));
        spill(&mut moving.keyspace, 1);
        let (mut walk, mut block) = (Walk::default(), Block::new());
        while !moving.keyspace.walk(&mut walk, 1 << 20, |item| put_item(&item, &mut block)) {}
        let stores = moving.keyspace.stores;
        recovered.stores = stores;
        block.complete().unwrap();
        load_all(&mut recovered, block.bytes()).unwrap();
        thaw_all(&mut moving.keyspace);
        check_sums(&moving.keyspace);
        prop_assert_eq!(snapshot(&mut kept.keyspace), snapshot(&mut moving.keyspace));
        prop_assert_eq!(snapshot(&mut kept.keyspace), snapshot(&mut recovered));
    }

    #[test]
    fn effects_replay_over_values_on_disk(seed: u64, steps in 50usize..300) {
        let mut draw = draws(seed);
        let (mut session, mut replayed) = (Session::tiny(), Session::tiny());
        with_disk(&mut replayed, &FaultyDisk::new(), 4_000);
        for _ in 0..steps {
            let words = fill(TEMPLATES[draw(u32::try_from(TEMPLATES.len()).unwrap()) as usize], &mut draw);
            play(&mut session, &words);
            session.advance(u64::from(draw(12)));
            session.keyspace.end_waits();
            let bytes = session.keyspace.effects().bytes().to_vec();
            session.keyspace.effects().clear();
            super::replay::replay(&mut replayed.keyspace, &bytes);
            if draw(2) == 0 {
                spill(&mut replayed.keyspace, 1);
            }
        }
        thaw_all(&mut replayed.keyspace);
        prop_assert_eq!(snapshot(&mut session.keyspace), snapshot(&mut replayed.keyspace));
    }
}

#[test]
fn four_times_the_limit_is_kept_and_memory_stays_within_it() {
    let limit = 200 << 10;
    let mut session = Session::new(KvConfig::default());
    let disk = FaultyDisk::new();
    with_disk(&mut session, &disk, 64 << 10);
    session.keyspace.limit_memory(limit);
    let value = |at: usize| format!("{at:04}").repeat(256);
    for at in 0..800 {
        assert_eq!(text(&session.run(&format!("SET key:{at} {}", value(at)))), "OK");
        assert!(session.keyspace.used() <= limit + 2_048, "{}", session.keyspace.used());
    }
    assert!(cold_keys(&session) > 500, "{}", cold_keys(&session));
    for at in (0..800).rev() {
        assert_eq!(text(&session.run(&format!("GET key:{at}"))), format!("\"{}\"", value(at)));
        session.keyspace.keep_within(Means::Move);
        assert!(session.keyspace.used() <= limit);
    }
    session.expect(&[("DBSIZE", "800"), ("TTL key:1", "-1"), ("TYPE key:799", "string"), ("EXISTS key:3", "1")]);
    check_sums(&session.keyspace);
}

#[test]
fn what_was_used_last_stays_in_memory() {
    let mut session = Session::new(KvConfig::default());
    with_disk(&mut session, &FaultyDisk::new(), 64 << 10);
    for at in 0..200 {
        session.run(&format!("SET key:{at} {}", long(at)));
    }
    session.advance(10_000);
    for at in 0..40 {
        session.run(&format!("GET key:{at}"));
    }
    spill(&mut session.keyspace, 45 << 10);
    let is_cold = |session: &Session, at: usize| {
        let database = session.keyspace.database(0);
        let place = database.find(&session.keyspace.hashing, format!("key:{at}").as_bytes()).unwrap();
        database.entries.get(place).unwrap().is_cold()
    };
    assert!(cold_keys(&session) > 80);
    assert!((0..40).all(|at| !is_cold(&session, at)), "the ones just used are in memory");
}

#[test]
fn reading_a_value_and_dropping_it_again_writes_nothing() {
    let mut session = Session::new(KvConfig::default());
    let disk = FaultyDisk::new();
    with_disk(&mut session, &disk, 64 << 10);
    session.run(&format!("SET a {}", long(1)));
    spill(&mut session.keyspace, 1);
    let before = disk.operations();
    for _ in 0..5 {
        assert_eq!(text(&session.run("STRLEN a")), "240");
        assert_eq!(cold_keys(&session), 0);
        spill(&mut session.keyspace, 1);
        assert_eq!(cold_keys(&session), 1);
    }
    assert_eq!(disk.operations(), before);
    // A change makes the copy on disk garbage.
    session.run("APPEND a x");
    spill(&mut session.keyspace, 1);
    assert!(disk.operations() > before);
    assert_eq!(text(&session.run("STRLEN a")), "241");
}

#[test]
fn keys_are_looked_at_without_reading_values() {
    let mut session = Session::new(KvConfig::default());
    with_disk(&mut session, &FaultyDisk::new(), 64 << 10);
    session.run(&format!("SET a {} EX 100", long(1)));
    session.run(&format!("HSET h f {}", long(2)));
    spill(&mut session.keyspace, 1);
    session.expect(&[
        ("EXISTS a h", "2"),
        ("TTL a", "100"),
        ("TYPE h", "hash"),
        ("EXPIRE h 50", "1"),
        ("PERSIST a", "1"),
        ("TOUCH a", "1"),
        ("OBJECT IDLETIME a", "0"),
        ("GET h", "(error) WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("SETNX a x", "0"),
    ]);
    assert_eq!(cold_keys(&session), 2, "still on disk");
    session.expect(&[("HGET h f", &format!("\"{}\"", long(2))), ("DEL a", "1"), ("SET a new", "OK")]);
    assert_eq!(cold_keys(&session), 0);
}

#[test]
fn a_full_disk_refuses_what_would_add_and_serves_what_is_there() {
    let limit = 60 << 10;
    let mut session = Session::new(KvConfig::default());
    let disk = FaultyDisk::new();
    with_disk(&mut session, &disk, 16 << 10);
    session.keyspace.limit_memory(limit);
    for at in 0..300 {
        session.run(&format!("SET key:{at} {}", long(at)));
    }
    let before = cold_keys(&session);
    disk.fail_from(1, Fault::NoSpace);
    let mut accepted = 300;
    loop {
        session.advance(200);
        match text(&session.run(&format!("SET key:{accepted} {}", long(accepted)))).as_str() {
            "OK" => accepted += 1,
            error => {
                assert_eq!(error, "(error) OOM command not allowed when used memory > 'maxmemory'.");
                break;
            }
        }
    }
    assert!(accepted < 600, "memory has an end");
    // Reading everything back does not fill memory: what is on disk already can be dropped again.
    for at in 0..accepted {
        session.advance(200);
        assert_eq!(text(&session.run(&format!("GET key:{at}"))), format!("\"{}\"", long(at)));
        session.keyspace.keep_within(Means::Move);
    }
    assert!(session.keyspace.used() < limit + limit / 8, "{}", session.keyspace.used());
    assert!(cold_keys(&session) + 40 > before);
    session.expect(&[("DEL key:0", "1")]);
    disk.heal();
    session.advance(2_000);
    for at in accepted..accepted + 100 {
        assert_eq!(text(&session.run(&format!("SET key:{at} {}", long(at)))), "OK");
    }
    for at in 1..accepted + 100 {
        assert_eq!(text(&session.run(&format!("GET key:{at}"))), format!("\"{}\"", long(at)));
    }
}

#[test]
fn a_torn_write_leaves_values_in_memory() {
    let mut session = Session::new(KvConfig::default());
    let disk = FaultyDisk::new();
    with_disk(&mut session, &disk, 64 << 10);
    session.run(&format!("SET a {}", long(1)));
    disk.fail_at(1, Fault::ShortWrite);
    spill(&mut session.keyspace, 1);
    assert_eq!(cold_keys(&session), 0);
    session.advance(2_000);
    spill(&mut session.keyspace, 1);
    assert_eq!(cold_keys(&session), 1);
    assert_eq!(text(&session.run("GET a")), format!("\"{}\"", long(1)));
}

#[test]
fn a_damaged_value_is_an_error_and_never_another_value() {
    let mut session = Session::new(KvConfig::default());
    let disk = FaultyDisk::new();
    with_disk(&mut session, &disk, 64 << 10);
    session.run(&format!("SET a {}", long(1)));
    session.run(&format!("SADD s {}", long(2)));
    spill(&mut session.keyspace, 1);
    let path = Path::new(FOLDER).join("segment-0000000001");
    for offset in (20..500).step_by(60) {
        disk.flip(&path, offset, 1).unwrap();
    }
    let error = "(error) ERR the value is on disk and cannot be read; the server's log says why";
    session.expect(&[
        ("GET a", error),
        ("APPEND a x", error),
        ("SUNION s s", error),
        ("SMOVE s t x", error),
        ("RENAME a b", error),
        ("EXISTS a s", "2"),
        ("SET a new", "OK"),
        ("GET a", "\"new\""),
        ("DEL s", "1"),
    ]);
}

#[test]
fn garbage_is_given_back_and_old_files_are_removed() {
    use crate::base::Disk;
    let mut session = Session::new(KvConfig::default());
    let disk = FaultyDisk::new();
    with_disk(&mut session, &disk, 16 << 10);
    session.keyspace.limit_memory(40 << 10);
    for round in 0..20 {
        for at in 0..200 {
            session.run(&format!("SET key:{at} {}", long(round * 1_000 + at)));
        }
        session.advance(100);
        compact(&mut session.keyspace);
        let bytes = session.keyspace.cold().unwrap().bytes();
        assert!(bytes < 400 << 10, "{bytes} bytes in round {round}");
    }
    for at in 0..200 {
        assert_eq!(text(&session.run(&format!("GET key:{at}"))), format!("\"{}\"", long(19_000 + at)));
    }
    assert!(session.keyspace.cold().unwrap().counts().compacted > 0);
    session.run("FLUSHALL");
    compact(&mut session.keyspace);
    assert!(disk.list(Path::new(FOLDER)).unwrap().len() <= 1, "only the one being written");
}

#[test]
fn each_database_has_its_own_policy() {
    let eviction = Eviction::default().with(0, Policy::AllKeysLru);
    let mut session = Session::new(KvConfig { eviction, ..KvConfig::default() });
    with_disk(&mut session, &FaultyDisk::new(), 64 << 10);
    session.keyspace.limit_memory(100 << 10);
    for at in 0..400 {
        session.run("SELECT 0");
        session.run(&format!("SET cache:{at} {}", long(at)));
        session.run("SELECT 1");
        session.run(&format!("SET job:{at} {}", long(at)));
    }
    let (cache, jobs) = (session.keyspace.database_info(0), session.keyspace.database_info(1));
    assert!(cache.keys < 400 && cache.keys > 20, "{cache:?}");
    assert_eq!(cache.cold, 0, "what may be deleted takes no disk");
    assert_eq!(jobs.keys, 400, "no job is lost");
    assert!(jobs.cold > 50, "{jobs:?}");
    assert_eq!(session.keyspace.counts().evicted, 400 - cache.keys as u64);
    for at in 0..400 {
        assert_eq!(text(&session.run(&format!("GET job:{at}"))), format!("\"{}\"", long(at)));
    }
}

#[test]
fn volatile_policies_delete_what_expires_and_move_the_rest() {
    for policy in [Policy::VolatileLru, Policy::VolatileLfu, Policy::VolatileRandom, Policy::VolatileTtl] {
        let mut session =
            Session::new(KvConfig { eviction: Eviction::default().with(0, policy), ..KvConfig::default() });
        with_disk(&mut session, &FaultyDisk::new(), 64 << 10);
        session.keyspace.limit_memory(40 << 10);
        for at in 0..100 {
            session.run(&format!("SET keep:{at} {}", long(at)));
            session.run(&format!("SET fade:{at} {} EX {}", long(at), 1_000 + at));
        }
        let info = session.keyspace.database_info(0);
        assert!(info.expiring < 100, "{policy:?} {info:?}");
        for at in 0..100 {
            assert_eq!(text(&session.run(&format!("GET keep:{at}"))), format!("\"{}\"", long(at)), "{policy:?}");
        }
        if policy == Policy::VolatileTtl {
            assert_eq!(text(&session.run("EXISTS fade:0")), "0", "the nearest to its end goes first");
        }
    }
}

#[test]
fn the_least_used_go_first_and_effects_tell_of_it() {
    for (policy, idle) in [(Policy::AllKeysLru, true), (Policy::AllKeysLfu, false)] {
        let mut session =
            Session::new(KvConfig { eviction: Eviction::default().with(0, policy), ..KvConfig::default() });
        for at in 0..100 {
            session.run(&format!("SET key:{at} {}", long(at)));
        }
        if idle {
            session.advance(5_000);
        }
        for _ in 0..if idle { 1 } else { 60 } {
            for at in 0..10 {
                session.run(&format!("GET key:{at}"));
            }
        }
        session.keyspace.limit_memory(session.keyspace.used() / 2);
        session.keyspace.keep_within(Means::Evict);
        let hot: Vec<String> = (0..10).map(|at| format!("key:{at}")).collect();
        assert_eq!(text(&session.run(&format!("EXISTS {}", hot.join(" ")))), "10", "{policy:?}");
        assert!(session.keyspace.counts().evicted > 30);
        let mut replayed = Keyspace::new(KvConfig::default(), Arc::new(TestRandom::new(9)));
        super::replay::replay(&mut replayed, session.keyspace.effects().bytes());
        assert_eq!(snapshot(&mut replayed), snapshot(&mut session.keyspace));
    }
}

#[test]
fn frequencies_are_told_where_they_are_counted() {
    let mut session =
        Session::new(KvConfig { eviction: Eviction::default().with(0, Policy::AllKeysLfu), ..KvConfig::default() });
    session.run("SET a 1");
    session.expect(&[("OBJECT FREQ a", "5")]);
    for _ in 0..30 {
        session.run("GET a");
    }
    let count: u8 = text(&session.run("OBJECT FREQ a")).parse().unwrap();
    assert!(count > 5);
    session.advance(180_000);
    session.expect(&[("OBJECT FREQ a", &(count - 3).to_string())]);
    assert!(text(&session.run("OBJECT IDLETIME a")).starts_with("(error) ERR An LFU maxmemory policy is selected"));
    session.keyspace.set_policy(0, Policy::NoEviction);
    session.expect(&[("OBJECT IDLETIME a", "180")]);
}
