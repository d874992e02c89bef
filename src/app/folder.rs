//! The data folder and the lock that keeps a second process out of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::StartError;
use crate::backup::own::restore::{UNFINISHED, clear, leaves};
use crate::base::{Disk, EntryKind};

/// What stands in the folder once it holds data that the keyring's keys seal.
const DATA: [&str; 5] = ["state.redb", "objects.redb", "issues.redb", "kv", "objects"];

/// A data folder that this process alone uses, as long as this value lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Whether anything in it was sealed by an earlier start.
    pub has_data: bool,
    /// The kernel drops the lock with the descriptor, also when the process is killed.
    _lock: File,
}

impl Folder {
    /// Takes the folder at `path`, making it (mode 0700) when it is not there. Blocks.
    ///
    /// # Errors
    /// [`StartError::Locked`] when another process has it, [`StartError::Folder`] when it cannot be used.
    pub fn create(disk: &dyn Disk, path: &Path) -> Result<Self, StartError> {
        make(disk, path).map_err(|source| unusable(path, "cannot make the data folder", source))?;
        Self::take(disk, path)
    }

    /// Takes the folder at `path`, which must be there. Blocks.
    ///
    /// # Errors
    /// As [`Folder::create`]; [`StartError::NoFolder`] when it is not there.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StartError> {
        match disk.entry(path) {
            Ok(None) => Err(StartError::NoFolder { path: path.to_owned() }),
            _ => Self::take(disk, path),
        }
    }

    /// Takes the folder at `path` for a restore: it is made, or there and empty, or holds a restore that did not come to
    /// its end, which is removed. Blocks.
    ///
    /// # Errors
    /// As [`Folder::create`]; [`StartError::NotEmpty`] when anything is in it.
    pub fn for_restore(disk: &dyn Disk, path: &Path) -> Result<Self, StartError> {
        make(disk, path).map_err(|source| unusable(path, "cannot make the data folder", source))?;
        let unreadable = |source| unusable(path, "cannot read the folder", source);
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        let lock = lock(&absolute)?;
        let unfinished = disk.entry(&absolute.join(UNFINISHED)).map_err(unreadable)?.is_some();
        for entry in disk.list(path).map_err(unreadable)? {
            let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
            if name != "lock" && !(unfinished && leaves(&name)) {
                return Err(StartError::NotEmpty { path: path.to_owned(), found: name.into_owned() });
            }
        }
        if unfinished {
            let failed = |error| unusable(path, "cannot remove what a restore has left", io::Error::other(error));
            clear(disk, &absolute).map_err(failed)?;
        }
        Self::locked(disk, path, absolute, lock)
    }

    /// Where the folder at `path` is, as [`Self::path`] of it will say.
    ///
    /// # Errors
    /// [`StartError::Folder`].
    pub fn place(path: &Path) -> Result<PathBuf, StartError> {
        std::path::absolute(path).map_err(|source| unusable(path, "cannot tell its absolute path", source))
    }

    /// Where it is, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn take(disk: &dyn Disk, path: &Path) -> Result<Self, StartError> {
        let absolute = Self::place(path)?;
        let lock = lock(&absolute)?;
        Self::locked(disk, path, absolute, lock)
    }

    fn locked(disk: &dyn Disk, path: &Path, path_taken: PathBuf, lock: File) -> Result<Self, StartError> {
        let unusable = |what| move |source| unusable(path, what, source);
        warn_of_onlookers(&path_taken);
        let unfinished = path_taken.join(UNFINISHED);
        if disk.entry(&unfinished).map_err(unusable("cannot read the data folder"))?.is_some() {
            return Err(StartError::Unfinished { path: path_taken });
        }
        let mut has_data = false;
        for name in DATA {
            let path = path_taken.join(name);
            let entry = disk.entry(&path).map_err(unusable("cannot read the data folder"))?;
            has_data |= match entry.map(|entry| entry.kind) {
                Some(EntryKind::Folder) => {
                    !disk.list(&path).map_err(unusable("cannot read the data folder"))?.is_empty()
                }
                Some(_) => true,
                None => false,
            };
        }
        Ok(Self { path: path_taken, has_data, _lock: lock })
    }
}

/// Makes the folder where it is missing, and what is missing above it, so that none of them is gone after a power cut:
/// what is synced inside of a folder is lost with the folder's own name.
fn make(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let mut missing = Vec::new();
    for folder in path.ancestors() {
        if disk.entry(folder)?.is_some() {
            break;
        }
        missing.push(folder);
    }
    disk.create_dir(&path)?;
    missing.into_iter().filter_map(Path::parent).try_for_each(|parent| disk.sync_dir(parent))
}

