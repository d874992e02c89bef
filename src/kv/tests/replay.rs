//! Properties over random commands: packed and large forms answer alike, effects replay to the same keyspace, and so do
//! effects over a checkpoint taken while they happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{START, Session};
use crate::kv::effect;
use crate::kv::reply::Value;
use crate::kv::value::Kind;
use crate::kv::value::stream::Id;
use crate::kv::{Keyspace, KvConfig, Walk};
use crate::testing::TestRandom;

/// Commands with `K` for a key, `V` for a value, `N` for a number, `F` for a score, `I` for the id of a stream's entry.
pub(super) const TEMPLATES: &[&str] = &[
    "SET K V",
    "SET K N",
    "SET K V PX 40",
    "GETEX K PX 90",
    "APPEND K V",
    "SETRANGE K 7 V",
    "INCRBY K N",
    "INCRBYFLOAT K F",
    "GETDEL K",
    "CL.THROTTLE K 4 3 1",
    "MSET K V K N",
    "DEL K",
    "EXPIRE K 1",
    "PEXPIRE K 30",
    "PERSIST K",
    "RENAME K K",
    "COPY K K REPLACE",
    "MOVE K 1",
    "SWAPDB 0 1",
    "SELECT 0",
    "SELECT 1",
    "LPUSH l V V V",
    "RPUSH l V V",
    "LPUSH l2 V",
    "LPOP l",
    "RPOP l 2",
    "LSET l 2 V",
    "LSET l -1 V",
    "LINSERT l BEFORE V V",
    "LINSERT l AFTER V V",
    "LREM l 1 V",
    "LREM l -2 V",
    "LREM l 0 V",
    "LTRIM l 1 -2",
    "LTRIM l 0 14",
    "LMOVE l l2 LEFT RIGHT",
    "RPOPLPUSH l l",
    "LRANGE l 0 -1",
    "LPOS l V RANK -1 COUNT 0",
    "LINDEX l N",
    "HSET h V V V V",
    "HSET h V V",
    "HDEL h V V",
    "HINCRBY h V N",
    "HINCRBYFLOAT h V F",
    "HSETNX h V V",
    "HGET h V",
    "HLEN h",
    "SADD s V V V",
    "SADD s2 N V",
    "SREM s V",
    "SPOP s",
    "SPOP s 2",
    "SMOVE s s2 V",
    "SUNIONSTORE s s2 s",
    "SINTERSTORE s2 s s2",
    "SDIFFSTORE s s s2",
    "SCARD s",
    "ZADD z F V F V",
    "ZADD z GT CH F V",
    "ZADD z2 F V",
    "ZINCRBY z F V",
    "ZREM z V V",
    "ZPOPMIN z",
    "ZPOPMAX z 2",
    "ZREMRANGEBYSCORE z 2 4",
    "ZREMRANGEBYRANK z 0 1",
    "ZRANK z V",
    "ZUNIONSTORE z 2 z z2",
    "ZRANGE z 0 -1 WITHSCORES",
    "ZRANGE z 1 (5 BYSCORE LIMIT 1 3",
    "ZREVRANGE z 0 2",
    "ZRANGESTORE z z2 0 3",
    "ZMPOP 2 z z2 MAX COUNT 2",
    "LMPOP 2 l l2 RIGHT COUNT 3",
    "BLMPOP 0.01 1 l2 LEFT",
    "BZMPOP 0.01 1 z2 MIN COUNT 2",
    "SETBIT K 77 1",
    "RESTORE K 0 N",
    "PFADD p V V V",
    "PFADD p2 V N",
    "PFCOUNT p",
    "PFMERGE p2 p",
    "GEOADD z F F V F F V",
    "GEOSEARCHSTORE z2 z FROMLONLAT 2 3 BYRADIUS 300 km",
    "SORT l ALPHA STORE l2",
    "SORT s BY nosort STORE l2",
    "SETBIT a 3 0",
    "BITOP XOR a a b",
    "BITOP NOT b a",
    "BITFIELD K SET u8 #2 N INCRBY i5 13 N",
    "ZRANGESTORE z2 z (1 5 BYSCORE REV LIMIT 0 2",
    "MULTI",
    "EXEC",
    "FLUSHDB",
    "XADD x * V V",
    "XADD x * V V V V",
    "XADD x MAXLEN 4 * V V",
    "XADD x2 MINID ~ N * V V",
    "XADD x2 NOMKSTREAM 5-* V N",
    "XDEL x I I",
    "XTRIM x MAXLEN = N",
    "XTRIM x2 MINID I",
    "XSETID x I",
    "XGROUP CREATE x g 0 MKSTREAM",
    "XGROUP CREATE x g2 $",
    "XGROUP SETID x g I ENTRIESREAD N",
    "XGROUP DESTROY x g2",
    "XGROUP DELCONSUMER x g V",
    "XGROUP CREATECONSUMER x g V",
    "XREADGROUP GROUP g V COUNT 2 STREAMS x >",
    "XREADGROUP GROUP g V NOACK STREAMS x >",
    "XREADGROUP GROUP g V COUNT 3 STREAMS x 0",
    "XREADGROUP GROUP g V BLOCK 5 STREAMS x >",
    "XACK x g I I",
    "XCLAIM x g V 0 I I FORCE",
    "XCLAIM x g V 3 I JUSTID",
    "XAUTOCLAIM x g V 2 - COUNT 2",
    "XRANGE x - + COUNT 3",
    "BLPOP l 0.01",
    "BZPOPMIN z 0.01",
];

