//! `SORT` and `SORT_RO`: the elements of a list, set or sorted set by themselves or by what other keys say of them.
//!
//! Whether a user may reach the other keys, which nobody can tell in advance, is checked with the command
//! ([`acl`](crate::kv::acl)).

use std::cmp::Ordering;

use super::{Command, Flags, GROW, READ, keyed};
use crate::kv::effect::End;
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::Keyspace;
use crate::kv::number;
use crate::kv::value::{Kind, Limits};

pub(super) const COMMANDS: &[Command] = &[
    keyed("sort", -2, GROW.and(Flags::MOVABLE_KEYS), 1, |call| sort(call, true)),
    keyed("sort_ro", -2, READ.and(Flags::MOVABLE_KEYS), 1, |call| sort(call, false)),
];

/// The options.
#[derive(Clone, Debug, Default)]
struct Query<'a> {
    descending: bool,
    by_text: bool,
    offset: i64,
    /// Negative for all.
    count: i64,
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    target: Option<&'a [u8]>,
}

fn read<'a>(call: &Call<'a>, stores: bool) -> Result<Query<'a>, Fault> {
    let mut query = Query { count: -1, ..Query::default() };
    let mut rest = call.rest(2);
    while let [option, after @ ..] = rest {
        rest = match (option.to_ascii_uppercase().as_slice(), after) {
            (b"ASC", _) => {
                query.descending = false;
                after
            }
            (b"DESC", _) => {
                query.descending = true;
                after
            }
            (b"ALPHA", _) => {
                query.by_text = true;
                after
            }
            (b"LIMIT", [offset, count, after @ ..]) => {
                query.offset = number::integer(offset).ok_or(Fault::NotInteger)?;
                query.count = number::integer(count).ok_or(Fault::NotInteger)?;
                after
            }
            (b"BY", [pattern, after @ ..]) => {
                query.by = Some(pattern);
                after
            }
            (b"GET", [pattern, after @ ..]) => {
                query.get.push(pattern);
                after
            }
            (b"STORE", [target, after @ ..]) if stores => {
                query.target = Some(target);
                after
            }
            _ => return Err(Fault::Syntax),
        };
    }
    Ok(query)
}

/// What the elements are sorted by.
#[derive(Debug)]
enum Weight {
    Number(f64),
    Text(Option<Vec<u8>>),
}

fn sort(call: &mut Call<'_>, stores: bool) -> Result<(), Fault> {
    let query = read(call, stores)?;
    let (db, key) = (call.client.db, call.args[1]);
    let (kind, mut elements) = match call.keyspace.read(db, key)? {
        None => (Kind::List, Vec::new()),
        Some(entry) => (entry.kind(), elements(entry)?),
    };
    if query.by.is_none_or(|pattern| pattern.contains(&b'*')) {
        elements = sorted(call.keyspace, db, elements, &query)?;
    } else {
        // A pattern without a star weighs all the same: the order stays as it is; sets have none and get one.
        if kind == Kind::Set {
            elements.sort_unstable();
        }
        if query.descending {
            elements.reverse();
        }
    }
    let start = usize::try_from(query.offset).unwrap_or(0).min(elements.len());
    let most = usize::try_from(query.count).unwrap_or(usize::MAX).min(elements.len() - start);
    let chosen = elements.get(start..start + most).unwrap_or_default();
    let mut answers: Vec<Option<Vec<u8>>> = Vec::with_capacity(chosen.len() * query.get.len().max(1));
    for element in chosen {
        if query.get.is_empty() {
            answers.push(Some(element.clone()));
        }
        for pattern in &query.get {
            answers.push(call.keyspace.look_up(db, pattern, element)?);
        }
    }
    let Some(target) = query.target else {
        call.reply.array(answers.len());
        for answer in answers {
            match answer {
                Some(text) => call.reply.bulk(&text),
                None => call.reply.null(),
            }
        }
        return Ok(());
    };
    call.reply.integer(answers.len() as i64);
    call.keyspace.store_list(db, target, answers.into_iter().map(Option::unwrap_or_default));
    Ok(())
}

fn elements(entry: &Entry) -> Result<Vec<Vec<u8>>, Fault> {
    let mut elements = Vec::new();
    match entry.kind() {
        Kind::List => {
            let list = entry.list();
            list.each(0, list.len(), |item| elements.push(item.to_vec()));
        }
        Kind::Set => entry.set().each(|member| elements.push(member.to_vec())),
        Kind::ZSet => entry.zset().each(0, usize::MAX, false, |member, _| elements.push(member.to_vec())),
        Kind::String | Kind::Hash | Kind::Stream => return Err(Fault::WrongType),
    }
    Ok(elements)
}

/// The elements in their order; those of equal weight by their bytes.
fn sorted(keyspace: &mut Keyspace, db: u8, elements: Vec<Vec<u8>>, query: &Query<'_>) -> Result<Vec<Vec<u8>>, Fault> {
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let by = match query.by {
            Some(pattern) => keyspace.look_up(db, pattern, &element)?,
            None => Some(element.clone()),
        };
        let weight = if query.by_text { Weight::Text(by) } else { Weight::Number(score(by.as_deref())?) };
        weighed.push((weight, element));
    }
    let order = |a: &Weight, b: &Weight| match (a, b) {
        (Weight::Number(a), Weight::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
        _ => Ordering::Equal,
    };
    weighed.sort_by(|(a, first), (b, second)| {
        let order = order(a, b).then_with(|| first.cmp(second));
        if query.descending { order.reverse() } else { order }
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

/// A number to sort by: what is not there counts as 0.
fn score(text: Option<&[u8]>) -> Result<f64, Fault> {
    match text {
        None | Some([]) => Ok(0.0),
        Some(text) => number::float(text.trim_ascii_start())
            .ok_or(Fault::Text("ERR One or more scores can't be converted into double")),
    }
}

impl Keyspace {
    /// What `pattern` names for an element: the element itself (`#`), a string (`key:*`) or a field (`key:*->field`).
    fn look_up(&mut self, db: u8, pattern: &[u8], element: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        if pattern == b"#" {
            return Ok(Some(element.to_vec()));
        }
        let Some(star) = pattern.iter().position(|byte| *byte == b'*') else { return Ok(None) };
        let (before, behind) = (pattern.get(..star).unwrap_or_default(), pattern.get(star + 1..).unwrap_or_default());
        let arrow = behind.windows(2).position(|pair| pair == b"->").filter(|at| at + 2 < behind.len());
        let (behind, field) = match arrow {
            Some(at) => (behind.get(..at).unwrap_or_default(), behind.get(at + 2..)),
            None => (behind, None),
        };
        let key = [before, element, behind].concat();
        let hashing = &self.hashing.clone();
        let Some(entry) = self.read(db, &key)? else { return Ok(None) };
        Ok(match (field, entry.kind()) {
            (None, Kind::String) => Some(entry.text().to_vec()),
            (Some(field), Kind::Hash) => entry.hash().get(field, hashing).map(<[u8]>::to_vec),
            _ => None,
        })
    }

    /// Puts a list under a key, in place of whatever it holds; without elements nothing stays.
    fn store_list(&mut self, db: u8, target: &[u8], elements: impl Iterator<Item = Vec<u8>>) {
        let limits = Limits::of(&self.config);
        let mut entry = Entry::packed(Kind::List, target, &[], self.clock.second());
        elements.for_each(|element| entry.list_push(End::Tail, &element, limits));
        if entry.is_empty_collection() {
            self.delete(db, target);
        } else {
            self.store_entry(db, entry);
        }
    }
}
