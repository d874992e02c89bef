//! Functions, beside the comparison with Redis that `tests/clients/compare_functions.py` makes.

use std::sync::Arc;

use super::{Session, text};
use crate::base::ByteSize;
use crate::kv::{Effect, Keyspace, KvConfig, Walk, effect};
use crate::testing::TestRandom;

const COUNTER: &[u8] =
    b"#!lua name=counter\nredis.register_function('bump', function(keys) return redis.call('incr', keys[1]) end)";

fn load(session: &mut Session, code: &[u8]) -> String {
    text(&session.say(0, &[b"FUNCTION", b"LOAD", b"REPLACE", code]).unwrap())
}

/// A session on a keyspace that has replayed `bytes`.
fn replayed(bytes: &[u8]) -> Session {
    let mut session = Session::new(KvConfig::default());
    let mut again = Keyspace::new(KvConfig::default(), Arc::new(TestRandom::new(1)));
    for effect in effect::read(bytes) {
        again.apply(&effect.unwrap()).unwrap();
    }
    session.keyspace = again;
    session.advance(0);
    session
}

#[test]
fn a_library_is_an_effect_that_wants_to_be_synced_and_replays() {
    let mut session = Session::new(KvConfig::default());
    assert_eq!(load(&mut session, COUNTER), "\"counter\"");
    assert!(session.keyspace.effects().are_urgent());
    session.run("FCALL bump 1 n");
    let bytes = session.keyspace.effects().bytes().to_vec();
    replayed(&bytes).expect(&[("FCALL BUMP 1 n", "2"), ("SCRIPT FLUSH", "OK"), ("FCALL bump 1 n", "3")]);
    session.keyspace.effects().clear();
    assert!(!session.keyspace.effects().are_urgent());
    session.run("FCALL bump 1 n");
    assert!(!session.keyspace.effects().are_urgent(), "what a function writes is as urgent as any write");
    session.expect(&[("FUNCTION DELETE counter", "OK"), ("FCALL bump 1 n", "(error) ERR Function not found")]);
    let more = session.keyspace.effects().bytes().to_vec();
    replayed(&[bytes, more].concat()).expect(&[("FUNCTION LIST", "[]")]);
}

#[test]
fn a_checkpoint_begins_with_the_libraries() {
    let mut session = Session::new(KvConfig::default());
    load(&mut session, COUNTER);
    session.keyspace.effects().clear();
    session.keyspace.walk(&mut Walk::default(), 1, |_| {});
    let bytes = session.keyspace.effects().bytes().to_vec();
    let effects: Vec<_> = effect::read(&bytes).map(Result::unwrap).collect();
    assert!(matches!(effects[..], [Effect::Databases(_), Effect::NoLibraries, Effect::Library { .. }]));
    replayed(&bytes).expect(&[("FCALL bump 1 n", "1")]);
}

#[test]
fn libraries_are_capped_and_a_refused_one_changes_nothing() {
    const NO_ROOM: &str = "(error) ERR no room for another library (kv.libraries, kv.library_bytes)";
    let config = KvConfig { libraries: 2, library_bytes: ByteSize(300), ..KvConfig::default() };
    let mut session = Session::new(config);
    load(&mut session, COUNTER);
    assert_eq!(load(&mut session, &[COUNTER, " ".repeat(300).as_bytes()].concat()), NO_ROOM);
    let other = |name: &str| format!("#!lua name={name}\nredis.register_function('{name}', function() end)");
    assert_eq!(load(&mut session, other("one").as_bytes()), "\"one\"");
    assert_eq!(load(&mut session, other("two").as_bytes()), NO_ROOM);
    let before = session.keyspace.effects().bytes().len();
    let clash =
        "#!lua name=one\nredis.register_function('x', function() end) redis.register_function('Bump', function() end)";
    assert_eq!(load(&mut session, clash.as_bytes()), "(error) ERR Function Bump already exists");
    assert_eq!(session.keyspace.effects().bytes().len(), before);
    session.expect(&[("FCALL one 0", "nil"), ("FCALL x 0", "(error) ERR Function not found")]);
}

#[test]
fn a_library_that_does_not_end_is_ended() {
    let mut session = Session::new(KvConfig::default());
    let endless = b"#!lua name=endless\nredis.register_function('f', function() end) while true do end";
    assert_eq!(load(&mut session, endless), "(error) ERR FUNCTION LOAD timeout");
    let sly = b"#!lua name=sly\nwhile true do pcall(function() while true do end end) end";
    assert_eq!(load(&mut session, sly), "(error) ERR FUNCTION LOAD timeout");
    session.expect(&[("FUNCTION LIST", "[]"), ("FCALL f 0", "(error) ERR Function not found")]);
    assert_eq!(load(&mut session, COUNTER), "\"counter\"", "the state is as good as before");
    session.expect(&[("FCALL bump 1 n", "1")]);
}

#[test]
fn a_dump_is_restored_as_a_whole_or_not_at_all() {
    let mut session = Session::new(KvConfig::default());
    load(&mut session, COUNTER);
    let crate::kv::reply::Value::Bulk(payload) = session.run("FUNCTION DUMP") else { panic!("no dump") };
    let restore =
        |session: &mut Session, how: &[u8]| text(&session.say(0, &[b"FUNCTION", b"RESTORE", &payload, how]).unwrap());
    assert_eq!(restore(&mut session, b"APPEND"), "(error) ERR Library counter already exists");
    session.run("FUNCTION FLUSH");
    load(&mut session, b"#!lua name=other\nredis.register_function('bump', function() return 0 end)");
    assert_eq!(restore(&mut session, b"REPLACE"), "(error) ERR Function bump already exists");
    session.expect(&[("FCALL bump 1 n", "0")]);
    assert_eq!(restore(&mut session, b"FLUSH"), "OK");
    session.expect(&[("FCALL bump 1 n", "1")]);
    let bytes = session.keyspace.effects().bytes().to_vec();
    replayed(&bytes).expect(&[("FCALL bump 1 n", "2")]);
}
