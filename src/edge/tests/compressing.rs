//! Answers compressed on their way, as a client meets them.

use std::io::Read as _;

use super::*;

/// A page worth compressing.
fn page() -> String {
    "<p>the same line again</p>\n".repeat(100)
}

fn answer_with(headers: &str) -> impl Fn(&str) -> String + Send + Sync + 'static {
    let headers = headers.to_owned();
    move |_: &str| format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{}", page().len(), page())
}

fn ask(more: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{more}\r\n")
}

/// Head and body of the answer to `request`, the body without its framing.
async fn fetched(trial: &Trial, request: &str) -> (String, Vec<u8>) {
    let mut stream = trial.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (head, mut rest) = (String::from_utf8(bytes[..end].to_vec()).unwrap(), &bytes[end..]);
    if !head.contains("transfer-encoding: chunked") {
        return (head, rest.to_vec());
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").expect("the last chunk is missing");
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[line + 2..line + 2 + length]);
        rest = &rest[line + 4 + length..];
        if length == 0 {
            return (head, body);
        }
    }
}

fn gunzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn a_page_is_sent_as_the_client_likes_it_best() {
    let trial = trial(PLAIN, answer_with("Content-Type: text/html\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n")).await;
    let (head, body) = fetched(&trial, &ask("Accept-Encoding: br;q=0.5, gzip\r\n")).await;
    assert_eq!(gunzipped(&body), page());
    for line in ["content-encoding: gzip\r\n", "vary: accept-encoding\r\n", "etag: W/\"v1\"\r\n"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(!head.contains("content-length") && !head.contains("accept-ranges"), "{head}");
    for coding in ["br", "zstd"] {
        let (head, body) = fetched(&trial, &ask(&format!("Accept-Encoding: gzip;q=0.9, {coding}\r\n"))).await;
        assert!(head.contains(&format!("content-encoding: {coding}\r\n")) && body.len() < 500, "{head}");
    }
    let (head, body) = fetched(&trial, &ask("")).await;
    assert_eq!(String::from_utf8(body).unwrap(), page());
    assert!(head.contains("vary: accept-encoding\r\n") && head.contains("etag: \"v1\"\r\n"), "{head}");
}

#[tokio::test]
async fn what_must_not_be_changed_passes_as_it_is() {
    for headers in [
        "Content-Type: text/html\r\nCache-Control: public, no-transform\r\n",
        "Content-Type: text/html\r\nContent-Encoding: identity\r\n",
        "Content-Type: text/html\r\nContent-Digest: sha-256=:x:\r\n",
        "Content-Type: text/html\r\nSet-Cookie: session=1\r\n",
        "Content-Type: text/event-stream\r\n",
        "Content-Type: image/png\r\n",
        "",
    ] {
        let trial = trial(PLAIN, answer_with(headers)).await;
        let (head, body) = fetched(&trial, &ask("Accept-Encoding: gzip\r\n")).await;
        assert!(!head.contains("content-encoding: gzip"), "{head}");
        assert_eq!(String::from_utf8(body).unwrap(), page(), "{headers}");
    }
    let trial = trial(PLAIN, answer_with("Content-Type: text/html\r\n")).await;
    for more in ["Cookie: session=1\r\n", "Authorization: Bearer x\r\n", "Range: bytes=0-9\r\n"] {
        let (head, _) = fetched(&trial, &ask(&format!("Accept-Encoding: gzip\r\n{more}"))).await;
        assert!(!head.contains("content-encoding") && head.contains("vary: accept-encoding"), "{more}: {head}");
    }
}

#[tokio::test]
async fn a_site_may_have_all_compressed_or_nothing() {
    for (setting, compressed) in [("all", true), ("off", false)] {
        let origin_of = trial(PLAIN, answer_with("Content-Type: text/html\r\nSet-Cookie: session=1\r\n")).await;
        let site = format!("[[sites]]\nupstream = \"{}\"\ncompress = \"{setting}\"\n", origin_of.origin.address);
        let config: EdgeConfig = toml::from_str(&format!("{PLAIN}{site}")).unwrap();
        origin_of.edge.reload(&config).await.unwrap();
        let (head, _) = fetched(&origin_of, &ask("Accept-Encoding: gzip\r\nCookie: session=1\r\n")).await;
        assert_eq!(head.contains("content-encoding: gzip"), compressed, "{head}");
        assert_eq!(head.contains("vary"), compressed, "{head}");
    }
}

#[tokio::test]
async fn what_an_app_has_sent_does_not_wait_for_more() {
    let reply = |_: &str| {
        // The body does not end: only a flush shows its beginning.
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"a\":1}\n\r\n"
            .to_owned()
    };
    let trial = trial(PLAIN, reply).await;
    let mut stream = trial.connect().await;
    stream.write_all(ask("Accept-Encoding: gzip\r\n").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let seen = async {
        loop {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the edge closed");
            bytes.extend_from_slice(&chunk[..count]);
            let Some(begin) = bytes.windows(3).position(|three| three == [0x1f, 0x8b, 8]) else { continue };
            // Head and first block came in frames of their own or in one: both decode up to what there is.
            let data: Vec<u8> = chunks(&bytes, begin);
            let mut text = [0; 8];
            if flate2::read::GzDecoder::new(&data[..]).read_exact(&mut text).is_ok() {
                return text;
            }
        }
    };
    assert_eq!(&timeout(PATIENCE, seen).await.unwrap(), b"{\"a\":1}\n");
}

/// The chunks that are whole in `bytes`, the first of which has its first byte at `begin`.
fn chunks(bytes: &[u8], begin: usize) -> Vec<u8> {
    let start = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(start < begin);
    let (mut rest, mut data) = (&bytes[start..], Vec::new());
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        let Some(chunk) = rest.get(line + 2..line + 2 + length) else { break };
        data.extend_from_slice(chunk);
        rest = rest.get(line + 4 + length..).unwrap_or_default();
    }
    data
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_made_whole() {
    let reply = |_: &str| {
        let half = page();
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{half}", half.len() * 2)
    };
    let trial = trial(PLAIN, reply).await;
    let mut stream = trial.connect().await;
    stream.write_all(ask("Accept-Encoding: gzip\r\n").as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    trial.supervisor.shutdown().force();
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the end was made up");
}

#[tokio::test]
async fn files_are_compressed_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    crate::base::disk::replace_file(&LocalDisk, &folder.path().join("index.html"), page().as_bytes()).unwrap();
    let trial = trial(&format!("{PLAIN}[[sites]]\nroot = {:?}\n", folder.path()), ok).await;
    let (head, body) = fetched(&trial, &ask("Accept-Encoding: gzip\r\nCookie: session=1\r\n")).await;
    assert_eq!(gunzipped(&body), page());
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    assert!(tag.starts_with("W/\""), "{head}");
    let (head, body) = fetched(&trial, &ask(&format!("Accept-Encoding: gzip\r\nIf-None-Match: {tag}\r\n"))).await;
    assert!(head.starts_with("HTTP/1.1 304") && body.is_empty(), "{head}");
    let (head, body) = fetched(&trial, &ask("Accept-Encoding: gzip\r\nRange: bytes=0-2\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 206") && body == b"<p>", "{head}");
}
