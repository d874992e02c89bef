//! Scripts, beside the comparison with Redis that `tests/clients/compare_redis.py` makes.

use std::sync::Arc;

use super::{Collector, Session, text};
use crate::base::ByteSize;
use crate::kv::{Client, Effect, Host, Keyspace, KvConfig, Progress, Verdict, commands, effect};
use crate::testing::TestRandom;

fn eval(session: &mut Session, script: &str) -> String {
    text(&session.say(0, &[b"EVAL", script.as_bytes(), b"1", b"key", b"value"]).expect("scripts never block"))
}

#[test]
fn a_script_reads_and_changes_keys() {
    let mut session = Session::new(KvConfig::default());
    assert_eq!(eval(&mut session, "return redis.call('SET', KEYS[1], ARGV[1])"), "OK");
    assert_eq!(
        eval(&mut session, "return {redis.call('GET', 'key'), 1.9, false, {err = 'E x'}}"),
        "[\"value\" 1 nil (error) E x]"
    );
    assert_eq!(eval(&mut session, "return redis.call('BLPOP', 'none', 0)"), "nil");
    assert_eq!(eval(&mut session, "return redis.call('XREAD', 'BLOCK', 0, 'STREAMS', 'none', '$')"), "nil");
}

#[test]
fn errors_name_the_script_and_its_line() {
    let mut session = Session::new(KvConfig::default());
    let script = "\nredis.call('SET', 'key', 'x') return redis.call('LPUSH', 'key', 1)";
    let name = crate::kv::script::hex(&crate::crypto::mac::sha1(script.as_bytes()));
    assert_eq!(
        eval(&mut session, script),
        format!(
            "(error) WRONGTYPE Operation against a key holding the wrong kind of value script: {name}, on @user_script:2."
        )
    );
    assert_eq!(eval(&mut session, "return pcall(error, 'x')"), "nil");
    assert!(
        eval(&mut session, "nothing = 1").starts_with("(error) ERR user_script:1: Attempt to modify a readonly table")
    );
}

#[test]
fn the_world_outside_is_not_there() {
    let mut session = Session::new(KvConfig::default());
    for name in [
        "io",
        "os.execute",
        "require",
        "dofile",
        "loadfile",
        "debug",
        "coroutine",
        "package",
        "getfenv",
        "newproxy",
        "print",
    ] {
        let found = eval(&mut session, &format!("return {name} == nil"));
        assert!(found == "1" || found.contains("nonexistent global variable"), "{name}: {found}");
    }
    assert_eq!(eval(&mut session, "return (loadstring(string.dump(function() end))) == nil"), "1");
    assert_eq!(eval(&mut session, "return pcall(rawset, redis, 'call', 1) and 1 or 0"), "0");
    assert_eq!(eval(&mut session, "return getmetatable('') == false and getmetatable(_G) == false"), "1");
}

#[test]
fn changes_of_a_script_stand_between_marks_and_replay() {
    let mut session = Session::new(KvConfig::default());
    eval(&mut session, "redis.call('SET', 'a', 1) redis.call('RPUSH', 'l', 'x', 'y') error('late')");
    let bytes = session.keyspace.effects().bytes().to_vec();
    let effects: Vec<_> = effect::read(&bytes).map(Result::unwrap).collect();
    assert!(matches!(effects.first(), Some(Effect::Begin)) && matches!(effects.last(), Some(Effect::End)));
    let mut again = Keyspace::new(KvConfig::default(), Arc::new(TestRandom::new(1)));
    for effect in &effects {
        again.apply(effect).unwrap();
    }
    assert_eq!(again.database_info(0).keys, 2);
    session.keyspace.effects().clear();
    eval(&mut session, "return redis.call('GET', 'a')");
    assert!(session.keyspace.effects().is_empty());
}

/// A door that loses patience at the third look.
struct Impatient(u32, Verdict);

impl Host for Impatient {
    fn pulse(&mut self, _script: Progress) -> Verdict {
        self.0 += 1;
        if self.0 > 2 { self.1 } else { Verdict::Go }
    }
}

