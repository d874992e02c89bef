//! The sites of an nginx configuration, as Mainstay's settings.
//!
//! [`parse`](super::nginx_parse) reads the text, this file says what it means here. What has no equivalent is named with file
//! and line, never left out in silence; what Mainstay does by itself (forwarding headers, WebSockets, TLS settings,
//! buffers) is passed over.

#[path = "nginx_cache.rs"]
mod cache;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::nginx_parse::Directive;
use crate::base::ByteSize;

/// What nginx needs to be told and Mainstay does by itself, or does not have because it needs none.
const BY_ITSELF: &str = "
    listen server_name index access_log error_log gzip gzip_types gzip_vary gzip_proxied gzip_comp_level
    gzip_min_length gzip_static gzip_buffers gzip_http_version gzip_disable brotli ssl_protocols ssl_ciphers
    ssl_prefer_server_ciphers ssl_session_cache ssl_session_timeout ssl_session_tickets ssl_dhparam
    ssl_ecdh_curve ssl_stapling ssl_stapling_verify ssl_trusted_certificate resolver resolver_timeout http2
    http3 keepalive keepalive_timeout keepalive_requests sendfile tcp_nopush tcp_nodelay types_hash_max_size
    server_tokens include default_type charset proxy_http_version proxy_buffering proxy_buffers
    proxy_buffer_size proxy_busy_buffers_size proxy_request_buffering proxy_redirect
    proxy_send_timeout proxy_max_temp_file_size underscores_in_headers log_not_found etag internal
    client_body_timeout client_header_timeout
";

/// One directive and the file it stands in.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The file.
    pub file: String,
    /// The directive.
    pub directive: Directive,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Translation {
    /// Settings, as a file for Mainstay.
    pub settings: String,
    /// What could not be translated, a line each.
    pub left_out: Vec<String>,
}

/// Where a directive counts.
struct Context<'a> {
    upstreams: &'a BTreeMap<String, Vec<Directive>>,
    file: &'a str,
    /// The disk for kept answers.
    cache_disk: Option<ByteSize>,
    left_out: Vec<String>,
}

impl Context<'_> {
    fn leave(&mut self, directive: &Directive, why: &str) {
        let text = directive.words.join(" ");
        let text: String = text.chars().take(120).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        self.left_out.push(format!("{}:{}: {text}{why}", self.file, directive.line));
    }
}

/// The settings of one site, key and value in TOML.
#[derive(Clone, Debug, Default)]
struct Draft {
    lines: Vec<(&'static str, String)>,
    lists: BTreeMap<&'static str, Vec<String>>,
    notes: Vec<String>,
}

impl Draft {
    fn set(&mut self, key: &'static str, value: String) {
        self.lines.retain(|(known, _)| *known != key);
        self.lines.push((key, value));
    }

    fn has(&self, key: &str) -> bool {
        self.lines.iter().any(|(known, _)| *known == key)
    }

    fn add(&mut self, key: &'static str, value: String) {
        self.lists.entry(key).or_default().push(value);
    }

    fn answers(&self) -> bool {
        self.has("upstream") || self.lists.contains_key("upstreams") || self.has("root") || self.has("redirect")
    }

