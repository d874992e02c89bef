//! The keyring on a real folder: what opens, what refuses, and that refusing changes nothing.

use super::*;
use crate::base::{LocalDisk, SystemRandom};

fn open(folder: &Path, source: MasterSource, has_data: bool) -> Result<Keyring, KeyringError> {
    Keyring::open(Arc::new(LocalDisk), Arc::new(SystemRandom), folder, source, has_data)
}

fn given(byte: &str) -> MasterSource {
    MasterSource::Given { key: MasterKey::parse(&byte.repeat(32)).unwrap(), from: "MAINSTAY_MASTER_KEY" }
}

#[test]
fn a_second_opening_gives_the_same_keys() {
    let folder = tempfile::tempdir().unwrap();
    let ring = open(folder.path(), MasterSource::Folder, false).unwrap();
    let key = ring.key("store/state").unwrap();
    assert_ne!(key.expose(), ring.key("store/objects").unwrap().expose());

    let again = open(folder.path(), MasterSource::Folder, true).unwrap();
    assert_eq!(again.key("store/state").unwrap().expose(), key.expose());
    assert!(again.has("store/objects") && !again.has("store/other"));
}

#[test]
fn a_wrong_master_key_refuses_and_names_both() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = open(folder.path(), given("0a"), false).unwrap().master_id();
    let error = open(folder.path(), given("0b"), true).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, KeyringError::WrongMaster { .. }), "{text}");
    assert!(text.contains(&wanted) && text.contains("MAINSTAY_MASTER_KEY"), "{text}");
}

#[test]
fn no_new_key_is_made_over_old_data() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(open(folder.path(), MasterSource::Folder, true), Err(KeyringError::MissingRing { .. })));
    assert!(!folder.path().join("keys").exists());

    open(folder.path(), MasterSource::Folder, false).unwrap();
    let key = folder.path().join("keys/master.key");
    LocalDisk.rename(&key, &folder.path().join("elsewhere")).unwrap();
    assert!(matches!(open(folder.path(), MasterSource::Folder, true), Err(KeyringError::MissingMaster { .. })));
    assert!(!key.exists());
}

#[test]
fn a_wrapped_key_opens_only_in_its_context() {
    let folder = tempfile::tempdir().unwrap();
    let ring = open(folder.path(), given("0a"), false).unwrap();
    let key = Key::from_bytes([5; 32]);
    let mut wrapped = ring.wrap(b"bucket 1", &key);
    assert_eq!(wrapped.len(), WRAPPED);
    assert_eq!(ring.unwrap(b"bucket 1", &wrapped).unwrap().expose(), key.expose());
    assert!(ring.unwrap(b"bucket 2", &wrapped).is_err());
    wrapped[20] ^= 1;
    assert!(ring.unwrap(b"bucket 1", &wrapped).is_err());
    assert!(ring.unwrap(b"bucket 1", &wrapped[..10]).is_err());
}

#[test]
fn a_newer_or_damaged_ring_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let ring = folder.path().join("keys/ring");
    LocalDisk.create_dir(&folder.path().join("keys")).unwrap();
    disk::replace_file(&LocalDisk, &ring, br#"{"version":3,"new":true}"#).unwrap();
    assert!(matches!(open(folder.path(), given("0a"), true), Err(KeyringError::NewerRing { found: 3, .. })));
    disk::replace_file(&LocalDisk, &ring, b"{").unwrap();
    assert!(matches!(open(folder.path(), given("0a"), true), Err(KeyringError::Damaged { .. })));
}
