//! The table of heads: what comes in, what the app sees.

use http::Request;

use super::*;

fn parts(version: Version, uri: &str, lines: &[(&'static str, &'static str)]) -> Parts {
    let mut request = Request::builder().uri(uri).version(version);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn h1(uri: &str, lines: &[(&'static str, &'static str)]) -> Parts {
    parts(Version::HTTP_11, uri, lines)
}

fn client() -> Client {
    Client { address: "1.2.3.4:5".parse().unwrap(), secure: true, proxied: false }
}

/// What the app receives for a request with `lines` beside `Host: a`.
fn seen(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut all = vec![("host", "a")];
    all.extend_from_slice(lines);
    let mut parts = h1("/", &all);
    let host = check(&parts).unwrap();
    for_upstream(&mut parts, &host, &client(), false);
    parts.headers
}

fn refusal(parts: &Parts) -> Option<Refusal> {
    check(parts).err()
}

#[test]
fn one_well_formed_host_is_required() {
    use Refusal::{HostMalformed, HostMismatch, HostMissing, HostTwice};
    for (uri, lines, expected) in [
        ("/", vec![], Some(HostMissing)),
        ("/", vec![("host", "")], Some(HostMissing)),
        ("/", vec![("host", "a"), ("host", "a")], Some(HostTwice)),
        ("/", vec![("host", "a"), ("host", "b")], Some(HostTwice)),
        ("/", vec![("host", "user@a")], Some(HostMalformed)),
        ("/", vec![("host", "a b")], Some(HostMalformed)),
        ("/", vec![("host", "a/b")], Some(HostMalformed)),
        ("/", vec![("host", "a,b")], Some(HostMalformed)),
        ("/", vec![("host", "a:port")], Some(HostMalformed)),
        ("http://a/", vec![("host", "b")], Some(HostMismatch)),
        ("http://a:1/", vec![("host", "a:2")], Some(HostMismatch)),
        ("http://user@a/", vec![("host", "a")], Some(HostMalformed)),
        ("http://a/", vec![], Some(HostMissing)),
        ("http://a/", vec![("host", "A")], None),
        ("/", vec![("host", "a:80")], None),
        ("/", vec![("host", "[::1]:80")], None),
    ] {
        assert_eq!(refusal(&h1(uri, &lines)), expected, "{uri} {lines:?}");
    }
}

#[test]
fn http_2_names_the_host_in_its_authority() {
    let head = |uri: &str, lines: &[(&'static str, &'static str)]| parts(Version::HTTP_2, uri, lines);
    assert_eq!(check(&head("https://a/", &[])).unwrap().name(), "a");
    assert_eq!(check(&head("https://a/", &[("host", "a")])).unwrap().name(), "a");
    assert_eq!(refusal(&head("https://a/", &[("host", "b")])), Some(Refusal::HostMismatch));
    assert_eq!(refusal(&head("https://u@a/", &[])), Some(Refusal::HostMalformed));
    assert_eq!(refusal(&head("/", &[])), Some(Refusal::HostMissing));
}

#[test]
fn only_chunked_once_is_a_transfer_coding() {
    for (lines, fine) in [
        (vec![("transfer-encoding", "chunked")], true),
        (vec![("transfer-encoding", "Chunked")], true),
        (vec![("transfer-encoding", "gzip, chunked")], false),
        (vec![("transfer-encoding", "identity"), ("transfer-encoding", "chunked")], false),
        (vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
        (vec![("transfer-encoding", "chunked, chunked")], false),
        (vec![("transfer-encoding", "xchunked")], false),
        (vec![("transfer-encoding", "chunked;a=b")], false),
        (vec![("transfer-encoding", "")], false),
    ] {
        let mut all = vec![("host", "a")];
        all.extend_from_slice(&lines);
        let expected = (!fine).then_some(Refusal::TransferEncoding);
        assert_eq!(refusal(&h1("/", &all)), expected, "{lines:?}");
    }
}

#[test]
fn methods_targets_and_expectations_that_are_not_served() {
    let with = |method: &str, uri: &str| {
        let mut parts = h1(uri, &[("host", "a")]);
        parts.method = method.parse().unwrap();
        refusal(&parts)
    };
    assert_eq!(with("CONNECT", "/"), Some(Refusal::Method));
    assert_eq!(with("TRACE", "/"), Some(Refusal::Method));
    assert_eq!(with("PROPFIND", "/"), None);
    assert_eq!(with("OPTIONS", "*"), None);
    assert_eq!(with("GET", "*"), Some(Refusal::Target));
    assert_eq!(refusal(&h1("/", &[("host", "a"), ("expect", "100-Continue")])), None);
    assert_eq!(refusal(&h1("/", &[("host", "a"), ("expect", "200-ok")])), Some(Refusal::Expectation));
}

#[test]
fn a_request_that_keeps_coming_back_is_stopped() {
    let four = "1.1 mainstay, 1.1 mainstay, 1.1 mainstay, 1.1 mainstay";
    assert_eq!(refusal(&h1("/", &[("host", "a"), ("via", four)])), None);
    assert_eq!(refusal(&h1("/", &[("host", "a"), ("via", four), ("via", "1.1 mainstay")])), Some(Refusal::Loop));
}

#[test]
fn connection_fields_and_what_they_name_stay_behind() {
    let seen = seen(&[
        ("connection", "close, X-Secret-Hop ,keep-alive"),
        ("connection", "x-second, ,(bad"),
        ("x-secret-hop", "1"),
        ("x-second", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic x"),
        ("proxy-anything", "1"),
        ("proxy", "http://evil"),
        ("te", "trailers, deflate"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("expect", "100-continue"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAM"),
        ("accept", "*/*"),
    ]);
    let mut names: Vec<&str> = seen.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "forwarded",
            "host",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-proto",
            "x-real-ip"
        ]
    );
}

#[test]
fn naming_host_in_connection_does_not_take_it_away() {
    assert_eq!(seen(&[("connection", "host, x-forwarded-for")])["host"], "a");
    assert_eq!(seen(&[("connection", "host, x-forwarded-for")])["x-forwarded-for"], "1.2.3.4");
}

#[test]
fn forwarding_headers_are_this_servers_own() {
    let seen = seen(&[
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-server", "evil"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
    ]);
    for (name, value) in [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a"),
        ("x-forwarded-port", "443"),
        ("x-real-ip", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4;host=\"a\";proto=https"),
        ("via", "1.1 mainstay"),
    ] {
        assert_eq!(seen.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
    }
    assert!(!seen.contains_key("x-forwarded-server"));
}

#[test]
fn a_trusted_proxy_may_tell_the_host() {
    let mut parts = h1("/", &[("host", "inner"), ("x-forwarded-host", "old, shop.example:8443")]);
    let host = check(&parts).unwrap();
    for_upstream(&mut parts, &host, &Client { proxied: true, ..client() }, false);
    assert_eq!(parts.headers["host"], "inner");
    assert_eq!(parts.headers["x-forwarded-host"], "shop.example:8443");
    assert_eq!(parts.headers["x-forwarded-port"], "8443");
}

#[test]
fn names_with_an_underscore_are_dropped_and_counted() {
    let mut parts = h1("/", &[("host", "a"), ("content_length", "5"), ("x_forwarded_for", "6.6.6.6"), ("ok", "1")]);
    let host = check(&parts).unwrap();
    assert_eq!(for_upstream(&mut parts, &host, &client(), false), 2);
    assert!(!parts.headers.keys().any(|name| name.as_str().contains('_')));
    assert_eq!(parts.headers["ok"], "1");
}

#[test]
fn cookie_crumbs_become_one_line() {
    let seen = seen(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
    assert_eq!(seen.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
}

#[test]
fn websocket_is_the_only_upgrade() {
    let upgrade = |connection, upgrade| h1("/", &[("host", "a"), ("connection", connection), ("upgrade", upgrade)]);
    assert!(is_websocket(&upgrade("keep-alive, Upgrade", "WebSocket")));
    assert!(!is_websocket(&upgrade("keep-alive", "websocket")));
    assert!(!is_websocket(&upgrade("upgrade", "h2c")));
    let mut post = upgrade("upgrade", "websocket");
    post.method = Method::POST;
    assert!(!is_websocket(&post));

    let mut head = upgrade("upgrade, http2-settings", "h2c, websocket");
    let host = check(&head).unwrap();
    for_upstream(&mut head, &host, &client(), true);
    assert_eq!(head.headers["connection"], "upgrade");
    assert_eq!(head.headers["upgrade"], "websocket");
}

#[test]
fn ipv6_clients_are_written_as_each_field_wants() {
    let mut parts = h1("/", &[("host", "a")]);
    let host = check(&parts).unwrap();
    let client = Client { address: "[2001:db8::1]:5".parse().unwrap(), secure: false, proxied: false };
    for_upstream(&mut parts, &host, &client, false);
    assert_eq!(parts.headers["x-forwarded-for"], "2001:db8::1");
    assert_eq!(parts.headers["forwarded"], "for=\"[2001:db8::1]\";host=\"a\";proto=http");
}

#[test]
fn responses_lose_the_apps_connection_fields() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("server", "app"),
        ("content-length", "3"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    for_client(&mut headers, false);
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "server"]);
}

proptest::proptest! {
    #[test]
    fn whatever_comes_the_app_sees_clean_heads(
        lines in proptest::collection::vec(("[a-z_-]{1,12}|connection|host|te|upgrade|forwarded|proxy-x", "[ -~]{0,20}"), 0..12)
    ) {
        let mut request = Request::builder().uri("/");
        for (name, value) in &lines {
            request = request.header(name.as_str(), value.as_str());
        }
        let Ok(request) = request.body(()) else { return Ok(()) };
        let mut parts = request.into_parts().0;
        let Ok(host) = check(&parts) else { return Ok(()) };
        for_upstream(&mut parts, &host, &client(), false);
        for name in HOP_BY_HOP {
            proptest::prop_assert!(!parts.headers.contains_key(name));
        }
        proptest::prop_assert_eq!(parts.headers.get_all(HOST).iter().count(), 1);
        proptest::prop_assert_eq!(parts.headers.get_all(&X_FORWARDED_FOR).iter().count(), 1);
        proptest::prop_assert!(!parts.headers.keys().any(|name| name.as_str().contains('_')));
    }
}
