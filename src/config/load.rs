//! From file, environment and flags to the tree.
//!
//! Every value that somebody set becomes a [`Leaf`] and is checked alone, by reading its section with nothing else in
//! it. So each bad value is told with its own place, all of them at once, and what is left builds the tree.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::PREFIX;
use super::file::ConfigFile;
use super::problem::{Problem, Problems, nearest};
use super::source::{Origin, Origins, Source, position};
use super::tree::{Config, Kind, SECTIONS, Section, Shape, kind};
use super::{Environment, check};

/// Longest value shown in a message or a table, in characters.
const SHOWN: usize = 80;

/// Deepest table in the file that is a setting.
const DEEPEST: usize = 8;

/// What the tree is filled from, the strongest last.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'i> {
    /// The file, if there is one.
    pub file: Option<&'i ConfigFile>,
    /// The environment.
    pub environment: &'i Environment,
    /// Flags that are settings: the flag, the key, the text.
    pub flags: &'i [(&'static str, &'static str, String)],
}

/// The tree, filled.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Where each one that is no default came from.
    pub origins: Origins,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
}

/// Fills the tree from `inputs` and checks it as a whole.
///
/// # Errors
/// [`Problems`]: everything that is wrong.
pub fn load(inputs: Inputs<'_>) -> Result<Loaded, Problems> {
    let mut loader = Loader { file: inputs.file, leaves: BTreeMap::new(), problems: Vec::new() };
    if let Some(file) = inputs.file {
        loader.take_file(file);
    }
    for (name, text) in &inputs.environment.settings {
        let rest = name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_lowercase();
        loader.take_text(
            Source::Environment(name.clone()),
            &rest.split("__").map(str::to_owned).collect::<Vec<_>>(),
            text,
        );
    }
    for (flag, key, text) in inputs.flags {
        loader.take_text(Source::Flag(flag), &key.split('.').map(str::to_owned).collect::<Vec<_>>(), text);
    }
    let (config, origins) = loader.finish()?;
    let warnings = inputs.environment.strange.iter().filter_map(|name| stranger(name)).collect();
    let problems = check::check(&config, &origins);
    if problems.is_empty() { Ok(Loaded { config, origins, warnings }) } else { Err(Problems(problems)) }
}

/// A value that somebody set.
struct Leaf<'i> {
    value: Spanned<DeValue<'i>>,
    origin: Origin,
}

struct Loader<'i> {
    file: Option<&'i ConfigFile>,
    leaves: BTreeMap<Vec<String>, Leaf<'i>>,
    problems: Vec<Problem>,
}

