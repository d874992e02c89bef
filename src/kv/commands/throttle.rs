//! `CL.THROTTLE`: the generic cell rate algorithm on a key of its own, as the module redis-cell has it.
//!
//! The key holds the theoretical arrival time as a string, microseconds since the Unix epoch, and expires when the
//! counter is as if never used: what `GET`, `TTL`, backups and the journal see is an ordinary string.

use super::{Command, GROW_FAST, keyed, strings};
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::number;
use crate::kv::value::Kind;
use crate::limits::gcra::Rate;

pub(super) const COMMANDS: &[Command] = &[keyed("cl.throttle", -5, GROW_FAST, 1, throttle)];

const USAGE: &str = "ERR Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]";
const COUNT: &str =
    "ERR max_burst and quantity must not be negative, count and period must be at least 1, and each fits in 32 bits";

/// Answers five integers: whether the attempt is refused (1) or not (0), how many go through at once (`max_burst` + 1),
/// how many are left, seconds until it is worth to try again (-1 when it went through, or never will), and seconds until
/// all are back. Seconds are rounded up.
///
/// Source: README of redis-cell, "Usage" and "Response".
fn throttle(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.args.len() > 6 {
        return Err(Fault::Text(USAGE));
    }
    let rate = Rate {
        burst: number(call, 2, 0)?.checked_add(1).ok_or(Fault::Text(COUNT))?,
        count: number(call, 3, 1)?,
        period_us: u64::from(number(call, 4, 1)?) * 1_000_000,
    };
    let cost = if call.args.len() > 5 { number(call, 5, 0)? } else { 1 };
    let (db, key) = (call.client.db, call.args[1]);
    let arrival = match call.keyspace.peek(db, key)? {
        None => 0,
        Some(entry) if entry.kind() != Kind::String => return Err(Fault::WrongType),
        Some(entry) => {
            number::integer(&entry.text()).and_then(|arrival| u64::try_from(arrival).ok()).ok_or(Fault::NotInteger)?
        }
    };
    let now_ms = call.keyspace.clock.wall;
    let (verdict, arrival) = rate.decide(arrival, now_ms.saturating_mul(1000), cost);
    if verdict.allowed && cost > 0 {
        // Beyond 64 bits with a sign nothing could read it back; the year 294,246 is far enough.
        let arrival = i64::try_from(arrival).unwrap_or(i64::MAX);
        strings::store(call, key, arrival.to_string().as_bytes(), Some(now_ms.saturating_add(verdict.reset_ms).max(1)));
    }
    let never = u64::from(cost) > u64::from(rate.burst);
    let retry = if verdict.allowed || never { -1 } else { seconds(verdict.retry_ms) };
    let answer = [i64::from(!verdict.allowed), i64::from(rate.burst), i64::from(verdict.remaining), retry];
    call.reply.array(5);
    answer.into_iter().chain([seconds(verdict.reset_ms)]).for_each(|number| call.reply.integer(number));
    Ok(())
}

fn number(call: &Call<'_>, index: usize, least: u32) -> Result<u32, Fault> {
    let number = call.integer(index)?;
    u32::try_from(number).ok().filter(|number| *number >= least).ok_or(Fault::Text(COUNT))
}

fn seconds(millis: u64) -> i64 {
    i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
}
