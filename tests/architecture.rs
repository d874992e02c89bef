//! The shape of the code, as a test: which room may import which, and the habits a compiler does not check.
//!
//! Reads the source as text. Start at [`ROOMS`]; to add a room, add its line. Each test names every place that breaks
//! its rule, so that one run shows them all.

use std::fs;
use std::path::{Path, PathBuf};

/// A room under `src/` and the rooms it may import, itself apart.
struct Room {
    name: &'static str,
    may_import: &'static [&'static str],
}

impl Room {
    /// Whether the room may import `other`; its tests may also build what the rooms it imports are made from.
    fn may_import(&self, other: &str, in_test: bool) -> bool {
        let above = || ROOMS.iter().take_while(|room| room.name != self.name).any(|room| room.name == other);
        if in_test {
            other == "testing" || above()
        } else if self.may_import == EVERYTHING_ABOVE {
            above()
        } else {
            self.may_import.contains(&other)
        }
    }
}

const fn room(name: &'static str, may_import: &'static [&'static str]) -> Room {
    Room { name, may_import }
}

/// For the rooms that put the others together.
const EVERYTHING_ABOVE: &[&str] = &["*"];

/// For the doors that show every service.
const SERVICES: &[&str] = &[
    "base",
    "telemetry",
    "crypto",
    "store",
    "http",
    "jobs",
    "kv",
    "objects",
    "limits",
    "bans",
    "analytics",
    "accounts",
    "mail",
    "issues",
    "monitor",
    "backup",
];

/// Every room, from the ground up. A room imports only rooms above it; doors do not know each other.
const ROOMS: &[Room] = &[
    // ground
    room("base", &[]),
    // tools
    room("telemetry", &["base"]),
    room("crypto", &["base"]),
    // called by the C library's own name, so nothing imports it
    room("resolver", &["base"]),
    room("store", &["base", "telemetry", "crypto"]),
    room("http", &["base", "telemetry", "crypto"]),
    room("limits", &["base", "telemetry", "crypto", "store"]),
    room("bans", &["base", "telemetry", "store"]),
    room("analytics", &["base", "telemetry", "store"]),
    room("jobs", &["base", "telemetry", "store"]),
    // services: no wire protocol
    room("kv", &["base", "telemetry", "crypto", "store", "limits"]),
    room("objects", &["base", "telemetry", "crypto", "store", "jobs"]),
    room("accounts", &["base", "telemetry", "crypto", "store", "limits", "jobs"]),
    room("mail", &["base", "telemetry", "crypto", "store", "http"]),
    room("issues", &["base", "telemetry", "crypto", "store", "jobs"]),
    room("monitor", &["base", "telemetry", "store"]),
    room("backup", &["base", "telemetry", "crypto", "store", "jobs", "kv", "objects"]),
    // doors: the wire protocols
    room("resp", &["base", "telemetry", "crypto", "kv", "accounts", "bans"]),
    room("s3", &["base", "telemetry", "crypto", "http", "objects", "accounts", "bans"]),
    room("smtp", &["base", "telemetry", "crypto", "store", "mail", "accounts", "bans"]),
    room("ses", &["base", "telemetry", "crypto", "store", "http", "mail", "accounts", "bans"]),
    room("ingest", &["base", "telemetry", "crypto", "http", "issues", "accounts"]),
    room(
        "edge",
        &["base", "telemetry", "crypto", "store", "http", "limits", "bans", "analytics", "jobs", "accounts", "monitor"],
    ),
    room("upstash", &["base", "crypto", "http", "kv", "bans"]),
    room("api", SERVICES),
    room("console", SERVICES),
    // top
    room("config", EVERYTHING_ABOVE),
    room("app", EVERYTHING_ABOVE),
    room("cli", EVERYTHING_ABOVE),
    // doubles for tests; shipped code cannot see it, which `testing_is_seen_by_tests_only` holds
    room("testing", &["base", "telemetry", "crypto", "store", "http", "jobs", "kv", "objects", "accounts"]),
];

/// Statics that may hold changing or lazily made state: (file, name). Each needs its reason beside it in the code.
const GLOBALS: &[(&str, &str)] = &[("src/resolver/lookup.rs", "WORKER")];

/// Most lines a source file may have; the aim is 500.
const MOST_LINES: usize = 600;

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let Some(from) = file.room() else { continue };
        let Some(room) = ROOMS.iter().find(|room| room.name == from) else { continue };
        for import in file.imports() {
            let known = ROOMS.iter().any(|room| room.name == import.to);
            if known && import.to != from && !room.may_import(&import.to, import.in_test) {
                wrong.push(format!("{}:{}: `{from}` imports `{}`", file.path, import.line, import.to));
            }
        }
    }
    none(&wrong, "a room imports only the rooms its line in ROOMS names");
}

#[test]
fn the_table_allows_no_cycle() {
    let mut wrong = Vec::new();
    for (place, room) in ROOMS.iter().enumerate() {
        for import in room.may_import.iter().filter(|_| room.may_import != EVERYTHING_ABOVE) {
            if !ROOMS.iter().take(place).any(|above| above.name == *import) {
                wrong.push(format!("`{}` may import `{import}`, which is not above it", room.name));
            }
        }
    }
    none(&wrong, "ROOMS is ordered from the ground up");
}

