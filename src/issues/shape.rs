//! The size an event may have, held before anything is kept: depth, list lengths, text lengths.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use serde_json::{Map, Value};

use super::IssuesError;

/// Most bytes of an event.
pub const EVENT_MAX: usize = 1 << 20;
/// Most levels of nesting.
pub const DEPTH_MAX: usize = 64;
/// Most tags of an event.
pub const TAGS_MAX: usize = 100;
/// Most frames kept of a stack: half from each end.
pub const FRAMES_MAX: usize = 100;
/// Most bytes of a text; longer ones are cut.
pub const TEXT_MAX: usize = 8 << 10;
/// Most exceptions, threads or breadcrumbs of an event: the newest.
const LIST_MAX: usize = 100;

/// Parses an event.
///
/// # Errors
/// [`IssuesError::EventTooLarge`], [`IssuesError::TooDeep`], [`IssuesError::NotJson`].
pub fn parse(bytes: &[u8]) -> Result<Map<String, Value>, IssuesError> {
    if bytes.len() > EVENT_MAX {
        return Err(IssuesError::EventTooLarge { bytes: bytes.len(), most: EVENT_MAX });
    }
    if deeper_than(bytes, DEPTH_MAX) {
        return Err(IssuesError::TooDeep { most: DEPTH_MAX });
    }
    serde_json::from_slice(bytes).map_err(|error| {
        // The parser's own text may quote the event.
        let reason = format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column());
        IssuesError::NotJson { reason }
    })
}

/// Cuts `event` down to its caps, in place.
pub fn trim(event: &mut Map<String, Value>) {
    for value in event.values_mut() {
        cut(value);
    }
    match event.get_mut("tags") {
        Some(Value::Array(tags)) => tags.truncate(TAGS_MAX),
        Some(Value::Object(tags)) => {
            let surplus: Vec<String> = tags.keys().skip(TAGS_MAX).cloned().collect();
            for name in surplus {
                tags.remove(&name);
            }
        }
        _ => {}
    }
    for name in ["exception", "threads", "breadcrumbs"] {
        let Some(list) = event.get_mut(name).and_then(values_mut) else { continue };
        let surplus = list.len().saturating_sub(LIST_MAX);
        list.drain(..surplus);
        for entry in list {
            trim_frames(entry);
        }
    }
    if let Some(frames) = event.get_mut("stacktrace").and_then(|stack| stack.get_mut("frames")) {
        shorten(frames);
    }
}

/// The entries of a list that is written as a list or as `{"values": […]}`.
pub fn values(list: &Value) -> &[Value] {
    match list {
        Value::Array(entries) => entries,
        Value::Object(fields) => fields.get("values").and_then(Value::as_array).map_or(&[], Vec::as_slice),
        _ => &[],
    }
}

fn values_mut(list: &mut Value) -> Option<&mut Vec<Value>> {
    match list {
        Value::Array(entries) => Some(entries),
        Value::Object(fields) => fields.get_mut("values").and_then(Value::as_array_mut),
        _ => None,
    }
}

fn trim_frames(entry: &mut Value) {
    for stack in ["stacktrace", "raw_stacktrace"] {
        if let Some(frames) = entry.get_mut(stack).and_then(|stack| stack.get_mut("frames")) {
            shorten(frames);
        }
    }
}

/// Leaves the first and the last [`FRAMES_MAX`]/2 frames.
fn shorten(frames: &mut Value) {
    let Value::Array(frames) = frames else { return };
    let half = FRAMES_MAX / 2;
    if frames.len() > FRAMES_MAX {
        let end = frames.len().saturating_sub(half);
        frames.drain(half..end);
    }
}

fn cut(value: &mut Value) {
    match value {
        Value::String(text) => cut_text(text, TEXT_MAX),
        Value::Array(entries) => entries.iter_mut().for_each(cut),
        Value::Object(fields) => fields.values_mut().for_each(cut),
        _ => {}
    }
}

/// Cuts `text` to at most `most` bytes, at a character.
pub fn cut_text(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
}

/// Whether the JSON in `bytes` nests deeper than `most`, told without building anything.
fn deeper_than(bytes: &[u8], most: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth = depth.saturating_add(1);
                if depth > most {
                    return true;
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn deep_large_and_broken_events_are_refused() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert!(matches!(parse(deep.as_bytes()), Err(IssuesError::TooDeep { .. })));
        assert!(parse(br#"{"a":"[[[[\"{{"}"#).is_ok());
        assert!(matches!(parse(&vec![b' '; EVENT_MAX + 1]), Err(IssuesError::EventTooLarge { .. })));
        let error = parse(b"{\"hunter2\" 1}").unwrap_err().to_string();
        assert!(error.contains("no JSON object") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn lists_and_texts_are_cut_to_their_caps() {
        let frames: Vec<Value> = (0..300).map(|n| json!({"function": n})).collect();
        let tags: Vec<Value> = (0..300).map(|n| json!([n.to_string(), "v"])).collect();
        let mut event = object(&json!({
            "message": "é".repeat(TEXT_MAX),
            "tags": tags,
            "exception": {"values": [{"stacktrace": {"frames": frames}}]},
        }));
        trim(&mut event);
        assert_eq!(event["message"].as_str().unwrap().len(), TEXT_MAX);
        assert_eq!(event["tags"].as_array().unwrap().len(), TAGS_MAX);
        let frames = event["exception"]["values"][0]["stacktrace"]["frames"].as_array().unwrap();
        assert_eq!((frames.len(), &frames[49]["function"], &frames[50]["function"]), (100, &json!(49), &json!(250)));
    }
}
