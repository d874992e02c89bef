//! Lists: pushes, pops, ranges and changes in the middle. The blocking ones are in [`blocking`](super::blocking).

use super::{Command, FREE, FREE_FAST, GROW, GROW_FAST, READ, keyed};
use crate::kv::effect::End;
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::{Edit, Keyspace, Missing};
use crate::kv::reply::Reply;
use crate::kv::value::Kind;
use crate::kv::value::list::ListView;

pub(super) const COMMANDS: &[Command] = &[
    keyed("lindex", 3, READ, 1, lindex),
    keyed("linsert", 5, GROW, 1, linsert),
    keyed("llen", 2, READ.and(super::Flags::FAST), 1, llen),
    keyed("lmove", 5, GROW, 2, lmove),
    keyed("lpop", -2, FREE_FAST, 1, |call| pop(call, End::Head, "lpop")),
    keyed("lpos", -3, READ, 1, lpos),
    keyed("lpush", -3, GROW_FAST, 1, |call| push(call, End::Head, Missing::Create)),
    keyed("lpushx", -3, GROW_FAST, 1, |call| push(call, End::Head, Missing::Skip)),
    keyed("lrange", 4, READ, 1, lrange),
    keyed("lrem", 4, FREE, 1, lrem),
    keyed("lset", 4, GROW, 1, lset),
    keyed("ltrim", 4, FREE, 1, ltrim),
    keyed("rpop", -2, FREE_FAST, 1, |call| pop(call, End::Tail, "rpop")),
    keyed("rpoplpush", 3, GROW, 2, |call| answer_move(call, End::Tail, End::Head)),
    keyed("rpush", -3, GROW_FAST, 1, |call| push(call, End::Tail, Missing::Create)),
    keyed("rpushx", -3, GROW_FAST, 1, |call| push(call, End::Tail, Missing::Skip)),
];

/// Runs `work` on the list at the first key; an absent key is an empty list.
fn read<R>(call: &mut Call<'_>, work: impl FnOnce(ListView<'_>, &mut dyn Reply) -> R) -> Result<R, Fault> {
    super::with_entry(call, 1, Kind::List, |entry, reply, _| {
        work(entry.map_or(ListView::Packed(&[]), Entry::list), reply)
    })
}

/// `index` counted from the end when negative; `None` before the first element.
fn absolute(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(i64::try_from(len).ok()?)? } else { index };
    usize::try_from(index).ok()
}

fn push(call: &mut Call<'_>, end: End, missing: Missing) -> Result<(), Fault> {
    let items = call.rest(2);
    let len = call.keyspace.edit(call.client.db, call.args[1], Kind::List, missing, |edit| {
        for item in items {
            edit.entry.list_push(end, item, edit.limits);
        }
        edit.effects.list_push(edit.store, edit.key, end, items.iter().copied());
        Ok(edit.entry.list().len())
    })?;
    call.reply.integer(len.unwrap_or_default() as i64);
    Ok(())
}

impl Keyspace {
    /// Takes up to `most` elements off an end of a list; `None` when the key is absent.
    pub(in crate::kv) fn pop_list(
        &mut self,
        db: u8,
        key: &[u8],
        end: End,
        most: usize,
    ) -> Result<Option<Vec<Vec<u8>>>, Fault> {
        self.edit(db, key, Kind::List, Missing::Skip, |edit| Ok(take(edit, end, most)))
    }