impl<'i> Loader<'i> {
    fn take_file(&mut self, file: &'i ConfigFile) {
        let table = match DeTable::parse(&file.text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let source = self.at(error.span().unwrap_or_default());
                self.problems.push(Problem { source, what: one_line(error.message()), instead: None });
                return;
            }
        };
        for (name, value) in table {
            let key = name.get_ref().to_string();
            let Some(section) = SECTIONS.iter().find(|section| section.name == key) else {
                let source = self.at(name.span());
                self.unknown(source, &key, "section", SECTIONS.iter().map(|section| section.name));
                continue;
            };
            self.take_table(section.shape, &mut vec![key], value);
        }
    }

    fn take_table(&mut self, shape: Shape, path: &mut Vec<String>, value: Spanned<DeValue<'i>>) {
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            let key = path.join(".");
            let instead = format!("write a table: [{key}], and its settings below");
            let what = format!("{key} is a table, not a value");
            self.problems.push(Problem { source: self.at(span), what, instead: Some(instead) });
            return;
        };
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            match shape.fields.iter().find(|field| field.name == name.get_ref()).map(kind) {
                None => {
                    let source = self.at(name.span());
                    self.unknown(source, &path.join("."), "setting", shape.fields.iter().map(|field| field.name));
                }
                Some(Kind::Table(inner)) if path.len() < DEEPEST => self.take_table(inner, path, value),
                Some(_) => {
                    let written = self.file.and_then(|file| file.text.get(value.span())).unwrap_or_default();
                    let origin = Origin { source: self.at(name.span()), written: one_line(written) };
                    self.take_leaf(path, value, origin);
                }
            }
            path.pop();
        }
    }

    /// A value as text, from the environment or a flag.
    fn take_text(&mut self, source: Source, path: &[String], text: &'i str) {
        let key = path.join(".");
        let section = path.first().and_then(|name| SECTIONS.iter().find(|section| section.name == *name));
        let Some(section) = section else {
            self.unknown(source, &key, "setting", SECTIONS.iter().map(|section| section.name));
            return;
        };
        let mut shape = section.shape;
        for (depth, name) in path.iter().enumerate().skip(1) {
            match shape.fields.iter().find(|field| field.name == *name).map(kind) {
                Some(Kind::Table(inner)) if depth + 1 < path.len() => shape = inner,
                Some(Kind::Value | Kind::List(_)) if depth + 1 == path.len() => {}
                _ => {
                    self.unknown(source, &key, "setting", shape.fields.iter().map(|field| field.name));
                    return;
                }
            }
        }
        let origin = Origin { source, written: one_line(text) };
        match from_text(default_of(*section, path).as_ref(), text) {
            Ok(value) => self.take_leaf(path, value, origin),
            Err(what) => self.bad_value(*section, path, &origin, origin.source.clone(), &what),
        }
    }

    fn take_leaf(&mut self, path: &[String], value: Spanned<DeValue<'i>>, origin: Origin) {
        let Some(section) = path.first().and_then(|name| SECTIONS.iter().find(|section| section.name == *name)) else {
            return;
        };
        let mut alone = DeTable::new();
        insert(&mut alone, path.get(1..).unwrap_or_default(), value.clone());
        if let Err(error) = (section.check)(alone) {
            let source = match (&origin.source, error.span()) {
                (Source::File { .. }, Some(span)) => self.at(span),
                (Source::File { .. }, None) => self.at(value.span()),
                (other, _) => other.clone(),
            };
            self.bad_value(*section, path, &origin, source, error.message());
        } else {
            self.leaves.insert(path.to_vec(), Leaf { value, origin });
        }
    }

    fn bad_value(&mut self, section: Section, path: &[String], origin: &Origin, source: Source, what: &str) {
        let key = path.join(".");
        let name = path.last().map_or("", String::as_str);
        let instead = default_of(section, path)
            .filter(|default| !matches!(default, toml::Value::Table(_) | toml::Value::Array(_)))
            .map(|default| match &origin.source {
                Source::File { .. } => format!("the default is `{name} = {default}`"),
                _ => format!("the default is {default}"),
            });
        let what = format!("{key} = {}: {}", origin.written, one_line(what));
        self.problems.push(Problem { source, what, instead });
    }

    fn unknown<'k>(&mut self, source: Source, key: &str, what: &str, known: impl Iterator<Item = &'k str> + Clone) {
        let (before, name) = key.rsplit_once('.').map_or(("", key), |(before, name)| (before, name));
        let dot = if before.is_empty() { "" } else { "." };
        let instead = match nearest(name, known.clone()) {
            Some(meant) => format!("did you mean {before}{dot}{meant}?"),
            None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
        };
        self.problems.push(Problem { source, what: format!("unknown {what} {key}"), instead: Some(instead) });
    }

    fn at(&self, span: Range<usize>) -> Source {
        self.file.map_or(Source::Default, |file| {
            let (line, column) = position(&file.text, span.start);
            Source::File { path: file.path.clone(), line, column }
        })
    }

    fn finish(mut self) -> Result<(Config, Origins), Problems> {
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        let mut origins = Origins::default();
        let mut tables: BTreeMap<String, DeTable<'i>> = BTreeMap::new();
        for (path, leaf) in std::mem::take(&mut self.leaves) {
            origins.0.insert(path.join("."), leaf.origin);
            if let Some((section, rest)) = path.split_first() {
                insert(tables.entry(section.clone()).or_default(), rest, leaf.value);
            }
        }
        let config = Config::build(|name| tables.remove(name).unwrap_or_default());
        config.map(|config| (config, origins)).map_err(|error| {
            let what = one_line(error.message());
            Problem { source: self.at(error.span().unwrap_or_default()), what, instead: None }.into()
        })
    }
}

/// Puts `value` at `path`, making the tables on the way.
fn insert<'i>(table: &mut DeTable<'i>, path: &[String], value: Spanned<DeValue<'i>>) {
    let Some((name, rest)) = path.split_first() else { return };
    let key = Spanned::new(value.span(), Cow::Owned(name.clone()));
    if rest.is_empty() {
        table.insert(key, value);
        return;
    }
    let span = value.span();
    let inner = table.entry(key).or_insert_with(|| Spanned::new(span, DeValue::Table(DeTable::new())));
    if let DeValue::Table(inner) = inner.get_mut() {
        insert(inner, rest, value);
    }
}

/// A text as a value of the same kind as `default`: a text stays one, a list may leave out brackets and quotes.
fn from_text<'i>(default: Option<&toml::Value>, text: &'i str) -> Result<Spanned<DeValue<'i>>, String> {
    let plain = |text: &'i str| Spanned::new(0..text.len(), DeValue::String(Cow::Borrowed(text)));
    match default {
        None | Some(toml::Value::String(_)) => Ok(plain(text)),
        Some(toml::Value::Array(_)) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(plain).collect();
            Ok(Spanned::new(0..text.len(), DeValue::Array(items)))
        }
        Some(other) => {
            DeValue::parse(text).map_err(|_not_toml| format!("invalid value, expected {}", other.type_str()))
        }
    }
}

fn default_of(section: Section, path: &[String]) -> Option<toml::Value> {
    let defaults = toml::Value::Table((section.defaults)().ok()?);
    path.iter().skip(1).try_fold(defaults, |value, name| value.get(name).cloned())
}

/// A warning about a variable that looks like a setting; none when it resembles nothing.
fn stranger(name: &str) -> Option<Problem> {
    let rest = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let key = SECTIONS.iter().find_map(|section| {
        let field = rest.strip_prefix(section.name)?.strip_prefix('_')?;
        let meant = nearest(field, section.shape.fields.iter().map(|field| field.name))?;
        Some(format!("{PREFIX}{}__{}", section.name, meant).to_ascii_uppercase())
    })?;
    let what = String::from("has no effect: section and setting are parted by two underscores");
    let instead = Some(format!("did you mean {key}?"));
    Some(Problem { source: Source::Environment(name.to_owned()), what, instead })
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SHOWN { line } else { line.chars().take(SHOWN).chain(['…']).collect() }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