#[test]
fn every_room_is_in_the_table_and_every_line_of_it_is_a_room() {
    let mut wrong = Vec::new();
    let mut found = Vec::new();
    for entry in entries(&root().join("src")) {
        let name = entry.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !["lib", "main"].contains(&name.as_str()) {
            found.push(name);
        }
    }
    for name in &found {
        if !ROOMS.iter().any(|room| room.name == name) {
            wrong.push(format!("src/{name} has no line in ROOMS"));
        }
    }
    for room in ROOMS {
        if !found.iter().any(|name| name == room.name) {
            wrong.push(format!("ROOMS names `{}`, which is not under src/", room.name));
        }
    }
    none(&wrong, "ROOMS lists exactly the rooms under src/");
}

#[test]
fn testing_is_seen_by_tests_only() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        if file.room() == Some("testing") {
            continue;
        }
        for import in file.imports().into_iter().filter(|import| import.to == "testing" && !import.in_test) {
            wrong.push(format!("{}:{}: shipped code names `testing`", file.path, import.line));
        }
    }
    none(&wrong, "doubles stay out of shipped code");
}

#[test]
fn rooms_are_named_from_the_root() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        let Some(depth) = file.module_depth() else { continue };
        let climb = "super::".repeat(depth);
        for (line, text) in file.shipped_lines() {
            if code(text).contains(&climb) {
                wrong.push(format!("{}:{line}: climbs out of its room; write `crate::`", file.path));
            }
        }
    }
    none(&wrong, "another room is named `crate::room`, so that this test sees it");
}

#[test]
fn every_file_says_what_it_holds() {
    let wrong: Vec<String> = all_rust_files()
        .into_iter()
        .filter(|file| !file.is_test() && !file.text.starts_with("//! "))
        .map(|file| format!("{}: does not open with `//! `", file.path))
        .collect();
    none(&wrong, "a file opens with its subject");
}

#[test]
fn no_file_is_too_long() {
    let wrong: Vec<String> = all_rust_files()
        .into_iter()
        .chain(files_with("tests", "mjs"))
        .filter(|file| file.text.lines().count() > MOST_LINES)
        .map(|file| format!("{}: {} lines, allowed are {MOST_LINES}", file.path, file.text.lines().count()))
        .collect();
    none(&wrong, "a file has one subject");
}

#[test]
fn nothing_is_allowed_or_ignored_by_attribute() {
    let marks = [concat!("#[al", "low"), concat!("#![al", "low"), concat!("#[ig", "nore")];
    let mut wrong = Vec::new();
    for file in all_rust_files() {
        for (number, line) in file.text.lines().enumerate() {
            if marks.iter().any(|mark| code(line).contains(mark)) {
                wrong.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    none(&wrong, "write #[expect(.., reason = \"..\")], and let every test run");
}

#[test]
fn state_is_handed_over_never_global() {
    let mut wrong = Vec::new();
    for file in rust_files("src") {
        for (line, text) in file.shipped_lines() {
            if let Some(name) = mutable_global(code(text))
                && !GLOBALS.contains(&(file.path.as_str(), name.as_str()))
            {
                wrong.push(format!("{}:{line}: `{name}`", file.path));
            }
        }
    }
    none(&wrong, "a global that changes needs a line in GLOBALS and a reason; better, an argument of `new`");
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let marks = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/", "team")];
    let mut wrong = Vec::new();
    for path in walk(&root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                wrong.push(format!("{}:{}: {}", relative(&path), number + 1, line.trim()));
            }
        }
    }
    none(&wrong, "paths are relative to the repository");
}

#[test]
fn imports_are_found_in_every_spelling() {
    let file = Source {
        path: "src/kv/keyspace.rs".to_owned(),
        text:
            "//! crate::cli\nuse crate::base::Clock;\nuse crate::{store::Store, crypto};\nlet x = crate::jobs::now();\n\
               let s = \"crate::s3\"; // crate::app\nuse crate::{\n    http,\n    objects::{Objects, edge},\n};\n\
               #[cfg(test)]\nmod tests {\n    use crate::testing::TestClock;\n}\n"
                .to_owned(),
    };
    let found: Vec<(String, usize, bool)> = file.imports().into_iter().map(|i| (i.to, i.line, i.in_test)).collect();
    let expected = [
        ("base", 2, false),
        ("store", 3, false),
        ("crypto", 3, false),
        ("jobs", 4, false),
        ("http", 6, false),
        ("objects", 6, false),
        ("testing", 12, true),
    ];
    let expected: Vec<(String, usize, bool)> =
        expected.iter().map(|(to, line, test)| ((*to).to_owned(), *line, *test)).collect();
    assert_eq!(found, expected);
}

#[test]
fn mutable_globals_are_found_in_every_spelling() {
    let name = |line| mutable_global(line);
    assert_eq!(name("static mut COUNT: u32 = 0;").as_deref(), Some("COUNT"));
    assert_eq!(name("pub static CACHE: LazyLock<Vec<u8>> = LazyLock::new(Vec::new);").as_deref(), Some("CACHE"));
    assert_eq!(name("pub(crate) static N: AtomicU64 = AtomicU64::new(0);").as_deref(), Some("N"));
    assert_eq!(name("thread_local! {").as_deref(), Some("thread_local!"));
    assert_eq!(name("static NAMES: &[&str] = &[];"), None);
    assert_eq!(name("fn take(text: &'static str) {}"), None);
}

/// A file of the repository: its path from the root and its text.
struct Source {
    path: String,
    text: String,
}

/// A mention of another room.
struct Import {
    to: String,
    line: usize,
    in_test: bool,
}

impl Source {
    /// The room the file belongs to; `None` for `lib.rs` and `main.rs`, which see every room.
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        inside.split_once('/').map(|(room, _)| room)
    }

    /// How many `super::` lead from the file's top level to the crate's root; `None` outside the rooms.
    fn module_depth(&self) -> Option<usize> {
        self.room()?;
        let folders = self.path.matches('/').count() - 1;
        Some(if self.path.ends_with("/mod.rs") { folders } else { folders + 1 })
    }

    /// Whether the whole file is test code.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs") || self.path.contains("/tests/")
    }

    /// The line (from 1) where the test module at the end begins; past the end when there is none.
    fn first_test_line(&self) -> usize {
        if self.is_test() {
            return 0;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let module =
            lines.windows(2).position(|pair| pair[0].starts_with("#[cfg(test)]") && pair[1].starts_with("mod "));
        module.map_or(usize::MAX, |line| line + 1)
    }

    /// Lines (from 1) outside tests.
    fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.first_test_line();
        self.text
            .lines()
            .enumerate()
            .map(|(number, line)| (number + 1, line))
            .take_while(move |(line, _)| *line < tests)
    }

    /// Every `crate::room` in the code, groups in braces included.
    fn imports(&self) -> Vec<Import> {
        let tests = self.first_test_line();
        let text: String = self.text.lines().fold(String::new(), |text, line| text + code(line) + "\n");
        let mut out = Vec::new();
        for (at, mark) in text.match_indices("crate::") {
            let line = text[..at].matches('\n').count() + 1;
            for to in first_names(&text[at + mark.len()..]) {
                out.push(Import { to, line, in_test: line >= tests });
            }
        }
        out
    }
}

