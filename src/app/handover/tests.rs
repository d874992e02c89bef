//! The conversation of two processes, with both in one.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::channel::{Channel, ChannelError, MOST_SOCKETS};
use super::launch::{Life, Program, Stage};
use super::message::{Manifest, News, Past, Word};
use super::successor::Successor;
use crate::app::inherited::{Kept, Passed};
use crate::base::{LocalDisk, SystemClock, disk};

const SOON: Option<Duration> = Some(Duration::from_secs(10));

/// A channel with both ends.
fn pair() -> (Channel, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    (ours, Channel::of(theirs))
}

#[test]
fn sockets_arrive_with_what_they_are_for_and_still_listen() {
    let (old, new) = Channel::pair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let kept = Kept::default();
    kept.keep("s3.listen", false, Some("127.0.0.1:0".to_owned()), &listener).unwrap();
    kept.keep("edge.http", false, None, &listener).unwrap();
    drop(listener);
    {
        let sockets = kept.all();
        let manifest = Manifest::of(&sockets, Past { done: 3, failed: 1 });
        let beside: Vec<_> = sockets.iter().map(|passed| passed.socket.as_fd()).collect();
        old.send(&Word::Sockets(manifest), &beside).unwrap();
    }
    kept.close();
    let mut client = TcpStream::connect(address).unwrap();
    let (successor, mut inherited) = Successor::begin(new).unwrap();
    assert_eq!(successor.past, Past { done: 3, failed: 1 });
    assert!(inherited.is_given("edge.http"));
    let listener = inherited.tcp("s3.listen", "127.0.0.1:0").pop().unwrap();
    std::io::Write::write_all(&mut listener.accept().unwrap().0, b"hello").unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello");
}

#[test]
fn a_turn_is_waited_for_and_given() {
    let (old, new) = Channel::pair().unwrap();
    old.send(&Word::Sockets(Manifest::of(&[], Past::default())), &[]).unwrap();
    let (successor, _) = Successor::begin(new).unwrap();
    old.send(&Word::Go, &[]).unwrap();
    successor.wait_for_turn().unwrap();
    successor.ready();
    let (first, _) = old.receive::<News>(SOON).unwrap();
    assert!(matches!(first, News::Waiting { pid, .. } if pid == std::process::id()));
    assert_eq!(old.receive::<News>(SOON).unwrap().0, News::Ready);
    successor.failed("no room");
    drop(successor);
    assert_eq!(old.receive::<News>(SOON).unwrap().0, News::Failed("no room".to_owned()));
    assert!(matches!(old.receive::<News>(SOON), Err(ChannelError::Ended)));
}

#[test]
fn a_process_whose_turn_never_comes_is_told_so() {
    let (old, new) = Channel::pair().unwrap();
    old.send(&Word::Sockets(Manifest::of(&[], Past::default())), &[]).unwrap();
    let (successor, _) = Successor::begin(new).unwrap();
    drop(old);
    let error = successor.wait_for_turn().unwrap_err().to_string();
    assert!(error.starts_with("cannot take over: "), "{error}");
}

#[test]
fn silence_and_nonsense_are_told_apart() {
    let (old, new) = pair();
    assert!(matches!(old.receive::<News>(Some(Duration::ZERO)), Err(ChannelError::Late(_))));
    new.send(&"nonsense", &[]).unwrap();
    assert!(matches!(old.receive::<News>(SOON), Err(ChannelError::Message(_))));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(new.send(&Word::Go, &vec![listener.as_fd(); MOST_SOCKETS + 1]).is_err());
}

#[test]
fn a_manifest_without_its_sockets_is_none() {
    let socket = || TcpListener::bind("127.0.0.1:0").unwrap().into();
    let passed = Passed { key: "s3.listen".to_owned(), unix: false, bound: None, socket: socket() };
    let manifest = || Manifest::of(std::slice::from_ref(&passed), Past::default());
    assert!(manifest().with(Vec::new()).is_none());
    assert_eq!(manifest().with(vec![socket()]).unwrap().len(), 1);
}

#[test]
fn another_conversation_is_refused() {
    assert_eq!(Stage::of("launch-1"), Ok(Stage::Launch));
    assert_eq!(Stage::of("serve-1"), Ok(Stage::Serve));
    assert!(Stage::of("serve-2").unwrap_err().contains("restart the server"));
}

/// A file with `text` and mode `mode` in `folder`.
fn file(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = folder.join(name);
    disk::replace_file(&LocalDisk, &path, text.as_bytes()).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_program_is_checked_before_anything_happens() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, text: &str, mode| {
        let path = file(folder.path(), name, text, mode);
        Program::default().check(&path, &SystemClock::new())
    };
    let script = |body: &str| format!("#!/bin/sh\n{body}\n");
    assert!(check("plain", "x", 0o644).unwrap_err().contains("must be an executable file"));
    assert!(check("other", &script("echo nginx 1.0"), 0o755).unwrap_err().contains("is no Mainstay"));
    assert!(check("broken", &script("echo oh no; exit 1"), 0o755).unwrap_err().contains("oh no"));
    let picky = script("[ $1 = version ] && echo mainstay 9.9.9 || { echo no such setting; exit 1; }");
    let told = check("picky", &picky, 0o755).unwrap_err();
    assert_eq!(told, "Mainstay 9.9.9 cannot use the settings: no such setting");
    let good = script("[ $1 = version ] && echo mainstay 9.9.9 || echo all are valid");
    assert_eq!(check("good", &good, 0o755).as_deref(), Ok("9.9.9"));
    let gone = Program::default().check(&folder.path().join("gone"), &SystemClock::new());
    assert!(gone.unwrap_err().contains("gone"));
}

#[test]
fn a_process_is_known_to_live_and_to_have_been_ended() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let life = Life::of(child.id()).unwrap();
    assert!(!life.ends_within(Duration::ZERO).unwrap());
    assert!(life.end());
    assert!(!child.wait().unwrap().success());
    assert!(Life::of(0).is_err());
}
