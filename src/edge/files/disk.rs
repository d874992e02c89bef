//! From a request's path to an open file that lies below the root, and nowhere else.
//!
//! Every step from the root downwards is opened by itself and never through a symbolic link (`O_NOFOLLOW`), so that no
//! name, no link and no race with whoever writes there leads out. The root itself may be a link: deployments swap it.
//! These calls block.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

/// Most segments of a path.
const DEEPEST: usize = 64;
/// The one folder that begins with a dot and is served (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// A path of a request, decoded and checked: names only, none hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath {
    names: Vec<String>,
    /// Whether it ends in `/`.
    pub folder: bool,
}

impl FilePath {
    /// Reads the raw path of a request. `None` when no file can have it: parts that are empty, `.`, `..` or begin with a
    /// dot, that hold a separator or NUL once decoded, or are no UTF-8.
    pub fn of(raw: &str) -> Option<Self> {
        let rest = raw.strip_prefix('/')?;
        let folder = rest.is_empty() || rest.ends_with('/');
        let parts = rest.strip_suffix('/').unwrap_or(rest).split('/');
        let mut names = Vec::new();
        for part in parts.filter(|_| !rest.is_empty()) {
            let name = percent_encoding::percent_decode_str(part).decode_utf8().ok()?;
            let hidden = name.starts_with('.') && !(name == WELL_KNOWN && names.is_empty());
            if name.is_empty() || hidden || name.contains(['/', '\\', '\0']) || names.len() >= DEEPEST {
                return None;
            }
            names.push(name.into_owned());
        }
        Some(Self { names, folder })
    }

    /// The same with `name` below it.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let mut names = self.names.clone();
        names.push(name.to_owned());
        Self { names, folder: false }
    }

    /// The same with `suffix` at the end of the last name.
    #[must_use]
    pub fn suffixed(&self, suffix: &str) -> Self {
        let mut path = self.clone();
        if let Some(last) = path.names.last_mut() {
            last.push_str(suffix);
        }
        path
    }

    /// The last name; empty for the root.
    pub fn name(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    /// The path with slashes, decoded.
    pub fn text(&self) -> String {
        format!("/{}", self.names.join("/"))
    }

    /// Opens it below `root`; a folder opens too.
    ///
    /// # Errors
    /// Of the operating system; a symbolic link on the way is one.
    pub fn open(&self, root: &Path) -> io::Result<File> {
        let folder = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let mut at = openat(CWD, root, folder, Mode::empty())?;
        for (step, name) in self.names.iter().enumerate() {
            let last = step.saturating_add(1) == self.names.len();
            // A named pipe must not make the open wait for its other end.
            let flags = if last { OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK } else { folder };
            at = openat(&at, name.as_str(), flags | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(File::from(at))
    }
}

/// Reads all of `file`, at most `limit` bytes; `None` when there is more.
///
/// # Errors
/// Of the operating system.
pub fn read_small(file: &mut File, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_no_file_has_are_none() {
        for raw in [
            "",
            "x",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/a/%2e%2e/b",
            "/%2e%2e%2fetc",
            "/.env",
            "/a/.git/config",
            "/%2egit",
            "/a%00b",
            "/a%2fb",
            "/a\\b",
            "/a%5cb",
            "/%ff",
            "/a/.well-known/x",
        ] {
            assert_eq!(FilePath::of(raw), None, "{raw}");
        }
        assert_eq!(FilePath::of(&"/a".repeat(65)), None);
    }

    #[test]
    fn paths_are_decoded() {
        for (raw, text, folder) in [
            ("/", "/", true),
            ("/a%20b", "/a b", false),
            ("/a/b/", "/a/b", true),
            ("/.well-known/x", "/.well-known/x", false),
        ] {
            let path = FilePath::of(raw).unwrap();
            assert_eq!((path.text().as_str(), path.folder), (text, folder));
        }
    }

    #[test]
    fn links_are_not_followed_wherever_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        for path in [&root, &outside] {
            std::fs::create_dir(path).unwrap();
        }
        File::create(outside.join("secret")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("out")).unwrap();
        std::os::unix::fs::symlink(outside.join("secret"), root.join("link")).unwrap();
        for raw in ["/out/secret", "/link", "/out"] {
            assert!(FilePath::of(raw).unwrap().open(&root).is_err(), "{raw}");
        }
        std::os::unix::fs::symlink(&outside, folder.path().join("current")).unwrap();
        FilePath::of("/secret").unwrap().open(&folder.path().join("current")).unwrap();
    }

    proptest::proptest! {
        /// Whatever is asked for, the names lead downwards only.
        #[test]
        fn no_path_leads_out(raw in "/[a./%25eEfF\\\\02]{0,32}") {
            if let Some(path) = FilePath::of(&raw) {
                for name in &path.names {
                    proptest::prop_assert!(!name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']));
                }
            }
        }
    }
}
