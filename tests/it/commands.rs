//! Commands that need no server.

use mainstay::base::LocalDisk;
use mainstay::base::disk::replace_file;

use crate::harness::{mainstay, run, said};

#[test]
fn the_reference_is_a_valid_settings_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mainstay.toml");
    let reference = run(["config", "reference"]);
    assert_eq!(reference.code, 0);
    replace_file(&LocalDisk, &file, reference.out.as_bytes()).unwrap();
    let checked = run(["config", "check", "--config", file.to_str().unwrap()]);
    assert_eq!(checked.code, 0, "{}", checked.err);
}

#[test]
fn config_check_tells_what_is_set_and_from_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mainstay.toml");
    replace_file(&LocalDisk, &file, b"[log]\nlevel = \"debug\"\n").unwrap();
    let checked = run(["config", "check", "--config", file.to_str().unwrap()]);
    assert!(checked.out.contains(&format!("= \"debug\"  ({}:2:1)", file.display())), "{}", checked.out);
    assert!(checked.out.contains("(MAINSTAY_CONSOLE__LISTEN)"), "{}", checked.out);
}

#[test]
fn a_mistake_is_told_with_place_and_cure_and_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mainstay.toml");
    replace_file(&LocalDisk, &file, b"[console]\nlisen = \"127.0.0.1:8000\"\n").unwrap();
    for command in [&["config", "check"][..], &["serve"]] {
        let told = run(command.iter().copied().chain(["--config", file.to_str().unwrap()]));
        assert_eq!(told.code, 1);
        let wanted = format!("{}:2:1: unknown setting console.lisen; did you mean console.listen?", file.display());
        assert!(told.err.contains(&wanted), "{}", told.err);
    }
}

#[test]
fn help_and_version_are_there() {
    assert!(run(["--help"]).out.contains("Examples:"));
    assert_eq!(run(["version"]).out, format!("mainstay {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(["no-such-command"]).code, 2);
    let silent = said(&mainstay().output().unwrap());
    assert_eq!(silent.code, 2);
}
