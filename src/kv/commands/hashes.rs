//! Hashes: `HSET`, `HGETALL` and their kin.

use super::{Command, FREE_FAST, GROW_FAST, READ, READ_FAST, keyed};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::{Edit, Missing};
use crate::kv::number;
use crate::kv::reply::Reply;
use crate::kv::table::Hashing;
use crate::kv::value::Kind;
use crate::kv::value::hash::HashView;

pub(super) const COMMANDS: &[Command] = &[
    keyed("hdel", -3, FREE_FAST, 1, hdel),
    keyed("hexists", 3, READ_FAST, 1, hexists),
    keyed("hget", 3, READ_FAST, 1, hget),
    keyed("hgetall", 2, READ, 1, hgetall),
    keyed("hincrby", 4, GROW_FAST, 1, hincrby),
    keyed("hincrbyfloat", 4, GROW_FAST, 1, hincrbyfloat),
    keyed("hkeys", 2, READ, 1, hkeys),
    keyed("hlen", 2, READ_FAST, 1, hlen),
    keyed("hmget", -3, READ_FAST, 1, hmget),
    keyed("hmset", -4, GROW_FAST, 1, hmset),
    keyed("hrandfield", -2, READ, 1, hrandfield),
    keyed("hset", -4, GROW_FAST, 1, hset),
    keyed("hsetnx", 4, GROW_FAST, 1, hsetnx),
    keyed("hstrlen", 3, READ_FAST, 1, hstrlen),
    keyed("hvals", 2, READ, 1, hvals),
];

/// Runs `work` on the hash at the first key; an absent key is an empty hash.
fn read<R>(call: &mut Call<'_>, work: impl FnOnce(HashView<'_>, &mut dyn Reply, &Hashing) -> R) -> Result<R, Fault> {
    super::with_entry(call, 1, Kind::Hash, |entry, reply, hashing| {
        work(entry.map_or(HashView::Packed(&[]), Entry::hash), reply, hashing)
    })
}

/// Sets the field and value pairs from argument 2 on; says how many fields are new.
fn set_pairs(call: &mut Call<'_>, name: &'static str) -> Result<i64, Fault> {
    let pairs = call.rest(2);
    if !pairs.len().is_multiple_of(2) {
        return Err(Fault::Arity(name));
    }
    let added = call.keyspace.edit(call.client.db, call.args[1], Kind::Hash, Missing::Create, |edit| {
        let added = pairs.chunks_exact(2).filter(|pair| set(edit, pair[0], pair[1])).count();
        edit.effects.hash_set(edit.store, edit.key, pairs.iter().copied());
        Ok(added as i64)
    })?;
    Ok(added.unwrap_or_default())
}

fn set(edit: &mut Edit<'_>, field: &[u8], value: &[u8]) -> bool {
    edit.entry.hash_set(field, value, edit.limits, edit.hashing)
}

fn hset(call: &mut Call<'_>) -> Result<(), Fault> {
    let added = set_pairs(call, "hset")?;
    call.reply.integer(added);
    Ok(())
}

fn hmset(call: &mut Call<'_>) -> Result<(), Fault> {
    set_pairs(call, "hmset")?;
    call.reply.simple("OK");
    Ok(())
}

fn hsetnx(call: &mut Call<'_>) -> Result<(), Fault> {
    let (field, value) = (call.args[2], call.args[3]);
    let added = call.keyspace.edit(call.client.db, call.args[1], Kind::Hash, Missing::Create, |edit| {
        if edit.entry.hash().get(field, edit.hashing).is_some() {
            return Ok(false);
        }
        set(edit, field, value);
        edit.effects.hash_set(edit.store, edit.key, [field, value].into_iter());
        Ok(true)
    })?;
    call.reply.integer(i64::from(added == Some(true)));
    Ok(())
}

fn hdel(call: &mut Call<'_>) -> Result<(), Fault> {
    let fields = call.rest(2);
    let gone = call.keyspace.edit(call.client.db, call.args[1], Kind::Hash, Missing::Skip, |edit| {
        let gone: Vec<&[u8]> =
            fields.iter().copied().filter(|field| edit.entry.hash_delete(field, edit.hashing)).collect();
        if !gone.is_empty() {
            edit.effects.hash_delete(edit.store, edit.key, gone.iter().copied());
        }
        Ok(gone.len())
    })?;
    call.reply.integer(gone.unwrap_or_default() as i64);
    Ok(())
}

fn hget(call: &mut Call<'_>) -> Result<(), Fault> {
    let field = call.args[2];
    read(call, |hash, reply, hashing| match hash.get(field, hashing) {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    })
}

