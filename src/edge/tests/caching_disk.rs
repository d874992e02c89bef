//! Kept answers on disk, as clients and the app meet them.

use super::caching::{SITES, config, kept_by};
use crate::monitor::{DiskState, WhichKept};

const SIZE: usize = 1_500_000;

/// As `SITES`, with a disk for what is large. A sixteenth of the memory is less than an answer, and an eighth, which may be on
/// its way to the disk, is more: so it is stored however slow the disk is.
fn on_disk() -> String {
    format!("cache_memory = \"16 MiB\"\ncache_disk = \"64 MiB\"\n{}", SITES.replace("8 KiB", "4 MiB"))
}

/// A large answer, the same every time but for its first bytes, which are its number.
fn large(request: &str, number: usize) -> String {
    if request.contains("if-none-match: \"v1\"") {
        return "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nX-News: 1\r\n\r\n".to_owned();
    }
    let body = format!("{number:08}{}", "x".repeat(SIZE - 8));
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"v1\"\r\n";
    match request.split(' ').nth(1).unwrap() {
        "/chunks" => format!("{head}Transfer-Encoding: chunked\r\n\r\n{SIZE:x}\r\n{body}\r\n0\r\n\r\n"),
        "/broken" => format!("{head}Content-Length: {}\r\n\r\n{body}\u{2}", SIZE + 1),
        "/small" => format!("{head}Content-Length: 8\r\n\r\n{number:08}"),
        _ => format!("{head}Content-Length: {SIZE}\r\n\r\n{body}"),
    }
}

#[tokio::test]
async fn a_large_answer_goes_to_disk_while_it_is_sent_and_comes_from_there() {
    let kept = kept_by(&on_disk(), large).await;
    for path in ["length", "chunks"] {
        let address = format!("a.example/{path}");
        let first = kept.ask(&address).await;
        // Between the marks of chunks, where it has some.
        assert_eq!((first.cache(), first.body.matches('x').count()), ("fwd=miss; stored", SIZE - 8), "{path}");
        kept.pass(1);
        let again = kept.until_on_disk(&address).await;
        assert_eq!((again.body.len(), again.header("content-length")), (SIZE, Some(&*SIZE.to_string())));
        assert!(again.body.ends_with('x') && again.header("age").is_some());
        let part = kept.ask_as("GET", &address, &["Range: bytes=100000-100003"]).await;
        let range = format!("bytes 100000-100003/{SIZE}");
        assert_eq!((part.status, &*part.body, part.header("content-range")), (206, "xxxx", Some(&*range)));
        let head = kept.ask_as("HEAD", &address, &[]).await;
        assert_eq!((&*head.body, head.header("content-length")), ("", Some(&*SIZE.to_string())));
        let known = kept.ask_as("GET", &address, &["If-None-Match: \"v1\""]).await;
        assert_eq!((known.status, known.cache()), (304, "hit; detail=disk"));
    }
    assert!(kept.metric("mainstay_edge_cache_bytes") < 1 << 20, "a large answer is in memory");
    let view = kept.edge.sites().into_iter().find(|site| site.name == "a.example/").unwrap().kept.unwrap();
    assert_eq!((view.answers, view.disk_answers), (0, 2));
    assert!(view.disk_bytes > 2 * SIZE as u64 && view.disk_hits >= 8, "{view:?}");
    let all = kept.edge.cache().view();
    let disk = all.disk.unwrap();
    assert_eq!((all.sites, all.memory.answers, all.memory.limit_bytes), (1, 0, 16 << 20));
    assert_eq!((disk.answers, disk.bytes, disk.limit_bytes), (2, view.disk_bytes, 64 << 20));
    assert_eq!((disk.hits, disk.state, disk.error), (view.disk_hits, DiskState::Ready, None));
}

#[tokio::test]
async fn what_the_disk_does_not_take_in_time_is_fetched_for_it_alone() {
    // No more than 256 KiB may be on their way.
    let kept = kept_by(&on_disk().replace("16 MiB", "2 MiB"), large).await;
    for path in ["length", "chunks"] {
        let address = format!("a.example/{path}");
        assert_eq!(kept.ask(&address).await.body.matches('x').count(), SIZE - 8, "{path}");
        assert_eq!(kept.until_on_disk(&address).await.body.len(), SIZE, "{path}");
    }
    assert!(kept.count() <= 4, "{:?}", kept.count());
}

#[tokio::test]
async fn what_is_too_old_is_validated_on_disk_too() {
    let kept = kept_by(&on_disk(), large).await;
    kept.ask("a.example/x").await;
    let first = kept.until_on_disk("a.example/x").await;
    kept.pass(61);
    let told = kept.ask("a.example/x").await;
    assert_eq!((told.cache(), told.header("x-news")), ("fwd=stale; fwd-status=304", Some("1")));
    assert_eq!(told.body, first.body);
    kept.pass(30);
    let told = kept.ask("a.example/x").await;
    assert_eq!((told.cache(), told.header("age"), told.header("x-news")), ("hit; detail=disk", Some("30"), Some("1")));
}

