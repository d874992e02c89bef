//! Streams: adding, reading ranges, deleting and trimming. Waiting and group reads are in
//! [`stream_reads`](super::stream_reads), groups in [`stream_groups`](super::stream_groups).

use std::borrow::Cow;

use super::{Command, FREE, FREE_FAST, GROW_FAST, READ, READ_FAST, keyed};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::{Edit, Missing};
use crate::kv::number;
use crate::kv::reply::{Reply, Value};
use crate::kv::value::Kind;
use crate::kv::value::stream::{Change, Id, Item, Keep, Stream};

pub(super) const COMMANDS: &[Command] = &[
    keyed("xadd", -5, GROW_FAST, 1, add),
    keyed("xdel", -3, FREE_FAST, 1, delete),
    keyed("xlen", 2, READ_FAST, 1, len),
    keyed("xrange", -4, READ, 1, |call| range(call, false)),
    keyed("xrevrange", -4, READ, 1, |call| range(call, true)),
    keyed("xsetid", -3, GROW_FAST, 1, set_id),
    keyed("xtrim", -4, FREE, 1, trim),
];

/// Entries that `~` takes out at most without `LIMIT`: a hundred blocks.
const ROUGHLY: usize = 10_000;

pub(super) const BAD_ID: Fault = Fault::Text("ERR Invalid stream ID specified as stream command argument");

/// An id with both numbers, or with `missing` for the second.
pub(super) fn id(text: &[u8], missing: u64) -> Result<Id, Fault> {
    Id::parse(text, missing).ok_or(BAD_ID)
}

/// The end of an interval: `-`, `+`, an id, or `(` and an id that is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Start,
    End,
}

pub(super) fn bound(text: &[u8], which: Bound) -> Result<Id, Fault> {
    let missing = if which == Bound::Start { 0 } else { u64::MAX };
    match text {
        b"-" => Ok(Id::ZERO),
        b"+" => Ok(Id::MAX),
        [b'(', rest @ ..] if !rest.is_empty() => {
            let id = id(rest, missing)?;
            match which {
                Bound::Start => id.next().ok_or(Fault::Text("ERR invalid start ID for the interval")),
                Bound::End => id.previous().ok_or(Fault::Text("ERR invalid end ID for the interval")),
            }
        }
        _ => id(text, missing),
    }
}

/// Writes an entry: its id, then fields and values.
pub(super) fn answer_item(item: Item<'_>, reply: &mut dyn Reply) {
    reply.array(2);
    answer_id(item.id, reply);
    reply.array(2 * item.fields);
    item.each(|field, value| {
        reply.bulk(&field);
        reply.bulk(&value);
    });
}

pub(super) fn answer_id(id: Id, reply: &mut dyn Reply) {
    reply.bulk(id.to_string().as_bytes());
}

pub(super) fn id_value(id: Id) -> Value {
    Value::Bulk(id.to_string().into_bytes())
}

/// An entry as [`answer_item`] writes it.
pub(super) fn item_value(item: Item<'_>) -> Value {
    let mut parts = Vec::with_capacity(2 * item.fields);
    item.each(|field, value| parts.extend([Value::Bulk(field.to_vec()), Value::Bulk(value.to_vec())]));
    Value::Array(vec![id_value(item.id), Value::Array(parts)])
}

impl Edit<'_> {
    /// Makes a change and records it where it met something; returns how much.
    pub(super) fn change_stream(&mut self, change: &Change<'_>) -> usize {
        if let Change::Consumer { group, name, .. } = change
            && let Some(group) = self.entry.stream().and_then(|stream| stream.group(group))
            && group.consumer(name).is_none()
        {
            self.notes.new_consumer(self.effects.mark(), self.db, self.key);
        }
        let met = self.entry.stream_mut().map_or(0, |stream| stream.apply(change));
        let always = matches!(change, Change::Group { .. });
        if met > 0 || always {
            self.effects.stream(self.store, self.key, change);
        }
        met
    }
}

/// How `XADD` and `XTRIM` trim.
#[derive(Clone, Copy, Debug)]
struct Trim {
    keep: Keep,
    roughly: bool,
    limit: usize,
}

#[derive(Debug, Default)]
struct Options {
    trim: Option<Trim>,
    only_present: bool,
}