#[test]
fn a_script_without_end_is_ended_though_it_catches_everything() {
    let mut session = Session::new(KvConfig::default());
    let endless = [
        "while true do pcall(function() while true do end end) end",
        "local function again() return xpcall(function() while true do end end, again) end while true do again() end",
        "while true do redis.pcall('GET', 'x') end",
    ];
    for script in endless {
        for (verdict, said) in [(Verdict::Stop, "ERR Script ended"), (Verdict::Kill, "ERR Script killed by user")] {
            let mut recorder = Collector::new(false);
            let command = commands::lookup(b"eval").unwrap();
            let request = [&b"EVAL"[..], script.as_bytes(), b"0"];
            let host = &mut Impatient(0, verdict);
            session.keyspace.execute_under(command, &mut Client::new(9), &request, &mut recorder, host);
            let told = text(&recorder.value().expect("a reply"));
            assert!(told.starts_with(&format!("(error) {said}")), "{told}");
        }
    }
    assert_eq!(eval(&mut session, "return 1"), "1");
}

#[test]
fn memory_ends_at_its_cap_and_comes_back() {
    let mut session = Session::new(KvConfig { script_memory: ByteSize::mib(8), ..KvConfig::default() });
    let told = eval(&mut session, "local t = {} while true do t[#t + 1] = string.rep('x', 1000) .. #t end");
    assert!(told.contains("not enough memory"), "{told}");
    assert!(eval(&mut session, "return string.rep('x', 1e9)").contains("not enough memory"));
    assert_eq!(eval(&mut session, "return 'fine'"), "\"fine\"");
}

#[test]
fn loaded_scripts_stay_and_others_make_room() {
    let mut session = Session::new(KvConfig { scripts: 4, ..KvConfig::default() });
    let loaded = text(&session.say(0, &[b"SCRIPT", b"LOAD", b"return 42"]).unwrap());
    for number in 0..20 {
        assert_eq!(eval(&mut session, &format!("return {number}")), number.to_string());
    }
    let name = loaded.trim_matches('"').to_owned();
    assert_eq!(text(&session.say(0, &[b"EVALSHA", name.as_bytes(), b"0"]).unwrap()), "42");
    for number in 0..3 {
        session.say(0, &[b"SCRIPT", b"LOAD", format!("return 'l{number}'").as_bytes()]).unwrap();
    }
    let full = text(&session.say(0, &[b"SCRIPT", b"LOAD", b"return 'one too many'"]).unwrap());
    assert!(full.starts_with("(error) ERR no room for another script"), "{full}");
    session.expect(&[("SCRIPT FLUSH", "OK"), (&format!("SCRIPT EXISTS {name}"), "[0]")]);
}

#[test]
fn many_arguments_reach_a_command() {
    let mut session = Session::new(KvConfig::default());
    let script = "local t = {} for i = 1, 7000 do t[i] = i end return redis.call('RPUSH', KEYS[1], unpack(t))";
    assert_eq!(eval(&mut session, script), "7000");
}

/// A door that panics when a script runs its first command that asks it.
struct Broken;

impl Host for Broken {
    fn pulse(&mut self, _script: Progress) -> Verdict {
        panic!("a fault of the door");
    }
}

#[test]
fn a_panic_ends_the_script_and_goes_on_behind_it() {
    let mut session = Session::new(KvConfig::default());
    let script = "while true do pcall(redis.call, 'INCR', 'n') end";
    let command = commands::lookup(b"eval").unwrap();
    let request = [&b"EVAL"[..], script.as_bytes(), b"0"];
    let mut recorder = Collector::new(false);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        session.keyspace.execute_under(command, &mut Client::new(9), &request, &mut recorder, &mut Broken);
    }));
    let said = ran.expect_err("the panic goes on");
    assert_eq!(said.downcast_ref::<&str>(), Some(&"a fault of the door"));
    // It came with the thirty-second command, and nothing ran after it.
    assert_eq!(text(&session.say(0, &[b"GET", b"n"]).unwrap()), "\"31\"");
}

