//! Rules as text: applied one by one, and written back.

use super::{Acl, CommandRule, EVERY_DATABASE, KeyPattern, Which, categories, is_container};
use crate::base::ids;
use crate::crypto::mac;
use crate::kv::commands::lookup;
use crate::kv::config::DATABASES;

/// Most rules of a kind a user has.
pub const RULES_MAX: usize = 256;

/// Why a rule is none, in the words of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It is not understood.
    #[error("Syntax error")]
    Syntax,
    /// It names nothing that exists.
    #[error("Unknown command or category name in ACL")]
    Unknown,
    /// A hash is none.
    #[error("The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters")]
    Hash,
    /// A password to remove is not there.
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    /// It would have no effect.
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
    )]
    BehindAllKeys,
    /// It would have no effect.
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    BehindAllChannels,
    /// There are [`RULES_MAX`] already.
    #[error("A user has at most 256 rules of a kind")]
    TooMany,
    /// Redis has them, this does not.
    #[error("Selectors are not supported")]
    Selector,
}

impl Acl {
    /// Applies one rule.
    ///
    /// # Errors
    /// [`RuleError`]; the user is as before.
    pub fn apply(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        match rule {
            _ if word(rule, "on") => self.on = true,
            _ if word(rule, "off") => self.on = false,
            _ if word(rule, "nopass") => {
                self.no_password = true;
                self.passwords.clear();
            }
            _ if word(rule, "resetpass") => {
                self.no_password = false;
                self.passwords.clear();
            }
            _ if word(rule, "allkeys") || rule == b"~*" => {
                self.keys = vec![KeyPattern { read: true, write: true, pattern: b"*".to_vec() }];
            }
            _ if word(rule, "resetkeys") => self.keys.clear(),
            _ if word(rule, "allchannels") || rule == b"&*" => self.channels = vec![b"*".to_vec()],
            _ if word(rule, "resetchannels") => self.channels.clear(),
            _ if word(rule, "allcommands") => self.command_rule(true, b"@all")?,
            _ if word(rule, "nocommands") => self.command_rule(false, b"@all")?,
            _ if word(rule, "alldbs") => self.databases = EVERY_DATABASE,
            _ if word(rule, "sanitize-payload") || word(rule, "clearselectors") => {}
            _ if word(rule, "reset") => *self = Self::new(&self.name),
            [b'>', password @ ..] => self.add_password(ids::hex(&mac::sha256(password)))?,
            [b'#', hash @ ..] => self.add_password(hash_text(hash)?)?,
            [b'<', password @ ..] => self.remove_password(&ids::hex(&mac::sha256(password)))?,
            [b'!', hash @ ..] => self.remove_password(&hash_text(hash)?)?,
            [b'~', pattern @ ..] => self.add_keys(true, true, pattern)?,
            [b'%', rest @ ..] => {
                let split = rest.iter().position(|byte| *byte == b'~').ok_or(RuleError::Syntax)?;
                let (access, pattern) =
                    (rest.get(..split).unwrap_or_default(), rest.get(split + 1..).unwrap_or_default());
                let has = |letter: u8| access.iter().any(|byte| byte.eq_ignore_ascii_case(&letter));
                if access.is_empty() || access.iter().any(|byte| !b"rRwW".contains(byte)) {
                    return Err(RuleError::Syntax);
                }
                self.add_keys(has(b'r'), has(b'w'), pattern)?;
            }
            [b'&', pattern @ ..] => self.add_channels(pattern)?,
            [b'+', name @ ..] => self.command_rule(true, name)?,
            [b'-', name @ ..] => self.command_rule(false, name)?,
            [b'(', ..] => return Err(RuleError::Selector),
            _ => self.databases = databases(rule).ok_or(RuleError::Syntax)?,
        }
        Ok(())
    }

    fn add_password(&mut self, hash: String) -> Result<(), RuleError> {
        self.no_password = false;
        if !self.passwords.contains(&hash) {
            push(&mut self.passwords, hash)?;
        }
        Ok(())
    }