/// Reads trimming options from `at` on; for `XADD` ends at the first argument that is none, for `XTRIM` at the end.
fn options(call: &Call<'_>, adds: bool) -> Result<(Options, usize), Fault> {
    let (mut options, mut limit) = (Options::default(), None);
    let mut at = 2;
    while at < call.args.len() {
        let (option, more) = (call.args[at], call.args.len() - at - 1);
        let by_id = option.eq_ignore_ascii_case(b"MINID");
        if more > 0 && (by_id || option.eq_ignore_ascii_case(b"MAXLEN")) {
            if options.trim.is_some() {
                return Err(Fault::Text(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            let sign = if more > 1 { call.args[at + 1] } else { b"" };
            at += usize::from(matches!(sign, b"~" | b"=")) + 1;
            let keep = if by_id {
                Keep::From(id(call.args[at], 0)?)
            } else {
                let most = call.integer(at)?;
                Keep::Entries(
                    usize::try_from(most).map_err(|_negative| Fault::Text("ERR The MAXLEN argument must be >= 0."))?,
                )
            };
            options.trim = Some(Trim { keep, roughly: sign == b"~", limit: 0 });
        } else if more > 0 && option.eq_ignore_ascii_case(b"LIMIT") {
            at += 1;
            let most = call.integer(at)?;
            limit =
                Some(usize::try_from(most).map_err(|_negative| Fault::Text("ERR The LIMIT argument must be >= 0."))?);
        } else if adds && option.eq_ignore_ascii_case(b"NOMKSTREAM") {
            options.only_present = true;
        } else if adds {
            // The id: one that is none is told before options that do not fit together.
            Wanted::read(option)?;
            break;
        } else {
            return Err(Fault::Syntax);
        }
        at += 1;
    }
    match (&mut options.trim, limit) {
        (None, Some(1..)) => {
            Err(Fault::Text("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"))
        }
        (None, _) if !adds => Err(Fault::Text("ERR syntax error, XTRIM must be called with a trimming strategy")),
        (Some(Trim { roughly: false, .. }), Some(_)) => {
            Err(Fault::Text("ERR syntax error, LIMIT cannot be used without the special ~ option"))
        }
        (Some(trim), limit) => {
            trim.limit = if trim.roughly { limit.unwrap_or(ROUGHLY) } else { 0 };
            Ok((options, at))
        }
        _ => Ok((options, at)),
    }
}

/// The id an added entry is to get.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// `*`
    Any,
    /// `ms-*`
    At(u64),
    /// `ms-seq`
    This(Id),
}

impl Wanted {
    fn read(text: &[u8]) -> Result<Self, Fault> {
        if text == b"*" {
            return Ok(Self::Any);
        }
        match text.strip_suffix(b"-*") {
            Some(ms) => id(ms, 0)
                .map(|id| Self::At(id.ms))
                .and_then(|wanted| if ms.contains(&b'-') { Err(BAD_ID) } else { Ok(wanted) }),
            None => id(text, 0).map(Self::This),
        }
    }

    fn resolve(self, stream: Option<&Stream>, now: u64) -> Result<Id, Fault> {
        let last = stream.map_or(Id::ZERO, Stream::last);
        if last == Id::MAX {
            return Err(Fault::Text("ERR The stream has exhausted the last possible ID, unable to add more items"));
        }
        let id = match self {
            Self::Any if now > last.ms => Some(Id { ms: now, seq: 0 }),
            Self::Any => last.next(),
            Self::At(ms) if ms == last.ms => last.seq.checked_add(1).map(|seq| Id { ms, seq }),
            Self::At(ms) => Some(Id { ms, seq: 0 }),
            Self::This(id) => Some(id),
        };
        id.filter(|id| *id > last)
            .ok_or(Fault::Text("ERR The ID specified in XADD is equal or smaller than the target stream top item"))
    }
}

fn add(call: &mut Call<'_>) -> Result<(), Fault> {
    let (options, at) = options(call, true)?;
    let wanted = match call.args.get(at) {
        Some(text) => Wanted::read(text)?,
        None => return Err(Fault::Arity("xadd")),
    };
    let pairs = call.rest(at + 1);
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(Fault::Arity("xadd"));
    }
    if matches!(wanted, Wanted::This(Id::ZERO)) {
        return Err(Fault::Text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let (key, db, now) = (call.args[1], call.client.db, call.keyspace.clock.wall);
    let missing = if options.only_present { Missing::Skip } else { Missing::Create };
    let id = call.keyspace.edit(db, key, Kind::Stream, missing, |edit| {
        let id = wanted.resolve(edit.entry.stream(), now)?;
        edit.change_stream(&Change::Add { id, pairs: Cow::Borrowed(pairs) });
        if let Some(trim) = options.trim {
            cut(edit, trim);
        }
        Ok(id)
    })?;
    match id {
        Some(id) => {
            call.keyspace.waits.note(db, key);
            answer_id(id, call.reply);
        }
        None => call.reply.null(),
    }
    Ok(())
}

fn cut(edit: &mut Edit<'_>, trim: Trim) -> usize {
    let last = edit.entry.stream().and_then(|stream| stream.cut(trim.keep, trim.roughly, trim.limit));
    last.map_or(0, |last| edit.change_stream(&Change::Trim { last }))
}

fn trim(call: &mut Call<'_>) -> Result<(), Fault> {
    let (options, _) = options(call, false)?;
    let gone = call.keyspace.edit(call.client.db, call.args[1], Kind::Stream, Missing::Skip, |edit| {
        Ok(options.trim.map_or(0, |trim| cut(edit, trim)))
    })?;
    call.reply.integer(gone.unwrap_or(0) as i64);
    Ok(())
}

/// Every argument from `at` on as an id.
pub(super) fn ids(call: &Call<'_>, at: usize) -> Result<Vec<Id>, Fault> {
    call.rest(at).iter().map(|text| id(text, 0)).collect()
}

fn delete(call: &mut Call<'_>) -> Result<(), Fault> {
    let ids = ids(call, 2)?;
    let gone = call.keyspace.edit(call.client.db, call.args[1], Kind::Stream, Missing::Skip, |edit| {
        Ok(edit.change_stream(&Change::Delete { ids }))
    })?;
    call.reply.integer(gone.unwrap_or(0) as i64);
    Ok(())
}

fn len(call: &mut Call<'_>) -> Result<(), Fault> {
    let entry = call.keyspace.read_kind(call.client.db, call.args[1], Kind::Stream)?;
    let len = entry.and_then(Entry::stream).map_or(0, Stream::len);
    call.reply.integer(len as i64);
    Ok(())
}

fn range(call: &mut Call<'_>, reverse: bool) -> Result<(), Fault> {
    let (first, second) = (call.args[2], call.args[3]);
    let (start, end) = if reverse { (second, first) } else { (first, second) };
    let (start, end) = (bound(start, Bound::Start)?, bound(end, Bound::End)?);
    let mut most = None;
    for pair in call.rest(4).chunks(2) {
        match pair {
            [option, count] if option.eq_ignore_ascii_case(b"COUNT") => {
                most = Some(number::integer(count).ok_or(Fault::NotInteger)?.max(0));
            }
            _ => return Err(Fault::Syntax),
        }
    }
    super::with_entry(call, 1, Kind::Stream, |entry, reply, _| {
        let Some(stream) = entry.and_then(Entry::stream) else { return reply.array(0) };
        if most == Some(0) {
            return reply.null_array();
        }
        let mut left = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let mut found = Vec::new();
        stream.range(start, end, reverse, |item| {
            found.push(item);
            left -= 1;
            left > 0
        });
        reply.array(found.len());
        for item in found {
            answer_item(item, reply);
        }
    })
}

fn set_id(call: &mut Call<'_>) -> Result<(), Fault> {
    let last = id(call.args[2], 0)?;
    let (mut added, mut deleted) = (None, None);
    for pair in call.rest(3).chunks(2) {
        match pair {
            [option, value] if option.eq_ignore_ascii_case(b"ENTRIESADDED") => {
                let value = number::integer(value).ok_or(Fault::NotInteger)?;
                added =
                    Some(u64::try_from(value).map_err(|_negative| Fault::Text("ERR entries_added must be positive"))?);
            }
            [option, value] if option.eq_ignore_ascii_case(b"MAXDELETEDID") => {
                let value = id(value, 0)?;
                if last < value {
                    return Err(Fault::Text(
                        "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                    ));
                }
                deleted = Some(value).filter(|id| *id != Id::ZERO);
            }
            _ => return Err(Fault::Syntax),
        }
    }
    let done = call.keyspace.edit(call.client.db, call.args[1], Kind::Stream, Missing::Skip, |edit| {
        let Some(stream) = edit.entry.stream() else { return Err(Fault::WrongType) };
        if last < stream.deleted() {
            return Err(Fault::Text("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"));
        }
        if stream.top().is_some_and(|top| last < top) {
            return Err(Fault::Text("ERR The ID specified in XSETID is smaller than the target stream top item"));
        }
        if added.is_some_and(|added| (stream.len() as u64) > added) && stream.len() > 0 {
            return Err(Fault::Text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
        let change =
            Change::Set { last, deleted: deleted.unwrap_or(stream.deleted()), added: added.unwrap_or(stream.added()) };
        edit.change_stream(&change);
        Ok(())
    })?;
    done.ok_or(Fault::NoSuchKey)?;
    call.reply.simple("OK");
    Ok(())
}
