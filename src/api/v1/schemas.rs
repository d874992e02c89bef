//! The shapes of bodies, in JSON Schema 2020-12, as `OpenAPI` 3.1 wants them.

use serde_json::{Map, Value, json};

use crate::mail::Standing;

/// Every schema, by name.
pub fn schemas() -> Value {
    let mut all = Map::new();
    for part in
        [credentials(), storage(), scrub(), mail(), issues(), limits(), bans(), analytics(), backups(), server()]
    {
        if let Value::Object(fields) = part {
            all.extend(fields);
        }
    }
    let pages: [(&str, Value); 14] = [
        ("TokenPage", reference("Token")),
        ("AccessKeyPage", reference("AccessKey")),
        ("AuditPage", reference("AuditEntry")),
        ("SettingPage", reference("Setting")),
        ("CertificatePage", reference("Certificate")),
        ("UpstreamPage", reference("Upstream")),
        ("BucketPage", reference("Bucket")),
        ("MessagePage", reference("MessageSummary")),
        ("IssuePage", reference("Issue")),
        ("LimitPage", reference("LimitPolicy")),
        ("RejectionPage", reference("Rejection")),
        ("BanPage", reference("Ban")),
        ("SnapshotPage", reference("Snapshot")),
        ("ObjectPage", reference("ObjectSummary")),
    ];
    for (name, item) in pages {
        let mut fields = vec![("items", list(item)), ("next", maybe(text()))];
        if name == "ObjectPage" {
            fields.push(("prefixes", list(text())));
        }
        all.insert(name.to_owned(), object(fields));
    }
    Value::Object(all)
}

fn text() -> Value {
    json!({"type": "string"})
}

fn moment() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn number() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn truth() -> Value {
    json!({"type": "boolean"})
}

#[expect(clippy::needless_pass_by_value, reason = "the callers build the value in place")]
fn maybe(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}

#[expect(clippy::needless_pass_by_value, reason = "the callers build the value in place")]
fn list(schema: Value) -> Value {
    json!({"type": "array", "items": schema})
}

fn any_of(names: &[&str]) -> Value {
    json!({"type": "string", "enum": names})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// An object whose fields are all there, and no others.
fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let fields: Map<String, Value> = fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let required: Vec<&String> = fields.keys().collect();
    json!({"type": "object", "required": required, "properties": fields, "additionalProperties": false})
}

/// What a client sends: only `required` must be there.
fn sent<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>, required: &[&str]) -> Value {
    let mut out = object(fields);
    if let Value::Object(parts) = &mut out {
        parts.insert(String::from("required"), json!(required));
    }
    out
}