/// The first path segments after `crate::`: one name, or those of a group in braces.
fn first_names(path: &str) -> Vec<String> {
    let identifier = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![identifier(path)] };
    let mut out = Vec::new();
    let mut depth = 0;
    let mut expected = true;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            _ if expected && !character.is_whitespace() => {
                out.push(identifier(&group[at..]));
                expected = false;
            }
            _ => {}
        }
    }
    out
}

/// The line without its comment and its one-line string literals.
fn code(line: &str) -> &str {
    let mut in_string = false;
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => {
                if !in_string && line[at..].starts_with("\"crate::") {
                    return &line[..at];
                }
                in_string = !in_string;
            }
            b'/' if !in_string && line[at..].starts_with("//") => return &line[..at],
            _ => {}
        }
    }
    line
}

/// The name of the mutable or lazily made static this line declares.
fn mutable_global(line: &str) -> Option<String> {
    let line = line.trim_start();
    if line.starts_with("thread_local!") {
        return Some("thread_local!".to_owned());
    }
    let visible = line.strip_prefix("pub").map_or(line, |rest| rest.trim_start_matches(|c| c != ' ').trim_start());
    let declared = visible.strip_prefix("static ")?;
    let (name, kind) = declared.split_once(':')?;
    let kind = kind.split('=').next().unwrap_or(kind);
    let holders = ["LazyLock", "OnceLock", "LazyCell", "OnceCell", "Mutex", "RwLock", "Atomic", "ArcSwap", "RefCell"];
    if let Some(name) = name.strip_prefix("mut ") {
        return Some(name.trim().to_owned());
    }
    holders.iter().any(|holder| kind.contains(holder)).then(|| name.trim().to_owned())
}

fn none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

fn rust_files(folder: &str) -> Vec<Source> {
    files_with(folder, "rs")
}

fn all_rust_files() -> Vec<Source> {
    ["src", "tests", "migrations"].into_iter().flat_map(rust_files).collect()
}

fn files_with(folder: &str, extension: &str) -> Vec<Source> {
    walk(&root().join(folder))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| Source { text: fs::read_to_string(&path).unwrap_or_default(), path: relative(&path) })
        .collect()
}

/// Every file under `folder`, in order, without what builds and package managers leave behind.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let left_behind = [".git", "target", "node_modules", ".venv", "__pycache__", "mainstay-data"];
    let mut out = Vec::new();
    for path in entries(folder) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if left_behind.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            out.extend(walk(&path));
        } else {
            out.push(path);
        }
    }
    out
}

/// The paths in `folder`, sorted; none when it is not there.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = found.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    paths
}
