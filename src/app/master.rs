//! Where the master key comes from.

use std::path::{Path, PathBuf};

use super::StartError;
use crate::base::{Disk, Secret, disk};
use crate::config::Environment;
use crate::crypto::MasterKey;
use crate::crypto::keyring::MasterSource;

/// The systemd credential that holds the master key (`LoadCredential=mainstay.master-key:…`).
const CREDENTIAL: &str = "mainstay.master-key";

/// The one that holds the master key before.
const CREDENTIAL_PREVIOUS: &str = "mainstay.master-key-previous";

/// Most bytes of a file with a master key.
const FILE_LIMIT: u64 = 4096;

/// The master key of the first source that has one: `MAINSTAY_MASTER_KEY`, `MAINSTAY_MASTER_KEY_FILE`, the systemd
/// credential, else the data folder; with the one before it, if that is given too, in one of the same three ways. Blocks.
///
/// # Errors
/// What is named cannot be read or is no key, or only the key before is given. A source that was named is never passed over.
pub fn source(disk: &dyn Disk, environment: &Environment) -> Result<MasterSource, StartError> {
    let credentials = environment.credentials.as_deref();
    let key = first(
        disk,
        (environment.master_key.as_ref(), "MAINSTAY_MASTER_KEY"),
        (environment.master_key_file.as_deref(), "MAINSTAY_MASTER_KEY_FILE"),
        (credentials.map(|folder| folder.join(CREDENTIAL)), "the systemd credential mainstay.master-key"),
    )?;
    let previous = first(
        disk,
        (environment.master_key_previous.as_ref(), "MAINSTAY_MASTER_KEY_PREVIOUS"),
        (environment.master_key_previous_file.as_deref(), "MAINSTAY_MASTER_KEY_PREVIOUS_FILE"),
        (
            credentials.map(|folder| folder.join(CREDENTIAL_PREVIOUS)),
            "the systemd credential mainstay.master-key-previous",
        ),
    )?;
    match (key, previous) {
        (Some((key, from)), Some((previous, _))) => Ok(MasterSource::Changed { key, previous, from }),
        (Some((key, from)), None) => Ok(MasterSource::Given { key, from }),
        (None, None) => Ok(MasterSource::Folder),
        (None, Some((_, from))) => Err(StartError::PreviousAlone { from }),
    }
}

/// The key of the first of text, file and credential that is given, and the name of where it was.
fn first(
    disk: &dyn Disk,
    (text, variable): (Option<&Secret<String>>, &'static str),
    (file, named): (Option<&Path>, &'static str),
    (credential, passed): (Option<PathBuf>, &'static str),
) -> Result<Option<(MasterKey, &'static str)>, StartError> {
    if let Some(text) = text {
        return given(text, variable).map(Some);
    }
    if let Some(path) = file {
        let missing = || {
            let source = std::io::ErrorKind::NotFound.into();
            StartError::MasterFile { from: named, path: path.to_owned(), source }
        };
        return from_file(disk, path, named)?.ok_or_else(missing).map(Some);
    }
    credential.map_or(Ok(None), |path| from_file(disk, &path, passed))
}

fn from_file(
    disk: &dyn Disk,
    path: &Path,
    from: &'static str,
) -> Result<Option<(MasterKey, &'static str)>, StartError> {
    let bytes = disk::read_file(disk, path, FILE_LIMIT).map_err(|source| StartError::MasterFile {
        from,
        path: path.to_owned(),
        source,
    })?;
    bytes.map(|bytes| given(&Secret::new(String::from_utf8_lossy(&bytes).into_owned()), from)).transpose()
}

fn given(text: &Secret<String>, from: &'static str) -> Result<(MasterKey, &'static str), StartError> {
    let key =
        MasterKey::parse(text.expose()).map_err(|source| StartError::MasterKey { from: from.to_owned(), source })?;
    Ok((key, from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk::replace_file;
    use crate::base::{LocalDisk, SystemRandom};

    fn origin(environment: &Environment) -> Result<&'static str, StartError> {
        source(&LocalDisk, environment).map(|found| match found {
            MasterSource::Given { from, .. } | MasterSource::Changed { from, .. } => from,
            MasterSource::Folder => "folder",
        })
    }

    #[test]
    fn the_first_source_that_has_a_key_wins() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::random(&SystemRandom).export();
        let mut environment = Environment::default();
        assert_eq!(origin(&environment).unwrap(), "folder");
        environment.credentials = Some(folder.path().to_owned());
        assert_eq!(origin(&environment).unwrap(), "folder");
        replace_file(&LocalDisk, &folder.path().join(CREDENTIAL), key.expose().as_bytes()).unwrap();
        assert!(origin(&environment).unwrap().contains("credential"));
        environment.master_key_file = Some(folder.path().join(CREDENTIAL));
        assert_eq!(origin(&environment).unwrap(), "MAINSTAY_MASTER_KEY_FILE");
        environment.master_key = Some(key);
        assert_eq!(origin(&environment).unwrap(), "MAINSTAY_MASTER_KEY");
    }

    #[test]
    fn the_key_before_is_taken_beside_another_and_never_alone() {
        let [key, before] = [(); 2].map(|()| MasterKey::random(&SystemRandom));
        let previous = Some(before.export());
        let mut environment = Environment { master_key_previous: previous, ..Environment::default() };
        let alone = source(&LocalDisk, &environment).unwrap_err().to_string();
        assert!(alone.starts_with("MAINSTAY_MASTER_KEY_PREVIOUS"), "{alone}");
        environment.master_key = Some(key.export());
        let found = source(&LocalDisk, &environment).unwrap();
        let MasterSource::Changed { key: found, previous, from } = found else { panic!("both were given") };
        assert_eq!((found.id(), previous.id(), from), (key.id(), before.id(), "MAINSTAY_MASTER_KEY"));
    }

    #[test]
    fn a_named_file_that_is_missing_or_holds_no_key_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let environment = Environment { master_key_file: Some(path.clone()), ..Environment::default() };
        assert!(matches!(origin(&environment), Err(StartError::MasterFile { .. })));
        replace_file(&LocalDisk, &path, b"hunter2").unwrap();
        let error = origin(&environment).unwrap_err().to_string();
        assert!(error.starts_with("MAINSTAY_MASTER_KEY_FILE: ") && !error.contains("hunter2"), "{error}");
    }
}
