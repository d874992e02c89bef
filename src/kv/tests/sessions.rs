//! Transactions, blocking pops, publishing, expiry: what spans commands and clients.

use super::Session;
use crate::base::ByteSize;
use crate::kv::KvConfig;
use crate::kv::max_memory::MaxMemory;

fn session() -> Session {
    Session::new(KvConfig::default())
}

#[test]
fn a_transaction_runs_as_a_unit_and_goes_on_after_an_error() {
    session().expect(&[
        ("MULTI", "OK"),
        ("SET a 1", "QUEUED"),
        ("LPUSH a x", "QUEUED"),
        ("INCR a", "QUEUED"),
        ("EXEC", "[OK (error) WRONGTYPE Operation against a key holding the wrong kind of value 2]"),
        ("EXEC", "(error) ERR EXEC without MULTI"),
    ]);
}

#[test]
fn a_refused_command_discards_the_transaction() {
    session().expect(&[
        ("MULTI", "OK"),
        ("GET", "(error) ERR wrong number of arguments for 'get' command"),
        ("SET a 1", "QUEUED"),
        ("EXEC", "(error) EXECABORT Transaction discarded because of previous errors."),
        ("GET a", "nil"),
    ]);
}

#[test]
fn a_change_of_a_watched_key_breaks_the_transaction() {
    let mut session = session();
    session.expect(&[("WATCH a", "OK"), ("MULTI", "OK"), ("SET b 1", "QUEUED")]);
    session.run_as(1, "SET a 2");
    session.expect(&[
        ("EXEC", "nil array"),
        ("GET b", "nil"),
        ("MULTI", "OK"),
        ("SET b 1", "QUEUED"),
        ("EXEC", "[OK]"),
    ]);
}

#[test]
fn expiry_and_flush_break_the_transaction_too() {
    for line in ["PEXPIRE a 5", "FLUSHALL", "SWAPDB 0 1"] {
        let mut session = session();
        session.expect(&[("SET a 1", "OK"), ("WATCH a", "OK"), ("MULTI", "OK"), ("GET a", "QUEUED")]);
        session.run_as(1, line);
        session.advance(10);
        session.expect(&[("EXEC", "nil array")]);
    }
}

#[test]
fn a_key_already_expired_when_watched_breaks_nothing() {
    let mut session = session();
    session.run("SET a 1 PX 5");
    session.advance(10);
    session.expect(&[("WATCH a", "OK"), ("MULTI", "OK"), ("GET a", "QUEUED"), ("EXEC", "[nil]")]);
}

#[test]
fn blocked_clients_are_served_in_the_order_they_came() {
    let mut session = session();
    assert_eq!(session.run_as(1, "BLPOP list 0"), None);
    assert_eq!(session.run_as(2, "BRPOP other list 0"), None);
    session.expect(&[("RPUSH list a b c", "3"), ("LRANGE list 0 -1", "[\"b\"]")]);
    assert_eq!(session.delivered(), [(1, "[\"list\" \"a\"]".to_owned()), (2, "[\"list\" \"c\"]".to_owned())]);
    assert_eq!(session.keyspace.blocked_clients(), 0);
}

#[test]
fn blocked_clients_wait_for_the_end_of_a_transaction() {
    let mut session = session();
    assert_eq!(session.run_as(1, "BLPOP list 0"), None);
    session.expect(&[
        ("MULTI", "OK"),
        ("RPUSH list a", "QUEUED"),
        ("DEL list", "QUEUED"),
        ("RPUSH list b", "QUEUED"),
        ("EXEC", "[1 1 1]"),
    ]);
    assert_eq!(session.delivered(), [(1, "[\"list\" \"b\"]".to_owned())]);
}

#[test]
fn a_served_move_serves_the_next_in_line() {
    let mut session = session();
    assert_eq!(session.run_as(1, "BLMOVE a b LEFT RIGHT 0"), None);
    assert_eq!(session.run_as(2, "BLPOP b 0"), None);
    session.run("RPUSH a x");
    assert_eq!(session.delivered(), [(1, "\"x\"".to_owned()), (2, "[\"b\" \"x\"]".to_owned())]);
    session.expect(&[("EXISTS a b", "0")]);
}

