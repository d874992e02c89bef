//! Sorted sets: members and scores. Ranges are in [`zset_ranges`](super::zset_ranges).

use super::{Command, FREE_FAST, GROW_FAST, READ_FAST, keyed};
use crate::kv::effect::End;
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::{Keyspace, Missing};
use crate::kv::number;
use crate::kv::reply::Reply;
use crate::kv::table::Hashing;
use crate::kv::value::Kind;
use crate::kv::value::zset::ZSetView;

pub(super) const COMMANDS: &[Command] = &[
    keyed("zadd", -4, GROW_FAST, 1, zadd),
    keyed("zcard", 2, READ_FAST, 1, zcard),
    keyed("zincrby", 4, GROW_FAST, 1, zincrby),
    keyed("zmscore", -3, READ_FAST, 1, zmscore),
    keyed("zpopmax", -2, FREE_FAST, 1, |call| zpop(call, End::Tail)),
    keyed("zpopmin", -2, FREE_FAST, 1, |call| zpop(call, End::Head)),
    keyed("zrank", -3, READ_FAST, 1, |call| zrank(call, false)),
    keyed("zrem", -3, FREE_FAST, 1, zrem),
    keyed("zrevrank", -3, READ_FAST, 1, |call| zrank(call, true)),
    keyed("zscore", 3, READ_FAST, 1, zscore),
];