    fn remove_password(&mut self, hash: &str) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == hash).ok_or(RuleError::NoSuchPassword)?;
        self.passwords.remove(at);
        Ok(())
    }

    fn add_keys(&mut self, read: bool, write: bool, pattern: &[u8]) -> Result<(), RuleError> {
        if self.keys.iter().any(|known| known.pattern == b"*" && known.read && known.write) {
            return Err(RuleError::BehindAllKeys);
        }
        if has_space(pattern) {
            return Err(RuleError::Syntax);
        }
        if let Some(known) = self.keys.iter_mut().find(|known| known.pattern == pattern) {
            known.read |= read;
            known.write |= write;
            return Ok(());
        }
        push(&mut self.keys, KeyPattern { read, write, pattern: pattern.to_vec() })
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.channels.iter().any(|known| known == b"*") {
            return Err(RuleError::BehindAllChannels);
        }
        if has_space(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            push(&mut self.channels, pattern.to_vec())?;
        }
        Ok(())
    }

    fn command_rule(&mut self, allows: bool, name: &[u8]) -> Result<(), RuleError> {
        let name = std::str::from_utf8(name).map_err(|_no_text| RuleError::Unknown)?.to_ascii_lowercase();
        let which = match name.strip_prefix('@') {
            Some("all") => {
                self.commands.clear();
                Which::All
            }
            Some(category) => Which::Category(categories::find(category).ok_or(RuleError::Unknown)?),
            None => {
                let (command, part) =
                    name.split_once('|').map_or((name.as_str(), None), |(name, part)| (name, Some(part)));
                let command = lookup(command.as_bytes()).ok_or(RuleError::Unknown)?;
                let parts = command.subcommands;
                let named = |part: &str| {
                    parts.iter().any(|(known, _)| known.split_once('|').is_some_and(|(_, known)| known == part))
                };
                match part {
                    None => Which::Command(command.name),
                    Some(part) if named(part) || parts.is_empty() && is_container(command.name) && is_part(part) => {
                        Which::Subcommand(command.name, part.to_owned())
                    }
                    Some(_) => return Err(RuleError::Unknown),
                }
            }
        };
        // What was said of the same before no longer counts; of a whole command, neither what was said of its parts.
        self.commands.retain(|known| match (&known.which, &which) {
            (known, new) if known == new => false,
            (Which::Subcommand(of, _), Which::Command(name)) => of != name,
            _ => true,
        });
        push(&mut self.commands, CommandRule { allows, which })
    }

    /// The rules that make this user, in the order in which `ACL LIST` shows them. With the hashes of the passwords.
    pub fn rules(&self) -> String {
        let mut parts = vec![String::from(if self.on { "on" } else { "off" })];
        if self.no_password {
            parts.push(String::from("nopass"));
        }
        parts.extend(self.passwords.iter().map(|hash| format!("#{hash}")));
        parts.push(String::from("sanitize-payload"));
        parts.extend(self.keys_text());
        if self.channels.iter().any(|channel| channel == b"*") {
            parts.push(String::from("&*"));
        } else {
            parts.push(String::from("resetchannels"));
            parts.extend(self.channels_text());
        }
        if self.databases != EVERY_DATABASE {
            parts.push(self.databases_text());
        }
        parts.push(self.commands_text());
        parts.join(" ")
    }

    /// The patterns of keys, each as a rule. Bytes that are no text are replaced.
    pub fn keys_text(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(|keys| {
            let access = match (keys.read, keys.write) {
                (true, true) => "~",
                (true, false) => "%R~",
                _ => "%W~",
            };
            format!("{access}{}", String::from_utf8_lossy(&keys.pattern))
        })
    }

    /// The patterns of channels, each as a rule.
    pub fn channels_text(&self) -> impl Iterator<Item = String> {
        self.channels.iter().map(|channel| format!("&{}", String::from_utf8_lossy(channel)))
    }

    /// The databases, as a rule; empty when it is all of them.
    pub fn databases_text(&self) -> String {
        if self.databases == EVERY_DATABASE {
            return String::new();
        }
        let numbers: Vec<String> =
            (0..DATABASES).filter(|database| self.may_use(*database)).map(|database| database.to_string()).collect();
        format!("db={}", numbers.join(","))
    }

    /// The rules about commands.
    pub fn commands_text(&self) -> String {
        let text = |rule: &CommandRule| {
            let sign = if rule.allows { '+' } else { '-' };
            match &rule.which {
                Which::All => format!("{sign}@all"),
                Which::Category(name) => format!("{sign}@{name}"),
                Which::Command(name) => format!("{sign}{name}"),
                Which::Subcommand(name, part) => format!("{sign}{name}|{part}"),
            }
        };
        let rules: Vec<String> = self.commands.iter().map(text).collect();
        match self.commands.first().map(|rule| &rule.which) {
            Some(Which::All) => rules.join(" "),
            _ => ["-@all"].into_iter().map(str::to_owned).chain(rules).collect::<Vec<_>>().join(" "),
        }
    }
}

fn word(rule: &[u8], name: &str) -> bool {
    rule.eq_ignore_ascii_case(name.as_bytes())
}

fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), RuleError> {
    if list.len() >= RULES_MAX {
        return Err(RuleError::TooMany);
    }
    list.push(item);
    Ok(())
}

fn hash_text(hash: &[u8]) -> Result<String, RuleError> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    if hash.len() != 64 || !hash.iter().all(is_digit) {
        return Err(RuleError::Hash);
    }
    Ok(String::from_utf8_lossy(hash).into_owned())
}

fn is_part(part: &str) -> bool {
    !part.is_empty() && part.len() <= 64 && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn has_space(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0)
}

/// `db=0,3`.
fn databases(rule: &[u8]) -> Option<u16> {
    let numbers = std::str::from_utf8(rule).ok()?.strip_prefix("db=")?;
    let mut out = 0;
    for number in numbers.split(',') {
        let number: u8 = number.parse().ok()?;
        out |= 1_u16.checked_shl(u32::from(number)).filter(|_| number < DATABASES)?;
    }
    Some(out)
}