    fn write(&self, out: &mut String, hosts: &[String], path: &str) {
        for note in &self.notes {
            comment(out, note);
        }
        let _ = writeln!(out, "[[edge.sites]]");
        if !hosts.is_empty() {
            let _ = writeln!(out, "hosts = {}", list(hosts));
        }
        if path != "/" {
            let _ = writeln!(out, "path = {}", quoted(path));
        }
        for (key, value) in &self.lines {
            let _ = writeln!(out, "{key} = {value}");
        }
        for (key, values) in &self.lists {
            let _ = writeln!(out, "{key} = {}", list(values));
        }
        out.push('\n');
    }
}

/// A line that is not read.
fn comment(out: &mut String, text: &str) {
    let plain: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    let _ = writeln!(out, "# {plain}");
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(values: &[String]) -> String {
    let all: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", all.join(", "))
}

/// The settings for what `all` says: the directives of every file, includes put in their places.
pub fn translate(all: &[Placed]) -> Translation {
    let mut out = Translation::default();
    out.settings
        .push_str("# Sites taken over from nginx. Read them through, then add them to Mainstay's settings.\n\n");
    let mut http: Vec<Placed> = Vec::new();
    for placed in all {
        match (placed.directive.name(), &placed.directive.block) {
            ("http", Some(block)) => {
                http.extend(block.iter().map(|one| Placed { file: placed.file.clone(), directive: one.clone() }));
            }
            ("stream" | "mail", Some(_)) => {
                out.left_out.push(format!(
                    "{}:{}: {} (only HTTP is taken over)",
                    placed.file,
                    placed.directive.line,
                    placed.directive.name()
                ));
            }
            ("events", _) => {}
            _ => http.push(placed.clone()),
        }
    }
    let mut cache_disk = None;
    if let Some((text, size)) = cache::disk(&http, &mut out.left_out) {
        out.settings.push_str(&text);
        cache_disk = Some(size);
    }
    // What every server begins with.
    let inherited: Vec<Directive> =
        http.iter().map(|placed| &placed.directive).filter(|one| cache::is_inherited(one.name())).cloned().collect();
    let mut upstreams = BTreeMap::new();
    let mut body = None;
    for placed in &http {
        let directive = &placed.directive;
        match directive.name() {
            "upstream" => {
                upstreams.insert(directive.arg(0).to_owned(), directive.block.clone().unwrap_or_default());
            }
            "limit_req_zone" => match zone(directive) {
                Some(text) => out.settings.push_str(&text),
                None => out.left_out.push(format!("{}:{}: {}", placed.file, directive.line, directive.words.join(" "))),
            },
            "client_max_body_size" => body = size(directive.arg(0)),
            "map" | "geo" | "split_clients" | "limit_conn_zone" | "log_format" | "auth_request" => {
                out.left_out.push(format!(
                    "{}:{}: {} {}",
                    placed.file,
                    directive.line,
                    directive.name(),
                    directive.args().join(" ")
                ));
            }
            _ => {}
        }
    }
    if let Some(body) = body {
        let _ = writeln!(out.settings, "[edge.limits]\nbody = {}\n", quoted(&body));
    }
    for placed in http.iter().filter(|placed| placed.directive.name() == "server") {
        let mut context = Context { upstreams: &upstreams, file: &placed.file, cache_disk, left_out: Vec::new() };
        let block = placed.directive.block.as_deref().unwrap_or_default();
        server(block, &inherited, &mut context, &mut out.settings);
        out.left_out.append(&mut context.left_out);
    }
    out
}

/// `limit_req_zone key zone=name:10m rate=10r/s`.
fn zone(directive: &Directive) -> Option<String> {
    let named = |start: &str| directive.args().iter().find_map(|word| word.strip_prefix(start));
    let name = named("zone=")?.split(':').next()?;
    let (count, per) = named("rate=")?.split_once("r/")?;
    let count: u32 = count.parse().ok()?;
    let per = match per {
        "s" => "1s",
        "m" => "1m",
        _ => return None,
    };
    let key = match directive.arg(0) {
        "$binary_remote_addr" | "$remote_addr" => "ip".to_owned(),
        key => format!("header:{}", key.strip_prefix("$http_")?.replace('_', "-")),
    };
    Some(format!(
        "[[edge.zones]]\nname = {}\nrequests = {count}\nper = \"{per}\"\nburst = 0\nkey = {}\n# nginx names the burst at each use; set it here.\n\n",
        quoted(name),
        quoted(&key)
    ))
}

fn server(block: &[Directive], inherited: &[Directive], context: &mut Context<'_>, out: &mut String) {
    let mut hosts = Vec::new();
    for directive in block.iter().filter(|directive| directive.name() == "server_name") {
        for name in directive.args() {
            match name.as_str() {
                "_" | "" => {}
                regex if regex.starts_with('~') => context.leave(directive, "a pattern of names"),
                name if name.ends_with(".*") => context.leave(directive, "a wildcard at the end"),
                name => match name.strip_prefix('.') {
                    Some(rest) => hosts.extend([rest.to_owned(), format!("*.{rest}")]),
                    None => hosts.push(name.to_owned()),
                },
            }
        }
    }
    hosts.sort();
    hosts.dedup();
    let only = |name: &str| block.iter().find(|directive| directive.name() == name).map(|one| one.arg(0).to_owned());
    if let (Some(certificate), Some(key)) = (only("ssl_certificate"), only("ssl_certificate_key")) {
        let _ =
            writeln!(out, "[[edge.certificates]]\ncertificate = {}\nkey = {}\n", quoted(&certificate), quoted(&key));
    }
    let mut common = Draft::default();
    let locations: Vec<&Directive> = block.iter().filter(|directive| directive.name() == "location").collect();
    let own = |one: &&Directive| !block.iter().any(|own| own.name() == one.name());
    for directive in inherited.iter().filter(own) {
        apply(directive, "/", &hosts, &mut common, block, context);
    }
    for directive in block.iter().filter(|directive| directive.name() != "location") {
        apply(directive, "/", &hosts, &mut common, block, context);
    }
    let mut root = false;
    for location in locations {
        let (path, exact) = match location.args() {
            [path] => (path.as_str(), false),
            [how, path] if how == "^~" => (path.as_str(), false),
            [how, path] if how == "=" => (path.as_str(), true),
            _ => {
                context.leave(location, "a pattern of paths: name the paths as sites of their own");
                continue;
            }
        };
        let inner = location.block.as_deref().unwrap_or_default();
        if path.starts_with('@') || inner.iter().any(|one| one.name() == "internal") {
            // Only asked for by others of this server; those that use it read it.
            continue;
        }
        let mut draft = common.clone();
        let serves = |name: &str| inner.iter().any(|one| one.name() == name);
        if serves("proxy_pass") || serves("return") || serves("alias") || serves("root") {
            for key in ["upstream", "root", "fallback", "redirect", "redirect_status", "index"] {
                draft.lines.retain(|(known, _)| *known != key);
            }
        }
        if serves("proxy_cache_valid") {
            draft.lists.remove("cache_default");
        }
        if exact {
            draft.notes.push("nginx takes this path only; here also what is below it".to_owned());
        }
        for directive in inner {
            apply(directive, path, &hosts, &mut draft, block, context);
        }
        root |= path == "/";
        finish(&draft, path, &hosts, location, context, out);
    }
    if !root && common.answers() {
        finish(
            &common,
            "/",
            &hosts,
            &Directive { words: vec!["server".to_owned()], block: None, line: 0 },
            context,
            out,
        );
    }
}

/// What a note says when a redirect leads to the host that was asked for.
const SAME_HOST: &str = "the same host";

fn finish(
    draft: &Draft,
    path: &str,
    hosts: &[String],
    location: &Directive,
    context: &mut Context<'_>,
    out: &mut String,
) {
    if !draft.answers() {
        return context.leave(location, "nothing in it that answers");
    }
    let mut draft = draft.clone();
    if let Some(why) = cache::settle(&mut draft) {
        context.leave(location, why);
    }
    if draft.notes.iter().any(|note| note == SAME_HOST) {
        // Only a server for plain HTTP says so: anywhere else it would lead back to itself.
        comment(out, &format!("{}{path}: plain HTTP is sent on to HTTPS by edge.redirect_https", hosts.join(", ")));
        return out.push('\n');
    }
    let trimmed = path.trim_end_matches('/');
    draft.write(out, hosts, if trimmed.is_empty() { "/" } else { trimmed });
}

/// Puts what one directive says into the draft of the site below `path`.
fn apply(
    directive: &Directive,
    path: &str,
    hosts: &[String],
    draft: &mut Draft,
    server: &[Directive],
    context: &mut Context<'_>,
) {
    let arg = directive.arg(0);
    match directive.name() {
        "proxy_pass" | "grpc_pass" => pass(directive, path, draft, context),
        "root" => draft.set("root", quoted(arg)),
        "alias" => {
            draft.set("root", quoted(arg));
            draft.set("strip_path", "true".to_owned());
        }
        "try_files" => match directive.args().last().map(String::as_str) {
            Some(last) if last.starts_with('/') && !last.contains('$') => {
                draft.set("fallback", quoted(last.split('?').next().unwrap_or(last)));
            }
            Some("=404") => {}
            _ => context.leave(directive, ""),
        },
        "return" | "rewrite" => sent(directive, hosts, draft, context),
        "client_max_body_size" => match size(arg) {
            Some(size) => draft.set("body", quoted(&size)),
            None => context.leave(directive, "no limit: set edge.sites.body"),
        },
        "allow" if arg != "all" => draft.add("allow", arg.to_owned()),
        "deny" if arg != "all" => draft.add("deny", arg.to_owned()),
        "deny" if draft.lists.contains_key("allow") => {}
        "deny" => draft.lists.entry("deny").or_default().extend(["0.0.0.0/0".to_owned(), "::/0".to_owned()]),
        "auth_basic" if arg == "off" => {
            draft.lines.retain(|(key, _)| !key.starts_with("basic_auth"));
        }
        "auth_basic" => draft.set("basic_auth_realm", quoted(arg)),
        "auth_basic_user_file" => {
            draft.set("basic_auth_file", quoted(arg));
            draft.notes.push("the file of people must hold bcrypt hashes: htpasswd -B".to_owned());
        }
        "auth_request" if arg == "off" => draft.lines.retain(|(key, _)| *key != "auth_url"),
        "auth_request" => {
            let asked =
                server.iter().find(|one| one.name() == "location" && one.args().last().is_some_and(|path| path == arg));
            let pass = asked.and_then(|one| one.block.as_ref()?.iter().find(|one| one.name() == "proxy_pass"));
            match pass.map(|pass| pass.arg(0)).filter(|url| !url.contains('$')) {
                Some(url) => draft.set("auth_url", quoted(url)),
                None => context.leave(directive, "its location names no address"),
            }
        }
        "limit_req" => {
            if let Some(zone) = directive.args().iter().find_map(|word| word.strip_prefix("zone=")) {
                draft.add("rates", zone.to_owned());
            }
            if let Some(burst) = directive.args().iter().find_map(|word| word.strip_prefix("burst=")) {
                draft.notes.push(format!("nginx lets {burst} more at once here: burst of the zone in edge.zones"));
            }
        }
        "add_header" => match directive.arg(1) {
            "$upstream_cache_status" => {
                draft.notes.push(format!("{arg}: Cache-Status says what was done with a request (RFC 9211)"));
            }
            value if value.contains('$') => context.leave(directive, "a variable"),
            value => draft.add("headers", format!("{arg}: {value}")),
        },
        "proxy_hide_header" => draft.add("headers", format!("{arg}:")),
        "proxy_set_header" | "grpc_set_header" => header(directive, draft, context),
        "expires" => match arg {
            "off" | "epoch" => {}
            "max" => draft.add("cache", "*: immutable".to_owned()),
            span => draft.add("cache", format!("*: {span}")),
        },
        "error_page" => errors(directive, draft, server, context),
        "proxy_intercept_errors" => draft.set("intercept_errors", (arg == "on").to_string()),
        "proxy_connect_timeout" => draft.set("connect_timeout", quoted(&span(arg))),
        "proxy_read_timeout" | "grpc_read_timeout" => draft.set("response_timeout", quoted(&span(arg))),
        "proxy_ssl_verify" if arg == "off" => draft.set("upstream_verify", quoted("insecure")),
        "proxy_ssl_verify" => draft.set("upstream_verify", quoted("full")),
        "proxy_ssl_trusted_certificate" => draft.set("upstream_ca", quoted(arg)),
        "proxy_ssl_name" if !arg.contains('$') => draft.set("upstream_name", quoted(arg)),
        "proxy_ssl_server_name"
        | "proxy_next_upstream"
        | "proxy_pass_header"
        | "proxy_pass_request_body"
        | "allow"
        | "satisfy"
        | "auth_request_set"
        | "ssl_certificate"
        | "ssl_certificate_key" => {}
        "if" if directive
            .block
            .iter()
            .flatten()
            .all(|one| one.name() == "return" && one.arg(1).starts_with("https://$host")) => {}
        name if cache::is_ours(name) => cache::apply(directive, draft, context.cache_disk, context),
        name if BY_ITSELF.split_whitespace().any(|known| known == name) => {}
        _ => context.leave(directive, ""),
    }
}

fn pass(directive: &Directive, path: &str, draft: &mut Draft, context: &mut Context<'_>) {
    let address = directive.arg(0);
    if address.contains('$') {
        return context.leave(directive, "an address with a variable");
    }
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    let (authority, uri) = match rest.strip_prefix("unix:") {
        Some(socket) => {
            let (socket, uri) = socket.split_once(':').map_or((socket, None), |(socket, uri)| (socket, Some(uri)));
            (format!("unix:{socket}"), uri.map(str::to_owned))
        }
        None => match rest.find('/') {
            Some(at) => (rest.chars().take(at).collect(), Some(rest.chars().skip(at).collect())),
            None => (rest.to_owned(), None),
        },
    };
    let prefix = match (scheme, authority.starts_with("unix:")) {
        (_, true) => "",
        ("https" | "http", _) => scheme,
        ("grpc", _) => "h2c",
        ("grpcs", _) => "h2",
        _ => return context.leave(directive, "another protocol"),
    };
    let whole = |authority: &str| match prefix {
        "" => authority.to_owned(),
        prefix => format!("{prefix}://{authority}"),
    };
    match context.upstreams.get(&authority) {
        Some(inner) => {
            draft.lists.remove("upstreams");
            for one in inner {
                match (one.name(), one.arg(0)) {
                    ("server", address) if !one.args().iter().any(|word| word == "down" || word == "backup") => {
                        let named = address.contains(':') || address.starts_with("unix:");
                        let address =
                            if named || prefix.is_empty() { address.to_owned() } else { format!("{address}:80") };
                        let address = if address.starts_with("unix:") { address } else { whole(&address) };
                        draft.add("upstreams", address);
                        if one.args().len() > 1 {
                            draft.notes.push(format!("of `{}` only the address is taken over", one.words.join(" ")));
                        }
                    }
                    ("server", _) => context.leave(one, "a copy in reserve"),
                    ("ip_hash", _) => draft.set("balance", quoted("address")),
                    ("random", _) => draft.set("balance", quoted("random-two")),
                    ("sticky", _) => draft.set("balance", quoted("cookie")),
                    ("least_conn" | "keepalive" | "zone" | "keepalive_timeout" | "keepalive_requests", _) => {}
                    _ => context.leave(one, ""),
                }
            }
            if !inner.iter().any(|one| ["ip_hash", "random", "sticky", "least_conn"].contains(&one.name())) {
                draft.set("balance", quoted("round-robin"));
            }
        }
        None => draft.set("upstream", quoted(&whole(&authority))),
    }
    if scheme == "https" && !draft.has("upstream_verify") {
        draft.notes.push("nginx does not check this app's certificate, Mainstay does: see upstream_verify".to_owned());
        draft.set("upstream_verify", quoted("full"));
    }
    match uri.as_deref() {
        None => {}
        Some("/") if path == "/" => {}
        Some("/") if path.ends_with('/') => draft.set("strip_path", "true".to_owned()),
        Some(uri) => draft.add("rewrites", format!("^{}(.*)$ {uri}$1", regex::escape(path))),
    }
}

fn header(directive: &Directive, draft: &mut Draft, context: &mut Context<'_>) {
    let (name, value) = (directive.arg(0).to_ascii_lowercase(), directive.arg(1));
    let written_here = name.starts_with("x-forwarded-")
        || ["x-real-ip", "upgrade", "connection", "forwarded", "x-original-url", "x-original-method", "content-length"]
            .contains(&name.as_str());
    match (name.as_str(), value) {
        ("host", "$host" | "$http_host") => {
            draft.lines.retain(|(key, _)| *key != "upstream_host");
        }
        ("host", "$proxy_host") if !draft.lists.contains_key("upstreams") => {
            draft.set("upstream_host", quoted("$upstream"));
        }
        ("host", host) if !host.contains('$') => draft.set("upstream_host", quoted(host)),
        _ if written_here => {}
        (_, "") => draft.add("request_headers", format!("{}:", directive.arg(0))),
        (_, value) if !value.contains('$') => draft.add("request_headers", format!("{}: {value}", directive.arg(0))),
        _ => context.leave(directive, "a variable"),
    }
}

fn sent(directive: &Directive, hosts: &[String], draft: &mut Draft, context: &mut Context<'_>) {
    let host = hosts.first().filter(|_| hosts.len() == 1);
    let plain = |url: &str| -> Option<String> {
        let url =
            url.replace("$request_uri", "$uri").replace("${request_uri}", "$uri").replace("$scheme://", "https://");
        let url = match (url.contains("$host") || url.contains("$server_name"), host) {
            (true, Some(host)) => url.replace("$host", host).replace("$server_name", host),
            (true, None) => return None,
            _ => url,
        };
        Some(url)
    };
    if directive.name() == "return" {
        let (status, url) = match directive.args() {
            [url] => ("302", url.as_str()),
            [status, url] => (status.as_str(), url.as_str()),
            _ => return context.leave(directive, ""),
        };
        if !["301", "302", "303", "307", "308"].contains(&status) {
            return context.leave(directive, "only redirects are taken over");
        }
        if url == "https://$host$request_uri" || url == "https://$server_name$request_uri" {
            draft.notes.push(SAME_HOST.to_owned());
            draft.set("redirect", quoted(url));
            return;
        }
        match plain(url).filter(|url| url.replacen("$uri", "", 1).find('$').is_none()) {
            Some(url) => {
                draft.set("redirect", quoted(&url));
                draft.set("redirect_status", status.to_owned());
            }
            None => context.leave(directive, "a variable"),
        }
        return;
    }
    let (pattern, to, flag) = (directive.arg(0), directive.arg(1), directive.arg(2));
    let fits = regex::Regex::new(pattern).is_ok() && !pattern.contains(char::is_whitespace);
    let numbered = !to.chars().zip(to.chars().skip(1)).any(|(a, b)| a == '$' && !b.is_ascii_digit());
    if !fits || !numbered || to.is_empty() {
        return context.leave(directive, "a pattern or a variable that is not known here");
    }
    match flag {
        "permanent" => draft.add("redirects", format!("{pattern} {to} 301")),
        "redirect" => draft.add("redirects", format!("{pattern} {to} 302")),
        _ if to.starts_with("http") => draft.add("redirects", format!("{pattern} {to} 302")),
        _ => draft.add("rewrites", format!("{pattern} {to}")),
    }
}

fn errors(directive: &Directive, draft: &mut Draft, server: &[Directive], context: &mut Context<'_>) {
    let Some((page, statuses)) = directive.args().split_last() else { return };
    let root = server.iter().find(|one| one.name() == "root").map(|one| one.arg(0).trim_end_matches('/'));
    let known = statuses.iter().all(|status| status.parse::<u16>().is_ok_and(|status| (400..600).contains(&status)));
    match root.filter(|_| known && page.starts_with('/') && !page.contains('$')) {
        Some(root) => {
            for status in statuses {
                draft.add("error_pages", format!("{status}: {root}{page}"));
            }
        }
        None => context.leave(directive, "a page that is no file of the root"),
    }
}

/// A size as nginx writes it; `None` for none or no limit.
fn size(text: &str) -> Option<String> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let count: u64 = digits.parse().ok().filter(|count| *count > 0)?;
    let unit = match text.get(digits.len()..)? {
        "" => "B",
        "k" | "K" => "KiB",
        "m" | "M" => "MiB",
        "g" | "G" => "GiB",
        _ => return None,
    };
    Some(format!("{count} {unit}"))
}

/// A time as nginx writes it; seconds without a unit.
fn span(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() }
}

#[cfg(test)]
#[path = "nginx_tests.rs"]
mod tests;
