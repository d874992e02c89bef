//! Ranges of sorted sets: by rank, by score, by member.

use std::ops::Range;

use super::{Command, FREE, GROW, READ, READ_FAST, keyed};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::Missing;
use crate::kv::number;
use crate::kv::reply::Reply;
use crate::kv::value::Kind;
use crate::kv::value::zset::ZSetView;

pub(super) const COMMANDS: &[Command] = &[
    keyed("zcount", 4, READ_FAST, 1, |call| count(call, scores(call.args[2], call.args[3])?)),
    keyed("zlexcount", 4, READ_FAST, 1, |call| count(call, members(call.args[2], call.args[3])?)),
    keyed("zrange", -4, READ, 1, |call| zrange(call, 1)),
    keyed("zrangebylex", -4, READ, 1, |call| old_range(call, By::Member, false)),
    keyed("zrangebyscore", -4, READ, 1, |call| old_range(call, By::Score, false)),
    keyed("zrangestore", -5, GROW, 2, |call| zrange(call, 2)),
    keyed("zremrangebylex", 4, FREE, 1, |call| remove(call, members(call.args[2], call.args[3])?)),
    keyed("zremrangebyrank", 4, FREE, 1, |call| remove(call, ranks(call.args[2], call.args[3])?)),
    keyed("zremrangebyscore", 4, FREE, 1, |call| remove(call, scores(call.args[2], call.args[3])?)),
    keyed("zrevrange", -4, READ, 1, |call| old_range(call, By::Rank, true)),
    keyed("zrevrangebylex", -4, READ, 1, |call| old_range(call, By::Member, true)),
    keyed("zrevrangebyscore", -4, READ, 1, |call| old_range(call, By::Score, true)),
];

/// What the bounds of a range are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Member,
}

/// A range, read from its two arguments.
#[derive(Clone, Copy, Debug)]
enum Span<'a> {
    Ranks(i64, i64),
    Scores(Score, Score),
    Members(Member<'a>, Member<'a>),
}

/// A bound on scores.
#[derive(Clone, Copy, Debug)]
struct Score {
    value: f64,
    exclusive: bool,
}

/// A bound on members, for sets whose scores are all the same.
#[derive(Clone, Copy, Debug)]
enum Member<'a> {
    First,
    Last,
    Inclusive(&'a [u8]),
    Exclusive(&'a [u8]),
}

fn ranks<'a>(start: &[u8], end: &[u8]) -> Result<Span<'a>, Fault> {
    let read = |text| number::integer(text).ok_or(Fault::NotInteger);
    Ok(Span::Ranks(read(start)?, read(end)?))
}

fn scores<'a>(min: &[u8], max: &[u8]) -> Result<Span<'a>, Fault> {
    let read = |text: &[u8]| {
        let (exclusive, digits) = text.strip_prefix(b"(").map_or((false, text), |digits| (true, digits));
        let value = number::float_bound(digits).ok_or(Fault::Text("ERR min or max is not a float"))?;
        Ok::<_, Fault>(Score { value, exclusive })
    };
    Ok(Span::Scores(read(min)?, read(max)?))
}

fn members<'a>(min: &'a [u8], max: &'a [u8]) -> Result<Span<'a>, Fault> {
    fn read(text: &[u8]) -> Result<Member<'_>, Fault> {
        match text {
            b"-" => Ok(Member::First),
            b"+" => Ok(Member::Last),
            [b'[', member @ ..] => Ok(Member::Inclusive(member)),
            [b'(', member @ ..] => Ok(Member::Exclusive(member)),
            _ => Err(Fault::Text("ERR min or max not valid string range item")),
        }
    }
    Ok(Span::Members(read(min)?, read(max)?))
}

impl Span<'_> {
    /// The ranks in the range, lowest first.
    fn window(self, set: ZSetView<'_>) -> Range<usize> {
        let (start, end) = match self {
            Self::Ranks(start, end) => return super::range(start, end, set.len()),
            Self::Scores(min, max) => (
                set.count_before(|_, score| score < min.value || min.exclusive && score <= min.value),
                set.count_before(|_, score| score < max.value || !max.exclusive && score <= max.value),
            ),
            Self::Members(min, max) => (
                match min {
                    Member::First => 0,
                    Member::Last => set.len(),
                    Member::Inclusive(min) => set.count_before(|member, _| member < min),
                    Member::Exclusive(min) => set.count_before(|member, _| member <= min),
                },
                match max {
                    Member::First => 0,
                    Member::Last => set.len(),
                    Member::Inclusive(max) => set.count_before(|member, _| member <= max),
                    Member::Exclusive(max) => set.count_before(|member, _| member < max),
                },
            ),
        };
        start..end.max(start)
    }
}

/// What a range command answers.
#[derive(Clone, Copy, Debug)]
struct Query {
    by: By,
    reverse: bool,
    with_scores: bool,
    /// Where the key stands that is read; before it the one to store into.
    key_at: usize,
    /// Offset and count, negative for all.
    limit: Option<(i64, i64)>,
}

