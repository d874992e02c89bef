//! Pages that pass the edge are counted, and what their scripts send.

use super::*;
use crate::analytics::Report;

const BROWSER: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0\r\n";

fn page(_: &str) -> String {
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok".to_owned()
}

fn ask(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\n{BROWSER}{more}Connection: close\r\n\r\n")
}

/// An edge whose one site is counted.
async fn counted() -> (Trial, Origin) {
    let supervisor = Supervisor::new(Shutdown::new());
    let origin = Origin::start(&supervisor, page).await;
    let settings =
        format!("{PLAIN}[[sites]]\nhosts = [\"shop.example\"]\nupstream = \"{}\"\nanalytics = true\n", origin.address);
    (trial(&settings, ok).await, origin)
}

async fn report(trial: &Trial) -> Report {
    let analytics = trial.edge.beacons.analytics();
    analytics.finish().await.unwrap();
    let (today, first) = analytics.kept();
    analytics.report("shop.example/", first, today).await.unwrap()
}

#[tokio::test]
async fn pages_are_counted_and_what_is_none_is_not() {
    let (trial, _origin) = counted().await;
    let document = "Sec-Fetch-Dest: document\r\n";
    for request in [
        ask("GET", "/a?utm_source=x", document),
        ask("GET", "/a", &format!("{document}Referer: http://shop.example/\r\nDNT: 1\r\n")),
        ask("GET", "/b", &format!("{document}Sec-Fetch-Site: same-origin\r\n")),
        ask("GET", "/style.css", "Sec-Fetch-Dest: style\r\n"),
        ask("POST", "/a", &format!("{document}Content-Length: 0\r\n")),
        ask("GET", "/a", &format!("{document}Sec-Purpose: prefetch\r\n")),
        ask("GET", "/a", document).replace("Host: shop.example", "Host: other.example"),
    ] {
        assert_eq!(status(&trial.talk(request).await), 200);
    }
    let found = report(&trial).await;
    assert_eq!((found.views, found.visits, found.visitors), (3, 1, 1), "{found:?}");
    assert_eq!((found.pages.items[0].name.as_str(), found.sources.items[0].name.as_str()), ("/a", "x"));
    assert_eq!(trial.edge.beacons.analytics().site("shop.example").as_deref(), Some("shop.example/"));
}

#[tokio::test]
async fn the_script_is_answered_here_and_what_it_sends_is_counted() {
    let (trial, origin) = counted().await;
    let script = trial.talk(ask("GET", "/.mainstay/vitals.js", "Sec-Fetch-Dest: script\r\n")).await;
    assert!(status(&script) == 200 && script.contains("x-content-type-options: nosniff"), "{script}");
    let body = r#"{"page":"/a","lcp":5000}"#;
    let lines = format!("Origin: http://shop.example\r\nContent-Length: {}\r\n", body.len());
    let sent = trial.talk(ask("POST", "/.mainstay/vitals", &lines) + body).await;
    assert_eq!(status(&sent), 204, "{sent}");
    let foreign = lines.replace("shop.example", "evil.example");
    assert_eq!(status(&trial.talk(ask("POST", "/.mainstay/vitals", &foreign) + body).await), 403);
    assert_eq!(status(&trial.talk(ask("GET", "/.mainstay/vitals", "")).await), 405);
    let found = report(&trial).await;
    assert_eq!((found.views, found.vitals[0].poor, found.by_page[0].page.as_str()), (0, 1, "/a"));
    assert!(origin.requests().is_empty(), "the app hears of none of it");
}

#[tokio::test]
async fn a_reload_switches_counting_off() {
    let (trial, origin) = counted().await;
    let settings = format!("{PLAIN}[[sites]]\nhosts = [\"shop.example\"]\nupstream = \"{}\"\n", origin.address);
    trial.edge.reload(&toml::from_str(&settings).unwrap()).await.unwrap();
    trial.talk(ask("GET", "/.mainstay/vitals.js", "Sec-Fetch-Dest: document\r\n")).await;
    assert_eq!(origin.requests().len(), 1, "the place is the app's");
    assert_eq!(report(&trial).await.views, 0);
    assert!(trial.edge.beacons.analytics().watched().is_empty());
}
