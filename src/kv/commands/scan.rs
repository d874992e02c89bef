//! Walking with a cursor: `SCAN`, `HSCAN`, `SSCAN`, `ZSCAN`.

use super::{Command, READ, keyed, keyless};
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::glob;
use crate::kv::number;
use crate::kv::reply::Reply;
use crate::kv::value::Kind;

pub(super) const COMMANDS: &[Command] = &[
    keyed("hscan", -3, READ, 1, hscan),
    keyless("scan", -2, READ, scan),
    keyed("sscan", -3, READ, 1, sscan),
    keyed("zscan", -3, READ, 1, zscan),
];

/// The options of the family.
struct Options<'a> {
    cursor: u64,
    pattern: Option<&'a [u8]>,
    count: usize,
    kind: Option<&'a [u8]>,
}

fn cursor(call: &Call<'_>, at: usize) -> Result<u64, Fault> {
    let text = std::str::from_utf8(call.arg(at)?).ok();
    text.and_then(|text| text.parse().ok()).ok_or(Fault::Text("ERR invalid cursor"))
}

impl<'a> Options<'a> {
    fn read(call: &Call<'a>, at: usize) -> Result<Self, Fault> {
        let mut options = Self { cursor: cursor(call, at)?, pattern: None, count: 10, kind: None };
        for pair in call.rest(at + 1).chunks(2) {
            let [option, value] = pair else { return Err(Fault::Syntax) };
            match option.to_ascii_uppercase().as_slice() {
                b"COUNT" => {
                    let count = number::integer(value).ok_or(Fault::NotInteger)?;
                    options.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(Fault::Syntax)?;
                }
                b"MATCH" => options.pattern = Some(value).filter(|pattern| ***pattern != *b"*").copied(),
                b"TYPE" if at == 1 => options.kind = Some(value),
                _ => return Err(Fault::Syntax),
            }
        }
        options.count = options.count.min(call.keyspace.config.scan_count as usize);
        Ok(options)
    }

    fn fits(&self, text: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, text))
    }

    /// Calls `step` with the cursor until it has shown `count` items or the walk is over; returns the next cursor.
    /// Empty buckets count as a tenth of an item, so that a sparse table cannot hold the loop for long.
    fn walk(&self, mut step: impl FnMut(u64) -> (u64, usize)) -> u64 {
        let (mut cursor, mut tenths) = (self.cursor, 0);
        loop {
            let (next, shown) = step(cursor);
            cursor = next;
            tenths += 10 * shown + 1;
            if cursor == 0 || tenths >= 10 * self.count {
                return cursor;
            }
        }
    }
}

fn answer_head(cursor: u64, len: usize, reply: &mut dyn Reply) {
    reply.array(2);
    reply.bulk(cursor.to_string().as_bytes());
    reply.array(len);
}

fn scan(call: &mut Call<'_>) -> Result<(), Fault> {
    let options = Options::read(call, 1)?;
    let now = call.keyspace.clock.wall;
    let table = &call.keyspace.database(call.client.db).entries;
    let mut found: Vec<&[u8]> = Vec::new();
    let cursor = options.walk(|cursor| {
        let mut shown = 0;
        let next = table.scan(cursor, |entry| {
            shown += 1;
            let alive = entry.expires().is_none_or(|at| at > now);
            let right_kind = options.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(entry.kind().name().as_bytes()));
            if alive && right_kind && options.fits(entry.key()) {
                found.push(entry.key());
            }
        });
        (next, shown)
    });
    answer_head(cursor, found.len(), call.reply);
    for key in &found {
        call.reply.bulk(key);
    }
    Ok(())
}

/// Runs one of the family on a key; `walk` adds what it finds to the list, one reply value each.
fn scan_key(
    call: &mut Call<'_>,
    kind: Kind,
    walk: impl FnOnce(&crate::kv::entry::Entry, &Options<'_>, &mut Vec<Vec<u8>>) -> u64,
) -> Result<(), Fault> {
    cursor(call, 2)?;
    // As in Redis, the key comes before the options: without it, wrong ones are not even looked at.
    if call.keyspace.read_kind(call.client.db, call.arg(1)?, kind)?.is_none() {
        answer_head(0, 0, call.reply);
        return Ok(());
    }
    let options = Options::read(call, 2)?;
    super::with_entry(call, 1, kind, |entry, reply, _| {
        let mut found = Vec::new();
        let cursor = entry.map_or(0, |entry| walk(entry, &options, &mut found));
        answer_head(cursor, found.len(), reply);
        for item in &found {
            reply.bulk(item);
        }
    })
}

fn hscan(call: &mut Call<'_>) -> Result<(), Fault> {
    scan_key(call, Kind::Hash, |entry, options, found| {
        options.walk(|cursor| {
            let mut shown = 0;
            let next = entry.hash().scan(cursor, |field, value| {
                shown += 1;
                if options.fits(field) {
                    found.push(field.to_vec());
                    found.push(value.to_vec());
                }
            });
            (next, shown)
        })
    })
}

fn sscan(call: &mut Call<'_>) -> Result<(), Fault> {
    scan_key(call, Kind::Set, |entry, options, found| {
        options.walk(|cursor| {
            let mut shown = 0;
            let next = entry.set().scan(cursor, |member| {
                shown += 1;
                if options.fits(member) {
                    found.push(member.to_vec());
                }
            });
            (next, shown)
        })
    })
}

fn zscan(call: &mut Call<'_>) -> Result<(), Fault> {
    scan_key(call, Kind::ZSet, |entry, options, found| {
        options.walk(|cursor| {
            let mut shown = 0;
            let next = entry.zset().scan(cursor, |member, score| {
                shown += 1;
                if options.fits(member) {
                    found.push(member.to_vec());
                    found.push(number::double(score).as_bytes().to_vec());
                }
            });
            (next, shown)
        })
    })
}