#[tokio::test]
async fn a_restart_brings_answers_back_as_old_as_they_are() {
    let mut kept = kept_by(&on_disk(), large).await;
    for path in ["large", "small"] {
        kept.ask(&format!("a.example/{path}")).await;
    }
    let before = kept.until_on_disk("a.example/large").await;
    let count = kept.count();
    kept.pass(20);
    kept.again(&on_disk(), 2).await;
    let told = kept.until_on_disk("a.example/large").await;
    assert_eq!((told.header("age"), told.body == before.body), (Some("20"), true));
    let told = kept.until_on_disk("a.example/small").await;
    assert_eq!((told.body.len(), told.header("age").is_some()), (8, true));
    assert_eq!(kept.count(), count);
    // Without the setting all files go.
    kept.again(SITES, 0).await;
    assert_eq!(kept.ask("a.example/small").await.cache(), "fwd=miss; stored");
}

#[tokio::test]
async fn what_is_broken_off_or_purged_is_not_on_disk() {
    let mut kept = kept_by(&on_disk(), large).await;
    for _ in 0..2 {
        assert_ne!(kept.ask("a.example/broken").await.cache(), "hit; detail=disk");
    }
    kept.ask("a.example/x").await;
    kept.until_on_disk("a.example/x").await;
    assert_eq!(kept.edge.purge_cache(&WhichKept::Place { host: None, prefix: "/x".to_owned() }), 1);
    kept.again(&on_disk(), 0).await;
    assert_ne!(kept.ask("a.example/x").await.cache(), "hit; detail=disk");
    kept.until_on_disk("a.example/x").await;
    let change = kept.ask_as("POST", "a.example/x", &["Content-Length: 0"]).await;
    assert_eq!(change.cache(), "fwd=method");
    assert_eq!(kept.ask("a.example/x").await.cache(), "fwd=miss; stored");
}

#[tokio::test]
async fn other_settings_turn_the_disk_on_and_off() {
    let kept = kept_by(&SITES.replace("8 KiB", "4 MiB"), large).await;
    let app = kept.app;
    assert_eq!(kept.ask("a.example/x").await.cache(), "fwd=miss; stored");
    assert_eq!(kept.ask("a.example/x").await.cache(), "hit");
    kept.edge.purge_cache(&WhichKept::All);
    kept.edge.reload(&config(&on_disk(), app)).await.unwrap();
    kept.ask("a.example/x").await;
    kept.until_on_disk("a.example/x").await;
    kept.edge.reload(&config(&SITES.replace("8 KiB", "1 MiB"), app)).await.unwrap();
    assert_eq!(kept.ask("a.example/x").await.cache(), "fwd=miss; detail=too-large");
    assert_eq!(kept.metric("mainstay_edge_cache_disk_answers"), 0);
}

#[tokio::test]
async fn a_site_says_for_how_long_old_answers_stand_in_for_errors() {
    let sites = SITES.replace("cache_answers = true\n", "cache_answers = true\ncache_stale = \"1h\"\n");
    let kept = kept_by(&sites, |request, number| match (request.split(' ').nth(1).unwrap(), number) {
        ("/strict", 2) => {
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60, must-revalidate\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
        (_, 1) => "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\nold".to_owned(),
        _ => "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_owned(),
    })
    .await;
    for path in ["x", "strict"] {
        kept.ask(&format!("a.example/{path}")).await;
    }
    kept.pass(600);
    let told = kept.ask("a.example/x").await;
    assert_eq!((told.status, &*told.body, told.cache()), (200, "old", "fwd=stale; fwd-status=502"));
    assert_eq!(kept.ask("a.example/strict").await.status, 502);
    kept.pass(3600);
    assert_eq!(kept.ask("a.example/x").await.status, 502);
}

#[tokio::test]
async fn a_site_says_how_long_answers_are_good_that_do_not() {
    let sites =
        SITES.replace("cache_answers = true\n", "cache_answers = true\ncache_default = [\"1m\", \"404: 5s\"]\n");
    let kept = kept_by(&sites, |request, number| {
        let (status, headers) = match request.split(' ').nth(1).unwrap() {
            "/gone" => ("404 Not Found", ""),
            "/moved" => ("302 Found", "Location: /x\r\n"),
            "/cookie" => ("200 OK", "Set-Cookie: a=b\r\n"),
            "/private" => ("200 OK", "Cache-Control: private\r\n"),
            "/error" => ("500 Oh", ""),
            _ => ("200 OK", ""),
        };
        let body = format!("answer {number}");
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
    })
    .await;
    for path in ["x", "gone", "moved"] {
        kept.ask(&format!("a.example/{path}")).await;
        assert_eq!(kept.ask(&format!("a.example/{path}")).await.cache(), "hit", "{path}");
    }
    kept.pass(6);
    assert_eq!(kept.ask("a.example/x").await.cache(), "hit");
    assert_eq!(kept.ask("a.example/gone").await.cache(), "fwd=stale; stored");
    for (path, why) in [("cookie", "set-cookie"), ("private", "private"), ("error", "status")] {
        for _ in 0..2 {
            assert_eq!(kept.ask(&format!("a.example/{path}")).await.cache(), format!("fwd=miss; detail={why}"));
        }
    }
    let told = kept.ask_as("GET", "a.example/own", &["Cookie: a=b"]).await;
    assert_eq!(told.cache(), "fwd=miss; detail=credentials");
}
