//! `ZRANDMEMBER`: members drawn at random.

use std::sync::Arc;

use super::{Command, READ, keyed};
use crate::base::random;
use crate::kv::error::Fault;
use crate::kv::execute::Call;

pub(super) const COMMANDS: &[Command] = &[keyed("zrandmember", -2, READ, 1, draw)];

fn draw(call: &mut Call<'_>) -> Result<(), Fault> {
    let count = if call.args.len() > 2 { Some(super::draws(call, 2)?) } else { None };
    let with_scores = match call.rest(3) {
        [] => false,
        [option] if option.eq_ignore_ascii_case(b"WITHSCORES") => true,
        _ => return Err(Fault::Syntax),
    };
    super::check_pairs(count, with_scores)?;
    let random = Arc::clone(&call.keyspace.random);
    super::zsets::read(call, |set, reply, _| {
        let mut members: Vec<(&[u8], f64)> = Vec::new();
        let mut take = |rank: usize, most| set.each(rank, most, false, |member, score| members.push((member, score)));
        match count {
            None if set.len() == 0 => return reply.null(),
            Some(_) if set.len() == 0 => return reply.array(0),
            Some(1..) => take(0, usize::MAX),
            _ => {
                for _ in 0..count.map_or(1, i64::unsigned_abs) {
                    take(random::below(&*random, set.len() as u64) as usize, 1);
                }
            }
        }
        let Some(count) = count else {
            return match members.first() {
                Some((member, _)) => reply.bulk(member),
                None => reply.null(),
            };
        };
        if count > 0 {
            super::keep_random(&mut members, usize::try_from(count).unwrap_or(usize::MAX), &*random);
        }
        let nested = with_scores && reply.resp3();
        reply.array(if with_scores && !nested { 2 * members.len() } else { members.len() });
        for (member, score) in members {
            if nested {
                reply.array(2);
            }
            reply.bulk(member);
            if with_scores {
                reply.double(score);
            }
        }
    })
}