/// Runs `work` on the sorted set at the first key; an absent key is an empty one.
pub(super) fn read<R>(
    call: &mut Call<'_>,
    work: impl FnOnce(ZSetView<'_>, &mut dyn Reply, &Hashing) -> R,
) -> Result<R, Fault> {
    super::with_entry(call, 1, Kind::ZSet, |entry, reply, hashing| {
        work(entry.map_or(ZSetView::Packed(&[]), Entry::zset), reply, hashing)
    })
}

/// Reads a score; -0 counts as 0, so that equal scores are equal bits.
pub(super) fn score(text: &[u8]) -> Result<f64, Fault> {
    number::float(text).map(|score| score + 0.0).ok_or(Fault::NotFloat)
}

/// A member with its score.
pub(in crate::kv) type Scored = (Vec<u8>, f64);

/// The options of `ZADD`.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are six independent words of one command")]
struct Options {
    absent: bool,
    present: bool,
    greater: bool,
    less: bool,
    changed: bool,
    increment: bool,
}

impl Options {
    /// Reads options from argument 2 on; also says where the pairs begin.
    fn read(call: &Call<'_>) -> (Self, usize) {
        let mut options = Self::default();
        for (at, option) in call.args.iter().enumerate().skip(2) {
            match option.to_ascii_uppercase().as_slice() {
                b"NX" => options.absent = true,
                b"XX" => options.present = true,
                b"GT" => options.greater = true,
                b"LT" => options.less = true,
                b"CH" => options.changed = true,
                b"INCR" => options.increment = true,
                _ => return (options, at),
            }
        }
        (options, call.args.len())
    }

    fn check(self, pairs: &[&[u8]]) -> Result<(), Fault> {
        if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
            return Err(Fault::Syntax);
        }
        if self.absent && self.present {
            return Err(Fault::Text("ERR XX and NX options at the same time are not compatible"));
        }
        if self.absent && (self.greater || self.less) || self.greater && self.less {
            return Err(Fault::Text("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.increment && pairs.len() > 2 {
            return Err(Fault::Text("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The score a member gets, or `None` when it stays as it is.
    fn next(self, old: Option<f64>, given: f64) -> Result<Option<f64>, Fault> {
        let Some(old) = old else { return Ok((!self.present).then_some(given)) };
        if self.absent {
            return Ok(None);
        }
        let new = if self.increment { old + given + 0.0 } else { given };
        if new.is_nan() {
            return Err(Fault::Text("ERR resulting score is not a number (NaN)"));
        }
        Ok((!(self.greater && new <= old || self.less && new >= old)).then_some(new))
    }
}

fn zadd(call: &mut Call<'_>) -> Result<(), Fault> {
    let (options, pairs_at) = Options::read(call);
    let pairs = call.rest(pairs_at);
    options.check(pairs)?;
    add(call, options, pairs)
}

fn zincrby(call: &mut Call<'_>) -> Result<(), Fault> {
    add(call, Options { increment: true, ..Options::default() }, call.rest(2))
}

fn add(call: &mut Call<'_>, options: Options, pairs: &[&[u8]]) -> Result<(), Fault> {
    let scored: Vec<(f64, &[u8])> =
        pairs.chunks_exact(2).map(|pair| Ok((score(pair[0])?, pair[1]))).collect::<Result<_, Fault>>()?;
    add_scored(call, options, scored)
}

/// `GEOADD`: places are scores.
pub(super) fn add_places(
    call: &mut Call<'_>,
    has: impl Fn(&[u8]) -> bool,
    places: Vec<(f64, &[u8])>,
) -> Result<(), Fault> {
    let options = Options { absent: has(b"NX"), present: has(b"XX"), changed: has(b"CH"), ..Options::default() };
    add_scored(call, options, places)
}

fn add_scored(call: &mut Call<'_>, options: Options, scored: Vec<(f64, &[u8])>) -> Result<(), Fault> {
    let missing = if options.present { Missing::Skip } else { Missing::Create };
    let done = call.keyspace.edit(call.client.db, call.args[1], Kind::ZSet, missing, |edit| {
        let (mut added, mut updated, mut last) = (0, 0, None);
        let mut set = Vec::with_capacity(scored.len());
        for (given, member) in scored {
            let old = edit.entry.zset().score(member, edit.hashing);
            last = options.next(old, given)?;
            let Some(new) = last else { continue };
            if old.map(f64::to_bits) != Some(new.to_bits()) {
                edit.entry.zset_set(member, new, edit.limits, edit.hashing);
                set.push((new, member));
                if old.is_some() { updated += 1 } else { added += 1 }
            }
        }
        if !set.is_empty() {
            edit.effects.zset_add(edit.store, edit.key, set.iter().copied());
        }
        Ok((added, updated, last))
    })?;
    let (added, updated, last) = done.unwrap_or_default();
    match last {
        Some(score) if options.increment => call.reply.double(score),
        None if options.increment => call.reply.null(),
        _ => call.reply.integer(if options.changed { added + updated } else { added }),
    }
    Ok(())
}

fn zrem(call: &mut Call<'_>) -> Result<(), Fault> {
    let members = call.rest(2);
    let gone = call.keyspace.edit(call.client.db, call.args[1], Kind::ZSet, Missing::Skip, |edit| {
        let gone: Vec<&[u8]> =
            members.iter().copied().filter(|member| edit.entry.zset_remove(member, edit.hashing)).collect();
        if !gone.is_empty() {
            edit.effects.zset_remove(edit.store, edit.key, gone.iter().copied());
        }
        Ok(gone.len())
    })?;
    call.reply.integer(gone.unwrap_or_default() as i64);
    Ok(())
}

fn zcard(call: &mut Call<'_>) -> Result<(), Fault> {
    read(call, |set, reply, _| reply.integer(set.len() as i64))
}

fn answer_score(score: Option<f64>, reply: &mut dyn Reply) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

fn zscore(call: &mut Call<'_>) -> Result<(), Fault> {
    let member = call.args[2];
    read(call, |set, reply, hashing| answer_score(set.score(member, hashing), reply))
}

fn zmscore(call: &mut Call<'_>) -> Result<(), Fault> {
    let members = call.rest(2);
    read(call, |set, reply, hashing| {
        reply.array(members.len());
        for member in members {
            answer_score(set.score(member, hashing), reply);
        }
    })
}

fn zrank(call: &mut Call<'_>, reverse: bool) -> Result<(), Fault> {
    let member = call.args[2];
    let with_score = match call.rest(3) {
        [] => false,
        [option] if option.eq_ignore_ascii_case(b"WITHSCORE") => true,
        [_] => return Err(Fault::Syntax),
        _ => return Err(Fault::Arity(if reverse { "zrevrank" } else { "zrank" })),
    };
    read(call, |set, reply, hashing| {
        let Some(rank) = set.rank(member, hashing) else {
            if with_score {
                reply.null_array();
            } else {
                reply.null();
            }
            return;
        };
        if with_score {
            reply.array(2);
        }
        reply.integer(if reverse { set.len() - 1 - rank } else { rank } as i64);
        if with_score {
            answer_score(set.score(member, hashing), reply);
        }
    })
}

impl Keyspace {
    /// Takes up to `most` members with the lowest (head) or highest (tail) scores; `None` when the key is absent.
    pub(in crate::kv) fn pop_zset(
        &mut self,
        db: u8,
        key: &[u8],
        end: End,
        most: usize,
    ) -> Result<Option<Vec<Scored>>, Fault> {
        self.edit(db, key, Kind::ZSet, Missing::Skip, |edit| {
            let mut taken = Vec::new();
            edit.entry.zset().each(0, most, end == End::Tail, |member, score| taken.push((member.to_vec(), score)));
            if !taken.is_empty() {
                for (member, _) in &taken {
                    edit.entry.zset_remove(member, edit.hashing);
                }
                edit.effects.zset_remove(edit.store, edit.key, taken.iter().map(|(member, _)| member.as_slice()));
            }
            Ok(taken)
        })
    }
}

fn zpop(call: &mut Call<'_>, end: End) -> Result<(), Fault> {
    let count = match call.rest(2) {
        [] => None,
        [_] => Some(super::count(call, 2)?),
        _ => return Err(Fault::Syntax),
    };
    let taken = call.keyspace.pop_zset(call.client.db, call.args[1], end, count.unwrap_or(1))?.unwrap_or_default();
    let nested = count.is_some() && call.reply.resp3();
    call.reply.array(if nested { taken.len() } else { 2 * taken.len() });
    for (member, score) in taken {
        if nested {
            call.reply.array(2);
        }
        call.reply.bulk(&member);
        call.reply.double(score);
    }
    Ok(())
}
