//! One event in full, in an order and with names that people can read.
//!
//! Whatever an SDK left out is empty here. Every text comes from anyone: whoever shows it escapes it for the place where
//! it stands. The whole is at most as large as the event ([`shape::EVENT_MAX`](super::shape::EVENT_MAX)).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::{Event, string as text, time};
use super::shape::values;

/// Names and values.
pub type Fields = Vec<(String, String)>;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// The issue it belongs to.
    pub issue: u64,
    /// Its number among the events of the issue, from 1 on.
    pub number: u64,
    /// The number of the next older event that is kept.
    pub older: Option<u64>,
    /// The number of the next newer event that is kept.
    pub newer: Option<u64>,
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// When it arrived, RFC 3339.
    pub received: String,
    /// When it happened, as the SDK says, RFC 3339; empty if it does not say.
    pub at: String,
    /// `Type: value` or the message.
    pub title: String,
    /// Where it happened.
    pub culprit: String,
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
    /// The machine.
    pub server_name: String,
    /// Name and version of the SDK.
    pub sdk: String,
    /// The message, if the event has one.
    pub message: String,
    /// The chain of exceptions, outermost (raised last) first.
    pub exceptions: Vec<ExceptionView>,
    /// Stacks of threads, where the event has them.
    pub threads: Vec<ThreadView>,
    /// What happened before, oldest first.
    pub breadcrumbs: Vec<Breadcrumb>,
    /// The request that was being answered.
    pub request: Option<RequestView>,
    /// What is known of the user.
    pub user: Fields,
    /// Tags.
    pub tags: Fields,
    /// Contexts (`runtime`, `os`, `trace` …) with their fields.
    pub contexts: Vec<(String, Fields)>,
    /// What the app added.
    pub extra: Fields,
    /// Modules with their versions.
    pub modules: Fields,
}

/// One exception of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionView {
    /// Its type.
    pub kind: String,
    /// Its text.
    pub value: String,
    /// The module of its type.
    pub module: String,
    /// What caught it (`onunhandledrejection`, `panic` …).
    pub mechanism: String,
    /// Whether the app handled it, if that is told.
    pub handled: Option<bool>,
    /// Its frames, innermost first.
    pub frames: Vec<FrameView>,
}

/// One frame of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameView {
    /// Function.
    pub function: String,
    /// Module.
    pub module: String,
    /// File.
    pub file: String,
    /// Line, from 1; 0 if it is not known.
    pub line: u64,
    /// Column, from 1; 0 if it is not known.
    pub column: u64,
    /// Whether it is the app's own code.
    pub in_app: bool,
    /// Lines of source with their numbers, the frame's own among them; numbers are 0 if they are not known.
    pub source: Vec<(u64, String)>,
    /// Which of `source` is the frame's own, from 0.
    pub source_at: usize,
    /// Local variables.
    pub vars: Fields,
}

/// One thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadView {
    /// Its name, else its number.
    pub name: String,
    /// Whether it is the one that failed.
    pub crashed: bool,
    /// Its frames, innermost first.
    pub frames: Vec<FrameView>,
}

/// Something that happened before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breadcrumb {
    /// When, RFC 3339; empty if that is not told.
    pub at: String,
    /// `http`, `navigation`, `default` …
    pub kind: String,
    /// What it is about.
    pub category: String,
    /// How bad it was.
    pub level: String,
    /// What happened.
    pub message: String,
    /// Further fields.
    pub data: Fields,
}

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// Method.
    pub method: String,
    /// Address.
    pub url: String,
    /// Query string.
    pub query: String,
    /// Body, as far as the SDK sent it.
    pub data: String,
    /// Header fields.
    pub headers: Fields,
    /// Cookies.
    pub cookies: Fields,
    /// The environment of the server.
    pub env: Fields,
}

