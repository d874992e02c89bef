//! Which arguments of a request are keys.

use super::Command;

/// The keys among `args`, which start with the command's name, in their order. Arguments that break the command's
/// grammar may hide some: the command refuses them.
///
/// Source: the key specifications in the documentation of Redis' commands.
pub fn keys<'a>(command: &Command, args: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let counted = |at: usize| {
        let count = args.get(at).and_then(|text| std::str::from_utf8(text).ok()?.parse::<usize>().ok()).unwrap_or(0);
        args.get(at + 1..at.saturating_add(1).saturating_add(count).min(args.len())).unwrap_or_default()
    };
    let first = || args.get(1).copied();
    match command.name {
        "zunion" | "zinter" | "zdiff" | "sintercard" | "zintercard" | "lmpop" | "zmpop" => counted(1).to_vec(),
        "zunionstore" | "zinterstore" | "zdiffstore" => first().into_iter().chain(counted(2).iter().copied()).collect(),
        "blmpop" | "bzmpop" | "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "fcall" | "fcall_ro" => {
            counted(2).to_vec()
        }
        "xread" | "xreadgroup" => {
            let behind = streams_at(args).and_then(|at| args.get(at..)).unwrap_or_default();
            behind.get(..behind.len() / 2).unwrap_or_default().to_vec()
        }
        "sort" | "georadius" | "georadiusbymember" => {
            let names_key =
                |option: &[u8]| option.eq_ignore_ascii_case(b"store") || option.eq_ignore_ascii_case(b"storedist");
            let stored = args.windows(2).skip(2).filter_map(|pair| match pair {
                [option, key] if names_key(option) => Some(*key),
                _ => None,
            });
            first().into_iter().chain(stored).collect()
        }
        // Channels, which stand where a cluster looks for keys.
        "spublish" | "ssubscribe" | "sunsubscribe" => Vec::new(),
        "memory" => args.get(2).copied().filter(|_| is(args, 1, b"usage")).into_iter().collect(),
        "xgroup" | "xinfo" | "object" => args.get(2).copied().filter(|_| !is(args, 1, b"help")).into_iter().collect(),
        _ => fixed(command, args),
    }
}

/// Where the keys of `XREAD` begin. Its options are stepped over one by one, as the command does: a group or a consumer
/// may be called `streams` too.
fn streams_at(args: &[&[u8]]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += match args.get(at)?.to_ascii_uppercase().as_slice() {
            b"STREAMS" => return Some(at + 1),
            b"GROUP" => 3,
            b"BLOCK" | b"COUNT" => 2,
            b"NOACK" => 1,
            _ => return None,
        };
    }
}

fn is(args: &[&[u8]], at: usize, name: &[u8]) -> bool {
    args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(name))
}

fn fixed<'a>(command: &Command, args: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let (Ok(first), Ok(step)) = (usize::try_from(command.first_key), usize::try_from(command.step)) else {
        return Vec::new();
    };
    if first == 0 || step == 0 {
        return Vec::new();
    }
    let last = match usize::try_from(command.last_key) {
        Ok(last) => last,
        Err(_) => args.len().saturating_sub(command.last_key.unsigned_abs() as usize),
    };
    (first..=last).step_by(step).filter_map(|index| args.get(index).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::lookup;
    use super::*;

    #[test]
    fn keys_are_found_wherever_they_stand() {
        for (line, wanted) in [
            ("get a", "a"),
            ("mset a 1 b 2", "a b"),
            ("blpop a b 0", "a b"),
            ("zinter 2 a b weights 1 2", "a b"),
            ("zunionstore d 2 a b aggregate max", "d a b"),
            ("object encoding a", "a"),
            ("bitop and d a b", "d a b"),
            ("lmpop 2 a b left", "a b"),
            ("bzmpop 0 1 a min count 2", "a"),
            ("zrangestore d a 0 -1", "d a"),
            ("zintercard 2 a b limit 1", "a b"),
            ("xread count 2 streams a b 0 0", "a b"),
            ("xreadgroup group streams streams noack count 1 streams a >", "a"),
            ("xgroup create a g $", "a"),
            ("ping", ""),
            ("zinter 99999999999999999999 a", ""),
            ("zinter 9 a", "a"),
            ("set", ""),
        ] {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let found: Vec<String> = keys(lookup(args[0]).unwrap(), &args)
                .into_iter()
                .map(|key| String::from_utf8_lossy(key).into_owned())
                .collect();
            assert_eq!(found.join(" "), wanted, "{line}");
        }
    }
}
