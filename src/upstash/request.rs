//! From a request to the commands in it.

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::{COMMANDS_MAX, Refused};

/// A command: its name and arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Command(pub Vec<Vec<u8>>);

/// Most arguments of a command.
const ARGUMENTS_MAX: usize = 1 << 20;

/// An argument: a string, or a number or truth value as JSON writes it, so that `["SET", "n", 1]` works.
struct Argument(Vec<u8>);

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Argument;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, a number or a truth value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Argument, E> {
                Ok(Argument(text.as_bytes().to_vec()))
            }

            fn visit_string<E>(self, text: String) -> Result<Argument, E> {
                Ok(Argument(text.into_bytes()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Argument, E> {
                Ok(Argument(value.to_string().into_bytes()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Argument, E> {
                Ok(Argument(value.to_string().into_bytes()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Argument, E> {
                Ok(Argument(crate::kv::number::double(value).as_bytes().to_vec()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Argument, E> {
                Ok(Argument(value.to_string().into_bytes()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Command;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a command as an array, such as [\"SET\", \"key\", \"value\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Command, A::Error> {
                let mut arguments = Vec::new();
                while let Some(Argument(argument)) = items.next_element()? {
                    if arguments.len() == ARGUMENTS_MAX {
                        return Err(serde::de::Error::custom("too many arguments"));
                    }
                    arguments.push(argument);
                }
                if arguments.is_empty() {
                    return Err(serde::de::Error::custom("empty command"));
                }
                Ok(Command(arguments))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// The command in `body`, a JSON array.
pub(super) fn command(body: &[u8]) -> Result<Command, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::bad(format!("ERR failed to parse command: {error}")))
}

/// The commands in `body`, a JSON array of arrays.
pub(super) fn commands(body: &[u8]) -> Result<Vec<Command>, Refused> {
    let commands: Vec<Command> = serde_json::from_slice(body)
        .map_err(|error| Refused::bad(format!("ERR failed to parse pipeline request: {error}")))?;
    match commands.len() {
        0 => Err(Refused::bad("ERR empty pipeline request")),
        1..=COMMANDS_MAX => Ok(commands),
        _ => Err(Refused::bad(format!("ERR more than {COMMANDS_MAX} commands in one request"))),
    }
}

/// The command that `path` (as sent, below `/redis/`) spells: `set/key` with the body as value, and the query's names
/// and values behind it (`?EX=100`).
pub(super) fn from_path(path: &str, query: &str, body: &[u8]) -> Result<Command, Refused> {
    let mut arguments: Vec<Vec<u8>> = path.split('/').map(|part| percent_decode_str(part).collect()).collect();
    if !body.is_empty() {
        arguments.push(body.to_vec());
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name == "_token" {
            return Err(Refused::bad("ERR a token does not belong into an address: send it as a header"));
        }
        arguments.extend([name, value].into_iter().filter(|part| !part.is_empty()).map(decoded));
    }
    Ok(Command(arguments))
}

/// A part of a query: `+` is a space.
fn decoded(part: &str) -> Vec<u8> {
    percent_decode_str(&part.replace('+', " ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<String> {
        command.0.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    #[test]
    fn scalars_are_arguments_and_nothing_else_is() {
        assert_eq!(
            words(&command(br#"["set","a",1,-2,1.5,true,1e20]"#).unwrap()),
            ["set", "a", "1", "-2", "1.5", "true", "1e+20"]
        );
        for bad in ["", "[]", "{}", "1", "[[\"get\"]]", "[\"get\",null]", "[\"get\",{}]", "[\"get\"", "[\"get\"] x"] {
            assert!(command(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["[]", "[[]]", "[\"get\"]", "[[\"get\",[]]]"] {
            assert!(commands(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_spells_a_command() {
        let spelled = |path, query, body: &str| words(&from_path(path, query, body.as_bytes()).unwrap());
        assert_eq!(spelled("set/a%2Fb/c", "EX=100&nx", ""), ["set", "a/b", "c", "EX", "100", "nx"]);
        assert_eq!(spelled("set/k", "EX=1", "the body"), ["set", "k", "the body", "EX", "1"]);
        assert!(from_path("get/a", "_token=x", b"").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(body: Vec<u8>, path in "\\PC*", query in "\\PC*") {
            let _ = (command(&body), commands(&body), from_path(&path, &query, &body));
        }
    }
}