#[test]
fn a_wait_ends_with_its_time() {
    let mut session = session();
    assert_eq!(session.run_as(1, "BZPOPMIN z 0.25"), None);
    assert_eq!(session.keyspace.next_deadline(), Some(std::time::Duration::from_millis(250)));
    session.advance(249);
    session.keyspace.end_waits();
    assert!(session.delivered().is_empty());
    session.advance(1);
    session.keyspace.end_waits();
    assert_eq!(session.delivered(), [(1, "nil array".to_owned())]);
    session.run("ZADD z 1 a");
    assert!(session.delivered().is_empty());
}

#[test]
fn a_client_that_leaves_waits_no_longer() {
    let mut session = session();
    assert_eq!(session.run_as(1, "BLPOP list 0"), None);
    session.disconnect(1);
    session.expect(&[("RPUSH list a", "1"), ("LLEN list", "1")]);
    assert!(session.delivered().is_empty());
}

#[test]
fn blocking_pops_do_not_block_inside_a_transaction() {
    session().expect(&[("MULTI", "OK"), ("BLPOP list 0", "QUEUED"), ("EXEC", "[nil array]")]);
}

#[test]
fn a_message_reaches_channel_and_pattern_once_each() {
    let mut session = session();
    session.resp3 = true;
    session.run_as(1, "SUBSCRIBE news");
    session.run_as(1, "PSUBSCRIBE n*");
    session.expect(&[("PUBLISH news hi", "2"), ("PUBLISH nothing x", "1"), ("PUBSUB NUMSUB news", "[\"news\" 1]")]);
    assert_eq!(
        session.delivered(),
        [
            (1, "push [\"message\" \"news\" \"hi\"]".to_owned()),
            (1, "push [\"pmessage\" \"n*\" \"news\" \"hi\"]".to_owned()),
            (1, "push [\"pmessage\" \"n*\" \"nothing\" \"x\"]".to_owned()),
        ]
    );
    session.disconnect(1);
    session.expect(&[("PUBLISH news hi", "0"), ("PUBSUB CHANNELS", "[]"), ("PUBSUB NUMPAT", "0")]);
}

#[test]
fn resp2_subscribers_may_only_subscribe_and_ping() {
    session().expect(&[
        ("SUBSCRIBE a b", "[\"subscribe\" \"b\" 2]"),
        ("PING", "[\"pong\" \"\"]"),
        (
            "GET x",
            "(error) ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
        ),
        ("UNSUBSCRIBE", "[\"unsubscribe\" \"b\" 0]"),
        ("GET x", "nil"),
    ]);
}

#[test]
fn the_cycle_deletes_what_nobody_asks_for() {
    let mut session = session();
    for at in 0..1_000 {
        session.run(&format!("SET key:{at} v PX {}", if at % 2 == 0 { 50 } else { 500_000 }));
    }
    session.advance(60);
    while session.keyspace.tick(200) {}
    // A cycle that met few dead keys stops early; some rounds later all are gone.
    for _ in 0..100 {
        session.keyspace.tick(200);
    }
    assert_eq!(session.keyspace.database_info(0).keys, 500);
    assert_eq!(session.keyspace.counts().expired, 500);
}

#[test]
fn a_full_keyspace_refuses_to_grow_but_reads_and_deletes() {
    let config = KvConfig { max_memory: MaxMemory::Bytes(ByteSize(2_000)), ..KvConfig::default() };
    let mut session = Session::new(config);
    let long = "x".repeat(3_000);
    session.run(&format!("SET a {long}"));
    session.expect(&[
        ("SET b 1", "(error) OOM command not allowed when used memory > 'maxmemory'."),
        ("STRLEN a", "3000"),
        ("DEL a", "1"),
        ("SET b 1", "OK"),
    ]);
}

