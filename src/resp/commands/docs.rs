//! `COMMAND DOCS`: what each command is for, and the shape of its arguments.
//!
//! Shapes are written in a short notation, explained in [`docs_table`](super::docs_table), and read when somebody asks.

use super::docs_table::ROWS;
use crate::kv::acl::categories;
use crate::kv::{Command, Reply};

/// An argument.
#[derive(Debug, Default, PartialEq, Eq)]
struct Argument {
    name: String,
    /// What it is, in the words of Redis.
    kind: &'static str,
    /// A word in front of it.
    token: Option<String>,
    optional: bool,
    multiple: bool,
    parts: Vec<Argument>,
}

/// Writes name and documentation of a command.
pub fn write(command: &Command, reply: &mut dyn Reply) {
    let row = ROWS.iter().find(|(name, ..)| *name == command.name);
    let (since, summary, shape) =
        row.map_or(("7.2.0", "", ""), |(_, since, summary, shape)| (*since, *summary, *shape));
    let arguments = read(shape);
    let (has_arguments, has_parts) = (!arguments.is_empty(), !command.subcommands.is_empty());
    reply.bulk(command.name.as_bytes());
    reply.map(4 + usize::from(has_arguments) + usize::from(has_parts));
    for (field, text) in [("summary", summary), ("since", since), ("group", group(command))] {
        reply.bulk(field.as_bytes());
        reply.bulk(text.as_bytes());
    }
    reply.bulk(b"arity");
    reply.integer(i64::from(command.arity));
    if has_arguments {
        reply.bulk(b"arguments");
        write_arguments(&arguments, reply);
    }
    if has_parts {
        reply.bulk(b"subcommands");
        reply.map(command.subcommands.len());
        for (name, arity) in command.subcommands {
            reply.bulk(name.as_bytes());
            reply.map(3);
            for (field, text) in [("since", since), ("group", group(command))] {
                reply.bulk(field.as_bytes());
                reply.bulk(text.as_bytes());
            }
            reply.bulk(b"arity");
            reply.integer(i64::from(*arity));
        }
    }
}

/// The group Redis has a command in: nearly always told by its categories.
fn group(command: &Command) -> &'static str {
    const GROUPS: [(&str, &str); 13] = [
        ("bitmap", "bitmap"),
        ("hyperloglog", "hyperloglog"),
        ("geo", "geo"),
        ("stream", "stream"),
        ("string", "string"),
        ("hash", "hash"),
        ("list", "list"),
        ("set", "set"),
        ("sortedset", "sorted-set"),
        ("pubsub", "pubsub"),
        ("transaction", "transactions"),
        ("scripting", "scripting"),
        ("connection", "connection"),
    ];
    let has = |category| {
        let part = command.subcommands.first().and_then(|(name, _)| name.split_once('|')).map(|(_, part)| part);
        categories::has(category, command, part)
    };
    match command.name {
        "sort" | "sort_ro" | "object" | "wait" | "waitaof" => "generic",
        "cluster" | "asking" | "readonly" | "readwrite" => "cluster",
        "command" | "dbsize" | "flushall" | "flushdb" | "swapdb" => "server",
        _ => GROUPS
            .iter()
            .find(|(category, _)| has(category))
            .map_or_else(|| if has("keyspace") { "generic" } else { "server" }, |(_, group)| group),
    }
}

fn write_arguments(arguments: &[Argument], reply: &mut dyn Reply) {
    reply.array(arguments.len());
    for argument in arguments {
        let flags: Vec<&str> = [(argument.optional, "optional"), (argument.multiple, "multiple")]
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, flag)| *flag)
            .collect();
        let (has_flags, has_parts) = (!flags.is_empty(), !argument.parts.is_empty());
        reply.map(2 + usize::from(argument.token.is_some()) + usize::from(has_flags) + usize::from(has_parts));
        reply.bulk(b"name");
        reply.bulk(argument.name.as_bytes());
        reply.bulk(b"type");
        reply.bulk(argument.kind.as_bytes());
        if let Some(token) = &argument.token {
            reply.bulk(b"token");
            reply.bulk(token.as_bytes());
        }
        if has_flags {
            reply.bulk(b"flags");
            reply.set(flags.len());
            for flag in flags {
                reply.simple(flag);
            }
        }
        if has_parts {
            reply.bulk(b"arguments");
            write_arguments(&argument.parts, reply);
        }
    }
}