/// `ZRANGE`, and `ZRANGESTORE` with another key before the one that is read.
fn zrange(call: &mut Call<'_>, key_at: usize) -> Result<(), Fault> {
    let mut query = Query { by: By::Rank, reverse: false, with_scores: false, key_at, limit: None };
    let mut at = key_at + 3;
    while let Some(option) = call.args.get(at) {
        match option.to_ascii_uppercase().as_slice() {
            b"WITHSCORES" if key_at == 1 => query.with_scores = true,
            b"BYSCORE" if query.by == By::Rank => query.by = By::Score,
            b"BYLEX" if query.by == By::Rank => query.by = By::Member,
            b"REV" if !query.reverse => query.reverse = true,
            b"LIMIT" => {
                query.limit = Some(call.offset_and_count(at + 1)?);
                at += 2;
            }
            _ => return Err(Fault::Syntax),
        }
        at += 1;
    }
    // As in Redis, a limit that is none is let pass.
    if query.by == By::Rank && query.limit.take().is_some_and(|(_, count)| count != -1) {
        return Err(Fault::Text(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ));
    }
    if query.with_scores && query.by == By::Member {
        return Err(Fault::Text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
    }
    if key_at == 1 { answer(call, query) } else { store(call, query) }
}

/// The commands before `ZRANGE` learned everything.
fn old_range(call: &mut Call<'_>, by: By, reverse: bool) -> Result<(), Fault> {
    let mut query = Query { by, reverse, with_scores: false, key_at: 1, limit: None };
    let mut at = 4;
    while let Some(option) = call.args.get(at) {
        if option.eq_ignore_ascii_case(b"WITHSCORES") && by != By::Member {
            query.with_scores = true;
        } else if option.eq_ignore_ascii_case(b"LIMIT") && by != By::Rank {
            query.limit = Some(call.offset_and_count(at + 1)?);
            at += 2;
        } else {
            return Err(Fault::Syntax);
        }
        at += 1;
    }
    answer(call, query)
}

impl Call<'_> {
    /// The two numbers of `LIMIT`, from `index` on; a syntax error when one is absent.
    fn offset_and_count(&self, index: usize) -> Result<(i64, i64), Fault> {
        self.arg(index + 1)?;
        Ok((self.integer(index)?, self.integer(index + 1)?))
    }
}

impl Query {
    /// The range between the two bounds behind the key.
    fn span<'a>(&self, call: &Call<'a>) -> Result<Span<'a>, Fault> {
        let (first, second) = (call.arg(self.key_at + 1)?, call.arg(self.key_at + 2)?);
        // Reversed ranges of scores and members name the higher bound first.
        let (min, max) = if self.reverse { (second, first) } else { (first, second) };
        match self.by {
            By::Rank => ranks(first, second),
            By::Score => scores(min, max),
            By::Member => members(min, max),
        }
    }

    /// Where the members begin that `span` and `LIMIT` leave, and how many they are.
    fn window(&self, span: Span<'_>, set: ZSetView<'_>) -> (usize, usize) {
        let window = span.window(set);
        // Ranks of a reversed range already count from the end.
        let start = if self.reverse && self.by != By::Rank { set.len() - window.end } else { window.start };
        let most = window.len();
        match self.limit {
            None => (start, most),
            Some((offset, count)) => {
                let skipped = usize::try_from(offset).unwrap_or(usize::MAX).min(most);
                (start + skipped, (most - skipped).min(usize::try_from(count).unwrap_or(usize::MAX)))
            }
        }
    }
}

fn answer(call: &mut Call<'_>, query: Query) -> Result<(), Fault> {
    let span = query.span(call)?;
    super::zsets::read(call, |set, reply, _| {
        let (start, most) = query.window(span, set);
        write_members(set, start, most, query.reverse, query.with_scores, reply);
    })
}

fn store(call: &mut Call<'_>, query: Query) -> Result<(), Fault> {
    let span = query.span(call)?;
    let found = super::with_entry(call, query.key_at, Kind::ZSet, |entry, _, _| {
        let set = entry.map_or(ZSetView::Packed(&[]), Entry::zset);
        let (start, most) = query.window(span, set);
        let mut found = Vec::new();
        set.each(start, most, query.reverse, |member, score| found.push((score, member.to_vec())));
        found
    })?;
    let target = call.args[1];
    call.keyspace.store_zset(call.client.db, target, &found);
    call.reply.integer(found.len() as i64);
    Ok(())
}

fn write_members(
    set: ZSetView<'_>,
    start: usize,
    most: usize,
    reverse: bool,
    with_scores: bool,
    reply: &mut dyn Reply,
) {
    let nested = with_scores && reply.resp3();
    reply.array(if with_scores && !nested { 2 * most } else { most });
    set.each(start, most, reverse, |member, score| {
        if nested {
            reply.array(2);
        }
        reply.bulk(member);
        if with_scores {
            reply.double(score);
        }
    });
}

fn count(call: &mut Call<'_>, span: Span<'_>) -> Result<(), Fault> {
    super::zsets::read(call, |set, reply, _| reply.integer(span.window(set).len() as i64))
}

fn remove(call: &mut Call<'_>, span: Span<'_>) -> Result<(), Fault> {
    let gone = call.keyspace.edit(call.client.db, call.args[1], Kind::ZSet, Missing::Skip, |edit| {
        let window = span.window(edit.entry.zset());
        let mut gone: Vec<Vec<u8>> = Vec::with_capacity(window.len());
        edit.entry.zset().each(window.start, window.len(), false, |member, _| gone.push(member.to_vec()));
        if !gone.is_empty() {
            for member in &gone {
                edit.entry.zset_remove(member, edit.hashing);
            }
            edit.effects.zset_remove(edit.store, edit.key, gone.iter().map(Vec::as_slice));
        }
        Ok(gone.len())
    })?;
    call.reply.integer(gone.unwrap_or_default() as i64);
    Ok(())
}