#[test]
fn flushed_memory_is_counted_away_at_once() {
    let mut session = session();
    for at in 0..500 {
        session.run(&format!("SET {at} value"));
    }
    assert!(session.keyspace.used() > 10_000);
    session.run("FLUSHALL");
    assert_eq!(session.keyspace.used(), 0);
    while session.keyspace.tick(10) {}
}

#[test]
fn small_databases_are_dropped_at_once_and_large_ones_in_slices() {
    let mut session = session();
    for _ in 0..3 {
        session.expect(&[("SET key value", "OK"), ("FLUSHALL", "OK")]);
    }
    assert!(session.keyspace.dying.is_empty());
    for _ in 0..3 {
        for at in 0..3_000 {
            session.run(&format!("SET {at} value"));
        }
        session.run("FLUSHALL");
    }
    assert_eq!(session.keyspace.dying.len(), 3);
    assert!(session.keyspace.tick(100), "more is left than one slice");
    assert!(!session.keyspace.tick(100_000), "what a slice has left goes to the next table");
    assert!(session.keyspace.dying.is_empty());
}

#[test]
fn a_scan_meets_every_key_that_stays_while_others_come_and_go() {
    let mut session = session();
    for at in 0..800 {
        session.run(&format!("SET stays:{at} v"));
    }
    let (mut cursor, mut met, mut round) = ("0".to_owned(), std::collections::BTreeSet::new(), 0);
    loop {
        let reply = super::text(&session.run(&format!("SCAN {cursor} COUNT 7")));
        let words: Vec<&str> = reply.split(['[', ']', ' ', '"']).filter(|word| !word.is_empty()).collect();
        cursor = words[0].to_owned();
        met.extend(words[1..].iter().filter(|word| word.starts_with("stays")).map(|word| (*word).to_owned()));
        if cursor == "0" {
            break;
        }
        round += 1;
        for at in 0..40 {
            if round < 60 {
                session.run(&format!("SET comes:{round}:{at} v"));
            } else {
                session.run(&format!("DEL comes:{}:{at}", round - 60));
            }
        }
    }
    assert_eq!(met.len(), 800);
}

#[test]
fn a_reader_of_streams_gets_what_comes_and_hears_when_its_group_goes() {
    let mut session = Session::new(KvConfig::default());
    assert_eq!(session.run_as(1, "XREAD BLOCK 0 STREAMS a b $ $"), None);
    session.expect(&[("XADD b 5-1 f v", "\"5-1\"")]);
    assert_eq!(session.delivered(), [(1, "[\"b\" [[\"5-1\" [\"f\" \"v\"]]]]".to_owned())]);
    session.expect(&[("XGROUP CREATE b g $", "OK"), ("XGROUP CREATE b h $", "OK")]);
    for (client, group) in [(1, "g"), (2, "g"), (3, "h")] {
        assert_eq!(session.run_as(client, &format!("XREADGROUP GROUP {group} me BLOCK 0 STREAMS b >")), None);
    }
    session.expect(&[("XADD b 6-0 f w", "\"6-0\"")]);
    let served = session.delivered();
    assert_eq!(served.iter().map(|(client, _)| *client).collect::<Vec<_>>(), [1, 3]);
    session.expect(&[("XPENDING b g - + 9", "[[\"6-0\" \"me\" 0 1]]"), ("XGROUP DESTROY b g", "1")]);
    let gone = "(error) NOGROUP No such key 'b' or consumer group 'g' in XREADGROUP with GROUP option";
    assert_eq!(session.delivered(), [(2, gone.to_owned())]);
    assert_eq!(session.run_as(3, "XREADGROUP GROUP h me BLOCK 0 STREAMS b >"), None);
    session.expect(&[("DEL b", "1")]);
    assert_eq!(session.delivered().len(), 1);
    session.expect(&[("MULTI", "OK"), ("XREAD BLOCK 0 STREAMS a $", "QUEUED"), ("EXEC", "[nil array]")]);
    assert_eq!(session.run_as(1, "XREAD BLOCK 20 STREAMS a $"), None);
    session.advance(20);
    session.keyspace.end_waits();
    assert_eq!(session.delivered(), [(1, "nil array".to_owned())]);
}
