//! A head through all checks at once, for the fuzzer, which sees nothing private. Compiled for tests and, behind the feature `testing`, for the fuzzer.

use std::net::SocketAddr;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

use super::client::{Client, Network};
use super::head::{check, for_upstream, is_websocket};
use crate::http::h3::frames::{Frames, Piece};
use crate::http::h3::{self, qpack};

/// Reads a DNS message.
///
/// # Panics
/// A path of aliases through it has no end, or ends at what is no name.
pub fn dns(bytes: &[u8]) {
    use super::acme::dns::aliases::{MOST, Path};
    use super::acme::dns::wire::{Answer, name};
    let Ok(answer) = Answer::read(bytes) else { return };
    let Some((asked, _)) = &answer.question else { return };
    let (mut path, mut steps) = (Path::new(asked), 0);
    while let Some(next) = answer.alias(path.end()) {
        if path.add(next).is_err() {
            break;
        }
        steps += 1;
        assert!(steps <= MOST && name(path.end()).is_some(), "{path:?}");
    }
    let _ = answer.zone();
}

/// Reads a header of the PROXY protocol.
pub fn proxy_protocol(bytes: &[u8]) {
    let _ = super::proxy_protocol::parse(bytes);
}

/// Reads `METHOD target`, then lines `name: value`, as a head; judges it, and makes what an app would receive.
///
/// # Panics
/// What passes breaks a promise of the edge: framing or a hop-by-hop field left in, a host that is not the one that was
/// judged, a name that an app could take for another.
pub fn head(bytes: &[u8]) {
    if let Some((parts, peer)) = parse(bytes) {
        judge_head(parts, peer);
    }
}

fn judge_head(mut parts: Parts, peer: SocketAddr) {
    let Ok(host) = check(&parts) else { return };
    let trusted: Vec<Network> = ["10.0.0.0/8", "fc00::/7"].iter().filter_map(|text| text.parse().ok()).collect();
    let client = Client::behind(peer, false, &trusted, &parts.headers);
    let websocket = is_websocket(&parts);
    for_upstream(&mut parts, &host, &client, websocket);

    let headers = &parts.headers;
    let hosts: Vec<&HeaderValue> = headers.get_all(HOST).iter().collect();
    assert_eq!(hosts, [host.as_str()], "one host, the one that was judged");
    assert!(!headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING), "no framing");
    assert_eq!((headers.contains_key(CONNECTION), headers.contains_key(UPGRADE)), (websocket, websocket));
    for name in headers.keys() {
        let name = name.as_str();
        assert!(!name.contains('_') && !name.starts_with("proxy"), "{name} is left in");
    }
    for name in
        ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-real-ip", "forwarded"]
    {
        assert_eq!(headers.get_all(name).iter().count(), 1, "{name} is this server's to write, once");
    }
    assert_eq!(parts.version, Version::HTTP_11);
}

/// Reads what a client of HTTP/3 sends on a request's stream, and judges each head as [`head`] does.
///
/// # Panics
/// As [`head`]; or what is kept while waiting for more exceeds the largest head.
pub fn http3(bytes: &[u8]) {
    const LIMITS: qpack::Limits = qpack::Limits { bytes: 4096, fields: 50 };
    let (mut frames, mut buffer) = (Frames::new(LIMITS.bytes), BytesMut::new());
    for part in bytes.chunks(1000) {
        buffer.extend_from_slice(part);
        loop {
            let piece = match frames.next(&mut buffer) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(_) => return,
            };
            let Piece::Section(section) = piece else { continue };
            let Ok(fields) = qpack::decode(&section, LIMITS) else { continue };
            let _ = h3::head::trailers(fields.clone());
            let Ok(request) = h3::head::request(fields) else { continue };
            let _ = h3::head::declared_length(request.headers());
            judge_head(request.into_parts().0, SocketAddr::from(([192, 0, 2, 1], 443)));
        }
        assert!(buffer.len() <= LIMITS.bytes + 16 + 1000, "more is kept than a head");
    }
}

/// The head, and where it comes from: a trusted proxy if the first byte is odd.
fn parse(bytes: &[u8]) -> Option<(Parts, SocketAddr)> {
    let (kind, rest) = bytes.split_first()?;
    let mut lines = rest.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let (method, target) = (first.get(..space)?, first.get(space + 1..)?);
    let version = if kind & 2 == 0 { Version::HTTP_11 } else { Version::HTTP_2 };
    let mut request = Request::builder().method(method).uri(target).version(version).body(()).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(line.get(colon + 1..)?.trim_ascii()).ok()?);
    }
    let peer = if kind & 1 == 0 { ([192, 0, 2, 1], 7).into() } else { ([10, 0, 0, 1], 7).into() };
    Some((request.into_parts().0, peer))
}

