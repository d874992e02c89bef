//! What lies in a block: keys with their values.
//!
//! One behind the other, numbers little-endian: store (1), expiry in milliseconds since the Unix epoch (8, 0 is none),
//! bytes of the key (4), bytes of the value (8), key, value in the layout of [`dump`](crate::kv::dump).
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::checkpoint::Block;
use super::format::{take, take_u32, take_u64};
use crate::kv::effect::{self, Effect};
use crate::kv::keyspace::Keyspace;
use crate::kv::memory::Means;
use crate::kv::walk::Item;

/// Keys looked at before the first of them is changed.
const AHEAD: usize = 32;

/// Appends one key to a block. A value that is on disk only is left to whoever writes the block.
pub fn put_item(item: &Item<'_>, block: &mut Block) {
    let wanted = item.wanted();
    let out = block.values();
    out.push(item.store);
    out.extend_from_slice(&item.expires.unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&u32::try_from(item.key.len()).unwrap_or(u32::MAX).to_le_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(item.key);
    let start = out.len();
    match &wanted {
        Some((_, bytes)) => out.resize(start.saturating_add(*bytes), 0),
        None => item.dump(out),
    }
    let length = out.len().saturating_sub(start) as u64;
    if let Some(place) = out.get_mut(length_at..length_at.saturating_add(8)) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    if let Some((wanted, _)) = wanted {
        block.later(start, wanted);
    }
}

/// Gives every key of a block the value it has there.
///
/// # Errors
/// The bytes are no block, or hold a value this version does not know.
pub fn load_all(keyspace: &mut Keyspace, bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes;
    let mut ahead = Vec::with_capacity(AHEAD);
    while !rest.is_empty() {
        ahead.clear();
        while !rest.is_empty() && ahead.len() < AHEAD {
            ahead.push(item(&mut rest).ok_or("a block is cut short")?);
        }
        keyspace.warm(ahead.iter().map(|(store, _, key, _)| (*store, *key)));
        for (store, expires, key, value) in &ahead {
            keyspace.load(*store, key, *expires, value).map_err(|error| error.to_string())?;
        }
        // What does not fit moves to disk as it comes; nothing is deleted before all is there.
        keyspace.keep_within(Means::Move);
    }
    Ok(())
}

/// Replays the effects of a frame.
///
/// # Errors
/// The bytes are no effects.
pub fn apply_all(keyspace: &mut Keyspace, bytes: &[u8]) -> Result<(), String> {
    let mut effects = effect::read(bytes);
    let mut ahead = Vec::with_capacity(AHEAD);
    loop {
        ahead.clear();
        for effect in effects.by_ref().take(AHEAD) {
            ahead.push(effect.map_err(|error| error.to_string())?);
        }
        if ahead.is_empty() {
            return Ok(());
        }
        keyspace.warm(ahead.iter().filter_map(Effect::target));
        for effect in &ahead {
            keyspace.apply(effect).map_err(|fault| fault.to_string())?;
        }
        keyspace.keep_within(Means::Move);
    }
}

/// The keys of a block; an item is `None`, and the last, where it is cut short.
pub(super) fn items(bytes: &[u8]) -> impl Iterator<Item = Option<Parts<'_>>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let mut left = rest.filter(|left| !left.is_empty())?;
        let item = item(&mut left);
        rest = item.is_some().then_some(left);
        Some(item)
    })
}

/// Store, expiry, key and value.
pub(super) type Parts<'a> = (u8, Option<u64>, &'a [u8], &'a [u8]);

fn item<'a>(rest: &mut &'a [u8]) -> Option<Parts<'a>> {
    let [store] = take::<1>(rest)?;
    let expires = take_u64(rest)?;
    let key_bytes = usize::try_from(take_u32(rest)?).ok()?;
    let value_bytes = usize::try_from(take_u64(rest)?).ok()?;
    let (key, behind) = rest.split_at_checked(key_bytes)?;
    let (value, behind) = behind.split_at_checked(value_bytes)?;
    *rest = behind;
    Some((store, (expires != 0).then_some(expires), key, value))
}