fn lock(folder: &Path) -> Result<File, StartError> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(|source| unusable(&path, "cannot make the lock file", source))?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(unusable(&path, "cannot lock the data folder", error.into()));
        }
        let mut pid = String::new();
        // Only for the message.
        let _ = file.by_ref().take(20).read_to_string(&mut pid);
        let pid = if pid.trim().is_empty() { String::from("unknown") } else { pid.trim().to_owned() };
        return Err(StartError::Locked { path: folder.to_owned(), pid });
    }
    let pid = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.write_all_at(pid.as_bytes(), 0))
        .map_err(|source| unusable(&path, "cannot write the lock file", source))?;
    Ok(file)
}

fn warn_of_onlookers(path: &Path) {
    let mode = path.metadata().map_or(0o700, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let mode = format!("{:04o}", mode & 0o7777);
        tracing::warn!(path = %path.display(), mode, "other users may enter the data folder; `chmod 700` keeps them out");
    }
}

fn unusable(path: &Path, what: &'static str, source: io::Error) -> StartError {
    let instead = match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "give the user Mainstay runs as this folder (chown), or choose another with --data"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full: free some space",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only: choose another folder with --data",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "something else has that name: choose another with --data"
        }
        _ => "choose another folder with --data",
    };
    StartError::Folder { path: path.to_owned(), what, source, instead }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LocalDisk;
    use crate::base::disk::replace_file;
    use crate::testing::FaultyDisk;

    #[test]
    fn a_fresh_data_folder_outlives_a_power_cut() {
        let (disk, path) = (FaultyDisk::new(), Path::new("/srv/apps/data"));
        make(&disk, path).unwrap();
        make(&disk, path).unwrap();
        for seed in 0..20 {
            assert!(disk.crash(seed).entry(path).unwrap().is_some());
        }
    }

    #[test]
    fn a_second_user_of_the_folder_is_told_who_has_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = Folder::create(&LocalDisk, &path).unwrap();
        let error = Folder::create(&LocalDisk, &path).unwrap_err().to_string();
        assert!(error.contains(&format!("process id {}", std::process::id())), "{error}");
        drop(first);
        Folder::create(&LocalDisk, &path).unwrap();
    }

    #[test]
    fn a_new_folder_is_private_and_empty() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        assert!(matches!(Folder::open(&LocalDisk, &path), Err(StartError::NoFolder { .. })));
        let folder = Folder::create(&LocalDisk, &path).unwrap();
        assert!(!folder.has_data);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_with_anything_in_it_is_not_restored_into() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        drop(Folder::for_restore(&LocalDisk, &path).unwrap());
        drop(Folder::for_restore(&LocalDisk, &path).unwrap());
        replace_file(&LocalDisk, &path.join("notes.txt"), b"x").unwrap();
        let error = Folder::for_restore(&LocalDisk, &path).unwrap_err();
        assert!(matches!(&error, StartError::NotEmpty { found, .. } if found == "notes.txt"), "{error}");
    }

    #[test]
    fn a_half_restored_folder_is_not_served() {
        let parent = tempfile::tempdir().unwrap();
        replace_file(&LocalDisk, &parent.path().join(UNFINISHED), b"x").unwrap();
        assert!(matches!(Folder::open(&LocalDisk, parent.path()), Err(StartError::Unfinished { .. })));
    }

    #[test]
    fn a_half_restored_folder_is_restored_into_again_and_nothing_else_of_it_goes() {
        let parent = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = parent.path().join(name);
            LocalDisk.create_dir(path.parent().unwrap()).unwrap();
            replace_file(&LocalDisk, &path, b"x").unwrap();
        };
        ["state.redb", "keys/ring", "kv/journal-1", "objects/blobs/00/x", "restore-losses.json"]
            .into_iter()
            .for_each(put);
        put("notes.txt");
        put(UNFINISHED);
        let error = Folder::for_restore(&LocalDisk, parent.path()).unwrap_err();
        assert!(matches!(&error, StartError::NotEmpty { found, .. } if found == "notes.txt"), "{error}");
        assert!(parent.path().join("keys/ring").exists());
        LocalDisk.remove_file(&parent.path().join("notes.txt")).unwrap();
        let folder = Folder::for_restore(&LocalDisk, parent.path()).unwrap();
        assert!(!parent.path().join("keys/ring").exists() && !parent.path().join("state.redb").exists());
        assert!(!parent.path().join(UNFINISHED).exists() && !parent.path().join("objects/blobs/00/x").exists());
        assert_eq!(folder.path(), std::path::absolute(parent.path()).unwrap());
    }

    #[test]
    fn files_and_filled_folders_are_data() {
        for name in ["state.redb", "objects/x"] {
            let parent = tempfile::tempdir().unwrap();
            let file = parent.path().join(name);
            LocalDisk.create_dir(file.parent().unwrap()).unwrap();
            replace_file(&LocalDisk, &file, b"x").unwrap();
            assert!(Folder::open(&LocalDisk, parent.path()).unwrap().has_data, "{name}");
        }
    }

    #[test]
    fn a_file_in_the_way_is_told_with_the_way_out() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        replace_file(&LocalDisk, &path, b"x").unwrap();
        assert!(Folder::create(&LocalDisk, &path).unwrap_err().to_string().ends_with("choose another with --data"));
    }
}
