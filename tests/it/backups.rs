//! Backups with the built binary: made by a running server or at rest, restored into a fresh folder.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use mainstay::base::LocalDisk;
use mainstay::base::disk::replace_file;

use crate::harness::{Said, Server, mainstay, said};

/// `mainstay backup` with `words`, about the folder `data`.
fn backup(data: &Path, words: &[&str]) -> Said {
    said(&mainstay().arg("backup").args(words).arg("--data").arg(data).output().unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_restored_folder_serves_with_the_same_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let [target, key, copy] = ["target", "key", "copy"].map(|name| folder.path().join(name));
    let server = Server::start();
    let exported = server.command(&["key", "export"]);
    replace_file(&LocalDisk, &key, exported.out.as_bytes()).unwrap();
    let env = server.env();
    let made = backup(&server.data, &["now", "--target", text(&target)]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.contains("all as they were"), "{}", made.out);
    assert_eq!(server.stop(), 0);

    let restored = backup(&copy, &["restore", "--from", text(&target), "--key-file", text(&key)]);
    assert_eq!(restored.code, 0, "{}", restored.err);
    let again = Server::start_in(&copy, &[]);
    for name in ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"] {
        assert_eq!(again.env()[name], env[name], "{name}");
    }
    let restore = || backup(&copy, &["restore", "--from", text(&target), "--key-file", text(&key)]);
    let served = restore();
    assert_eq!(served.code, 1);
    assert!(served.err.contains("is in use by the Mainstay"), "{}", served.err);
    assert_eq!(again.stop(), 0);
    let occupied = restore();
    assert_eq!(occupied.code, 1);
    assert!(occupied.err.contains("is not empty"), "{}", occupied.err);
}

#[test]
fn another_key_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [target, key, copy] = ["target", "key", "copy"].map(|name| folder.path().join(name));
    let server = Server::start();
    assert_eq!(backup(&server.data, &["now", "--target", text(&target)]).code, 0);
    replace_file(&LocalDisk, &key, "0a".repeat(32).as_bytes()).unwrap();
    let refused = backup(&copy, &["restore", "--from", text(&target), "--key-file", text(&key)]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("key"), "{}", refused.err);
    assert!(!copy.exists(), "nothing was begun");
}

#[test]
fn a_piped_dump_comes_back_and_an_empty_one_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let server = Server::start();
    let add = |input: &[u8]| {
        let words = ["backup", "add", "--stdin", "app.sql", "--target", text(&target), "--data"];
        let mut command = mainstay();
        command.args(words).arg(&server.data).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        said(&child.wait_with_output().unwrap())
    };
    let added = add(b"create table t();");
    assert_eq!(added.code, 0, "{}", added.err);
    let empty = add(b"");
    assert_eq!(empty.code, 1);
    assert!(empty.err.contains("nothing came"), "{}", empty.err);
    let back = backup(&server.data, &["restore", "--from", text(&target), "--stdin-name", "app.sql", "--to", "-"]);
    assert_eq!(back.out, "create table t();", "{}", back.err);
}