/// Fills a template in; `draw` gives numbers below its argument.
pub(super) fn fill(template: &str, draw: &mut impl FnMut(u32) -> u32) -> Vec<String> {
    const KEYS: [&str; 11] = ["a", "b", "l", "l2", "h", "s", "s2", "z", "z2", "x", "x2"];
    template
        .split(' ')
        .map(|word| match word {
            "K" => KEYS[draw(11) as usize].to_owned(),
            "V" => match draw(6) {
                0 => "v".repeat(draw(60) as usize),
                1 => draw(9).to_string(),
                _ => format!("m{}", draw(24)),
            },
            "N" => (i64::from(draw(9)) - 3).to_string(),
            "F" => format!("{}.{}", draw(6), draw(3) * 25),
            "I" => format!("{}-{}", START + u64::from(draw(300)), draw(2)),
            word => word.to_owned(),
        })
        .collect()
}

pub(super) fn draws(seed: u64) -> impl FnMut(u32) -> u32 {
    let random = TestRandom::new(seed);
    move |bound| u32::try_from(crate::base::random::below(&random, u64::from(bound))).unwrap()
}

/// Runs one command unless it is unknown; the reply, if it comes at once.
pub(super) fn play(session: &mut Session, words: &[String]) -> Option<Value> {
    let args: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    crate::kv::commands::lookup(args[0])?;
    if session.keyspace.is_blocked(0) {
        return None;
    }
    session.say(0, &args)
}

pub(super) type Snapshot = BTreeMap<(u8, Vec<u8>), (Option<u64>, Kind, Vec<Vec<u8>>)>;

/// Every key by database number, with expiry and elements in an order that does not depend on the form.
pub(super) fn snapshot(keyspace: &mut Keyspace) -> Snapshot {
    let mut stores = [0; 16];
    (0..16).for_each(|db| stores[usize::from(keyspace.store(db))] = db);
    let mut all = Snapshot::new();
    for (store, db) in stores.iter().enumerate() {
        for entry in keyspace.databases[store].entries.iter() {
            let mut parts: Vec<Vec<u8>> = Vec::new();
            match entry.kind() {
                Kind::String => parts.push(entry.text().to_vec()),
                Kind::List => entry.list().each(0, usize::MAX, |item| parts.push(item.to_vec())),
                Kind::Set => entry.set().each(|member| parts.push(member.to_vec())),
                Kind::Hash => entry.hash().each(|field, value| parts.push([field, b"=", value].concat())),
                Kind::ZSet => entry.zset().each(0, usize::MAX, false, |member, score| {
                    parts.push(format!("{}={score}", String::from_utf8_lossy(member)).into_bytes());
                }),
                Kind::Stream => {
                    let stream = entry.stream().unwrap();
                    parts.push(format!("{} {} {}", stream.last(), stream.deleted(), stream.added()).into_bytes());
                    stream.range(Id::ZERO, Id::MAX, false, |item| {
                        parts.push(item.id.to_string().into_bytes());
                        item.each(|field, value| parts.push([&field, b"=".as_slice(), &value].concat()));
                        true
                    });
                    for (name, group) in stream.groups() {
                        parts.push([name, format!("{} {:?}", group.last, group.read).as_bytes()].concat());
                        parts.extend(group.consumers().keys().map(|name| name.to_vec()));
                        parts.push(format!("{:?}", group.pending()).into_bytes());
                    }
                }
            }
            if matches!(entry.kind(), Kind::Set | Kind::Hash) {
                parts.sort();
            }
            all.insert((*db, entry.key().to_vec()), (entry.expires(), entry.kind(), parts));
        }
    }
    all
}

fn fresh(config: &KvConfig) -> Keyspace {
    Keyspace::new(config.clone(), Arc::new(TestRandom::new(99)))
}

pub(super) fn replay(keyspace: &mut Keyspace, bytes: &[u8]) {
    effect::read(bytes).for_each(|effect| keyspace.apply(&effect.unwrap()).unwrap());
}