    /// Moves one element between ends of two lists, which may be one; `None` when the source is absent.
    pub(in crate::kv) fn move_element(
        &mut self,
        db: u8,
        source: &[u8],
        from: End,
        target: &[u8],
        to: End,
    ) -> Result<Option<Vec<u8>>, Fault> {
        if self.peek_kind(db, source, Kind::List)?.is_none() {
            return Ok(None);
        }
        if self.peek(db, target)?.is_some_and(|entry| entry.kind() != Kind::List) {
            return Err(Fault::WrongType);
        }
        if source == target {
            // One edit, so that a list of one element keeps its key and expiry.
            return self.edit(db, source, Kind::List, Missing::Skip, |edit| {
                if from == to || edit.entry.list().len() == 1 {
                    let index = if from == End::Head { 0 } else { edit.entry.list().len() - 1 };
                    return Ok(edit.entry.list().get(index).unwrap_or_default().to_vec());
                }
                let item = take(edit, from, 1).pop().unwrap_or_default();
                edit.entry.list_push(to, &item, edit.limits);
                edit.effects.list_push(edit.store, edit.key, to, std::iter::once(item.as_slice()));
                Ok(item)
            });
        }
        let Some(item) = self.pop_list(db, source, from, 1)?.and_then(|mut items| items.pop()) else { return Ok(None) };
        self.edit(db, target, Kind::List, Missing::Create, |edit| {
            edit.entry.list_push(to, &item, edit.limits);
            edit.effects.list_push(edit.store, edit.key, to, std::iter::once(item.as_slice()));
            Ok(())
        })?;
        Ok(Some(item))
    }
}

fn take(edit: &mut Edit<'_>, end: End, most: usize) -> Vec<Vec<u8>> {
    let items: Vec<Vec<u8>> = (0..most).map_while(|_| edit.entry.list_pop(end)).collect();
    if !items.is_empty() {
        edit.effects.list_pop(edit.store, edit.key, end, items.len() as u64);
    }
    items
}

fn pop(call: &mut Call<'_>, end: End, name: &'static str) -> Result<(), Fault> {
    let count = match call.rest(2) {
        [] => None,
        [_] => Some(super::count(call, 2)?),
        _ => return Err(Fault::Arity(name)),
    };
    let items = call.keyspace.pop_list(call.client.db, call.args[1], end, count.unwrap_or(1))?;
    match (items, count) {
        (None, None) => call.reply.null(),
        (None, Some(_)) => call.reply.null_array(),
        (Some(items), None) => call.reply.bulk(items.first().map_or(&[], Vec::as_slice)),
        (Some(items), Some(_)) => {
            call.reply.array(items.len());
            for item in &items {
                call.reply.bulk(item);
            }
        }
    }
    Ok(())
}

fn llen(call: &mut Call<'_>) -> Result<(), Fault> {
    read(call, |list, reply| reply.integer(list.len() as i64))
}

fn lindex(call: &mut Call<'_>) -> Result<(), Fault> {
    let index = call.integer(2)?;
    read(call, |list, reply| match absolute(index, list.len()).and_then(|index| list.get(index)) {
        Some(item) => reply.bulk(item),
        None => reply.null(),
    })
}

fn lrange(call: &mut Call<'_>) -> Result<(), Fault> {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    read(call, |list, reply| {
        let range = super::range(start, end, list.len());
        reply.array(range.len());
        list.each(range.start, range.len(), |item| reply.bulk(item));
    })
}

fn lset(call: &mut Call<'_>) -> Result<(), Fault> {
    let value = call.arg(3)?;
    // The key comes before the index, as in Redis.
    call.keyspace.read_kind(call.client.db, call.args[1], Kind::List)?.ok_or(Fault::NoSuchKey)?;
    let index = call.integer(2)?;
    call.keyspace
        .edit(call.client.db, call.args[1], Kind::List, Missing::Skip, |edit| {
            let len = edit.entry.list().len();
            let index = absolute(index, len).filter(|index| *index < len).ok_or(Fault::IndexRange)?;
            edit.entry.list_set(index, value, edit.limits);
            edit.effects.list_set(edit.store, edit.key, index as u64, value);
            Ok(())
        })?
        .ok_or(Fault::NoSuchKey)?;
    call.reply.simple("OK");
    Ok(())
}

