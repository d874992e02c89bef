//! An event, read from any of the shapes SDKs give it (develop.sentry.dev, "Event payloads").
//!
//! Lists may be written as lists or as `{"values": […]}`, tags as a map or as pairs, times as numbers or as RFC 3339, ids
//! with hyphens or without. What is missing or of a strange type is left out: a capture is never lost over a detail.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use serde_json::{Map, Value};

use super::shape::{cut_text, values};
use crate::base::{Id128, Timestamp};

/// Most bytes of a tag's name and of its value.
const TAG_NAME_MAX: usize = 32;
const TAG_VALUE_MAX: usize = 200;

/// Most bytes of a title or culprit.
const TITLE_MAX: usize = 250;

/// The level of events, by severity.
const LEVELS: [&str; 5] = ["fatal", "error", "warning", "info", "debug"];

/// What grouping and the lists need of an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: Option<Id128>,
    /// When it happened, as the SDK says.
    pub at: Option<Timestamp>,
    /// `fatal`, `error`, `warning`, `info` or `debug`.
    pub level: String,
    /// The language or runtime.
    pub platform: String,
    /// The logger.
    pub logger: String,
    /// The transaction or route.
    pub transaction: String,
    /// The release.
    pub release: String,
    /// The environment.
    pub environment: String,
    /// The message with its parameters still named, if it has any.
    pub template: String,
    /// The message as text.
    pub message: String,
    /// The exceptions, outermost last.
    pub exceptions: Vec<Exception>,
    /// Fingerprint the app chose.
    pub fingerprint: Vec<String>,
    /// Tags, the first of each name.
    pub tags: Vec<(String, String)>,
    /// What tells this user from others.
    pub user: Option<String>,
}

/// One exception of a chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exception {
    /// Its type.
    pub kind: String,
    /// Its text.
    pub value: String,
    /// Whether the SDK made the type up.
    pub synthetic: bool,
    /// Whether it only holds others (`ExceptionGroup`, `AggregateError`).
    pub group: bool,
    /// Its frames, innermost last.
    pub frames: Vec<Frame>,
}

/// One frame of a stack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Module.
    pub module: String,
    /// File.
    pub file: String,
    /// Function.
    pub function: String,
    /// The line of source.
    pub context: String,
    /// Whether it is the app's own code.
    pub in_app: bool,
    /// Whether the names come from a source map.
    pub mapped: bool,
}

impl Event {
    /// Reads `fields`.
    pub fn read(fields: &Map<String, Value>) -> Self {
        let text = |name| string(fields.get(name));
        let (template, message) = message(fields);
        let level = text("level");
        Self {
            id: fields.get("event_id").and_then(Value::as_str).and_then(id),
            at: fields.get("timestamp").and_then(time),
            level: if LEVELS.contains(&level.as_str()) { level } else { String::from("error") },
            platform: text("platform"),
            logger: text("logger"),
            transaction: text("transaction"),
            release: text("release"),
            environment: text("environment"),
            template,
            message,
            exceptions: fields.get("exception").map(exceptions).unwrap_or_default(),
            fingerprint: fields
                .get("fingerprint")
                .and_then(Value::as_array)
                .map(|parts| parts.iter().map(|part| string(Some(part))).collect())
                .unwrap_or_default(),
            tags: fields.get("tags").map(tags).unwrap_or_default(),
            user: fields.get("user").and_then(user),
        }
    }

    /// The exception an issue is named after: the outermost that is not a mere group.
    pub fn main_exception(&self) -> Option<&Exception> {
        self.exceptions.iter().rev().find(|exception| !exception.group).or(self.exceptions.last())
    }

