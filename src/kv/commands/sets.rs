//! Sets: members, draws, and unions, intersections and differences.

use std::sync::Arc;

use hashbrown::HashSet;

use super::{Command, FREE_FAST, Flags, GROW, GROW_FAST, READ, READ_FAST, keyed, keyless};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::Missing;
use crate::kv::reply::Reply;
use crate::kv::table::Hashing;
use crate::kv::value::set::SetView;
use crate::kv::value::{Kind, Limits};

pub(super) const COMMANDS: &[Command] = &[
    keyed("sadd", -3, GROW_FAST, 1, sadd),
    keyed("scard", 2, READ_FAST, 1, scard),
    keyed("sdiff", -2, READ, -1, |call| answer(call, Operation::Difference)),
    keyed("sdiffstore", -3, GROW, -1, |call| store(call, Operation::Difference)),
    keyed("sinter", -2, READ, -1, |call| answer(call, Operation::Intersection)),
    keyless("sintercard", -3, READ.and(Flags::MOVABLE_KEYS), sintercard),
    keyed("sinterstore", -3, GROW, -1, |call| store(call, Operation::Intersection)),
    keyed("sismember", 3, READ_FAST, 1, sismember),
    keyed("smembers", 2, READ, 1, smembers),
    keyed("smismember", -3, READ_FAST, 1, smismember),
    keyed("smove", 4, FREE_FAST, 2, smove),
    keyed("spop", -2, FREE_FAST, 1, spop),
    keyed("srandmember", -2, READ, 1, srandmember),
    keyed("srem", -3, FREE_FAST, 1, srem),
    keyed("sunion", -2, READ, -1, |call| answer(call, Operation::Union)),
    keyed("sunionstore", -3, GROW, -1, |call| store(call, Operation::Union)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// Runs `work` on the set at the first key; an absent key is an empty set.
fn read<R>(call: &mut Call<'_>, work: impl FnOnce(SetView<'_>, &mut dyn Reply, &Hashing) -> R) -> Result<R, Fault> {
    super::with_entry(call, 1, Kind::Set, |entry, reply, hashing| {
        work(entry.map_or(SetView::Packed(&[]), Entry::set), reply, hashing)
    })
}

fn sadd(call: &mut Call<'_>) -> Result<(), Fault> {
    let members = call.rest(2);
    let added = add(call, call.args[1], members)?;
    call.reply.integer(added as i64);
    Ok(())
}

fn add(call: &mut Call<'_>, key: &[u8], members: &[&[u8]]) -> Result<usize, Fault> {
    let added = call.keyspace.edit(call.client.db, key, Kind::Set, Missing::Create, |edit| {
        let added: Vec<&[u8]> =
            members.iter().copied().filter(|member| edit.entry.set_add(member, edit.limits, edit.hashing)).collect();
        if !added.is_empty() {
            edit.effects.set_add(edit.store, edit.key, added.iter().copied());
        }
        Ok(added.len())
    })?;
    Ok(added.unwrap_or_default())
}

fn remove(call: &mut Call<'_>, key: &[u8], members: &[&[u8]]) -> Result<usize, Fault> {
    let gone = call.keyspace.edit(call.client.db, key, Kind::Set, Missing::Skip, |edit| {
        let gone: Vec<&[u8]> =
            members.iter().copied().filter(|member| edit.entry.set_remove(member, edit.hashing)).collect();
        if !gone.is_empty() {
            edit.effects.set_remove(edit.store, edit.key, gone.iter().copied());
        }
        Ok(gone.len())
    })?;
    Ok(gone.unwrap_or_default())
}

fn srem(call: &mut Call<'_>) -> Result<(), Fault> {
    let gone = remove(call, call.args[1], call.rest(2))?;
    call.reply.integer(gone as i64);
    Ok(())
}

fn smove(call: &mut Call<'_>) -> Result<(), Fault> {
    let (source, target, member) = (call.args[1], call.args[2], call.args[3]);
    let db = call.client.db;
    let hashing = &call.keyspace.hashing.clone();
    let Some(there) =
        call.keyspace.peek_kind(db, source, Kind::Set)?.map(|entry| entry.set().contains(member, hashing))
    else {
        call.reply.integer(0);
        return Ok(());
    };
    call.keyspace.peek_kind(db, target, Kind::Set)?;
    if there && source != target {
        remove(call, source, &[member])?;
        add(call, target, &[member])?;
    }
    call.reply.integer(i64::from(there));
    Ok(())
}

fn scard(call: &mut Call<'_>) -> Result<(), Fault> {
    read(call, |set, reply, _| reply.integer(set.len() as i64))
}

fn sismember(call: &mut Call<'_>) -> Result<(), Fault> {
    let member = call.args[2];
    read(call, |set, reply, hashing| reply.integer(i64::from(set.contains(member, hashing))))
}

fn smismember(call: &mut Call<'_>) -> Result<(), Fault> {
    let members = call.rest(2);
    read(call, |set, reply, hashing| {
        reply.array(members.len());
        for member in members {
            reply.integer(i64::from(set.contains(member, hashing)));
        }
    })
}

fn smembers(call: &mut Call<'_>) -> Result<(), Fault> {
    read(call, |set, reply, _| {
        reply.set(set.len());
        set.each(|member| reply.bulk(member));
    })
}

fn spop(call: &mut Call<'_>) -> Result<(), Fault> {
    let count = match call.rest(2) {
        [] => None,
        [_] => Some(super::count(call, 2)?),
        _ => return Err(Fault::Syntax),
    };
    let taken = call.keyspace.edit(call.client.db, call.args[1], Kind::Set, Missing::Skip, |edit| {
        let most = count.unwrap_or(1).min(edit.entry.set().len());
        let mut taken = Vec::with_capacity(most);
        while taken.len() < most {
            let Some(member) = edit.entry.set().sample(edit.random) else { break };
            edit.entry.set_remove(&member, edit.hashing);
            taken.push(member);
        }
        if !taken.is_empty() {
            edit.effects.set_remove(edit.store, edit.key, taken.iter().map(Vec::as_slice));
        }
        Ok(taken)
    })?;
    let taken = taken.unwrap_or_default();
    match (count, taken.first()) {
        (None, Some(member)) => call.reply.bulk(member),
        (None, None) => call.reply.null(),
        (Some(_), _) => {
            call.reply.set(taken.len());
            for member in &taken {
                call.reply.bulk(member);
            }
        }
    }
    Ok(())
}

fn srandmember(call: &mut Call<'_>) -> Result<(), Fault> {
    let count = match call.rest(2) {
        [] => None,
        [_] => Some(super::draws(call, 2)?),
        _ => return Err(Fault::Syntax),
    };
    let random = Arc::clone(&call.keyspace.random);
    read(call, |set, reply, _| {
        let Some(count) = count else {
            match set.sample(&*random) {
                Some(member) => reply.bulk(&member),
                None => reply.null(),
            }
            return;
        };
        let mut members = Vec::new();
        if count < 0 {
            let most = if set.len() == 0 { 0 } else { count.unsigned_abs() };
            members.extend((0..most).filter_map(|_| set.sample(&*random)));
        } else {
            set.each(|member| members.push(member.to_vec()));
            super::keep_random(&mut members, count as usize, &*random);
        }
        reply.array(members.len());
        for member in &members {
            reply.bulk(member);
        }
    })
}

/// The outcome of an operation on the sets at `keys`, up to `most` members.
fn compute(call: &mut Call<'_>, keys: &[&[u8]], operation: Operation, most: usize) -> Result<Vec<Vec<u8>>, Fault> {
    let db = call.client.db;
    // All types are checked before anything is computed, as Redis does.
    for key in keys {
        call.keyspace.read_kind(db, key, Kind::Set)?;
    }
    let hashing = &call.keyspace.hashing.clone();
    let mut members: Vec<Vec<u8>> = Vec::new();
    let Some((first, others)) = keys.split_first() else { return Ok(members) };
    let collect = |call: &mut Call<'_>, key: &[u8]| -> Result<Vec<Vec<u8>>, Fault> {
        let mut members = Vec::new();
        if let Some(entry) = call.keyspace.peek(db, key)? {
            entry.set().each(|member| members.push(member.to_vec()));
        }
        Ok(members)
    };
    if operation == Operation::Union {
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        for key in keys {
            seen.extend(collect(call, key)?);
        }
        return Ok(seen.into_iter().collect());
    }
    members = collect(call, first)?;
    for key in others {
        let keep_common = operation == Operation::Intersection;
        match call.keyspace.peek(db, key)? {
            Some(entry) => members.retain(|member| entry.set().contains(member, hashing) == keep_common),
            None if keep_common => members.clear(),
            None => {}
        }
    }
    members.truncate(most);
    Ok(members)
}