/// Reads `bytes` as the lines of a request's head, an empty line, and those of an answer's, and judges whether that may be
/// kept.
///
/// # Panics
/// What must never be kept is, or times run backwards.
pub fn cache(bytes: &[u8]) {
    use std::time::Duration;

    use super::cache::directives::{Control, Word};
    use super::cache::freshness::{Arrival, Asked, Life};
    use super::cache::storable::judge;
    use super::cache::vary::Selecting;

    let Some((status, rest)) = bytes.split_first() else { return };
    let (mut sides, mut at) = ([HeaderMap::new(), HeaderMap::new()], 0);
    for line in rest.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            at = 1;
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (Some(name), Some(value)) = (line.get(..colon), line.get(colon + 1..)) else { continue };
        if let (Ok(name), Ok(value), Some(side)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()), sides.get_mut(at))
        {
            side.append(name, value);
        }
    }
    let [request, answer] = sides;
    let Ok(status) = http::StatusCode::from_u16(200 + u16::from(*status)) else { return };
    let control = Control::of(&answer);
    let arrival = Arrival {
        asked: Duration::from_secs(5),
        received: Duration::from_secs(6),
        at: crate::base::Timestamp::from_seconds(1_800_000_000),
        default: None,
    };
    let life = Life::of(status, &answer, &control, arrival);
    assert!(life.age(Duration::from_secs(9)) >= life.age(Duration::from_secs(6)) + Duration::from_secs(3));
    let asked = Asked::of(&request);
    for second in [6, 7, 100, 1 << 40] {
        let _ = life.standing(&control, &asked, Duration::from_secs(second));
        let _ = life.outlives_errors(&control, &asked, Duration::from_secs(second), Duration::ZERO);
    }
    if judge(&request, status, &answer, &control, &life).is_ok() {
        assert!(!answer.contains_key(http::header::SET_COOKIE), "a cookie is kept");
        assert!(!control.has(Word::Private), "what is private is kept");
        assert!(!control.has(Word::NoStore) || control.has(Word::MustUnderstand), "no-store is kept");
        let personal = request.contains_key(http::header::COOKIE) || request.contains_key(http::header::AUTHORIZATION);
        assert!(!personal || control.is_for_all(), "what is personal is kept");
        let selecting = Selecting::of(&answer, &request);
        assert!(selecting.is_ok_and(|selecting| selecting.fits(&request)), "kept, but not even for who brought it");
    }
}

/// Reads `bytes` as an nginx configuration. What comes of it must read as settings.
pub fn nginx(bytes: &[u8]) {
    use super::nginx::{Placed, translate};
    let text = String::from_utf8_lossy(bytes);
    let Ok(all) = super::nginx_parse::parse(&text) else { return };
    let placed: Vec<Placed> = all.into_iter().map(|directive| Placed { file: "fuzz".to_owned(), directive }).collect();
    assert!(toml::from_str::<toml::Table>(&translate(&placed).settings).is_ok(), "settings do not read");
}

/// Reads `STATUS,STATUS..`, a line each a path, a host and a method, then patterns, as a jail's settings and a request
/// that may be one of its failures.
///
/// # Panics
/// A list of patterns that is taken finds something else than its patterns one by one, or a status that is none counts.
pub fn jail(bytes: &[u8]) {
    use super::host::Host;
    use super::jails::config::{JailConfig, PRESETS, preset};
    use super::jails::{Seen, takes};
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let (statuses, path) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let (host, method) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let patterns: Vec<String> = lines.map(str::to_owned).collect();
    let Ok(method) = method.parse::<http::Method>() else { return };
    let client = std::net::IpAddr::from([192, 0, 2, 1]);
    let host: Option<Host> = host.parse().ok();
    let seen = |status| Seen {
        client,
        host: host.as_ref(),
        method: &method,
        path,
        authorization: true,
        by_door: false,
        status,
    };
    let jail = |patterns: &[String]| JailConfig {
        name: String::from("own"),
        status: statuses.split(',').map(str::to_owned).collect(),
        paths: patterns.to_vec(),
        ..JailConfig::default()
    };
    for name in PRESETS {
        assert!(preset(name).is_some_and(|jail| takes(&jail, &seen(404)).is_some()), "{name} is refused");
    }
    for status in [0, 99, 100, 401, 404, 599, 600, u16::MAX] {
        let Some(all) = takes(&jail(&patterns), &seen(status)) else { return };
        let each: Option<Vec<bool>> =
            patterns.iter().map(|one| takes(&jail(std::slice::from_ref(one)), &seen(status))).collect();
        assert!(each.is_some(), "a pattern of a list that is taken is refused alone");
        let each = each.unwrap_or_default();
        assert!(patterns.is_empty() || all == each.contains(&true), "{status}: {all}, one by one {each:?}");
        assert!(!all || (100..600).contains(&status), "{status} is no status");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jails_find_what_their_patterns_find_one_by_one() {
        jail(b"401,4xx,500-599\n/login?a\nshop.example.com\nPOST\n^/login\n(?i)/ADMIN$");
        jail(b"401\n/%2e%2e/x\n\nGET\n\\.\\./\n[");
        jail(b"100-\n\n\nGET\n");
        jail(b"");
    }

    #[test]
    fn heads_are_read_and_hold_what_is_promised() {
        let lines = b"\x01GET /a\nhost: example.com\nx-forwarded-for: 192.0.2.9\nconnection: upgrade, x_y\nupgrade: websocket\nx_y: 1";
        assert!(parse(lines).is_some());
        head(lines);
        head(b"\x02GET http://a/\nhost: a\ntransfer-encoding: chunked\ncontent-length: 3");
        head(b"");
    }

    #[test]
    fn answers_are_judged_and_hold_what_is_promised() {
        cache(b"\x00accept: a\n\ncache-control: max-age=60\nvary: accept");
        cache(b"\x00cookie: a=b\n\ncache-control: max-age=60\nage: 5\nexpires: 0");
        cache(b"");
    }
}