impl EventView {
    /// Reads `fields`; what the store knows (`issue`, `number` and the like) is left empty.
    pub(super) fn read(fields: &Map<String, Value>) -> Self {
        let event = Event::read(fields);
        let at = |name| fields.get(name);
        let (title, culprit) = (event.title(), event.culprit());
        let listed = |name| at(name).map(values).unwrap_or_default().iter();
        let mut exceptions: Vec<ExceptionView> = event_exceptions(fields).iter().map(exception).collect();
        exceptions.reverse();
        Self {
            id: event.id.map(|id| id.to_string()).unwrap_or_default(),
            at: event.at.map(|at| at.to_string()).unwrap_or_default(),
            title,
            culprit,
            level: event.level,
            platform: event.platform,
            logger: event.logger,
            transaction: event.transaction,
            release: event.release,
            environment: event.environment,
            server_name: text(at("server_name")),
            sdk: sdk(at("sdk")),
            message: event.message,
            exceptions,
            threads: listed("threads").map(thread).filter(|thread| !thread.frames.is_empty()).collect(),
            breadcrumbs: listed("breadcrumbs").map(breadcrumb).collect(),
            request: at("request").filter(|request| request.is_object()).map(request),
            user: fields_of(at("user")),
            tags: event.tags,
            contexts: contexts(at("contexts")),
            extra: fields_of(at("extra")),
            modules: fields_of(at("modules")),
            ..Self::default()
        }
    }
}

fn event_exceptions(fields: &Map<String, Value>) -> &[Value] {
    let Some(list) = fields.get("exception") else { return &[] };
    match values(list) {
        [] if list.get("type").is_some() || list.get("value").is_some() => std::slice::from_ref(list),
        entries => entries,
    }
}

fn exception(entry: &Value) -> ExceptionView {
    let mechanism = entry.get("mechanism");
    ExceptionView {
        kind: text(entry.get("type")),
        value: text(entry.get("value")),
        module: text(entry.get("module")),
        mechanism: text(mechanism.and_then(|mechanism| mechanism.get("type"))),
        handled: mechanism.and_then(|mechanism| mechanism.get("handled")).and_then(Value::as_bool),
        frames: frames(entry),
    }
}

/// The frames below `entry`, innermost first.
fn frames(entry: &Value) -> Vec<FrameView> {
    let frames = entry.get("stacktrace").and_then(|stack| stack.get("frames")).and_then(Value::as_array);
    frames.map(|frames| frames.iter().rev().map(frame).collect()).unwrap_or_default()
}

fn frame(entry: &Value) -> FrameView {
    let number = |name| entry.get(name).and_then(Value::as_u64).unwrap_or_default();
    let file = text(entry.get("filename"));
    let lines = |name| {
        let lines = entry.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        lines.iter().map(|line| text(Some(line))).collect::<Vec<String>>()
    };
    let (mut source, after, line) = (lines("pre_context"), lines("post_context"), number("lineno"));
    let source_at = source.len();
    if let Some(own) = entry.get("context_line").and_then(Value::as_str) {
        source.push(own.to_owned());
        source.extend(after);
    }
    let first = line.saturating_sub(source_at as u64);
    let numbered =
        |(at, source): (usize, String)| (if line == 0 { 0 } else { first.saturating_add(at as u64) }, source);
    FrameView {
        function: text(entry.get("function")),
        module: text(entry.get("module")),
        file: if file.is_empty() { text(entry.get("abs_path")) } else { file },
        line,
        column: number("colno"),
        in_app: entry.get("in_app").and_then(Value::as_bool).unwrap_or(false),
        source: source.into_iter().enumerate().map(numbered).collect(),
        source_at,
        vars: fields_of(entry.get("vars")),
    }
}

fn thread(entry: &Value) -> ThreadView {
    let name = text(entry.get("name"));
    ThreadView {
        name: if name.is_empty() { text(entry.get("id")) } else { name },
        crashed: entry.get("crashed").and_then(Value::as_bool).unwrap_or(false),
        frames: frames(entry),
    }
}

fn breadcrumb(entry: &Value) -> Breadcrumb {
    let of = |name| text(entry.get(name));
    let at = entry.get("timestamp").and_then(time);
    Breadcrumb {
        at: at.map(|at| at.to_string()).unwrap_or_default(),
        kind: of("type"),
        category: of("category"),
        level: of("level"),
        message: of("message"),
        data: fields_of(entry.get("data")),
    }
}

fn request(entry: &Value) -> RequestView {
    RequestView {
        method: text(entry.get("method")),
        url: text(entry.get("url")),
        query: shown(entry.get("query_string")),
        data: shown(entry.get("data")),
        headers: fields_of(entry.get("headers")),
        cookies: fields_of(entry.get("cookies")),
        env: fields_of(entry.get("env")),
    }
}

fn contexts(entry: Option<&Value>) -> Vec<(String, Fields)> {
    let Some(Value::Object(contexts)) = entry else { return Vec::new() };
    let of = |(name, context): (&String, &Value)| {
        let mut fields = fields_of(Some(context));
        // The kind of a context, which its name tells already.
        fields.retain(|(field, value)| field != "type" || value != name);
        (name.clone(), fields)
    };
    contexts.iter().map(of).filter(|(_, fields)| !fields.is_empty()).collect()
}

