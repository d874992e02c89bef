//! What nginx keeps (`proxy_cache`), as settings of kept answers.
//!
//! Both keep answers by scheme, host, path and query, ask the app once for many who wait, and validate what is too old; so
//! most of nginx' switches need no words here. What differs is told: what makes an answer somebody's own is not a setting.

use super::{Context, Draft, Placed, quoted, span};
use crate::base::{ByteSize, Span};
use crate::edge::cache::is_default;
use crate::edge::nginx_parse::Directive;

/// Switches for what is done here anyway, or needs no switch.
const BY_ITSELF: [&str; 8] = [
    "proxy_cache_lock_timeout",
    "proxy_cache_lock_age",
    "proxy_cache_revalidate",
    "proxy_cache_convert_head",
    "proxy_cache_max_range_offset",
    "proxy_cache_purge",
    "proxy_cache_lock",
    "proxy_cache_methods",
];
/// Variables that tell answers apart, and do so here.
const TOLD_APART: [&str; 12] = [
    "$scheme",
    "$proxy_host",
    "$host",
    "$http_host",
    "$server_name",
    "$server_port",
    "$request_method",
    "$request_uri",
    "$uri",
    "$is_args",
    "$args",
    "$query_string",
];
/// Disk where nginx' setting names no limit.
const UNLIMITED: u64 = 1 << 30;
/// For how long something old stands in for errors: in nginx, for as long as it is asked for.
const STALE: &str = "1d";
/// Largest answer kept where nginx keeps those of any size.
const LARGEST: u64 = 64 << 20;

/// Whether `name` is a directive of this.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with("proxy_cache") || ["proxy_no_cache", "proxy_ignore_headers"].contains(&name)
}

/// The disk for kept answers, of all `proxy_cache_path` among `http`, as settings; what they say beside it is left out.
pub(super) fn disk(http: &[Placed], left_out: &mut Vec<String>) -> Option<(String, ByteSize)> {
    let mut total = 0u64;
    let mut unlimited = false;
    for placed in http.iter().filter(|placed| placed.directive.name() == "proxy_cache_path") {
        let directive = &placed.directive;
        let named = |start: &str| directive.args().iter().find_map(|word| word.strip_prefix(start));
        let most = named("max_size=").and_then(super::size).and_then(|size| size.parse::<ByteSize>().ok());
        unlimited |= most.is_none();
        total = total.saturating_add(most.map_or(UNLIMITED, ByteSize::bytes));
        for (word, why) in [
            ("inactive=", "what was used least recently makes room, however long ago that was"),
            ("min_free=", "kept answers make way when less than twice objects.reserve is free"),
        ] {
            if let Some(value) = named(word) {
                left_out.push(format!("{}:{}: proxy_cache_path {word}{value} ({why})", placed.file, directive.line));
            }
        }
    }
    // Nothing below is taken as a setting.
    let size = ByteSize(total.max(16 << 20));
    let note = if unlimited { "# nginx has no limit here; this is one.\n" } else { "" };
    let folder =
        "# Kept answers lie in the data folder, sealed; edge.cache_memory is what is kept of them in memory.\n";
    (total > 0).then(|| (format!("{folder}{note}cache_disk = {}\n", quoted(&size.to_string())), size))
}

