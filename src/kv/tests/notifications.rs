//! Keyspace notifications of what no command did; `tests/clients/compare_events.py` compares those of commands.

use super::Session;
use crate::kv::KvConfig;
use crate::kv::eviction::{Eviction, Policy};

fn listening(config: KvConfig) -> Session {
    let config = KvConfig { notify_keyspace_events: "EAmn".parse().unwrap(), ..config };
    let mut session = Session::new(config);
    session.run_as(1, "PSUBSCRIBE __key*");
    session
}

/// The events since, `event key`.
fn heard(session: &mut Session) -> Vec<String> {
    let told = session.delivered();
    told.iter()
        .map(|(_, text)| {
            let parts: Vec<&str> = text.trim_end_matches(']').split('"').filter(|part| part.len() > 1).collect();
            let event = parts[parts.len() - 2].rsplit(':').next().unwrap();
            format!("{event} {}", parts[parts.len() - 1])
        })
        .collect()
}

#[test]
fn a_key_that_nobody_asks_for_expires_with_an_event() {
    let mut session = listening(KvConfig::default());
    session.run("SET key1 v PX 100");
    session.run("SET key2 v PX 100");
    assert_eq!(heard(&mut session), ["new key1", "set key1", "expire key1", "new key2", "set key2", "expire key2"]);
    session.advance(100);
    session.run("GET key1");
    assert_eq!(heard(&mut session), ["expired key1", "keymiss key1"]);
    session.keyspace.tick(1000);
    assert_eq!(heard(&mut session), ["expired key2"]);
    session.keyspace.effects().clear();
    session.run("DEL key2");
    session.run("SETRANGE key3 1 x");
    assert_eq!(heard(&mut session), ["new key3", "setrange key3"]);
}

#[test]
fn a_key_that_makes_room_is_evicted_with_an_event() {
    let eviction = Eviction::default().with(0, Policy::AllKeysLru);
    let mut session = listening(KvConfig { eviction, ..KvConfig::default() });
    for key in 10..20 {
        session.run(&format!("SET key{key} {}", "v".repeat(100)));
    }
    heard(&mut session);
    session.keyspace.limit_memory(1);
    session.keyspace.keep_within(crate::kv::memory::Means::Evict);
    let told = heard(&mut session);
    assert!(!told.is_empty() && told.iter().all(|event| event.starts_with("evicted key")), "{told:?}");
}

#[test]
fn nothing_is_told_of_what_happened_before_somebody_asked() {
    let mut session = Session::new(KvConfig::default());
    session.run_as(1, "PSUBSCRIBE __key*");
    session.run("SET key1 v");
    session.keyspace.set_events("KA".parse().unwrap());
    session.run("GET key1");
    assert!(session.delivered().is_empty());
    session.run("DEL key1");
    assert_eq!(session.delivered(), [(1, "push [\"pmessage\" \"__key*\" \"__keyspace@0__:key1\" \"del\"]".to_owned())]);
}

#[test]
fn sharded_channels_are_a_world_of_their_own() {
    let mut session = Session::new(KvConfig::default());
    assert_eq!(super::text(&session.run_as(1, "SSUBSCRIBE news sport").unwrap()), "[\"ssubscribe\" \"sport\" 2]");
    session.resp3 = true;
    assert_eq!(super::text(&session.run_as(1, "SUBSCRIBE news").unwrap()), "[\"subscribe\" \"news\" 1]");
    session.expect(&[
        ("SPUBLISH news a", "1"),
        ("PUBLISH news b", "1"),
        ("SPUBLISH nobody c", "0"),
        ("PUBSUB SHARDNUMSUB news nobody", "[\"news\" 1 \"nobody\" 0]"),
        ("PUBSUB SHARDCHANNELS n*", "[\"news\"]"),
        ("PUBSUB NUMSUB sport", "[\"sport\" 0]"),
    ]);
    let told = session.delivered();
    assert_eq!(told[0], (1, "push [\"smessage\" \"news\" \"a\"]".to_owned()));
    assert_eq!(told[1], (1, "push [\"message\" \"news\" \"b\"]".to_owned()));
    assert_eq!(super::text(&session.run_as(1, "SUNSUBSCRIBE").unwrap()), "[\"sunsubscribe\" \"sport\" 0]");
    session.expect(&[("PUBSUB SHARDCHANNELS", "[]"), ("SPUBLISH news a", "0"), ("PUBLISH news a", "1")]);
    session.run_as(1, "SSUBSCRIBE news");
    session.disconnect(1);
    session.expect(&[("PUBSUB SHARDCHANNELS", "[]")]);
}

/// Redis does so since 7.2, so the comparison with an older one leaves it out.
#[test]
fn a_consumer_that_finds_nothing_to_read_is_there_from_then_on() {
    let mut session = listening(KvConfig::default());
    session.run("XGROUP CREATE stream group $ MKSTREAM");
    heard(&mut session);
    session.run("XREADGROUP GROUP group me STREAMS stream >");
    assert_eq!(heard(&mut session), ["xgroup-createconsumer stream"]);
    session.run("XREADGROUP GROUP group me STREAMS stream >");
    assert!(heard(&mut session).is_empty());
    assert_eq!(session.run_as(2, "XREADGROUP GROUP group you BLOCK 0 STREAMS stream >"), None);
    assert_eq!(heard(&mut session), ["xgroup-createconsumer stream"]);
}