    /// The line an issue is shown by.
    pub fn title(&self) -> String {
        let mut title = match self.main_exception() {
            Some(exception) => match (exception.kind.as_str(), first_line(&exception.value)) {
                ("", "") => String::from("unknown error"),
                ("", value) => value.to_owned(),
                (kind, "") => kind.to_owned(),
                (kind, value) => format!("{kind}: {value}"),
            },
            None => match first_line(&self.message) {
                "" => String::from("(no message)"),
                message => message.to_owned(),
            },
        };
        cut_text(&mut title, TITLE_MAX);
        title
    }

    /// Where it happened: the innermost frame of the app's own code, else the transaction.
    pub fn culprit(&self) -> String {
        let frames = self.main_exception().map_or(&[][..], |exception| &exception.frames);
        let frame = frames.iter().rev().find(|frame| frame.in_app).or(frames.last());
        let mut culprit = match frame {
            Some(frame) => {
                let place = if frame.module.is_empty() { &frame.file } else { &frame.module };
                match (place.as_str(), frame.function.as_str()) {
                    ("", function) => function.to_owned(),
                    (place, "") => place.to_owned(),
                    (place, function) => format!("{place} in {function}"),
                }
            }
            None => self.transaction.clone(),
        };
        cut_text(&mut culprit, TITLE_MAX);
        culprit
    }
}

/// An event id, with hyphens or without, in either case.
pub fn id(text: &str) -> Option<Id128> {
    let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).take(33).collect();
    digits.parse().ok()
}

pub(super) fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => {
            let seconds = number.as_f64().filter(|seconds| (0.0..4e9).contains(seconds))?;
            Some(Timestamp((seconds * 1000.0) as u64))
        }
        Value::String(text) => {
            let moment: Option<jiff::Timestamp> = text.parse().ok();
            // Old SDKs leave the zone out and mean UTC.
            let moment = moment.or_else(|| format!("{text}Z").parse().ok())?;
            u64::try_from(moment.as_millisecond()).ok().map(Timestamp)
        }
        _ => None,
    }
}

/// The message: template (empty when there are no parameters) and text.
fn message(fields: &Map<String, Value>) -> (String, String) {
    let entry = fields.get("logentry").or_else(|| fields.get("message")).filter(|entry| !entry.is_null());
    match entry {
        Some(Value::Object(entry)) => {
            let (raw, formatted) = (string(entry.get("message")), string(entry.get("formatted")));
            let has_params = match entry.get("params") {
                Some(Value::Array(params)) => !params.is_empty(),
                Some(Value::Object(params)) => !params.is_empty(),
                _ => !formatted.is_empty() && formatted != raw,
            };
            let text = if formatted.is_empty() { raw.clone() } else { formatted };
            (if has_params { raw } else { String::new() }, text)
        }
        other => (String::new(), string(other)),
    }
}

fn exceptions(list: &Value) -> Vec<Exception> {
    let entries = match values(list) {
        // A single exception without a list, as old SDKs wrote it.
        [] if list.get("type").is_some() || list.get("value").is_some() => std::slice::from_ref(list),
        entries => entries,
    };
    entries.iter().filter(|entry| entry.is_object()).map(exception).collect()
}

fn exception(entry: &Value) -> Exception {
    let mechanism = entry.get("mechanism");
    let told = |name| mechanism.and_then(|mechanism| mechanism.get(name)).and_then(Value::as_bool).unwrap_or(false);
    let frames = entry.get("stacktrace").and_then(|stack| stack.get("frames")).and_then(Value::as_array);
    Exception {
        kind: string(entry.get("type")),
        value: string(entry.get("value")),
        synthetic: told("synthetic"),
        group: told("is_exception_group"),
        frames: frames.map(|frames| frames.iter().map(frame).collect()).unwrap_or_default(),
    }
}

fn frame(entry: &Value) -> Frame {
    let text = |name| string(entry.get(name));
    let file = text("filename");
    Frame {
        module: text("module"),
        file: if file.is_empty() { text("abs_path") } else { file },
        function: text("function"),
        context: text("context_line"),
        in_app: entry.get("in_app").and_then(Value::as_bool).unwrap_or(false),
        mapped: entry.get("data").and_then(|data| data.get("sourcemap")).is_some(),
    }
}