/// Puts what one directive says into the draft of a site; `disk` is what there is for all.
pub(super) fn apply(directive: &Directive, draft: &mut Draft, disk: Option<ByteSize>, context: &mut Context<'_>) {
    let arg = directive.arg(0);
    match directive.name() {
        "proxy_cache" if arg == "off" => forget(draft),
        "proxy_cache" => {
            draft.set("cache_answers", "true".to_owned());
            if let Some(disk) = disk {
                let most = ByteSize((disk.bytes() / 4).min(LARGEST));
                draft.set("cache_max_object", quoted(&most.to_string()));
            }
        }
        "proxy_cache_valid" => valid(directive, draft, context),
        "proxy_cache_key" => {
            if !is_usual_key(&directive.args().join("")) {
                context.leave(directive, "answers are told apart by site, scheme, host, path and query");
            }
        }
        "proxy_cache_methods" if directive.args().iter().any(|method| !["GET", "HEAD"].contains(&method.as_str())) => {
            context.leave(directive, "only GET and HEAD are answered from what is kept");
        }
        "proxy_cache_lock" if arg == "off" => context.leave(directive, "one request fetches for all who wait"),
        "proxy_cache_use_stale" if arg == "off" => {}
        "proxy_cache_use_stale" => stale(directive, draft, context),
        "proxy_cache_background_update" if arg == "on" => {
            context.leave(directive, "the app allows it in Cache-Control: stale-while-revalidate");
        }
        "proxy_cache_background_update" => {}
        "proxy_cache_min_uses" if arg == "1" => {}
        "proxy_cache_min_uses" => context.leave(directive, "what may be kept is kept the first time"),
        "proxy_cache_bypass" | "proxy_no_cache" => {
            // Without a cache in force it says nothing; guides write it beside WebSockets.
            if !draft.has("cache_answers") {
                return;
            }
            let own: Vec<&String> = directive.args().iter().filter(|word| !is_heeded(word)).collect();
            if !own.is_empty() {
                let why =
                    "requests with Cache-Control: no-cache, with credentials or a cookie are told apart by themselves";
                context.leave(directive, why);
            }
        }
        "proxy_ignore_headers" if directive.args().iter().all(|name| name.starts_with("X-Accel-")) => {}
        "proxy_ignore_headers" => context.leave(directive, "what the app says of its answers counts"),
        name if BY_ITSELF.contains(&name) => {}
        _ => context.leave(directive, ""),
    }
}

/// The site keeps nothing.
pub(super) fn forget(draft: &mut Draft) {
    draft.lines.retain(|(key, _)| !key.starts_with("cache_"));
    draft.lists.remove("cache_default");
}

/// Takes the settings out where a site must not have them; tells why when nginx would have kept something.
pub(super) fn settle(draft: &mut Draft) -> Option<&'static str> {
    if !draft.has("cache_answers") {
        forget(draft);
        return None;
    }
    let is_app = draft.has("upstream") || draft.lists.contains_key("upstreams");
    let has_log_in = ["basic_auth", "basic_auth_file", "auth_url"].iter().any(|key| draft.has(key));
    if is_app && !has_log_in {
        return None;
    }
    forget(draft);
    is_app.then_some("proxy_cache: a site with a log-in keeps no answers")
}

/// `proxy_cache_use_stale when ...`.
fn stale(directive: &Directive, draft: &mut Draft, context: &mut Context<'_>) {
    for case in directive.args() {
        match case.as_str() {
            "error" | "timeout" | "invalid_header" | "http_500" | "http_502" | "http_503" | "http_504" => {
                draft.set("cache_stale", quoted(STALE));
            }
            "updating" => context.leave(directive, "updating: an app allows it by stale-while-revalidate"),
            other => context.leave(directive, &format!("{other}: only errors of the server are stood in for")),
        }
    }
}

/// `proxy_cache_valid [status ...] time`.
fn valid(directive: &Directive, draft: &mut Draft, context: &mut Context<'_>) {
    let Some((time, statuses)) = directive.args().split_last() else { return context.leave(directive, "") };
    let time = span(time);
    if !time.parse::<Span>().is_ok_and(|time| time.0 > std::time::Duration::ZERO) {
        return context.leave(directive, "a time that is none, or not known here");
    }
    if statuses.is_empty() {
        return draft.add("cache_default", time);
    }
    for status in statuses {
        let line = format!("{status}: {time}");
        if is_default(&line) {
            draft.add("cache_default", line);
        } else {
            context.leave(directive, &format!("answers with the status {status} are not kept"));
        }
    }
}

/// Whether a key tells apart no more, and no less, than is told apart here.
fn is_usual_key(key: &str) -> bool {
    let mut rest = key.replace(['{', '}', '|', ':', '/', ' '], "");
    // The longest first: one name may begin another.
    let mut names = TOLD_APART.to_vec();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let has = |name: &str| key.replace(['{', '}'], "").contains(name);
    let whole = has("$request_uri") || (has("$uri") && (has("$args") || has("$query_string")));
    for name in names {
        rest = rest.replace(name, "");
    }
    whole && rest.is_empty()
}

/// Whether a variable that makes a request pass does so here.
fn is_heeded(word: &str) -> bool {
    word.starts_with("$cookie_")
        || ["$http_upgrade", "$http_pragma", "$http_cache_control", "$http_authorization", "$http_cookie", "0"]
            .contains(&word)
}

