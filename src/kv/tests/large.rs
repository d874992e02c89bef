//! Collections of thousands of elements beside models from the standard library: what they grow through, split and join
//! into is never seen from outside, and their effects build the same anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Collector, START, Session};
use crate::base::{Random as _, Timestamp};
use crate::kv::reply::Value;
use crate::kv::{Client, Keyspace, KvConfig, commands, effect};
use crate::testing::TestRandom;

/// Commands on each collection.
const STEPS: usize = 30_000;

/// Different elements.
const UNIVERSE: u64 = 6_000;

/// A session, what is drawn, and a keyspace that follows by effects alone.
struct World {
    session: Session,
    follower: Keyspace,
    random: TestRandom,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut follower = Keyspace::new(KvConfig::default(), Arc::new(TestRandom::new(8)));
        follower.set_now(Timestamp(START), Duration::ZERO);
        Self { session: Session::new(KvConfig::default()), follower, random: TestRandom::new(seed) }
    }

    fn draw(&mut self, below: u64) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_le_bytes(bytes) % below
    }

    /// A phase of mostly growing is followed by one of mostly shrinking.
    fn grows(&mut self, step: usize) -> bool {
        let odds = if (step / 6_000).is_multiple_of(2) { 8 } else { 2 };
        self.draw(10) < odds
    }

    fn run(&mut self, line: &str) -> Value {
        let reply = self.session.run(line);
        for effect in effect::read(self.session.keyspace.effects().bytes()) {
            self.follower.apply(&effect.unwrap()).unwrap();
        }
        self.session.keyspace.effects().clear();
        reply
    }

    /// What both keyspaces answer.
    fn read(&mut self, line: &str) -> [Value; 2] {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut reply = Collector::new(false);
        let command = commands::lookup(words[0]).unwrap();
        self.follower.execute(command, &mut Client::new(9), &words, &mut reply);
        [self.session.run(line), reply.value().unwrap()]
    }
}

fn texts(value: Value) -> Vec<String> {
    let Value::Array(values) = value else { panic!("{value:?}") };
    let text = |value| match value {
        Value::Bulk(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    };
    values.into_iter().map(text).collect()
}

#[test]
fn a_large_sorted_set_is_one() {
    let mut world = World::new(1);
    let mut scores: BTreeMap<String, u64> = BTreeMap::new();
    for step in 0..STEPS {
        let member = format!("m{}", world.draw(UNIVERSE));
        if world.grows(step) {
            let score = world.draw(UNIVERSE / 4);
            let fresh = scores.insert(member.clone(), score).is_none();
            assert_eq!(world.run(&format!("ZADD z {score} {member}")), Value::Integer(i64::from(fresh)));
        } else {
            let there = scores.remove(&member).is_some();
            assert_eq!(world.run(&format!("ZREM z {member}")), Value::Integer(i64::from(there)));
        }
        if step % 5_000 == 4_999 {
            let order: BTreeSet<(u64, String)> =
                scores.iter().map(|(member, score)| (*score, member.clone())).collect();
            let members: Vec<String> = order.iter().map(|(_, member)| member.clone()).collect();
            for found in world.read("ZRANGE z 0 -1") {
                assert_eq!(texts(found), members);
            }
            for (rank, member) in members.iter().enumerate().step_by(37) {
                assert_eq!(world.run(&format!("ZRANK z {member}")), Value::Integer(rank as i64));
            }
        }
    }
}

#[test]
fn a_large_list_is_one() {
    let mut world = World::new(2);
    let mut model: VecDeque<String> = VecDeque::new();
    for step in 0..STEPS {
        let item = "x".repeat(world.draw(40) as usize) + &world.draw(UNIVERSE).to_string();
        let grows = world.grows(step);
        let place = world.draw(model.len().max(1) as u64) as usize;
        match (grows, world.draw(4)) {
            (true, 0) => {
                world.run(&format!("LPUSH l {item}"));
                model.push_front(item);
            }
            (true, 1) if !model.is_empty() => {
                world.run(&format!("LSET l {place} {item}"));
                model[place] = item;
            }
            (true, _) => {
                world.run(&format!("RPUSH l {item}"));
                model.push_back(item);
            }
            (false, 0) => {
                world.run("LPOP l");
                model.pop_front();
            }
            (false, 1) if !model.is_empty() => {
                let wanted = model[place].clone();
                world.run(&format!("LREM l 1 {wanted}"));
                let at = model.iter().position(|item| *item == wanted).unwrap();
                model.remove(at);
            }
            (false, _) => {
                world.run("RPOP l");
                model.pop_back();
            }
        }
        if step % 5_000 == 4_999 {
            if let Some(pivot) = model.get(place).cloned() {
                world.run(&format!("LINSERT l BEFORE {pivot} inserted"));
                let at = model.iter().position(|item| *item == pivot).unwrap();
                model.insert(at, "inserted".to_owned());
            }
            for found in world.read("LRANGE l 0 -1") {
                assert_eq!(texts(found), Vec::from(model.clone()));
            }
        }
    }
}

#[test]
fn large_hashes_and_sets_are_such() {
    let mut world = World::new(3);
    let (mut hash, mut set) = (BTreeMap::new(), BTreeSet::new());
    for step in 0..STEPS {
        let name = format!("n{}", world.draw(UNIVERSE));
        let value = "v".repeat(world.draw(60) as usize) + &step.to_string();
        if world.grows(step) {
            let fresh = hash.insert(name.clone(), value.clone()).is_none();
            assert_eq!(world.run(&format!("HSET h {name} {value}")), Value::Integer(i64::from(fresh)));
            let fresh = set.insert(name.clone());
            assert_eq!(world.run(&format!("SADD s {name}")), Value::Integer(i64::from(fresh)));
        } else {
            let there = hash.remove(&name).is_some();
            assert_eq!(world.run(&format!("HDEL h {name}")), Value::Integer(i64::from(there)));
            let there = set.remove(&name);
            assert_eq!(world.run(&format!("SREM s {name}")), Value::Integer(i64::from(there)));
        }
        if step % 5_000 == 4_999 {
            for pairs in world.read("HGETALL h").map(texts) {
                let pairs: BTreeMap<_, _> = pairs.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
                assert_eq!(pairs, hash);
            }
            for members in world.read("SMEMBERS s").map(texts) {
                assert_eq!(members.into_iter().collect::<BTreeSet<_>>(), set);
            }
            assert_eq!(world.run("SCARD s"), Value::Integer(set.len() as i64));
        }
    }
}