fn tags(list: &Value) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut add = |name: String, value: &Value| {
        let mut tag = (name, string(Some(value)));
        cut_text(&mut tag.0, TAG_NAME_MAX);
        cut_text(&mut tag.1, TAG_VALUE_MAX);
        if !tag.0.is_empty() && !tag.1.is_empty() && out.iter().all(|(name, _)| *name != tag.0) {
            out.push(tag);
        }
    };
    match list {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| add(name.clone(), value)),
        Value::Array(pairs) => {
            for pair in pairs {
                if let Some([name, value]) = pair.as_array().map(Vec::as_slice) {
                    add(string(Some(name)), value);
                } else if let (Some(name), Some(value)) = (pair.get("key"), pair.get("value")) {
                    add(string(Some(name)), value);
                }
            }
        }
        _ => {}
    }
    out
}

/// The first of id, name, e-mail and address that is there.
fn user(user: &Value) -> Option<String> {
    ["id", "username", "email", "ip_address"].iter().find_map(|name| {
        let value = string(user.get(*name));
        (!value.is_empty()).then(|| format!("{name}:{value}"))
    })
}

/// `value` as text: numbers and booleans too, everything else as nothing.
pub(super) fn string(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
        _ => String::new(),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Event {
        Event::read(value.as_object().unwrap())
    }

    #[test]
    fn the_shapes_of_different_sdks_read_the_same() {
        let python = json!({
            "event_id": "0123456789abcdef0123456789abcdef", "timestamp": "2026-11-20T12:00:00.500000Z",
            "exception": {"values": [{"type": "ValueError", "value": "bad"}]}, "tags": [["a", "1"], ["b", "x"]],
        });
        let rust = json!({
            "event_id": "01234567-89AB-CDEF-0123-456789ABCDEF", "timestamp": 1_795_176_000.5,
            "exception": [{"type": "ValueError", "value": "bad"}], "tags": {"a": 1, "b": "x"},
        });
        assert_eq!(read(&python), read(&rust));
        assert_eq!(read(&rust).at, Some(Timestamp(1_795_176_000_500)));
        assert_eq!(read(&rust).title(), "ValueError: bad");
        assert_eq!(time(&json!("2026-11-20T12:00:00")), Some(Timestamp(1_795_176_000_000)));
    }

    #[test]
    fn messages_come_in_four_shapes() {
        let shapes = [
            json!({"message": "user 7 left"}),
            json!({"message": {"formatted": "user 7 left", "message": "user %s left", "params": [7]}}),
            json!({"logentry": {"formatted": "user 7 left", "message": "user %s left", "params": ["7"]}}),
            json!({"logentry": {"message": "user 7 left"}}),
        ];
        let read = shapes.each_ref().map(read);
        assert!(read.iter().all(|event| event.message == "user 7 left"), "{read:?}");
        assert_eq!(read.each_ref().map(|event| event.template.as_str()), ["", "user %s left", "user %s left", ""]);
    }

    #[test]
    fn the_culprit_is_the_innermost_frame_of_the_apps_own_code() {
        let event = read(&json!({"exception": [{"type": "E", "stacktrace": {"frames": [
            {"module": "app.views", "function": "index", "in_app": true},
            {"module": "lib", "function": "call", "in_app": false},
        ]}}]}));
        assert_eq!(event.culprit(), "app.views in index");
    }

    /// JSON with the names events have, in any shape.
    pub(in crate::issues) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let names = "exception|values|type|value|stacktrace|frames|tags|message|logentry|params|user|id|timestamp";
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(names, inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_object_is_an_event(value in any_json()) {
            if let Value::Object(fields) = value {
                let event = Event::read(&fields);
                prop_assert!(!event.title().is_empty());
                prop_assert!(event.culprit().len() <= TITLE_MAX);
            }
        }
    }
}