fn credentials() -> Value {
    let scopes = || json!({"type": "array", "minItems": 1, "items": any_of(&["read", "write", "admin"])});
    let label = || json!({"type": "string", "minLength": 1, "maxLength": 100});
    let token = || {
        vec![
            ("id", text()),
            ("label", text()),
            ("scopes", scopes()),
            ("created_at", moment()),
            ("expires_at", maybe(moment())),
            ("last_used_at", maybe(moment())),
        ]
    };
    let actions = ["read", "list", "append", "write", "delete", "manage"];
    let short = ["read-only", "append-only", "read-write"];
    let grant = object([
        ("bucket", text()),
        ("prefix", text()),
        ("actions", json!({"type": "array", "minItems": 1, "items": any_of(&actions)})),
    ]);
    let known: Vec<&str> = actions.into_iter().chain(short).collect();
    let wanted = sent(
        [
            (
                "bucket",
                json!({"type": "string", "minLength": 1, "maxLength": 63, "description": "A bucket; * stands for any characters."}),
            ),
            (
                "prefix",
                json!({"type": "string", "maxLength": 1024, "description": "What keys begin with; all keys when left out."}),
            ),
            ("actions", json!({"type": "array", "minItems": 1, "items": any_of(&known)})),
        ],
        &["bucket", "actions"],
    );
    let grants = || maybe(json!({"type": "array", "maxItems": 50, "items": reference("NewKeyGrant")}));
    let key = || {
        vec![
            ("id", text()),
            ("label", text()),
            ("created_at", moment()),
            ("grants", maybe(list(reference("KeyGrant")))),
            ("mail", truth()),
            ("expires_at", maybe(moment())),
            ("last_used_at", maybe(moment())),
            ("old_secret_until", maybe(moment())),
        ]
    };
    json!({
        "Token": object(token()),
        "CreatedToken": object(token().into_iter().chain([("token", text())])),
        "NewToken": sent(
            [("label", label()), ("scopes", scopes()), ("expires_at", maybe(moment()))],
            &["label", "scopes"],
        ),
        "AccessKey": object(key()),
        "CreatedAccessKey": object(key().into_iter().chain([("secret", text())])),
        "KeyGrant": grant,
        "NewKeyGrant": wanted,
        "NewAccessKey": sent(
            [("label", label()), ("grants", grants()), ("mail", truth()), ("expires_at", maybe(moment()))],
            &["label"],
        ),
        "AccessKeyChange": sent(
            [("label", label()), ("grants", grants()), ("mail", truth()), ("expires_at", maybe(moment()))],
            &[],
        ),
        "AccessKeyRotation": sent(
            [("overlap_seconds", json!({"type": "integer", "minimum": 0, "default": 604_800}))],
            &[],
        ),
        "AuditEntry": object([
            ("sequence", number()),
            ("at", moment()),
            ("action", text()),
            ("actor", text()),
            ("subject", text()),
            ("address", text()),
            ("agent", text()),
        ]),
    })
}

fn storage() -> Value {
    let summary = || vec![("key", text()), ("etag", text()), ("size", number()), ("modified_at", moment())];
    let more =
        [("content_type", maybe(text())), ("metadata", json!({"type": "object", "additionalProperties": text()}))];
    json!({
        "Bucket": object([
            ("name", text()),
            ("created_at", moment()),
            ("objects", number()),
            ("bytes", number()),
            ("counting", json!({"type": "boolean", "description": "Whether more is there, that is still being counted."})),
            ("quota_bytes", maybe(number())),
            ("quota_objects", maybe(number())),
            ("max_file_bytes", maybe(number())),
            ("allowed_types", list(text())),
            ("allowed_extensions", list(text())),
            ("serve_as_download", truth()),
            ("versioning", any_of(&["off", "enabled", "suspended"])),
            ("public", json!({"type": "boolean", "description": "Whether its policy opens something to everybody."})),
            ("backend", json!({"type": "string", "description": "Where its new bodies go; `local` is the server's own disk."})),
            ("move", maybe(reference("BucketMove"))),
            ("key_change", maybe(object([
                ("began_at", moment()),
                ("rewrapped", json!({"type": "integer", "minimum": 0, "description": "Objects, parts and notes that hang on the new key by now."})),
                ("damaged", json!({"type": "integer", "minimum": 0, "description": "What opens with neither key."})),
                ("percent", json!({"type": "integer", "minimum": 0, "maximum": 100, "description": "How much of the stored files was looked at."})),
                ("waits_for", maybe(text())),
            ]))),
        ]),
        "BucketMove": object([
            ("to", text()),
            ("began_at", moment()),
            ("ended_at", maybe(moment())),
            ("moved", number()),
            ("bytes", number()),
            ("expected_bytes", number()),
            ("stayed", json!({"type": "integer", "minimum": 0, "description": "Bodies that are damaged where they are, and stay there."})),
            ("trouble", maybe(text())),
        ]),
        "NewMove": sent([("backend", text())], &["backend"]),
        "BucketChange": sent(
            [
                ("quota_bytes", maybe(number())),
                ("quota_objects", maybe(number())),
                ("max_file_bytes", maybe(number())),
                ("allowed_types", json!({"type": "array", "maxItems": 24, "items": text(), "description": "Such as `image/png` or `image/*`; empty for all. Bytes are held against what is declared."})),
                ("allowed_extensions", json!({"type": "array", "maxItems": 24, "items": text(), "description": "How keys end, without the dot; empty for all."})),
                ("serve_as_download", truth()),
            ],
            &[],
        ),
        "NewBucket": sent(
            [
                ("name", json!({"type": "string", "minLength": 3, "maxLength": 63})),
                ("backend", json!({"type": "string", "description": "Where its bodies go; the setting `objects.default_backend` when left out."})),
            ],
            &["name"],
        ),
        "ObjectSummary": object(summary()),
        "Object": object(summary().into_iter().chain(more)),
        "NewPresign": sent(
            [
                ("method", any_of(&["GET", "PUT"])),
                ("key", text()),
                ("expires_seconds", json!({"type": "integer", "minimum": 1, "maximum": 604_800, "default": 900})),
                ("endpoint", json!({"type": "string", "format": "uri", "description": "Scheme and host the address is for; the S3 door's own when left out."})),
            ],
            &["method", "key"],
        ),
        "Presigned": object([("method", any_of(&["GET", "PUT"])), ("url", text()), ("expires_at", moment())]),
    })
}

