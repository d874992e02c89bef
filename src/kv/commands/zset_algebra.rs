//! Unions, intersections and differences of sorted sets (and sets, whose members count with score 1).

use hashbrown::HashMap;

use super::{Command, Flags, GROW, READ, keyed, keyless};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::Keyspace;
use crate::kv::number;
use crate::kv::value::{Kind, Limits};

const MOVABLE: Flags = READ.and(Flags::MOVABLE_KEYS);

pub(super) const COMMANDS: &[Command] = &[
    keyless("zdiff", -3, MOVABLE, |call| answer(call, Operation::Difference, "zdiff")),
    keyed("zdiffstore", -4, GROW.and(Flags::MOVABLE_KEYS), 1, |call| store(call, Operation::Difference, "zdiffstore")),
    keyless("zinter", -3, MOVABLE, |call| answer(call, Operation::Intersection, "zinter")),
    keyless("zintercard", -3, MOVABLE, zintercard),
    keyed("zinterstore", -4, GROW.and(Flags::MOVABLE_KEYS), 1, |call| {
        store(call, Operation::Intersection, "zinterstore")
    }),
    keyless("zunion", -3, MOVABLE, |call| answer(call, Operation::Union, "zunion")),
    keyed("zunionstore", -4, GROW.and(Flags::MOVABLE_KEYS), 1, |call| store(call, Operation::Union, "zunionstore")),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Least,
    Most,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            // The sum of opposite infinities is no number; Redis makes it 0.
            Self::Sum if (a + b).is_nan() => 0.0,
            Self::Sum => a + b + 0.0,
            Self::Least => a.min(b),
            Self::Most => a.max(b),
        }
    }
}

/// The arguments from the number of keys on.
struct Request<'a> {
    keys: &'a [&'a [u8]],
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
}