fn sdk(entry: Option<&Value>) -> String {
    let of = |name| text(entry.and_then(|sdk| sdk.get(name)));
    format!("{} {}", of("name"), of("version")).trim().to_owned()
}

/// The fields of an object, or of a list of pairs.
fn fields_of(entry: Option<&Value>) -> Fields {
    match entry {
        Some(Value::Object(fields)) => {
            let told = fields.iter().filter(|(_, value)| !value.is_null());
            told.map(|(name, value)| (name.clone(), shown(Some(value)))).collect()
        }
        Some(Value::Array(pairs)) => {
            let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
                Some([name, value]) => Some((text(Some(name)), shown(Some(value)))),
                _ => None,
            };
            pairs.iter().filter_map(pair).collect()
        }
        None | Some(Value::Null) => Vec::new(),
        // Such as cookies written as one text.
        Some(other) => vec![(String::new(), shown(Some(other)))],
    }
}

/// `value` as text; what is nested as JSON.
fn shown(value: Option<&Value>) -> String {
    match value {
        Some(nested @ (Value::Object(_) | Value::Array(_))) => nested.to_string(),
        value => text(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn view(event: &Value) -> EventView {
        EventView::read(event.as_object().unwrap())
    }

    #[test]
    fn a_frame_has_its_lines_of_source_with_their_numbers() {
        let view = view(&json!({"exception": {"values": [
            {"type": "KeyError", "value": "cause"},
            {"type": "ValueError", "value": "bad", "mechanism": {"type": "django", "handled": false},
                "stacktrace": {"frames": [
                    {"function": "outer"},
                    {"function": "inner", "filename": "a.py", "lineno": 3, "in_app": true, "vars": {"x": {"y": 1}},
                        "pre_context": ["one", "two"], "context_line": "three", "post_context": ["four"]},
            ]}},
        ]}}));
        let kinds: Vec<&str> = view.exceptions.iter().map(|exception| exception.kind.as_str()).collect();
        assert_eq!(kinds, ["ValueError", "KeyError"]);
        let raised = &view.exceptions[0];
        assert_eq!((raised.mechanism.as_str(), raised.handled), ("django", Some(false)));
        let inner = &raised.frames[0];
        let numbers: Vec<u64> = inner.source.iter().map(|(number, _)| *number).collect();
        assert_eq!((inner.function.as_str(), numbers, inner.source_at), ("inner", vec![1, 2, 3, 4], 2));
        assert_eq!(inner.vars, [("x".to_owned(), r#"{"y":1}"#.to_owned())]);
    }

    #[test]
    fn breadcrumbs_request_user_and_contexts_are_read() {
        let view = view(&json!({
            "breadcrumbs": [{"timestamp": 1_795_176_000.5, "category": "auth", "message": "m", "data": {"a": 1}}],
            "request": {"method": "GET", "url": "http://x/", "query_string": [["a", "1"]], "headers": [["Accept", "*/*"]]},
            "user": {"id": 7, "email": "a@b.c"}, "sdk": {"name": "sentry.python", "version": "2"},
            "contexts": {"runtime": {"type": "runtime", "name": "node"}, "empty": {}},
            "threads": {"values": [{"id": 0, "stacktrace": {"frames": [{"function": "f"}]}}, {"id": 1}]},
        }));
        let crumb = &view.breadcrumbs[0];
        assert_eq!((crumb.at.as_str(), crumb.data[0].1.as_str()), ("2026-11-20T12:00:00.500Z", "1"));
        let request = view.request.unwrap();
        assert_eq!((request.query.as_str(), request.headers[0].0.as_str()), (r#"[["a","1"]]"#, "Accept"));
        assert_eq!(view.user, [("email".to_owned(), "a@b.c".to_owned()), ("id".to_owned(), "7".to_owned())]);
        assert_eq!(view.contexts, [("runtime".to_owned(), vec![("name".to_owned(), "node".to_owned())])]);
        assert_eq!((view.sdk.as_str(), view.threads.len()), ("sentry.python 2", 1));
    }

    proptest! {
        #[test]
        fn any_json_object_can_be_shown(value in super::super::event::tests::any_json()) {
            if let Value::Object(fields) = value {
                prop_assert!(!EventView::read(&fields).title.is_empty());
            }
        }
    }
}