/// The sums kept along the way must be those of a count from scratch.
pub(super) fn check_sums(keyspace: &Keyspace) {
    for database in &keyspace.databases {
        assert_eq!(database.used, database.entries.iter().map(crate::kv::entry::Entry::memory).sum::<usize>());
        let mut sums = crate::kv::cold::Sums::default();
        database.entries.iter().for_each(|entry| sums.add(crate::kv::cold::Share::of(entry)));
        assert_eq!(format!("{sums:?}"), format!("{:?}", database.cold));
        assert_eq!(database.expiring, database.entries.iter().filter(|entry| entry.expires().is_some()).count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn effects_replay_to_the_same_keyspace(seed: u64, steps in 50usize..400) {
        let mut draw = draws(seed);
        let mut session = Session::tiny();
        for _ in 0..steps {
            let words = fill(TEMPLATES[draw(u32::try_from(TEMPLATES.len()).unwrap()) as usize], &mut draw);
            play(&mut session, &words);
            session.advance(u64::from(draw(12)));
            session.keyspace.end_waits();
            session.keyspace.tick(8);
        }
        check_sums(&session.keyspace);
        let config = session.keyspace.config().clone();
        let bytes = session.keyspace.effects().bytes().to_vec();
        let mut replayed = fresh(&config);
        replay(&mut replayed, &bytes);
        check_sums(&replayed);
        prop_assert_eq!(snapshot(&mut replayed), snapshot(&mut session.keyspace));
    }

    #[test]
    fn effects_over_a_checkpoint_taken_meanwhile_replay_to_the_same_keyspace(seed: u64, before in 20usize..200) {
        let mut draw = draws(seed);
        let mut session = Session::tiny();
        let step = |session: &mut Session, draw: &mut dyn FnMut(u32) -> u32| {
            let mut draw = draw;
            let words = fill(TEMPLATES[draw(u32::try_from(TEMPLATES.len()).unwrap()) as usize], &mut draw);
            play(session, &words);
            session.advance(u64::from(draw(12)));
            session.keyspace.end_waits();
        };
        for at in 0..before {
            step(&mut session, &mut draw);
            session.run_as(1, &format!("SET filler:{at} {at}"));
        }
        session.keyspace.effects().clear();
        // From here on: a new journal, with the walk's slices between the effects.
        let config = session.keyspace.config().clone();
        let mut recovered = fresh(&config);
        let (mut walk, mut done) = (Walk::default(), false);
        while !done {
            for _ in 0..draw(6) {
                step(&mut session, &mut draw);
            }
            let mut slice = Vec::new();
            done = session.keyspace.walk(&mut walk, 300, |item| {
                let mut dump = Vec::new();
                item.dump(&mut dump);
                slice.push((item.store, item.key.to_vec(), item.expires, dump));
            });
            replay(&mut recovered, session.keyspace.effects().bytes());
            session.keyspace.effects().clear();
            for (store, key, expires, dump) in slice {
                recovered.load(store, &key, expires, &dump).unwrap();
            }
        }
        for _ in 0..20 {
            step(&mut session, &mut draw);
        }
        replay(&mut recovered, session.keyspace.effects().bytes());
        prop_assert_eq!(snapshot(&mut recovered), snapshot(&mut session.keyspace));
    }

    #[test]
    fn packed_and_large_forms_answer_alike(seed: u64, steps in 50usize..300) {
        let mut draw = draws(seed);
        let (mut small, mut large) = (Session::new(KvConfig::default()), Session::new(KvConfig {
            packed_bytes: 0, packed_elements: 0, ..KvConfig::default()
        }));
        for _ in 0..steps {
            let words = fill(TEMPLATES[draw(u32::try_from(TEMPLATES.len()).unwrap()) as usize], &mut draw);
            // Draws differ between forms; everything else must not.
            if words[0] == "SPOP" {
                continue;
            }
            prop_assert_eq!(play(&mut small, &words), play(&mut large, &words), "{:?}", words);
            let millis = u64::from(draw(12));
            for session in [&mut small, &mut large] {
                session.advance(millis);
                session.keyspace.end_waits();
            }
        }
        prop_assert_eq!(snapshot(&mut small.keyspace), snapshot(&mut large.keyspace));
    }

    #[test]
    fn any_bytes_are_applied_without_panic(bytes: Vec<u8>, seed: u64) {
        let mut keyspace = fresh(&KvConfig { packed_bytes: 32, packed_elements: 3, ..KvConfig::default() });
        for effect in effect::read(&bytes).map_while(Result::ok) {
            keyspace.apply(&effect).unwrap();
        }
        // True effects with one byte changed reach further.
        let mut draw = draws(seed);
        let mut session = Session::tiny();
        for _ in 0..60 {
            let words = fill(TEMPLATES[draw(u32::try_from(TEMPLATES.len()).unwrap()) as usize], &mut draw);
            play(&mut session, &words);
        }
        let mut bytes = session.keyspace.effects().bytes().to_vec();
        if !bytes.is_empty() {
            let at = draw(u32::try_from(bytes.len()).unwrap()) as usize;
            bytes[at] = u8::try_from(draw(256)).unwrap();
        }
        for effect in effect::read(&bytes).map_while(Result::ok) {
            keyspace.apply(&effect).unwrap();
        }
    }

    #[test]
    fn any_bytes_are_loaded_or_refused(bytes: Vec<u8>, form in 0u8..7) {
        let mut keyspace = fresh(&KvConfig { packed_bytes: 8, packed_elements: 2, ..KvConfig::default() });
        let _ = keyspace.load(0, b"k", None, &bytes);
        let _ = keyspace.load(0, b"k", None, &[&[1, form], bytes.as_slice()].concat());
        snapshot(&mut keyspace);
    }
}
