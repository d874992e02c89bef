use std::sync::Mutex;

use super::*;
use crate::base::Secret;
use crate::telemetry::Counter;
use crate::testing::TestClock;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What `say` logs in `format`.
fn logged(format: LogFormat, level: &str, say: impl FnOnce()) -> String {
    let output = Shared::default();
    let writer = LogWriter::start(Box::new(output.clone()), Counter::default()).unwrap();
    let lines = Lines { format, coloured: false, clock: Arc::new(TestClock::default()), writer: writer.clone() };
    let subscriber = tracing_subscriber::registry().with(filter(level).unwrap()).with(lines);
    tracing::subscriber::with_default(subscriber, say);
    writer.flush();
    let bytes = output.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_pretty_line_is_a_sentence_and_its_fields() {
    let line = logged(LogFormat::Pretty, "info", || {
        tracing::info!(target: "mainstay::s3", bucket = "photos", bytes = 12, "object stored");
    });
    assert_eq!(line, "2026-01-01T00:00:00.000Z  INFO s3: object stored bucket=photos bytes=12\n");
}

#[test]
fn a_json_line_is_one_object_with_its_spans_fields() {
    let line = logged(LogFormat::Json, "info", || {
        let span = tracing::info_span!("request", id = 7);
        let _inside = span.enter();
        tracing::warn!(target: "mainstay::s3", message_id = "a\"b", ok = false, time = 1, "slow");
    });
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line.lines().count(), 1);
    for (name, wanted) in [("level", "warn"), ("target", "s3"), ("message", "slow"), ("message_id", "a\"b")] {
        assert_eq!(value[name], wanted);
    }
    assert_eq!(
        (value["id"].as_i64(), value["ok"].as_bool(), value["field_time"].as_i64()),
        (Some(7), Some(false), Some(1))
    );
}

#[test]
fn secrets_do_not_reach_the_line() {
    for format in [LogFormat::Pretty, LogFormat::Json] {
        let line = logged(format, "info", || {
            let wrapped = Secret::new(String::from("hunter2"));
            tracing::info!(password = "hunter2", value = ?wrapped, url = "/k?X-Amz-Signature=hunter2&a=1", "redis://:hunter2@h");
        });
        assert!(!line.contains("hunter2"), "{line}");
        assert!(line.contains("a=1"), "{line}");
    }
}

#[test]
fn foreign_text_cannot_forge_a_line() {
    let forged = "a\n2026-01-01T00:00:00.000Z ERROR s3: forged\x1b[2J\u{202e}\u{85}";
    for format in [LogFormat::Pretty, LogFormat::Json] {
        let line = logged(format, "info", || tracing::info!(user = forged, "{forged}"));
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(!line.trim_end().contains(redact::is_dangerous), "{line}");
    }
}

#[test]
fn huge_values_are_cut() {
    let line = logged(LogFormat::Json, "info", || {
        let huge = "x".repeat(1 << 20);
        tracing::info!(a = huge, b = ?huge, c = ?huge, d = ?huge, e = ?huge, "{huge}");
    });
    assert!(line.len() < 2 * LINE_LIMIT, "{}", line.len());
}

#[test]
fn levels_are_per_part() {
    let line = logged(LogFormat::Pretty, "warn,mainstay::s3=debug", || {
        tracing::info!(target: "mainstay::edge", "not this");
        tracing::debug!(target: "mainstay::s3", "this");
    });
    assert_eq!(line.lines().count(), 1);
    assert!(check_level("loud,=").is_err());
}