fn scrub() -> Value {
    json!({
        "ScrubCounts": object([
            ("buckets", number()),
            ("objects", number()),
            ("uploads", number()),
            ("bytes", number()),
            ("damaged", number()),
            ("unlisted", number()),
        ]),
        "ScrubRunning": object([
            ("began_at", moment()),
            ("expected_bytes", number()),
            ("counts", reference("ScrubCounts")),
        ]),
        "ScrubEnded": object([("began_at", moment()), ("ended_at", moment()), ("counts", reference("ScrubCounts"))]),
        "Damage": object([
            ("bucket", text()),
            ("key", maybe(text())),
            ("version", maybe(text())),
            ("upload_part", maybe(number())),
            ("what", text()),
            ("found_at", moment()),
        ]),
        "Scrub": object([
            ("every_ms", number()),
            ("rate", number()),
            ("pass", number()),
            ("running", maybe(reference("ScrubRunning"))),
            ("last", maybe(reference("ScrubEnded"))),
            ("next_at", maybe(moment())),
            ("damaged", number()),
            ("damage", list(reference("Damage"))),
        ]),
    })
}

fn mail() -> Value {
    let states = Standing::ALL.map(Standing::name);
    json!({
        "MessageSummary": object([
            ("id", text()),
            ("created_at", moment()),
            ("source", text()),
            ("from", text()),
            ("to", list(text())),
            ("recipients", number()),
            ("subject", text()),
            ("size", number()),
            ("states", json!({"type": "object", "additionalProperties": number()})),
            ("attempts", number()),
            ("next_attempt_at", maybe(moment())),
        ]),
        "Message": object([
            ("message", reference("MessageSummary")),
            ("give_up_at", moment()),
            ("finished_at", maybe(moment())),
            ("masked", truth()),
            ("deliveries", list(reference("MessageDelivery"))),
        ]),
        "MessageDelivery": object([
            ("to", text()),
            ("state", any_of(&states)),
            ("sending", truth()),
            ("attempts", number()),
            ("next_attempt_at", maybe(moment())),
            ("events", list(reference("DeliveryEvent"))),
        ]),
        "DeliveryEvent": object([("at", moment()), ("state", text()), ("note", text())]),
    })
}

