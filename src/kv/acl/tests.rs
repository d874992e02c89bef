//! Users against commands.

use super::*;
use crate::kv::commands::lookup;

fn user(rules: &str) -> Acl {
    let mut acl = Acl::new("app");
    for rule in rules.split(' ') {
        acl.apply(rule.as_bytes()).unwrap_or_else(|error| panic!("{rule}: {error}"));
    }
    acl
}

fn says(acl: &Acl, database: u8, line: &str) -> Result<(), Denied> {
    let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    acl.check(lookup(args[0]).unwrap(), database, &args)
}

#[test]
fn the_last_rule_that_names_a_command_decides() {
    let acl = user("on ~* +@all -@dangerous +config|get -@write +set");
    for line in ["get a", "set a b", "config get x", "client setname x", "select 3", "multi", "auth x"] {
        assert_eq!(says(&acl, 0, line), Ok(()), "{line}");
    }
    for line in ["keys *", "config set a b", "flushall", "del a", "client kill x", "incr a"] {
        assert!(matches!(says(&acl, 0, line), Err(Denied::Command { .. })), "{line}");
    }
    let denied = says(&acl, 0, "config set a b").unwrap_err().to_string();
    assert_eq!(denied, "NOPERM User app has no permissions to run the 'config|set' command");
    assert!(says(&Acl::new("x"), 0, "get a").is_err(), "a new user may nothing");
}

#[test]
fn every_key_of_a_command_must_be_allowed() {
    let acl = user("on ~app:* %R~shared:* %W~log:* +@all");
    for line in ["get app:1", "mget app:1 shared:1", "rename app:1 app:2", "get shared:1", "zinter 2 app:1 shared:2"] {
        assert_eq!(says(&acl, 0, line), Ok(()), "{line}");
    }
    for line in [
        "get other",
        "mget app:1 other",
        "set shared:1 x",
        "rename app:1 other",
        "zinterstore app:1 2 app:2 other",
        "get log:1",
        "set log:1 x",
        "zinter 2 app:1 other",
        "copy app:1 other",
    ] {
        assert!(matches!(says(&acl, 0, line), Err(Denied::Key(_))), "{line}");
    }
}

#[test]
fn a_user_stays_in_its_databases() {
    let acl = user("on ~* +@all db=3,5");
    assert_eq!((acl.database(0), acl.database(5)), (3, 5));
    for (database, line) in [(3, "get a"), (0, "select 5"), (0, "ping"), (3, "copy a b db 5"), (3, "swapdb 3 5")] {
        assert_eq!(says(&acl, database, line), Ok(()), "{line}");
    }
    for (database, line) in [
        (0, "get a"),
        (0, "scan 0"),
        (0, "dbsize"),
        (3, "select 0"),
        (3, "move a 0"),
        (3, "copy a b db 0"),
        (3, "flushall"),
    ] {
        assert!(matches!(says(&acl, database, line), Err(Denied::Database(_))), "{line}");
    }
}

#[test]
fn channels_are_bound_too() {
    let acl = user("on +@all &news:*");
    for line in ["publish news:1 x", "subscribe news:1 news:2", "psubscribe news:*", "unsubscribe other"] {
        assert_eq!(says(&acl, 0, line), Ok(()), "{line}");
    }
    for line in ["publish other x", "subscribe news:1 other", "psubscribe n*"] {
        assert!(matches!(says(&acl, 0, line), Err(Denied::Channel(_))), "{line}");
    }
}

#[test]
fn rules_are_written_as_they_are_read() {
    let acl = user("on >secret ~app:* %R~shared:* &news:* db=1,2 +@all -@dangerous +config|get");
    let text = acl.rules();
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let wanted = "sanitize-payload ~app:* %R~shared:* resetchannels &news:* db=1,2 +@all -@dangerous +config|get";
    assert_eq!(text, format!("on #{hash} {wanted}"));
    assert_eq!(user(&text), acl);
    assert_eq!(user("+get -get").commands_text(), "-@all -get");
    assert_eq!(user("+config|get -config").commands_text(), "-@all -config");
}

#[test]
fn what_is_no_rule_is_told_and_changes_nothing() {
    let mut acl = user("on ~a +get");
    let before = acl.clone();
    for (rule, error) in [
        ("nonsense", RuleError::Syntax),
        ("+nonsense", RuleError::Unknown),
        ("+@nonsense", RuleError::Unknown),
        ("+get|x", RuleError::Unknown),
        ("#12", RuleError::Hash),
        ("<other", RuleError::NoSuchPassword),
        ("%X~a", RuleError::Syntax),
        ("db=16", RuleError::Syntax),
        ("db=", RuleError::Syntax),
        ("(~a)", RuleError::Selector),
    ] {
        assert_eq!(acl.apply(rule.as_bytes()), Err(error), "{rule}");
        assert_eq!(acl, before);
    }
    acl.apply(b"allkeys").unwrap();
    assert_eq!(acl.apply(b"~b"), Err(RuleError::BehindAllKeys));
}

#[test]
fn a_password_is_its_hash() {
    let acl = user("on >one >two <one");
    assert_eq!(acl.passwords().len(), 1);
    assert!(!format!("{acl:?}").contains(&acl.passwords()[0]));
}

proptest::proptest! {
    #[test]
    fn no_rule_breaks_it_and_what_is_read_is_written(rules in proptest::collection::vec("[-+~&%><#!@a-z|*=0-9R]{0,12}", 0..20)) {
        let mut acl = Acl::new("x");
        for rule in &rules {
            let _ = acl.apply(rule.as_bytes());
        }
        let mut again = Acl::new("x");
        for rule in acl.rules().split(' ') {
            again.apply(rule.as_bytes()).unwrap();
        }
        proptest::prop_assert_eq!(again.rules(), acl.rules());
    }
}