/// Reads a shape.
fn read(shape: &str) -> Vec<Argument> {
    Reader { rest: shape }.sequence()
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn next_is(&mut self, text: &str) -> bool {
        let found = self.rest.strip_prefix(text);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    /// Arguments up to the end of what encloses them.
    fn sequence(&mut self) -> Vec<Argument> {
        let mut out: Vec<Argument> = Vec::new();
        // A word that belongs to what comes next.
        let mut word: Option<String> = None;
        loop {
            self.rest = self.rest.trim_start();
            let close = match self.rest.chars().next() {
                None | Some(']' | ')' | '|') => break,
                Some('[') => Some("]"),
                Some('(') => Some(")"),
                Some(_) => None,
            };
            let mut argument = if let Some(close) = close {
                self.rest = self.rest.get(1..).unwrap_or_default();
                self.group(close)
            } else {
                let end = self.rest.find([' ', ']', ')', '|']).unwrap_or(self.rest.len());
                let end = self.rest.get(..end).and_then(|text| text.find("...")).unwrap_or(end);
                let (text, rest) = self.rest.split_at(end);
                self.rest = rest;
                single(text)
            };
            argument.multiple |= self.next_is("...");
            match word.take() {
                // An option of its own stands behind a word that needs nothing.
                Some(token) if argument.optional || argument.kind == "pure-token" => {
                    out.push(pure(token));
                    hold(argument, &mut word, &mut out);
                }
                Some(token) => out.push(Argument { token: Some(token), ..argument }),
                None => hold(argument, &mut word, &mut out),
            }
        }
        out.extend(word.map(pure));
        out
    }

    /// What stands in brackets, from behind the first to behind `close`.
    fn group(&mut self, close: &str) -> Argument {
        let mut choices = vec![self.sequence()];
        while self.next_is("|") {
            choices.push(self.sequence());
        }
        self.next_is(close);
        let one = choices.len() == 1;
        let mut parts: Vec<Argument> = choices.into_iter().map(block).collect();
        let mut argument = match parts.pop() {
            Some(only) if one => only,
            last => {
                parts.extend(last);
                let name = parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join("-or-");
                Argument { name, kind: "oneof", parts, ..Argument::default() }
            }
        };
        argument.optional |= close == "]";
        argument
    }
}

/// Keeps a word for what follows; anything else is an argument by itself.
fn hold(argument: Argument, word: &mut Option<String>, out: &mut Vec<Argument>) {
    match argument.token {
        Some(token) if argument.kind == "pure-token" && !argument.optional => *word = Some(token),
        _ => out.push(argument),
    }
}

fn pure(token: String) -> Argument {
    Argument { name: token.to_ascii_lowercase(), kind: "pure-token", token: Some(token), ..Argument::default() }
}

/// One argument of several that stand together.
fn block(mut parts: Vec<Argument>) -> Argument {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            let name = parts.first().map_or_else(String::new, |part| format!("{}-block", part.name));
            Argument { name, kind: "block", parts, ..Argument::default() }
        }
    }
}

fn single(text: &str) -> Argument {
    if text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return pure(text.to_owned());
    }
    let (name, kind) = text.split_once(':').unwrap_or((text, ""));
    let kind = match kind {
        "k" => "key",
        "i" => "integer",
        "d" => "double",
        "p" => "pattern",
        "t" => "unix-time",
        _ => "string",
    };
    Argument { name: name.to_owned(), kind, ..Argument::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::commands::all;

    #[test]
    fn every_command_has_a_row_and_every_row_its_place() {
        assert!(ROWS.is_sorted_by_key(|(name, ..)| *name));
        for command in all() {
            assert!(ROWS.iter().any(|(name, ..)| *name == command.name), "{}", command.name);
        }
    }

    #[test]
    fn every_shape_is_read_to_its_end() {
        for (name, _, _, shape) in ROWS {
            let mut reader = Reader { rest: shape };
            let arguments = reader.sequence();
            assert_eq!(reader.rest, "", "{name}");
            assert_eq!(arguments.is_empty(), shape.is_empty(), "{name}");
        }
    }

    #[test]
    fn words_belong_to_what_follows() {
        let set = read("key:k value [NX|XX] [GET] [EX seconds:i|KEEPTTL] (a b)...");
        let shown: Vec<(&str, &str, bool)> =
            set.iter().map(|one| (one.name.as_str(), one.kind, one.optional)).collect();
        assert_eq!(
            shown,
            [
                ("key", "key", false),
                ("value", "string", false),
                ("nx-or-xx", "oneof", true),
                ("get", "pure-token", true),
                ("seconds-or-keepttl", "oneof", true),
                ("a-block", "block", false),
            ]
        );
        assert_eq!(set[4].parts[0].token.as_deref(), Some("EX"));
        assert!(set[5].multiple && set[5].parts.len() == 2);
        let limit = read("[LIMIT (offset:i count:i)] [COUNT count:i [ANY]]");
        assert_eq!((limit[0].token.as_deref(), limit[0].kind), (Some("LIMIT"), "block"));
        assert_eq!((limit[1].kind, limit[1].parts[1].kind, limit[1].parts[1].optional), ("block", "pure-token", true));
    }
}