fn backups() -> Value {
    json!({
        "BackupCounts": object([
            ("files", number()),
            ("bytes", number()),
            ("bytes_new", number()),
            ("bytes_stored", number()),
        ]),
        "Snapshot": object([
            ("name", text()),
            ("source", text()),
            ("started_at", moment()),
            ("finished_at", moment()),
            ("counts", reference("BackupCounts")),
            ("fault_count", number()),
            ("faults", list(text())),
        ]),
        "Drill": object([("at", moment()), ("files", number()), ("bytes", number()), ("failures", list(text()))]),
        "BackupRun": object([
            ("target", text()),
            ("started_at", moment()),
            ("finished_at", moment()),
            ("complete", truth()),
            ("snapshots", list(reference("Snapshot"))),
            ("pause_ms", number()),
            ("problems", list(text())),
            ("drill", maybe(reference("Drill"))),
        ]),
        "FailedBackup": object([("at", moment()), ("target", text()), ("reason", text())]),
        "BackupProgress": object([
            ("target", text()),
            ("started_at", moment()),
            ("doing", text()),
            ("counts", reference("BackupCounts")),
        ]),
        "Backups": object([
            ("target", maybe(text())),
            ("every_ms", number()),
            ("next_at", maybe(moment())),
            ("running", maybe(reference("BackupProgress"))),
            ("last", maybe(reference("BackupRun"))),
            ("failed", maybe(reference("FailedBackup"))),
            ("proven", maybe(reference("Drill"))),
            ("overdue", truth()),
        ]),
    })
}

fn issues() -> Value {
    let status = || any_of(&["open", "resolved", "ignored"]);
    json!({
        "Issue": object([
            ("id", number()),
            ("project", number()),
            ("title", text()),
            ("culprit", text()),
            ("level", text()),
            ("platform", text()),
            ("status", status()),
            ("count", number()),
            ("users", number()),
            ("first_seen", text()),
            ("last_seen", text()),
            ("first_release", text()),
            ("last_release", text()),
            ("environment", text()),
            ("regressions", number()),
        ]),
        "IssueDetail": object([
            ("issue", reference("Issue")),
            ("tags", json!({"type": "object", "additionalProperties": list(reference("TagValue"))})),
            ("stack", list(text())),
            ("events", list(reference("KeptEvent"))),
        ]),
        "TagValue": object([("value", text()), ("count", number())]),
        "KeptEvent": object([("number", number()), ("id", text()), ("received", text())]),
        "IssueChange": sent([("status", status())], &["status"]),
        "Event": object([
            ("issue", number()),
            ("number", number()),
            ("older", maybe(number())),
            ("newer", maybe(number())),
            ("event", json!({"type": "object", "description": "In the event format of Sentry's clients."})),
        ]),
    })
}

fn limits() -> Value {
    let who = || ["ip", "email", "user", "key"].map(|field| (field, json!({"type": "string", "maxLength": 512})));
    let cost = json!({"type": "integer", "minimum": 0, "default": 1, "description": "How many at once; 0 only looks."});
    json!({
        "LimitPolicy": object([
            ("name", text()),
            ("algorithm", any_of(&["sliding-window", "gcra"])),
            ("limit", number()),
            ("window_seconds", json!({"type": "number"})),
            ("by", list(text())),
            ("allowed", number()),
            ("refused", number()),
        ]),
        "Rejection": object([("at", moment()), ("policy", text()), ("who", text())]),
        "Attempt": sent(who().into_iter().chain([("cost", cost)]), &[]),
        "AttemptBy": sent(who(), &[]),
        "LimitAnswer": object([
            ("allowed", truth()),
            ("limit", number()),
            ("remaining", number()),
            ("retry_after_seconds", number()),
            ("retry_at", moment()),
            ("reset_at", moment()),
            ("failures", number()),
            ("address_failures", number()),
            ("suspicious", truth()),
        ]),
    })
}

