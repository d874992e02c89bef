//! `HyperLogLog`s, places and `SORT`.

use super::Session;
use crate::kv::KvConfig;

#[test]
fn sketches_count_and_merge() {
    let mut session = Session::new(KvConfig::default());
    session.expect(&[
        ("PFADD a x y z", "1"),
        ("PFADD a x", "0"),
        ("PFCOUNT a", "3"),
        ("PFADD b z w", "1"),
        ("PFCOUNT a b none", "4"),
        ("PFMERGE c a b", "OK"),
        ("PFCOUNT c", "4"),
        ("PFADD empty", "1"),
        ("PFCOUNT empty", "0"),
        ("SET s text", "OK"),
        ("PFADD s x", "(error) WRONGTYPE Key is not a valid HyperLogLog string value."),
        ("PFCOUNT s", "(error) WRONGTYPE Key is not a valid HyperLogLog string value."),
        ("EXPIRE a 100", "1"),
        ("PFADD a more", "1"),
        ("TTL a", "100"),
    ]);
    // An estimate that is kept counts as a change, for whoever watches and for the journal.
    session.keyspace.effects().clear();
    session.expect(&[("PFCOUNT a", "4")]);
    assert!(!session.keyspace.effects().is_empty());
    session.keyspace.effects().clear();
    session.expect(&[("PFCOUNT a", "4")]);
    assert!(session.keyspace.effects().is_empty());
}

#[test]
fn places_are_found_around_a_place() {
    Session::new(KvConfig::default()).expect(&[
        ("GEOADD Sicily 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", "2"),
        ("GEODIST Sicily Palermo Catania", "\"166274.1516\""),
        ("GEODIST Sicily Palermo Catania km", "\"166.2742\""),
        ("GEODIST Sicily Palermo none", "nil"),
        ("GEOHASH Sicily Palermo Catania", "[\"sqc8b49rny0\" \"sqdtr74hyu0\"]"),
        ("GEOPOS Sicily Palermo none", "[[\"13.36138933897018433\" \"38.11555639549629859\"] nil array]"),
        ("GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 200 km ASC", "[\"Catania\" \"Palermo\"]"),
        ("GEOSEARCH Sicily FROMLONLAT 15 37 BYBOX 400 400 km ASC COUNT 1 WITHDIST", "[[\"Catania\" \"56.4413\"]]"),
        ("GEORADIUSBYMEMBER Sicily Palermo 100 km STORE near", "1"),
        ("ZRANGE near 0 -1", "[\"Palermo\"]"),
        ("GEOSEARCHSTORE near Sicily FROMMEMBER Palermo BYRADIUS 200 km STOREDIST", "2"),
        ("ZCOUNT near 166.2 166.3", "1"),
        ("GEOADD edge -179.9 0 east 179.9 0 west", "2"),
        ("GEOSEARCH edge FROMMEMBER east BYRADIUS 30 km ASC", "[\"east\" \"west\"]"),
    ]);
}

#[test]
fn every_kind_of_value_moves_by_dump_and_restore() {
    use crate::kv::Value;
    for config in [KvConfig::default(), KvConfig { packed_bytes: 16, packed_elements: 2, ..KvConfig::default() }] {
        let mut session = Session::new(config);
        for (line, look) in [
            ("SET k 12", "GET"),
            ("RPUSH k a 1 -300 70000 b", "LRANGE"),
            ("SADD k 1 2 3", "SCARD"),
            ("HSET k f v g 5", "HGETALL"),
            ("ZADD k 1.5 a -inf b 3 c", "ZRANGE"),
            ("XADD k 5-1 f v g 70000", "XRANGE"),
        ] {
            session.run(line);
            if look == "XRANGE" {
                session.expect(&[("XGROUP CREATE k g 0", "OK"), ("XDEL k 4-0", "0")]);
                session.run("XREADGROUP GROUP g me STREAMS k >");
            }
            let Value::Bulk(payload) = session.run("DUMP k") else { panic!("{line}") };
            let restored = session.say(0, &[b"RESTORE", b"copy", b"5000", &payload]).unwrap();
            assert_eq!(restored, Value::Simple("OK".to_owned()), "{line}");
            assert_eq!(session.run("PTTL copy"), Value::Integer(5000));
            let range = match look {
                "LRANGE" | "ZRANGE" => " 0 -1",
                "XRANGE" => " - +",
                _ => "",
            };
            assert_eq!(session.run(&format!("{look} copy{range}")), session.run(&format!("{look} k{range}")));
            if look == "XRANGE" {
                assert_eq!(session.run("XPENDING copy g - + 5"), session.run("XPENDING k g - + 5"));
            }
            let busy = session.say(0, &[b"RESTORE", b"copy", b"0", &payload]).unwrap();
            assert_eq!(busy, Value::Error(b"BUSYKEY Target key name already exists.".to_vec()));
            session.expect(&[("DEL k copy", "2")]);
        }
        session.expect(&[
            ("RESTORE k 0 nonsense", "(error) ERR DUMP payload version or checksum are wrong"),
            ("DUMP none", "nil"),
        ]);
    }
}

#[test]
fn sort_looks_at_other_keys() {
    Session::new(KvConfig::default()).expect(&[
        ("RPUSH l 3 1 2", "3"),
        ("SORT l", "[\"1\" \"2\" \"3\"]"),
        ("SORT l DESC LIMIT 0 2", "[\"3\" \"2\"]"),
        ("MSET w1 9 w2 5 w3 7", "OK"),
        ("HSET h1 name one", "1"),
        ("SORT l BY w* GET # GET h*->name", "[\"2\" nil \"3\" nil \"1\" \"one\"]"),
        ("SORT l BY w* STORE sorted", "3"),
        ("LRANGE sorted 0 -1", "[\"2\" \"3\" \"1\"]"),
        ("SORT l BY nosort", "[\"3\" \"1\" \"2\"]"),
        ("SORT_RO l STORE x", "(error) ERR syntax error"),
        ("SADD s b a", "2"),
        ("SORT s", "(error) ERR One or more scores can't be converted into double"),
        ("SORT s ALPHA DESC", "[\"b\" \"a\"]"),
        ("SORT none STORE sorted", "0"),
        ("EXISTS sorted", "0"),
    ]);
}