#[cfg(test)]
mod tests {
    use super::super::tests::taken_over;
    use super::*;
    use crate::edge::config::EdgeConfig;

    fn keys_of(out: &str) -> EdgeConfig {
        let edge: toml::Table = toml::from_str(out).unwrap();
        let config: EdgeConfig = edge["edge"].clone().try_into().unwrap();
        config.validate().unwrap();
        config
    }

    #[test]
    fn a_cache_of_a_guide_becomes_one_of_ours() {
        let (_, out) = taken_over(
            r#"
proxy_cache_path /var/cache/nginx levels=1:2 keys_zone=pages:10m max_size=10g inactive=60m use_temp_path=off;
limit_req_zone $binary_remote_addr zone=api2:10m rate=10r/s;
server {
    server_name shop.example;
    proxy_cache pages;
    proxy_cache_key "$scheme$request_method$host$request_uri";
    proxy_cache_valid 200 302 10m;
    proxy_cache_valid 404 1m;
    proxy_cache_valid any 30s;
    proxy_cache_use_stale error timeout updating http_500;
    proxy_cache_background_update on;
    proxy_cache_lock on;
    proxy_cache_revalidate on;
    proxy_cache_bypass $http_upgrade $cookie_session;
    add_header X-Cache-Status $upstream_cache_status;
    location / { proxy_pass http://127.0.0.1:3000; }
    location /news { proxy_cache_valid 60; proxy_pass http://127.0.0.1:3000; }
    location /api { proxy_cache off; proxy_pass http://127.0.0.1:3000; }
    location = /auth { internal; proxy_pass http://127.0.0.1:9091/verify; }
    location /staff { auth_request /auth; proxy_pass http://127.0.0.1:3000; }
    location /static/ { alias /srv/static/; }
    location /search { proxy_no_cache $arg_fresh; proxy_ignore_headers Set-Cookie; proxy_pass http://127.0.0.1:3000; }
}
"#,
        );
        let golden = include_str!("../../tests/golden/nginx/proxy_cache.toml");
        assert_eq!(out.settings, golden, "{}", out.settings);
        let left = include_str!("../../tests/golden/nginx/proxy_cache.left-out.txt");
        assert_eq!(out.left_out.join("\n") + "\n", left);
        let config = keys_of(&out.settings);
        assert_eq!(config.cache_disk.bytes(), 10 << 30);
        assert_eq!(config.sites.iter().filter(|site| site.cache_answers).count(), 3);
    }

    #[test]
    fn what_has_no_limit_gets_one_and_what_says_nothing_says_nothing() {
        let (_, out) = taken_over(
            "proxy_cache_path /a keys_zone=a:1m;\nproxy_cache a;\nproxy_cache_valid 5m;\nserver { server_name a.example; location / { proxy_pass http://127.0.0.1:3; } }\nserver { server_name b.example; proxy_cache off; location / { proxy_pass http://127.0.0.1:4; } }",
        );
        let config = keys_of(&out.settings);
        assert_eq!((config.cache_disk.bytes(), config.sites.len()), (1 << 30, 2));
        assert_eq!((config.sites[0].cache_answers, config.sites[1].cache_answers), (true, false));
        assert_eq!(config.sites[0].cache_default, ["5m"]);
        assert!(out.left_out.is_empty(), "{:?}", out.left_out);
        // Beside WebSockets, without a cache.
        let (_, out) = taken_over(
            "server { server_name a.example; location / { proxy_pass http://127.0.0.1:3; proxy_cache_bypass $http_upgrade $arg_x; } }",
        );
        assert!(out.left_out.is_empty() && !out.settings.contains("cache"), "{out:?}");
    }

    #[test]
    fn keys_are_known_by_what_they_tell_apart() {
        for key in ["$scheme$proxy_host$request_uri", "$scheme://$host$request_uri", "${host}$uri$is_args$args"] {
            assert!(is_usual_key(key), "{key}");
        }
        for key in ["$host$uri", "$host$request_uri$cookie_user", "$host$request_uri$http_accept_language", "", "x"] {
            assert!(!is_usual_key(key), "{key}");
        }
    }
}