/// The bytes of an error.
fn error(session: &mut Session, words: &[&[u8]]) -> Vec<u8> {
    match session.say(0, words) {
        Some(crate::kv::Value::Error(text)) => text,
        other => panic!("no error: {other:?}"),
    }
}

#[test]
fn errors_of_scripts_that_are_no_text_keep_their_bytes() {
    let mut session = Session::new(KvConfig::default());
    let mut say = |script: &[u8]| error(&mut session, &[b"EVAL", script, b"0"]);
    let place = |script: &[u8]| {
        let name = crate::kv::script::hex(&crate::crypto::mac::sha1(script));
        format!(" script: {name}, on @user_script:1.").into_bytes()
    };
    for (script, told) in [
        (&b"error('\\255')"[..], &b"ERR user_script:1: \xff"[..]),
        (b"error({err='\\255x'})", b"\xffx"),
        (b"error({err='x\\0y'})", b"x"),
        (b"local t={} t['\\255'].x=1", b"ERR user_script:1: attempt to index field '\xff' (a nil value)"),
        (b"redis.call('expire','k',1,'\\255\\0\\r\\n')", b"ERR Unsupported option \xff"),
        (b"struct.pack('\\255',1)", b"ERR user_script:1: bad argument #1 to 'pack' (invalid format option '\xff')"),
    ] {
        assert_eq!(say(script), [told, &place(script)].concat());
    }
    for (script, told) in [
        (&b"return redis.error_reply('-\\255 a\\r\\n')"[..], &b"\xff a"[..]),
        (b"return redis.error_reply('\\255\\0 x')", b"ERR \xff"),
        (b"return redis.pcall('expire','k',1,'\\255')", b"ERR Unsupported option \xff"),
        (b"return {err='\\255\\r\\n'}", b"\xff"),
        (b"return \xff", b"ERR Error compiling script (new function): user_script:1: unexpected symbol near '\xff'"),
        (b"#!lua flags=\xff\nreturn 1", b"ERR Unexpected flag in script shebang: \xff"),
    ] {
        assert_eq!(say(script), told);
    }
    let chunk = b"return loadstring('error(\"z\")', '\xffname')()";
    let name = crate::kv::script::hex(&crate::crypto::mac::sha1(chunk));
    let told = [&b"ERR [string \"\xffname\"]:1: z script: "[..], name.as_bytes(), b", on \xffname:1."].concat();
    assert_eq!(say(chunk), told);
    assert_eq!(eval(&mut session, "return {pcall(error, '\\255')}"), "[nil \"\u{fffd}\"]");
}

#[test]
fn errors_of_functions_that_are_no_text_keep_their_bytes() {
    let mut session = Session::new(KvConfig::default());
    let code = b"#!lua name=odd\nredis.register_function('f', function() error('\\255\\r\\nx') end)";
    session.say(0, &[b"FUNCTION", b"LOAD", code]);
    let told = b"ERR user_function:2: \xff\r\nx script: f, on @user_function:2.";
    assert_eq!(error(&mut session, &[b"FCALL", b"f", b"0"]), told);
    let engine = error(&mut session, &[b"FUNCTION", b"LOAD", b"#!\xff name=x\nreturn 1"]);
    assert_eq!(engine, b"ERR Engine '\xff' not found");
    let compiled = error(&mut session, &[b"FUNCTION", b"LOAD", b"#!lua name=x\n\xff"]);
    assert!(compiled.starts_with(b"ERR Error compiling function: user_function:2:"));
    assert!(compiled.ends_with(b"'\xff'"));
}

#[test]
fn compiled_chunks_are_refused() {
    let mut session = Session::new(KvConfig::default());
    let refused = error(&mut session, &[b"EVAL", b"\x1bLua", b"0"]);
    assert_eq!(refused, b"ERR Error compiling script (new function): compiled chunks are not loaded");
}
