//! Pops from the first of several keys that has something: `LMPOP`, `ZMPOP`, and those that wait for it.

use super::blocking::{WAIT_MANY, block, timeout};
use super::{Command, Flags, keyless};
use crate::kv::effect::End;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::number;
use crate::kv::value::Kind;
use crate::kv::wait::Want;

const POPS: Flags = Flags::WRITE.and(Flags::MOVABLE_KEYS);

pub(super) const COMMANDS: &[Command] = &[
    keyless("blmpop", -5, WAIT_MANY, |call| wait(call, Kind::List)),
    keyless("bzmpop", -5, WAIT_MANY, |call| wait(call, Kind::ZSet)),
    keyless("lmpop", -4, POPS, |call| pop(call, Kind::List)),
    keyless("zmpop", -4, POPS, |call| pop(call, Kind::ZSet)),
];

/// The arguments from the number of keys on.
struct Request<'a> {
    keys: &'a [&'a [u8]],
    want: Want,
}

fn positive(text: &[u8], wrong: &'static str) -> Result<usize, Fault> {
    let number = number::integer(text).and_then(|number| usize::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or(Fault::Text(wrong))
}

impl<'a> Request<'a> {
    fn read(call: &Call<'a>, at: usize, kind: Kind) -> Result<Self, Fault> {
        let count = positive(call.arg(at)?, "ERR numkeys should be greater than 0")?;
        let (keys, rest) = call.rest(at + 1).split_at_checked(count).ok_or(Fault::Syntax)?;
        let (side, options) = rest.split_first().ok_or(Fault::Syntax)?;
        let end = match (kind, side.to_ascii_uppercase().as_slice()) {
            (Kind::List, b"LEFT") | (Kind::ZSet, b"MIN") => End::Head,
            (Kind::List, b"RIGHT") | (Kind::ZSet, b"MAX") => End::Tail,
            _ => return Err(Fault::Syntax),
        };
        let most = match options {
            [] => 1,
            [option, count, rest @ ..] if option.eq_ignore_ascii_case(b"COUNT") => {
                let most = positive(count, "ERR count should be greater than 0")?;
                if !rest.is_empty() {
                    return Err(Fault::Syntax);
                }
                most
            }
            _ => return Err(Fault::Syntax),
        };
        let want = if kind == Kind::List { Want::Pops(end, most) } else { Want::ZPops(end, most) };
        Ok(Self { keys, want })
    }

    /// Pops and answers, if there is something to pop.
    fn serve(&self, call: &mut Call<'_>, kind: Kind) -> Result<bool, Fault> {
        for key in self.keys {
            if call.keyspace.read_kind(call.client.db, key, kind)?.is_some()
                && let Some(value) = call.keyspace.serve(call.client.db, key, &self.want)
            {
                value.write(call.reply);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn pop(call: &mut Call<'_>, kind: Kind) -> Result<(), Fault> {
    if !Request::read(call, 1, kind)?.serve(call, kind)? {
        call.reply.null_array();
    }
    Ok(())
}

fn wait(call: &mut Call<'_>, kind: Kind) -> Result<(), Fault> {
    let request = Request::read(call, 2, kind)?;
    let timeout = timeout(call.arg(1)?)?;
    if request.serve(call, kind)? {
        return Ok(());
    }
    if call.may_block {
        let keys = request.keys.iter().map(|key| Box::from(*key)).collect();
        block(call, keys, request.want, timeout);
    } else {
        call.reply.null_array();
    }
    Ok(())
}
