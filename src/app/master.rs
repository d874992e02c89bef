//! Where the master key comes from.

use std::path::Path;

use super::StartError;
use crate::base::{Disk, Secret, disk};
use crate::config::Environment;
use crate::crypto::MasterKey;
use crate::crypto::keyring::MasterSource;

/// The systemd credential that holds the master key (`LoadCredential=mainstay.master-key:…`).
const CREDENTIAL: &str = "mainstay.master-key";

/// Most bytes of a file with a master key.
const FILE_LIMIT: u64 = 4096;

/// The master key of the first source that has one: `MAINSTAY_MASTER_KEY`, `MAINSTAY_MASTER_KEY_FILE`, the systemd
/// credential, else the data folder. Blocks.
///
/// # Errors
/// What is named cannot be read or is no key. A source that was named is never passed over.
pub fn source(disk: &dyn Disk, environment: &Environment) -> Result<MasterSource, StartError> {
    if let Some(text) = &environment.master_key {
        return given(text, "MAINSTAY_MASTER_KEY");
    }
    if let Some(path) = &environment.master_key_file {
        return from_file(disk, path, "MAINSTAY_MASTER_KEY_FILE")?.map_or_else(
            || {
                let source = std::io::ErrorKind::NotFound.into();
                Err(StartError::MasterFile { from: "MAINSTAY_MASTER_KEY_FILE", path: path.clone(), source })
            },
            Ok,
        );
    }
    if let Some(folder) = &environment.credentials
        && let Some(found) = from_file(disk, &folder.join(CREDENTIAL), "the systemd credential mainstay.master-key")?
    {
        return Ok(found);
    }
    Ok(MasterSource::Folder)
}

fn from_file(disk: &dyn Disk, path: &Path, from: &'static str) -> Result<Option<MasterSource>, StartError> {
    let bytes = disk::read_file(disk, path, FILE_LIMIT).map_err(|source| StartError::MasterFile {
        from,
        path: path.to_owned(),
        source,
    })?;
    bytes.map(|bytes| given(&Secret::new(String::from_utf8_lossy(&bytes).into_owned()), from)).transpose()
}

fn given(text: &Secret<String>, from: &'static str) -> Result<MasterSource, StartError> {
    let key =
        MasterKey::parse(text.expose()).map_err(|source| StartError::MasterKey { from: from.to_owned(), source })?;
    Ok(MasterSource::Given { key, from })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk::replace_file;
    use crate::base::{LocalDisk, SystemRandom};

    fn origin(environment: &Environment) -> Result<&'static str, StartError> {
        source(&LocalDisk, environment).map(|found| match found {
            MasterSource::Given { from, .. } => from,
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