fn answer(call: &mut Call<'_>, operation: Operation) -> Result<(), Fault> {
    let members = compute(call, call.rest(1), operation, usize::MAX)?;
    call.reply.set(members.len());
    for member in &members {
        call.reply.bulk(member);
    }
    Ok(())
}

fn store(call: &mut Call<'_>, operation: Operation) -> Result<(), Fault> {
    let members = compute(call, call.rest(2), operation, usize::MAX)?;
    let (keyspace, db, target) = (&mut *call.keyspace, call.client.db, call.args[1]);
    if members.is_empty() {
        keyspace.delete(db, target);
    } else {
        let limits = Limits::of(&keyspace.config);
        let mut entry = Entry::packed(Kind::Set, target, &[], keyspace.clock.second());
        for member in &members {
            entry.set_add(member, limits, &keyspace.hashing);
        }
        keyspace.store_entry(db, entry);
    }
    call.reply.integer(members.len() as i64);
    Ok(())
}

fn sintercard(call: &mut Call<'_>) -> Result<(), Fault> {
    let keys = call
        .integer(1)
        .ok()
        .filter(|keys| *keys > 0)
        .and_then(|keys| usize::try_from(keys).ok())
        .ok_or(Fault::Text("ERR numkeys should be greater than 0"))?;
    let named =
        call.rest(2).get(..keys).ok_or(Fault::Text("ERR Number of keys can't be greater than number of args"))?;
    let most = match call.rest(2 + keys) {
        [] => 0,
        [option, limit] if option.eq_ignore_ascii_case(b"LIMIT") => crate::kv::number::integer(limit)
            .and_then(|limit| usize::try_from(limit).ok())
            .ok_or(Fault::Text("ERR LIMIT can't be negative"))?,
        _ => return Err(Fault::Syntax),
    };
    let most = if most == 0 { usize::MAX } else { most };
    let members = compute(call, named, Operation::Intersection, most)?;
    call.reply.integer(members.len() as i64);
    Ok(())
}
