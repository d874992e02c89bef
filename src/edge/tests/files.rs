//! Folders as sites, as a client meets them.

use super::*;

/// A folder with some files, and an edge that serves it at `/`.
struct Folder {
    trial: Trial,
    dir: tempfile::TempDir,
}

impl Folder {
    async fn serve(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("www");
        for folder in ["", "docs", ".git", ".well-known", "empty"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let folder =
            Self { trial: trial(&format!("{PLAIN}[[sites]]\nroot = \"{}\"\n{extra}", root.display()), ok).await, dir };
        for (name, text) in [
            ("index.html", "<p>home"),
            ("docs/index.html", "<p>docs"),
            ("a b.txt", "0123456789"),
            (".env", "secret"),
            (".git/config", "secret"),
            (".well-known/security.txt", "Contact"),
            ("app-BxK3d9aQ.js", "plain"),
            ("app-BxK3d9aQ.js.br", "br"),
            ("app-BxK3d9aQ.js.gz", "gzip"),
        ] {
            folder.write(name, text.as_bytes());
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("www").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        use std::io::Write as _;
        std::fs::File::create(self.path(name)).unwrap().write_all(bytes).unwrap();
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
        self.trial.talk(request).await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask("GET", path, "").await;
        (status(&answer), body(&answer).to_owned())
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let head = answer.split_once("\r\n\r\n").map_or(answer, |(head, _)| head);
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("")
}

#[tokio::test]
async fn files_folders_and_nothing() {
    let folder = Folder::serve("").await;
    for (path, wanted, text) in [
        ("/", 200, "<p>home"),
        ("/docs/", 200, "<p>docs"),
        ("/a%20b.txt", 200, "0123456789"),
        ("/.well-known/security.txt", 200, "Contact"),
        ("/docs", 301, ""),
    ] {
        for _ in ["from the disk", "from memory"] {
            assert_eq!(folder.get(path).await, (wanted, text.to_owned()), "{path}");
        }
    }
    let answer = folder.ask("GET", "/docs?x=1", "").await;
    assert_eq!(header(&answer, "location"), "/docs/?x=1");
    let answer = folder.ask("GET", "/a%20b.txt", "").await;
    assert_eq!(header(&answer, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(header(&answer, "cache-control"), "no-cache");
    assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
    assert_eq!(status(&folder.ask("POST", "/", "Content-Length: 0\r\n").await), 405);
}

#[tokio::test]
async fn nothing_hidden_linked_or_outside_is_served() {
    let folder = Folder::serve("").await;
    std::fs::File::create(folder.dir.path().join("secret")).unwrap();
    std::os::unix::fs::symlink(folder.dir.path().join("secret"), folder.path("link")).unwrap();
    std::os::unix::fs::symlink(folder.dir.path(), folder.path("up")).unwrap();
    for path in [
        "/.env",
        "/.git/config",
        "/%2eenv",
        "/link",
        "/up/secret",
        "/../secret",
        "/%2e%2e/secret",
        "/docs/..%2f..%2fsecret",
        "/docs/%2e%2e%2f%2e%2e%2fsecret",
        "/..%5csecret",
        "//etc/passwd",
        "/a%00",
        "/empty/",
        "/index.html/",
        "/index.html/x",
        "/nothing.js",
    ] {
        let (code, text) = folder.get(path).await;
        assert!(code == 404 && !text.contains("secret"), "{path}: {code} {text}");
    }
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let folder = Folder::serve("").await;
    let answer = folder.ask("GET", "/", "").await;
    let (etag, modified) = (header(&answer, "etag"), header(&answer, "last-modified"));
    assert!(etag.starts_with('"') && modified.ends_with("GMT"), "{answer}");
    for condition in [format!("If-None-Match: {etag}\r\n"), format!("If-Modified-Since: {modified}\r\n")] {
        let answer = folder.ask("GET", "/", &condition).await;
        assert_eq!((status(&answer), body(&answer)), (304, ""), "{condition}");
        assert_eq!(header(&answer, "etag"), etag);
    }
    assert_eq!(status(&folder.ask("GET", "/", "If-Match: \"x\"\r\n").await), 412);
    assert_eq!(status(&folder.ask("GET", "/", "If-None-Match: \"x\"\r\n").await), 200);
}

#[tokio::test]
async fn parts_are_sent_when_the_file_is_the_one_meant() {
    let folder = Folder::serve("").await;
    let etag = header(&folder.ask("GET", "/a%20b.txt", "").await, "etag").to_owned();
    for (headers, code, text, range) in [
        ("Range: bytes=2-4\r\n".to_owned(), 206, "234", "bytes 2-4/10"),
        ("Range: bytes=8-\r\n".to_owned(), 206, "89", "bytes 8-9/10"),
        ("Range: bytes=-3\r\n".to_owned(), 206, "789", "bytes 7-9/10"),
        ("Range: bytes=10-\r\n".to_owned(), 416, "", "bytes */10"),
        ("Range: bytes=-0\r\n".to_owned(), 416, "", "bytes */10"),
        ("Range: bytes=0-1,3-4\r\n".to_owned(), 200, "0123456789", ""),
        (format!("Range: bytes=0-0\r\nIf-Range: {etag}\r\n"), 206, "0", "bytes 0-0/10"),
        ("Range: bytes=0-0\r\nIf-Range: \"old\"\r\n".to_owned(), 200, "0123456789", ""),
    ] {
        let answer = folder.ask("GET", "/a%20b.txt", &headers).await;
        assert_eq!((status(&answer), body(&answer)), (code, text), "{headers}");
        assert_eq!(header(&answer, "content-range"), range, "{headers}");
    }
    let answer = folder.ask("HEAD", "/a%20b.txt", "").await;
    assert_eq!((status(&answer), body(&answer), header(&answer, "content-length")), (200, "", "10"));
}

#[tokio::test]
async fn compressed_forms_go_to_who_takes_them() {
    let folder = Folder::serve("cache = [\"hashed: immutable\"]\n").await;
    let mut tags = Vec::new();
    for (accept, text, coding) in [
        ("gzip, deflate, br, zstd", "br", "br"),
        ("gzip", "gzip", "gzip"),
        ("br;q=0, gzip;q=0.5", "gzip", "gzip"),
        ("zstd", "plain", ""),
        ("*", "plain", ""),
    ] {
        let answer = folder.ask("GET", "/app-BxK3d9aQ.js", &format!("Accept-Encoding: {accept}\r\n")).await;
        assert_eq!((body(&answer), header(&answer, "content-encoding")), (text, coding), "{accept}");
        assert_eq!(header(&answer, "vary"), "accept-encoding");
        assert_eq!(header(&answer, "content-type"), "text/javascript; charset=utf-8");
        assert_eq!(header(&answer, "cache-control"), "public, max-age=31536000, immutable");
        tags.push(header(&answer, "etag").to_owned());
    }
    assert!(tags[0] != tags[1] && tags[1] == tags[2] && tags[2] != tags[3], "{tags:?}");
}

#[tokio::test]
async fn places_inside_an_app_get_its_page_and_missing_assets_do_not() {
    let folder = Folder::serve("fallback = \"/index.html\"\n").await;
    for (path, code) in [
        ("/users/john.doe", 200),
        ("/empty/", 200),
        ("/empty", 200),
        ("/no/where/", 200),
        ("/x.js", 404),
        ("/.env", 404),
    ] {
        let (found, text) = folder.get(path).await;
        assert!(found == code && (code == 404 || text == "<p>home"), "{path}: {found} {text}");
    }
}

#[tokio::test]
async fn large_files_are_streamed_whole_and_in_parts() {
    let folder = Folder::serve("").await;
    let large: Vec<u8> = (0..1_000_000_u32).map(|number| b'a' + (number % 23) as u8).collect();
    folder.write("large.bin", &large);
    let answer = folder.ask("GET", "/large.bin", "").await;
    assert_eq!(header(&answer, "content-length"), "1000000");
    assert!(body(&answer).as_bytes() == large);
    let answer = folder.ask("GET", "/large.bin", "Range: bytes=300000-899999\r\n").await;
    assert!(status(&answer) == 206 && body(&answer).as_bytes() == &large[300_000..900_000]);
    assert_eq!(body(&folder.ask("HEAD", "/large.bin", "").await), "");
}

#[tokio::test]
async fn a_changed_file_is_seen() {
    let folder = Folder::serve("").await;
    assert_eq!(folder.get("/docs/").await.1, "<p>docs");
    folder.write("docs/index.html", b"<p>a new page");
    let seen = async {
        while folder.get("/docs/").await.1 != "<p>a new page" {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, seen).await.expect("the old page stays");
    std::fs::remove_dir_all(folder.path("docs")).unwrap();
    let gone = async {
        while folder.get("/docs/").await.0 != 404 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the removed page stays");
}

#[tokio::test]
async fn redirects_and_maintenance() {
    let sites = "[[sites]]\nredirect = \"https://www.example.com$uri\"\nredirect_status = 308\n\
                 [[sites]]\npath = \"/old\"\nredirect = \"/new\"\n\
                 [[sites]]\npath = \"/open\"\nredirect = \"/$uri\"\n\
                 [[sites]]\npath = \"/shut\"\nroot = \"/srv\"\nmaintenance = true\nmaintenance_except = [\"192.0.2.1\"]\n";
    let trial = trial(&format!("{PLAIN}{sites}"), ok).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = trial.talk(get("/x/y?z=%20")).await;
    assert_eq!((status(&answer), header(&answer, "location")), (308, "https://www.example.com/x/y?z=%20"));
    let answer = trial.talk(get("/old/er?z")).await;
    assert_eq!((status(&answer), header(&answer, "location")), (301, "/new"));
    assert_eq!(status(&trial.talk(get("/open/evil.example")).await), 404);
    let answer = trial.talk(get("/shut/x")).await;
    assert_eq!((status(&answer), header(&answer, "retry-after")), (503, "300"));
}
