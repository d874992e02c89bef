use super::*;
use crate::base::{Listen, Span};
use crate::telemetry::LogFormat;

fn loaded(
    text: &str,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &'static str, String)],
) -> Result<Loaded, Problems> {
    let file = ConfigFile { path: "mainstay.toml".into(), text: text.to_owned() };
    let pairs = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let environment = Environment::from_pairs(pairs);
    load(Inputs { file: Some(&file), environment: &environment, flags })
}

fn refused(text: &str, environment: &[(&str, &str)]) -> String {
    loaded(text, environment, &[]).unwrap_err().to_string()
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[console]\nlisten = \"127.0.0.1:1\"\n[log]\nformat = \"json\"\n[server]\ndrain = \"3s\"\n";
    let environment = [("MAINSTAY_CONSOLE__LISTEN", "127.0.0.1:2"), ("MAINSTAY_SERVER__DRAIN", "4s")];
    let flags = [("--listen", "console.listen", String::from("127.0.0.1:3"))];
    let found = loaded(file, &environment, &flags).unwrap();
    assert_eq!(found.config.console.listen, Listen::loopback(3));
    assert_eq!(found.config.server.drain, Span::secs(4));
    assert_eq!(found.config.log.format, LogFormat::Json);
    for (key, source) in [
        ("console.listen", "--listen"),
        ("server.drain", "MAINSTAY_SERVER__DRAIN"),
        ("log.format", "mainstay.toml:4:1"),
        ("log.level", "default"),
    ] {
        assert_eq!(found.origins.source(key).to_string(), source);
    }
}

#[test]
fn an_empty_text_turns_a_door_off() {
    let found = loaded("", &[("MAINSTAY_CONSOLE__LISTEN", "")], &[]).unwrap();
    assert_eq!(found.config.console.listen, Listen::OFF);
}

#[test]
fn unknown_names_come_with_the_likely_one() {
    assert_eq!(
        refused("[console]\nlisen = \"\"", &[]),
        "mainstay.toml:2:1: unknown setting console.lisen; did you mean console.listen?"
    );
    assert_eq!(refused("[consle]", &[]), "mainstay.toml:1:2: unknown section consle; did you mean console?");
    assert_eq!(
        refused("", &[("MAINSTAY_LOG__LEVLE", "info")]),
        "MAINSTAY_LOG__LEVLE: unknown setting log.levle; did you mean log.level?"
    );
    assert!(refused("[log]\ncolour = 1", &[]).ends_with("; known here: level, format"));
}

#[test]
fn a_bad_value_is_told_with_its_place_and_the_default() {
    let told = refused("[server]\n  drain = 20", &[]);
    assert!(told.starts_with("mainstay.toml:2:11: server.drain = 20: "), "{told}");
    assert!(told.ends_with("; the default is `drain = \"20s\"`"), "{told}");
    let told = refused("", &[("MAINSTAY_LOG__FORMAT", "xml")]);
    assert!(told.starts_with("MAINSTAY_LOG__FORMAT: log.format = xml: unknown variant"), "{told}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let told = refused("[server]\ndrain = 1\n[log]\nformat = \"x\"\nx = 1\n", &[("MAINSTAY_A__B", "c")]);
    assert_eq!(told.lines().count(), 4, "{told}");
}

#[test]
fn broken_toml_is_told_with_its_line() {
    let told = refused("[server]\ndrain = \"20s", &[]);
    assert!(told.starts_with("mainstay.toml:2:"), "{told}");
    assert!(refused("log = 3", &[]).contains("log is a table, not a value"));
}

#[test]
fn a_level_nobody_understands_is_a_problem_with_its_source() {
    let told = refused("", &[("MAINSTAY_LOG__LEVEL", "loud,=")]);
    assert!(told.starts_with("MAINSTAY_LOG__LEVEL: log.level: `loud,=`"), "{told}");
}

#[test]
fn a_single_underscore_is_warned_about() {
    let found = loaded("", &[("MAINSTAY_LOG_LEVEL", "debug"), ("MAINSTAY_WHATEVER", "x")], &[]).unwrap();
    assert_eq!(found.warnings.len(), 1);
    assert!(found.warnings[0].to_string().ends_with("did you mean MAINSTAY_LOG__LEVEL?"));
}

#[test]
fn a_room_checks_its_own_settings_and_the_place_is_told() {
    let told = refused("[edge]\ndomain = \"a b\"\n", &[]);
    assert!(told.starts_with("mainstay.toml:2:1: edge.domain is `a b`"), "{told}");
    assert!(refused("", &[("MAINSTAY_EDGE__LIMITS__HEADERS", "0")]).starts_with("MAINSTAY_EDGE__LIMITS__HEADERS: "));
}

#[test]
fn tables_and_lists_inside_sections_are_read_and_checked() {
    let file = "[edge.limits]\nheaders = 7\n[[edge.sites]]\nupstream = \"a:1\"\n";
    let environment = [("MAINSTAY_EDGE__LIMITS__BODY", "1 MiB"), ("MAINSTAY_EDGE__TRUSTED_PROXIES", "10.0.0.0/8, ::1")];
    let edge = loaded(file, &environment, &[]).unwrap().config.edge;
    assert_eq!((edge.limits.headers, edge.limits.body.bytes()), (7, 1 << 20));
    assert_eq!(edge.trusted_proxies, ["10.0.0.0/8", "::1"]);
    assert_eq!(edge.sites[0].upstream, "a:1");
    let told = refused("[[edge.sites]]\nupstream = \"a:1\"\nhost = \"b\"\n", &[]);
    assert!(told.starts_with("mainstay.toml:3:1: edge.sites = "), "{told}");
    assert!(told.contains("unknown field `host`"), "{told}");
}

#[test]
fn two_doors_on_one_address_are_a_contradiction() {
    let told = refused("[edge]\nhttp = \"127.0.0.1:8000\"\n", &[]);
    assert!(told.contains("console.listen = \"127.0.0.1:8000\" is taken by edge.http already"), "{told}");
}

#[test]
fn redis_without_a_password_stays_on_loopback() {
    let open = "[redis]\nrequire_auth = false\n";
    assert!(loaded(open, &[], &[]).is_ok());
    assert!(loaded(open, &[("MAINSTAY_REDIS__LISTEN", "")], &[]).is_ok());
    let told = refused(open, &[("MAINSTAY_REDIS__LISTEN", "0.0.0.0:6379")]);
    assert!(told.starts_with("mainstay.toml:2:1: redis.require_auth = false"), "{told}");
}

#[test]
fn failures_are_counted_from_one_to_a_hundred() {
    assert!(loaded("[accounts]\nfailures_per_address = 100\n", &[], &[]).is_ok());
    for most in [0, 101] {
        let told = refused(&format!("[accounts]\nfailures_per_address = {most}\n"), &[]);
        assert!(told.starts_with("mainstay.toml:2:1: accounts.failures_per_address = "), "{told}");
    }
}