fn hmget(call: &mut Call<'_>) -> Result<(), Fault> {
    let fields = call.rest(2);
    read(call, |hash, reply, hashing| {
        reply.array(fields.len());
        for field in fields {
            match hash.get(field, hashing) {
                Some(value) => reply.bulk(value),
                None => reply.null(),
            }
        }
    })
}

fn hexists(call: &mut Call<'_>) -> Result<(), Fault> {
    let field = call.args[2];
    read(call, |hash, reply, hashing| reply.integer(i64::from(hash.get(field, hashing).is_some())))
}

fn hstrlen(call: &mut Call<'_>) -> Result<(), Fault> {
    let field = call.args[2];
    read(call, |hash, reply, hashing| reply.integer(hash.get(field, hashing).map_or(0, <[u8]>::len) as i64))
}

fn hlen(call: &mut Call<'_>) -> Result<(), Fault> {
    read(call, |hash, reply, _| reply.integer(hash.len() as i64))
}

fn hgetall(call: &mut Call<'_>) -> Result<(), Fault> {
    read(call, |hash, reply, _| {
        reply.map(hash.len());
        hash.each(|field, value| {
            reply.bulk(field);
            reply.bulk(value);
        });
    })
}

fn hkeys(call: &mut Call<'_>) -> Result<(), Fault> {
    read(call, |hash, reply, _| {
        reply.array(hash.len());
        hash.each(|field, _| reply.bulk(field));
    })
}

fn hvals(call: &mut Call<'_>) -> Result<(), Fault> {
    read(call, |hash, reply, _| {
        reply.array(hash.len());
        hash.each(|_, value| reply.bulk(value));
    })
}

fn hincrby(call: &mut Call<'_>) -> Result<(), Fault> {
    let (field, by) = (call.args[2], call.integer(3)?);
    let sum = call.keyspace.edit(call.client.db, call.args[1], Kind::Hash, Missing::Create, |edit| {
        let old = match edit.entry.hash().get(field, edit.hashing) {
            Some(text) => number::integer(text).ok_or(Fault::Text("ERR hash value is not an integer"))?,
            None => 0,
        };
        let sum = old.checked_add(by).ok_or(Fault::Overflow)?;
        let text = number::integer_text(sum);
        set(edit, field, text.as_bytes());
        edit.effects.hash_set(edit.store, edit.key, [field, text.as_bytes()].into_iter());
        Ok(sum)
    })?;
    call.reply.integer(sum.unwrap_or_default());
    Ok(())
}

fn hincrbyfloat(call: &mut Call<'_>) -> Result<(), Fault> {
    let (field, by) = (call.args[2], call.args[3]);
    match number::float(by) {
        None => return Err(Fault::NotFloat),
        Some(by) if by.is_infinite() => return Err(Fault::Text("ERR value is NaN or Infinity")),
        Some(_) => {}
    }
    let sum = call.keyspace.edit(call.client.db, call.args[1], Kind::Hash, Missing::Create, |edit| {
        let old = edit.entry.hash().get(field, edit.hashing).unwrap_or(b"0").to_vec();
        if number::float(&old).is_none() {
            return Err(Fault::Text("ERR hash value is not a float"));
        }
        let sum = number::add_decimal(&old, by).ok_or(Fault::Text("ERR increment would produce NaN or Infinity"))?;
        set(edit, field, &sum);
        edit.effects.hash_set(edit.store, edit.key, [field, &sum].into_iter());
        Ok(sum)
    })?;
    call.reply.bulk(&sum.unwrap_or_default());
    Ok(())
}

fn hrandfield(call: &mut Call<'_>) -> Result<(), Fault> {
    let count = if call.args.len() > 2 { Some(super::draws(call, 2)?) } else { None };
    let with_values = match call.rest(3) {
        [] => false,
        [option] if option.eq_ignore_ascii_case(b"WITHVALUES") => true,
        _ => return Err(Fault::Syntax),
    };
    super::check_pairs(count, with_values)?;
    let random = std::sync::Arc::clone(&call.keyspace.random);
    read(call, |hash, reply, _| {
        let Some(count) = count else {
            match hash.sample(&*random) {
                Some((field, _)) => reply.bulk(field),
                None => reply.null(),
            }
            return;
        };
        let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
        if count < 0 {
            let most = if hash.len() == 0 { 0 } else { count.unsigned_abs() };
            pairs.extend((0..most).filter_map(|_| hash.sample(&*random)));
        } else {
            hash.each(|field, value| pairs.push((field, value)));
            super::keep_random(&mut pairs, count as usize, &*random);
        }
        let nested = with_values && reply.resp3();
        reply.array(if with_values && !nested { 2 * pairs.len() } else { pairs.len() });
        for (field, value) in pairs {
            if nested {
                reply.array(2);
            }
            reply.bulk(field);
            if with_values {
                reply.bulk(value);
            }
        }
    })
}
