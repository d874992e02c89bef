//! When keys vanish: `EXPIRE`, `TTL` and their kin.

use super::{Command, FREE_FAST, READ_FAST, keyed};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;

pub(super) const COMMANDS: &[Command] = &[
    keyed("expire", -3, FREE_FAST, 1, |call| expire(call, Unit::Seconds, true, "expire")),
    keyed("expireat", -3, FREE_FAST, 1, |call| expire(call, Unit::Seconds, false, "expireat")),
    keyed("expiretime", 2, READ_FAST, 1, |call| left(call, |at, _| at / 1000)),
    keyed("persist", 2, FREE_FAST, 1, persist),
    keyed("pexpire", -3, FREE_FAST, 1, |call| expire(call, Unit::Millis, true, "pexpire")),
    keyed("pexpireat", -3, FREE_FAST, 1, |call| expire(call, Unit::Millis, false, "pexpireat")),
    keyed("pexpiretime", 2, READ_FAST, 1, |call| left(call, |at, _| at)),
    keyed("pttl", 2, READ_FAST, 1, |call| left(call, u64::saturating_sub)),
    keyed("ttl", 2, READ_FAST, 1, |call| left(call, |at, now| (at.saturating_sub(now) + 500) / 1000)),
];

/// What a number of an expiry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
}

/// The error of an expiry that is zero, negative where that is not allowed, or beyond 64 bits of milliseconds.
pub(super) fn invalid(name: &str) -> Fault {
    Fault::Told(format!("ERR invalid expire time in '{name}' command"))
}

/// `base + number` in milliseconds; negative moments count as 1, which is long past.
pub(super) fn expiry_time(number: i64, unit: Unit, base: u64, name: &'static str) -> Result<u64, Fault> {
    let millis = match unit {
        Unit::Seconds => number.checked_mul(1000),
        Unit::Millis => Some(number),
    };
    let base = i64::try_from(base).unwrap_or(i64::MAX);
    let at = millis.and_then(|millis| millis.checked_add(base)).ok_or_else(|| invalid(name))?;
    Ok(u64::try_from(at).unwrap_or(0).max(1))
}

/// `NX`, `XX`, `GT`, `LT`: what must hold for a new expiry to be set.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    presence: Option<Presence>,
    order: Option<Order>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    None,
    Some,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Later,
    Earlier,
}

impl Conditions {
    fn read(call: &Call<'_>) -> Result<Self, Fault> {
        let has = |name: &[u8]| call.rest(3).iter().any(|option| option.eq_ignore_ascii_case(name));
        for option in call.rest(3) {
            if !matches!(option.to_ascii_uppercase().as_slice(), b"NX" | b"XX" | b"GT" | b"LT") {
                return Err(Fault::quoting(&[b"ERR Unsupported option ", option]));
            }
        }
        if has(b"NX") && (has(b"XX") || has(b"GT") || has(b"LT")) {
            return Err(Fault::Text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if has(b"GT") && has(b"LT") {
            return Err(Fault::Text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(Self {
            presence: has(b"NX").then_some(Presence::None).or(has(b"XX").then_some(Presence::Some)),
            order: has(b"GT").then_some(Order::Later).or(has(b"LT").then_some(Order::Earlier)),
        })
    }

    /// Whether an expiry `old` may become `new`. No expiry is later than any.
    fn hold(self, old: Option<u64>, new: u64) -> bool {
        let presence = match self.presence {
            None => true,
            Some(Presence::None) => old.is_none(),
            Some(Presence::Some) => old.is_some(),
        };
        presence
            && match self.order {
                None => true,
                Some(Order::Later) => old.is_some_and(|old| new > old),
                Some(Order::Earlier) => old.is_none_or(|old| new < old),
            }
    }
}

fn expire(call: &mut Call<'_>, unit: Unit, relative: bool, name: &'static str) -> Result<(), Fault> {
    let conditions = Conditions::read(call)?;
    let number = call.integer(2)?;
    let base = if relative { call.keyspace.clock.wall } else { 0 };
    let at = expiry_time(number, unit, base, name)?;
    let (keyspace, db, key) = (&mut *call.keyspace, call.client.db, call.args[1]);
    let Some(place) = keyspace.find(db, key) else {
        call.reply.integer(0);
        return Ok(());
    };
    let old = keyspace.database(db).entries.get(place).and_then(Entry::expires);
    if !conditions.hold(old, at) {
        call.reply.integer(0);
        return Ok(());
    }
    if at <= keyspace.clock.wall {
        keyspace.delete_at(db, place);
    } else {
        keyspace.set_expires(db, place, key, Some(at));
    }
    call.reply.integer(1);
    Ok(())
}

fn persist(call: &mut Call<'_>) -> Result<(), Fault> {
    let (keyspace, db, key) = (&mut *call.keyspace, call.client.db, call.args[1]);
    let place = keyspace
        .find(db, key)
        .filter(|place| keyspace.database(db).entries.get(*place).is_some_and(|entry| entry.expires().is_some()));
    if let Some(place) = place {
        keyspace.set_expires(db, place, key, None);
    }
    call.reply.integer(i64::from(place.is_some()));
    Ok(())
}

/// Answers -2 without key, -1 without expiry, else what `of` makes of the expiry and the time.
fn left(call: &mut Call<'_>, of: fn(u64, u64) -> u64) -> Result<(), Fault> {
    let now = call.keyspace.clock.wall;
    let answer = match call.keyspace.look(call.client.db, call.args[1]).map(Entry::expires) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => i64::try_from(of(at, now)).unwrap_or(i64::MAX),
    };
    call.reply.integer(answer);
    Ok(())
}
