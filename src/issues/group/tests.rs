use std::sync::LazyLock;

use serde_json::{Value, json};

use super::*;

/// Compiled once: that takes long without optimisation.
static GROUPER: LazyLock<Grouper> = LazyLock::new(Grouper::new);

fn hashes(event: &Value) -> Hashes {
    GROUPER.hashes(&Event::read(event.as_object().unwrap()))
}

fn frame(function: &str, line: u32) -> Value {
    json!({"filename": "app/views.py", "module": "app.views", "function": function, "lineno": line, "in_app": true,
        "context_line": format!("    return {function}(x)")})
}

fn raised(value: &str, frames: &[Value]) -> Value {
    json!({"platform": "python", "exception": {"values": [
        {"type": "ValueError", "value": value, "stacktrace": {"frames": frames}}]}})
}

#[test]
fn the_same_stack_with_different_ids_in_the_message_is_one_issue() {
    let event = |id: &str| hashes(&raised(&format!("no user {id}"), &[frame("load", 10)]));
    assert_eq!(event("17"), event("3fa85f64-5717-4562-b3fc-2c963f66afa6"));
}

#[test]
fn the_same_message_from_two_functions_is_two_issues() {
    let event = |function: &str| hashes(&raised("bad", &[frame(function, 10)]));
    assert_ne!(event("load").primary, event("save").primary);
    assert_ne!(event("load").system, event("save").system);
}

#[test]
fn line_numbers_and_the_depth_of_recursion_do_not_count() {
    let shallow = raised("x", &[frame("load", 10), frame("walk", 20)]);
    let deep = raised("x", &[frame("load", 11), frame("walk", 21), frame("walk", 21)]);
    assert_eq!(hashes(&shallow), hashes(&deep));
}

#[test]
fn frames_of_libraries_change_the_system_hash_alone() {
    let library = json!({"module": "django.core", "function": "dispatch", "in_app": false});
    let (with, without) = (raised("x", &[library, frame("load", 1)]), raised("x", &[frame("load", 1)]));
    assert_eq!(hashes(&with).primary, hashes(&without).primary);
    assert_ne!(hashes(&with).system, hashes(&without).system);
}

#[test]
fn without_frames_type_and_parametrised_text_count() {
    let event = |value: &str| hashes(&json!({"exception": [{"type": "Error", "value": value}]}));
    assert_eq!(event("row 1"), event("row 2"));
    assert_ne!(event("row 1"), event("column 1"));
}

#[test]
fn minified_frames_do_not_count_so_a_new_build_splits_nothing() {
    let event = |function: &str, file: &str| {
        hashes(&json!({"platform": "javascript", "exception": [{"type": "TypeError", "value": "x is undefined",
            "stacktrace": {"frames": [{"filename": file, "function": function, "in_app": true}]}}]}))
    };
    assert_eq!(event("a", "https://x.example/main.11112222.js"), event("qe", "https://x.example/main.33334444.js"));
}

#[test]
fn a_message_groups_by_template_and_logger() {
    let event = |params: Value, logger: &str| {
        hashes(&json!({"logger": logger, "logentry": {"message": "user %s left", "params": params, "formatted": "u"}}))
    };
    assert_eq!(event(json!(["ann"]), "a"), event(json!(["bob"]), "a"));
    assert_ne!(event(json!(["ann"]), "a"), event(json!(["ann"]), "b"));
    assert_eq!(hashes(&json!({"message": "took 5 ms"})), hashes(&json!({"message": "took 900 ms"})));
}

#[test]
fn a_chosen_fingerprint_wins_and_may_extend_the_default() {
    let with = |function: &str, fingerprint: Value| {
        let mut event = raised("x", &[frame(function, 1)]);
        event["fingerprint"] = fingerprint;
        hashes(&event)
    };
    assert_eq!(with("load", json!(["db"])), with("save", json!(["db"])));
    assert_eq!(with("load", json!(["{{ default }}"])), hashes(&raised("x", &[frame("load", 1)])));
    assert_ne!(with("load", json!(["{{ default }}", "a"])), with("save", json!(["{{ default }}", "a"])));
    assert_ne!(with("load", json!(["{{ default }}", "a"])), with("load", json!(["{{ default }}", "b"])));
    assert_eq!(with("load", json!(["{{ type }}"])), with("load", json!(["ValueError"])));
}

#[test]
fn a_group_of_exceptions_is_its_members() {
    let group = json!({"exception": [
        {"type": "A", "value": "a"}, {"type": "A", "value": "a"},
        {"type": "ExceptionGroup", "value": "2 errors", "mechanism": {"is_exception_group": true}},
    ]});
    assert_eq!(hashes(&group), hashes(&json!({"exception": [{"type": "A", "value": "a"}]})));
}

#[test]
fn the_hashes_of_g1_never_change() {
    let hashes = hashes(&raised("x", &[frame("load", 1)]));
    assert_eq!(crate::base::ids::hex(&hashes.primary), "5a47b6775545291fa520cee8db8798f0");
}