impl<'a> Request<'a> {
    fn read(call: &mut Call<'a>, at: usize, operation: Operation, stored: bool, name: &str) -> Result<Self, Fault> {
        let count = call.integer(at)?;
        if count < 1 {
            return Err(Fault::Told(format!("ERR at least 1 input key is needed for '{name}' command")));
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let keys = call.rest(at + 1).get(..count).ok_or(Fault::Syntax)?;
        // Types come before options, as in Redis.
        for key in keys {
            let kind = call.keyspace.glance(call.client.db, key).map(Entry::kind);
            if kind.is_some_and(|kind| kind != Kind::ZSet && kind != Kind::Set) {
                return Err(Fault::WrongType);
            }
        }
        let mut request = Self { keys, weights: vec![1.0; count], aggregate: Aggregate::Sum, with_scores: false };
        let mut rest = call.rest(at + 1 + count);
        while let Some((option, after)) = rest.split_first() {
            rest = after;
            if operation != Operation::Difference && option.eq_ignore_ascii_case(b"WEIGHTS") {
                let weights = rest.get(..count).ok_or(Fault::Syntax)?;
                for (place, text) in request.weights.iter_mut().zip(weights) {
                    *place = number::float(text).ok_or(Fault::Text("ERR weight value is not a float"))?;
                }
                rest = rest.get(count..).unwrap_or_default();
            } else if operation != Operation::Difference && option.eq_ignore_ascii_case(b"AGGREGATE") {
                let (name, after) = rest.split_first().ok_or(Fault::Syntax)?;
                request.aggregate = match name.to_ascii_uppercase().as_slice() {
                    b"SUM" => Aggregate::Sum,
                    b"MIN" => Aggregate::Least,
                    b"MAX" => Aggregate::Most,
                    _ => return Err(Fault::Syntax),
                };
                rest = after;
            } else if !stored && option.eq_ignore_ascii_case(b"WITHSCORES") {
                request.with_scores = true;
            } else {
                return Err(Fault::Syntax);
            }
        }
        Ok(request)
    }
}

/// The members of one source with weighted scores.
fn source(call: &mut Call<'_>, key: &[u8], weight: f64) -> Result<HashMap<Vec<u8>, f64>, Fault> {
    let weighted = |score: f64| if (score * weight).is_nan() { 0.0 } else { score * weight + 0.0 };
    let mut members = HashMap::new();
    match call.keyspace.read(call.client.db, key)? {
        None => {}
        Some(entry) if entry.kind() == Kind::ZSet => entry.zset().each(0, usize::MAX, false, |member, score| {
            members.insert(member.to_vec(), weighted(score));
        }),
        Some(entry) if entry.kind() == Kind::Set => entry.set().each(|member| {
            members.insert(member.to_vec(), weighted(1.0));
        }),
        Some(_) => return Err(Fault::WrongType),
    }
    Ok(members)
}

/// The outcome, by score and member.
fn compute(call: &mut Call<'_>, request: &Request<'_>, operation: Operation) -> Result<Vec<(f64, Vec<u8>)>, Fault> {
    let mut result: Option<HashMap<Vec<u8>, f64>> = None;
    for (key, weight) in request.keys.iter().zip(&request.weights) {
        let next = source(call, key, *weight)?;
        let Some(members) = &mut result else {
            result = Some(next);
            continue;
        };
        match operation {
            Operation::Difference => members.retain(|member, _| !next.contains_key(member)),
            Operation::Intersection => members.retain(|member, score| match next.get(member) {
                Some(other) => {
                    *score = request.aggregate.of(*score, *other);
                    true
                }
                None => false,
            }),
            Operation::Union => {
                for (member, score) in next {
                    members.entry(member).and_modify(|old| *old = request.aggregate.of(*old, score)).or_insert(score);
                }
            }
        }
    }
    let mut sorted: Vec<(f64, Vec<u8>)> =
        result.unwrap_or_default().into_iter().map(|(member, score)| (score, member)).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    Ok(sorted)
}

fn answer(call: &mut Call<'_>, operation: Operation, name: &str) -> Result<(), Fault> {
    let request = Request::read(call, 1, operation, false, name)?;
    let members = compute(call, &request, operation)?;
    let nested = request.with_scores && call.reply.resp3();
    call.reply.array(if request.with_scores && !nested { 2 * members.len() } else { members.len() });
    for (score, member) in members {
        if nested {
            call.reply.array(2);
        }
        call.reply.bulk(&member);
        if request.with_scores {
            call.reply.double(score);
        }
    }
    Ok(())
}

fn store(call: &mut Call<'_>, operation: Operation, name: &str) -> Result<(), Fault> {
    let request = Request::read(call, 2, operation, true, name)?;
    let members = compute(call, &request, operation)?;
    let target = call.args[1];
    call.keyspace.store_zset(call.client.db, target, &members);
    call.reply.integer(members.len() as i64);
    Ok(())
}

impl Keyspace {
    /// Puts a sorted set under a key, in place of whatever it holds; without members nothing stays.
    pub(super) fn store_zset(&mut self, db: u8, target: &[u8], members: &[(f64, Vec<u8>)]) {
        if members.is_empty() {
            self.delete(db, target);
            return;
        }
        let limits = Limits::of(&self.config);
        let mut entry = Entry::packed(Kind::ZSet, target, &[], self.clock.second());
        for (score, member) in members {
            entry.zset_set(member, *score, limits, &self.hashing);
        }
        self.store_entry(db, entry);
    }
}

fn zintercard(call: &mut Call<'_>) -> Result<(), Fault> {
    let count = call.integer(1)?;
    if count < 1 {
        return Err(Fault::Text("ERR at least 1 input key is needed for 'zintercard' command"));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let keys = call.rest(2).get(..count).ok_or(Fault::Syntax)?;
    for key in keys {
        let kind = call.keyspace.glance(call.client.db, key).map(Entry::kind);
        if kind.is_some_and(|kind| kind != Kind::ZSet && kind != Kind::Set) {
            return Err(Fault::WrongType);
        }
    }
    let most = match call.rest(2 + count) {
        [] => 0,
        [option, limit] if option.eq_ignore_ascii_case(b"LIMIT") => number::integer(limit)
            .and_then(|limit| usize::try_from(limit).ok())
            .ok_or(Fault::Text("ERR LIMIT can't be negative"))?,
        _ => return Err(Fault::Syntax),
    };
    let request = Request { keys, weights: vec![1.0; count], aggregate: Aggregate::Sum, with_scores: false };
    let found = compute(call, &request, Operation::Intersection)?.len();
    call.reply.integer(if most == 0 { found } else { found.min(most) } as i64);
    Ok(())
}