fn linsert(call: &mut Call<'_>) -> Result<(), Fault> {
    let (place, pivot, value) = (call.args[2], call.args[3], call.args[4]);
    let after = if place.eq_ignore_ascii_case(b"AFTER") {
        1
    } else if place.eq_ignore_ascii_case(b"BEFORE") {
        0
    } else {
        return Err(Fault::Syntax);
    };
    let len = call.keyspace.edit(call.client.db, call.args[1], Kind::List, Missing::Skip, |edit| {
        let Some(at) = edit.entry.list().positions(pivot, false, usize::MAX).next() else { return Ok(-1) };
        edit.entry.list_insert(at + after, value, edit.limits);
        edit.effects.list_insert(edit.store, edit.key, (at + after) as u64, value);
        Ok(edit.entry.list().len() as i64)
    })?;
    call.reply.integer(len.unwrap_or_default());
    Ok(())
}

fn lrem(call: &mut Call<'_>) -> Result<(), Fault> {
    let (count, value) = (call.integer(2)?, call.arg(3)?);
    let gone = call.keyspace.edit(call.client.db, call.args[1], Kind::List, Missing::Skip, |edit| {
        let gone = edit.entry.list_remove(count, value);
        if gone > 0 {
            edit.effects.list_remove(edit.store, edit.key, count, value);
        }
        Ok(gone)
    })?;
    call.reply.integer(gone.unwrap_or_default() as i64);
    Ok(())
}

fn ltrim(call: &mut Call<'_>) -> Result<(), Fault> {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    call.keyspace.edit(call.client.db, call.args[1], Kind::List, Missing::Skip, |edit| {
        let len = edit.entry.list().len();
        let range = super::range(start, end, len);
        if range.len() < len {
            edit.entry.list_keep(range.start, range.len());
            edit.effects.list_keep(edit.store, edit.key, range.start as u64, range.len() as u64);
        }
        Ok(())
    })?;
    call.reply.simple("OK");
    Ok(())
}

fn lpos(call: &mut Call<'_>) -> Result<(), Fault> {
    let item = call.args[2];
    let (mut rank, mut count, mut most) = (1, None, 0);
    for pair in call.rest(3).chunks(2) {
        let [option, value] = pair else { return Err(Fault::Syntax) };
        let number = crate::kv::number::integer(value);
        match option.to_ascii_uppercase().as_slice() {
            b"RANK" => {
                rank = number.ok_or(Fault::NotInteger)?;
                if rank == 0 {
                    return Err(Fault::Text(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                    ));
                }
                if rank == i64::MIN {
                    return Err(Fault::CountRange);
                }
            }
            b"COUNT" => {
                count = Some(
                    number
                        .and_then(|count| usize::try_from(count).ok())
                        .ok_or(Fault::Text("ERR COUNT can't be negative"))?,
                );
            }
            b"MAXLEN" => {
                most = number
                    .and_then(|most| usize::try_from(most).ok())
                    .ok_or(Fault::Text("ERR MAXLEN can't be negative"))?;
            }
            _ => return Err(Fault::Syntax),
        }
    }
    let most = if most == 0 { usize::MAX } else { most };
    let wanted = match count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => count,
    };
    let skipped = usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
    read(call, |list, reply| {
        let found: Vec<usize> = list.positions(item, rank < 0, most).skip(skipped).take(wanted).collect();
        match (count, found.first()) {
            (None, None) => reply.null(),
            (None, Some(at)) => reply.integer(*at as i64),
            (Some(_), _) => {
                reply.array(found.len());
                for at in &found {
                    reply.integer(*at as i64);
                }
            }
        }
    })
}

/// `LEFT` or `RIGHT`.
pub(super) fn side(text: &[u8]) -> Result<End, Fault> {
    if text.eq_ignore_ascii_case(b"LEFT") {
        Ok(End::Head)
    } else if text.eq_ignore_ascii_case(b"RIGHT") {
        Ok(End::Tail)
    } else {
        Err(Fault::Syntax)
    }
}

fn lmove(call: &mut Call<'_>) -> Result<(), Fault> {
    let (from, to) = (side(call.args[3])?, side(call.args[4])?);
    answer_move(call, from, to)
}

fn answer_move(call: &mut Call<'_>, from: End, to: End) -> Result<(), Fault> {
    match call.keyspace.move_element(call.client.db, call.args[1], from, call.args[2], to)? {
        Some(item) => call.reply.bulk(&item),
        None => call.reply.null(),
    }
    Ok(())
}
