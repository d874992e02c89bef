//! `mainstay import nginx`: the sites of an nginx configuration as settings.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::say;
use crate::edge::nginx::{Placed, translate};
use crate::edge::nginx_parse::{Directive, parse};

/// Largest file read.
const LARGEST: u64 = 4 << 20;
/// Most files read.
const MOST_FILES: usize = 500;

/// Runs the command on the folder of `nginx.conf`, or on one file.
pub(super) fn run(path: &Path) -> anyhow::Result<()> {
    let (folder, first) = if path.is_dir() {
        (path.to_owned(), path.join("nginx.conf"))
    } else {
        (path.parent().unwrap_or(Path::new(".")).to_owned(), path.to_owned())
    };
    let mut reading = Reading { folder, files: 0 };
    let all = reading.file(&first, 0)?;
    let translation = translate(&all);
    say(&translation.settings)?;
    let mut told = String::new();
    for line in &translation.left_out {
        // Writing into a String cannot fail.
        let _ = writeln!(told, "not translated: {line}");
    }
    let _ = writeln!(told, "{} files read, {} directives not translated", reading.files, translation.left_out.len());
    std::io::stderr().write_all(told.as_bytes())?;
    Ok(())
}

struct Reading {
    /// What paths of `include` are relative to.
    folder: PathBuf,
    files: usize,
}

impl Reading {
    /// The directives of `path`, those of the files it includes in their places.
    fn file(&mut self, path: &Path, depth: usize) -> anyhow::Result<Vec<Placed>> {
        self.files += 1;
        anyhow::ensure!(
            self.files <= MOST_FILES && depth <= 8,
            "more than {MOST_FILES} files, or includes go in circles"
        );
        let shown = path.display().to_string();
        let length = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
        anyhow::ensure!(length <= LARGEST, "{shown} has {length} bytes, allowed are {LARGEST}");
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let directives = parse(&String::from_utf8_lossy(&bytes)).with_context(|| shown.clone())?;
        let mut all = Vec::new();
        for directive in directives {
            match (directive.name(), directive.block.is_some()) {
                ("include", false) => match self.included(directive.arg(0))? {
                    Some(files) => {
                        for file in files {
                            all.extend(self.file(&file, depth + 1)?);
                        }
                    }
                    None => all.push(Placed { file: shown.clone(), directive }),
                },
                ("http", true) => {
                    // What is in it counts as if it stood alone, with the file it stands in.
                    for inner in directive.block.unwrap_or_default() {
                        let files = match inner.name() {
                            "include" => self.included(inner.arg(0))?,
                            _ => None,
                        };
                        if let Some(files) = files {
                            for file in files {
                                all.extend(self.file(&file, depth + 1)?);
                            }
                        } else {
                            all.push(Placed { file: shown.clone(), directive: self.filled(inner, depth)? });
                        }
                    }
                }
                _ => all.push(Placed { file: shown.clone(), directive: self.filled(directive, depth)? }),
            }
        }
        Ok(all)
    }

    /// `directive` with what its block includes in its place.
    fn filled(&mut self, mut directive: Directive, depth: usize) -> anyhow::Result<Directive> {
        let Some(block) = directive.block.take() else { return Ok(directive) };
        let mut inner = Vec::new();
        for one in block {
            let files = if one.name() == "include" { self.included(one.arg(0))? } else { None };
            let Some(files) = files else {
                inner.push(self.filled(one, depth)?);
                continue;
            };
            for file in files {
                inner.extend(self.file(&file, depth + 1)?.into_iter().map(from_file));
            }
        }
        directive.block = Some(inner);
        Ok(directive)
    }

    /// The files a pattern names, by name. `*` stands for anything in the last part of the path. Those that hold no sites are
    /// passed over; `None` when what is named is not there, or is named in another way.
    fn included(&self, pattern: &str) -> anyhow::Result<Option<Vec<PathBuf>>> {
        let whole = self.folder.join(pattern);
        let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some((before, after)) = name.split_once('*') else {
            let without_sites = ["mime.types", "proxy_params", "fastcgi_params", "uwsgi_params", "scgi_params"];
            let passed_over = without_sites.contains(&name.as_str());
            return Ok(if passed_over { Some(Vec::new()) } else { whole.is_file().then(|| vec![whole]) });
        };
        let Some(folder) = whole.parent().filter(|folder| folder.is_dir()) else { return Ok(None) };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let fits = name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after);
            if fits && !name.starts_with('.') && folder.join(&name).is_file() {
                found.push(folder.join(name));
            }
        }
        found.sort();
        Ok(Some(found))
    }
}

/// The directive, which knows its file from now on, as does all that is in it.
fn from_file(placed: Placed) -> Directive {
    fn marked(mut directive: Directive, file: &Arc<str>) -> Directive {
        directive.file.get_or_insert_with(|| Arc::clone(file));
        let block = directive.block.take();
        directive.block = block.map(|block| block.into_iter().map(|one| marked(one, file)).collect());
        directive
    }
    let file: Arc<str> = Arc::from(placed.file.as_str());
    marked(placed.directive, &file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn included_files_stand_where_they_are_included() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sites-enabled")).unwrap();
        let write = |name: &str, text: &str| {
            let mut file = std::fs::File::create(folder.path().join(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        write("nginx.conf", "events {}\nhttp { include mime.types; include sites-enabled/*; }");
        write("sites-enabled/a", "server { server_name a.example; include common.conf; }");
        write("sites-enabled/.b", "nonsense {");
        write("common.conf", "location / { proxy_pass http://127.0.0.1:3000; }");
        let mut reading = Reading { folder: folder.path().to_owned(), files: 0 };
        let all = reading.file(&folder.path().join("nginx.conf"), 0).unwrap();
        let text = translate(&all).settings;
        assert!(text.contains("a.example") && text.contains("http://127.0.0.1:3000"), "{text}");
        // What is in a file is told with that file, and what is not there by who asks for it.
        write(
            "common.conf",
            "location / {\n sub_filter a b;\n proxy_pass http://127.0.0.1:3000; }\ninclude nowhere.conf;",
        );
        write("nginx.conf", "http {\n include missing/*.conf;\n include sites-enabled/*; }");
        let mut reading = Reading { folder: folder.path().to_owned(), files: 0 };
        let told = translate(&reading.file(&folder.path().join("nginx.conf"), 0).unwrap()).left_out;
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("nginx.conf:2: include missing/*.conf (there is no such file)"), "{told:?}");
        assert!(told.iter().any(|line| line.contains("common.conf:2: sub_filter a b")), "{told:?}");
        assert!(told.iter().any(|line| line.contains("common.conf:4: include nowhere.conf")), "{told:?}");
        write("sites-enabled/a", "include sites-enabled/a;");
        let mut reading = Reading { folder: folder.path().to_owned(), files: 0 };
        assert!(reading.file(&folder.path().join("nginx.conf"), 0).is_err());
    }
}