fn bans() -> Value {
    let span = json!({"type": ["string", "null"], "description": "Such as `1h`; without it, until it is lifted."});
    let force = json!({"type": "boolean", "default": false, "description": "Also who is never banned otherwise."});
    let all = json!({"type": "boolean", "default": false, "description": "Of every host and path; then alone."});
    json!({
        "Ban": object([
            ("address", text()),
            ("jail", maybe(text())),
            ("reason", text()),
            ("since", moment()),
            ("until", maybe(moment())),
            ("times", number()),
        ]),
        "CachePurge": sent([("host", maybe(text())), ("prefix", maybe(text())), ("all", all)], &[]),
        "CachePurged": object([("purged", number())]),
        "Cache": object([
            ("sites", number()),
            ("hits", number()),
            ("misses", number()),
            ("memory", object([("answers", number()), ("bytes", number()), ("limit_bytes", number())])),
            ("disk", maybe(reference("CacheDisk"))),
        ]),
        "CacheDisk": object([
            ("answers", number()),
            ("bytes", number()),
            ("limit_bytes", number()),
            ("hits", number()),
            ("passed", number()),
            ("state", json!({"enum": ["ready", "starting", "refusing"]})),
            ("error", maybe(text())),
        ]),
        "NewBan": sent([("address", text()), ("for", span), ("reason", text()), ("force", force)], &["address"]),
    })
}

fn analytics() -> Value {
    let names = || reference("NameCounts");
    let figure = || json!({"type": "number", "minimum": 0});
    json!({
        "Analytics": object([
            ("site", text()),
            ("views", number()),
            ("visits", number()),
            ("visitors", number()),
            ("days", list(reference("DayCounts"))),
            ("pages", names()),
            ("referrers", names()),
            ("sources", names()),
            ("campaigns", names()),
            ("missing", names()),
            ("browsers", names()),
            ("systems", names()),
            ("devices", names()),
            ("vitals", list(reference("WebVital"))),
            ("by_page", list(reference("PageVitals"))),
        ]),
        "DayCounts": object([
            ("day", json!({"type": "string", "format": "date"})),
            ("views", number()),
            ("visits", number()),
            ("visitors", number()),
        ]),
        "NameCounts": object([("items", list(reference("NameCount"))), ("others", number())]),
        "NameCount": object([("name", text()), ("count", number())]),
        "WebVital": object([
            ("metric", any_of(&["LCP", "INP", "CLS", "FCP", "TTFB"])),
            ("p75", maybe(figure())),
            ("rating", maybe(any_of(&["good", "needs-improvement", "poor"]))),
            ("good", number()),
            ("needs_improvement", number()),
            ("poor", number()),
        ]),
        "PageVitals": object([
            ("page", text()),
            ("measured", number()),
            ("vitals", list(reference("WebVital"))),
        ]),
    })
}

fn server() -> Value {
    json!({
        "Status": object([
            ("version", text()),
            ("uptime_seconds", number()),
            ("ready", truth()),
            ("draining", truth()),
            ("parts", list(reference("Part"))),
        ]),
        "Part": sent([("name", text()), ("ready", truth()), ("reason", text())], &["name", "ready"]),
        "Certificate": object([
            ("name", text()),
            ("origin", json!({"enum": ["file", "authority", "internal", "self-signed"]})),
            ("authority", maybe(text())),
            ("expires_at", maybe(moment())),
            ("renew_at", maybe(moment())),
            ("ordering", truth()),
            ("can_renew", truth()),
            ("last_attempt_at", maybe(moment())),
            ("failures", number()),
            ("next_attempt_at", maybe(moment())),
            ("error", maybe(text())),
        ]),
        "InternalAuthority": object([
            ("subject", text()),
            ("sha256", text()),
            ("names", list(text())),
            ("not_before", moment()),
            ("not_after", moment()),
            ("pem", text()),
        ]),
        "Upstream": object([
            ("upstream", text()),
            ("sites", list(text())),
            ("state", json!({"enum": ["up", "failing", "down"]})),
            ("active", number()),
            ("requests", number()),
            ("failed", number()),
            ("failures", number()),
            ("again_at", maybe(moment())),
            ("checked", truth()),
            ("last_check_at", maybe(moment())),
            ("error", maybe(text())),
        ]),
        "Setting": object([
            ("key", text()),
            ("value", text()),
            ("default", text()),
            ("source", text()),
            ("is_set", truth()),
            ("doc", text()),
        ]),
        "Problem": object([
            ("type", text()),
            ("title", text()),
            ("status", json!({"type": "integer", "minimum": 400, "maximum": 599})),
            ("detail", text()),
        ]),
    })
}
