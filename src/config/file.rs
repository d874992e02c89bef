//! Finding and reading the config file.

use std::io;
use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::source::Source;
use crate::base::{Disk, disk};

/// Looked for in this order when no flag names a file.
pub const PLACES: [&str; 2] = ["mainstay.toml", "/etc/mainstay/mainstay.toml"];

/// Most bytes a config file may have.
pub const FILE_LIMIT: u64 = 1 << 20;

/// A config file, read.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// Where it stands.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// The file at `wanted`, else the first of [`PLACES`] that is there, else none.
///
/// # Errors
/// `wanted` is not there, or the file cannot be read, is too large or is no UTF-8.
pub fn find(disk: &dyn Disk, wanted: Option<&Path>) -> Result<Option<ConfigFile>, Problem> {
    if let Some(path) = wanted {
        let missing = || problem(path, "no such file", "check the path given with --config");
        return read(disk, path)?.map(Some).ok_or_else(missing);
    }
    for place in PLACES {
        if let Some(file) = read(disk, Path::new(place))? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Option<ConfigFile>, Problem> {
    let bytes = match disk::read_file(disk, path, FILE_LIMIT) {
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => bytes,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(problem(path, &error.to_string(), "this is probably not the file you mean"));
        }
        Err(error) => {
            let instead = "make it readable for the user Mainstay runs as";
            return Err(problem(path, &format!("cannot be read: {error}"), instead));
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(ConfigFile { path: path.to_owned(), text })),
        Err(error) => {
            let what = format!("byte {} is not UTF-8", error.utf8_error().valid_up_to());
            Err(problem(path, &what, "save the file as UTF-8"))
        }
    }
}

fn problem(path: &Path, what: &str, instead: &str) -> Problem {
    let what = format!("{}: {what}", path.display());
    Problem { source: Source::Default, what, instead: Some(instead.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LocalDisk;

    #[test]
    fn a_named_file_must_be_there_and_be_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        assert!(find(&LocalDisk, Some(&path)).unwrap_err().to_string().contains("no such file"));
        disk::replace_file(&LocalDisk, &path, b"a = \xff").unwrap();
        assert!(find(&LocalDisk, Some(&path)).unwrap_err().to_string().contains("byte 4 is not UTF-8"));
        disk::replace_file(&LocalDisk, &path, b"[log]").unwrap();
        assert_eq!(find(&LocalDisk, Some(&path)).unwrap().unwrap().text, "[log]");
    }

    #[test]
    fn a_huge_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        disk::replace_file(&LocalDisk, &path, &vec![b'#'; FILE_LIMIT as usize + 1]).unwrap();
        assert!(find(&LocalDisk, Some(&path)).unwrap_err().to_string().contains("allowed are"));
    }
}
