//! Families that came later: bits, pops from several keys, members drawn at random, ranges that are stored.

use super::{Session, text};
use crate::kv::KvConfig;

#[test]
fn bits_are_counted_from_the_highest() {
    Session::new(KvConfig::default()).expect(&[
        ("SETBIT b 7 1", "0"),
        ("SETBIT b 7 1", "1"),
        ("GET b", "\"\u{1}\""),
        ("SET n 12", "OK"),
        ("SETBIT n 15 1", "0"),
        ("GET n", "\"13\""),
        ("INCR n", "14"),
        ("BITCOUNT n", "6"),
        ("BITPOS n 1", "2"),
        ("BITOP XOR x n", "2"),
        ("GET x", "\"14\""),
        ("BITOP NOT x x", "2"),
        ("BITOP AND x x n", "2"),
        ("BITCOUNT x", "0"),
        ("BITOP OR x none none", "0"),
        ("EXISTS x", "0"),
        (
            "BITFIELD f SET u8 #1 255 OVERFLOW FAIL INCRBY u8 #1 1 OVERFLOW SAT INCRBY i5 3 100 GET u8 0",
            "[0 nil 15 15]",
        ),
        ("BITFIELD_RO f GET i4 8", "[-1]"),
        ("BITFIELD_RO f SET i4 8 0", "(error) ERR BITFIELD_RO only supports the GET subcommand"),
    ]);
}

#[test]
fn no_bit_lies_beyond_the_longest_value() {
    let config = KvConfig { max_value: crate::base::ByteSize(10), ..KvConfig::default() };
    Session::new(config).expect(&[
        ("SETBIT b 79 1", "0"),
        ("SETBIT b 80 1", "(error) ERR bit offset is not an integer or out of range"),
        ("BITFIELD b SET u8 73 1", "(error) ERR bit offset is not an integer or out of range"),
        ("STRLEN b", "10"),
    ]);
}

#[test]
fn several_keys_are_waited_for_at_once() {
    let mut session = Session::new(KvConfig::default());
    session.expect(&[
        ("RPUSH l a b c", "3"),
        ("LMPOP 2 none l RIGHT COUNT 2", "[\"l\" [\"c\" \"b\"]]"),
        ("LLEN l", "1"),
    ]);
    assert_eq!(session.run_as(1, "BLMPOP 0 2 none other LEFT COUNT 5"), None);
    session.expect(&[("RPUSH other x y", "2")]);
    assert_eq!(session.delivered(), [(1, "[\"other\" [\"x\" \"y\"]]".to_owned())]);
    assert_eq!(session.run_as(1, "BZMPOP 0 2 z1 z2 MIN COUNT 2"), None);
    session.expect(&[("ZADD z2 1 a 2 b 3 c", "3")]);
    assert_eq!(session.delivered(), [(1, "[\"z2\" [[\"a\" ,1] [\"b\" ,2]]]".to_owned())]);
    session.expect(&[
        ("ZMPOP 2 z1 z2 MAX", "[\"z2\" [[\"c\" ,3]]]"),
        ("EXISTS z2", "0"),
        ("EVAL return{redis.call('BLMPOP',0,1,'none','LEFT')} 0", "[nil]"),
    ]);
}

#[test]
fn a_stored_range_replaces_what_was_there() {
    let mut session = Session::new(KvConfig::default());
    session.expect(&[
        ("ZADD z 1 a 2 b 3 c", "3"),
        ("SET target 1 EX 100", "OK"),
        ("ZRANGESTORE target z 0 1 REV", "2"),
        ("ZRANGE target 0 -1", "[\"b\" \"c\"]"),
        ("TTL target", "-1"),
        ("ZRANGESTORE target z (3 5 BYSCORE", "0"),
        ("EXISTS target", "0"),
        ("ZINTERCARD 2 z z LIMIT 2", "2"),
        ("ZRANDMEMBER none", "nil"),
        ("ZRANDMEMBER none 3", "[]"),
    ]);
    let drawn = text(&session.run("ZRANDMEMBER z 9 WITHSCORES"));
    assert!(["\"a\" ,1", "\"b\" ,2", "\"c\" ,3"].iter().all(|pair| drawn.contains(pair)), "{drawn}");
    assert_eq!(text(&session.run("ZRANDMEMBER z -5")).split(' ').count(), 5);
}
