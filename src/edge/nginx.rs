//! The sites of an nginx configuration, as Mainstay's settings.
//!
//! [`parse`](super::nginx_parse) reads the text; this file takes servers and locations apart, `nginx_apply.rs` says what each
//! directive means here, `nginx_access.rs` who is let in, `nginx_cache.rs` what is kept. What has no equivalent is named with
//! file and line, never left out in silence; what Mainstay does by itself (forwarding headers, WebSockets, TLS settings,
//! buffers) is passed over. Where nginx lets nobody in, nobody gets in.

#[path = "nginx_access.rs"]
mod access;
#[path = "nginx_apply.rs"]
mod apply;
#[path = "nginx_cache.rs"]
mod cache;
#[path = "nginx_draft.rs"]
mod draft;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use self::apply::{apply, certificates, span};
use self::draft::{Draft, comment, list, quoted, roots, sources};
use super::nginx_parse::Directive;
use crate::base::ByteSize;

/// What belongs to the process, and has no counterpart.
const MAIN: &str = "
    user worker_processes worker_rlimit_nofile worker_priority worker_cpu_affinity worker_shutdown_timeout pid events
    load_module env daemon master_process pcre_jit timer_resolution thread_pool lock_file error_log
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
    /// What stands around the servers and counts in each.
    inherited: &'a [Placed],
    file: String,
    /// The disk for kept answers.
    cache_disk: Option<ByteSize>,
    /// Whether the server sends plain HTTP on to HTTPS, and answers nothing else itself.
    sends_on: bool,
    left_out: Vec<String>,
    /// The same, to find them.
    told: HashSet<String>,
    /// Sites written, by host and path.
    written: BTreeMap<(String, String), String>,
}

impl Context<'_> {
    fn leave(&mut self, directive: &Directive, why: &str) {
        let text = directive.words.join(" ");
        let text: String = text.chars().take(120).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let file = directive.file.as_deref().unwrap_or(&self.file);
        let line = format!("{file}:{}: {text}{why}", directive.line);
        // What stands around servers is met in each, and an upstream at each use.
        if self.told.insert(line.clone()) {
            self.left_out.push(line);
        }
    }
}

/// The settings for what `all` says: the directives of every file, includes put in their places.
pub fn translate(all: &[Placed]) -> Translation {
    let mut out = Translation::default();
    out.settings
        .push_str("# Sites taken over from nginx. Read them through, then add them to Mainstay's settings.\n\n");
    let mut http: Vec<Placed> = Vec::new();
    let mut left_out = Vec::new();
    for placed in all {
        match (placed.directive.name(), &placed.directive.block) {
            ("http", Some(block)) => {
                http.extend(block.iter().map(|one| Placed { file: placed.file.clone(), directive: one.clone() }));
            }
            ("stream" | "mail", Some(_)) => {
                let (line, name) = (placed.directive.line, placed.directive.name());
                left_out.push(format!("{}:{line}: {name} (only HTTP is taken over)", placed.file));
            }
            (name, _) if MAIN.split_whitespace().any(|known| known == name) => {}
            _ => http.push(placed.clone()),
        }
    }
    let mut edge = String::new();
    let mut cache_disk = None;
    if let Some((text, size)) = cache::disk(&http, &mut left_out) {
        edge.push_str(&text);
        cache_disk = Some(size);
    }
    let (mut upstreams, mut proxies_as) = (BTreeMap::new(), "trusted_proxies");
    let (mut zones, mut body, mut proxies, mut inherited) = (String::new(), None, Vec::new(), Vec::new());
    for placed in &http {
        let directive = &placed.directive;
        let mut leave = |why: &str| {
            let text: String = directive.words.join(" ").chars().take(120).collect();
            let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
            let file = directive.file.as_deref().unwrap_or(&placed.file);
            left_out.push(format!("{file}:{}: {text}{why}", directive.line));
        };
        match directive.name() {
            "upstream" => {
                upstreams.insert(directive.arg(0).to_owned(), directive.block.clone().unwrap_or_default());
            }
            "limit_req_zone" => match zone(directive, &http) {
                Some(text) => zones.push_str(&text),
                None => leave(""),
            },
            "client_max_body_size" => match size(directive.arg(0)) {
                Some(size) => body = Some(size),
                None => leave("no limit: set edge.limits.body"),
            },
            "set_real_ip_from" if directive.arg(0).contains(':') && directive.arg(0).starts_with("unix") => {}
            "set_real_ip_from" => proxies.push(directive.arg(0).to_owned()),
            "real_ip_header" if directive.arg(0) == "proxy_protocol" => proxies_as = "proxy_protocol",
            "real_ip_header" if !directive.arg(0).eq_ignore_ascii_case("x-forwarded-for") => {
                leave("a proxy that is believed is read by Forwarded and X-Forwarded-For");
            }
            "server" | "proxy_cache_path" | "real_ip_header" | "real_ip_recursive" => {}
            // What WebSockets need, which Mainstay does by itself.
            "map" if directive.arg(0) == "$http_upgrade" => {}
            "limit_conn_zone" => leave("edge.limits.connections_per_ip caps those of one address"),
            "map" | "geo" | "split_clients" | "log_format" => leave(""),
            _ => inherited.push(placed.clone()),
        }
    }
    if !proxies.is_empty() {
        let _ = writeln!(edge, "{proxies_as} = {}", list(&proxies));
    }
    if !edge.is_empty() {
        let _ = writeln!(out.settings, "[edge]\n{edge}");
    }
    out.settings.push_str(&zones);
    if let Some(body) = body {
        let _ = writeln!(out.settings, "[edge.limits]\nbody = {}\n", quoted(&body));
    }
    let mut context = Context {
        upstreams: &upstreams,
        inherited: &[],
        file: String::new(),
        cache_disk,
        sends_on: false,
        left_out,
        told: HashSet::new(),
        written: BTreeMap::new(),
    };
    inherited.retain(|placed| counts_in_servers(placed, &mut context));
    context.inherited = &inherited;
    let mut servers: Vec<&Placed> = http.iter().filter(|placed| placed.directive.name() == "server").collect();
    // Sites do not differ by port here: what HTTPS answers counts, and what plain HTTP would say beside it does not.
    servers.sort_by_key(|placed| !placed.directive.block.as_deref().is_some_and(speaks_tls));
    for placed in servers {
        context.file.clone_from(&placed.file);
        server(&placed.directive, &mut context, &mut out.settings);
    }
    out.left_out = context.left_out;
    out
}

/// Whether what stands around servers changes anything in them; what does not is told here, once.
fn counts_in_servers(placed: &Placed, context: &mut Context<'_>) -> bool {
    // Looked up among what a server has.
    const IN_PLACE: [&str; 5] = ["auth_request", "error_page", "return", "rewrite", "try_files"];
    let directive = &placed.directive;
    let name = directive.name();
    if IN_PLACE.contains(&name) || ["allow", "deny"].contains(&name) || name.starts_with("ssl_certificate") {
        return true;
    }
    let mut draft = Draft::default();
    context.file.clone_from(&placed.file);
    apply(directive, "/", &[], &mut draft, &[], context);
    draft != Draft::default() || name == "auth_basic" || cache::is_ours(name)
}

/// `limit_req_zone key zone=name:10m rate=10r/s`, with the burst that `all` use it with.
fn zone(directive: &Directive, all: &[Placed]) -> Option<String> {
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
    let mut bursts = Vec::new();
    for placed in all {
        bursts_of(&placed.directive, name, &mut bursts);
    }
    bursts.sort_unstable();
    bursts.dedup();
    let burst = bursts.last().copied().unwrap_or(0);
    let note = if bursts.len() > 1 {
        "# nginx names a burst at each use, and they differ; this is the largest.\n"
    } else {
        ""
    };
    Some(format!(
        "[[edge.zones]]\nname = {}\nrequests = {count}\nper = \"{per}\"\nburst = {burst}\nkey = {}\n{note}\n",
        quoted(name),
        quoted(&key)
    ))
}

/// The bursts with which `directive`, and what is in it, uses the zone `name`.
fn bursts_of(directive: &Directive, name: &str, out: &mut Vec<u32>) {
    let named = |start: &str| directive.args().iter().find_map(|word| word.strip_prefix(start));
    if directive.name() == "limit_req" && named("zone=") == Some(name) {
        out.push(named("burst=").and_then(|burst| burst.parse().ok()).unwrap_or(0));
    }
    for inner in directive.block.iter().flatten() {
        bursts_of(inner, name, out);
    }
}

/// Whether the server of `block` answers over TLS.
fn speaks_tls(block: &[Directive]) -> bool {
    let listens = block.iter().filter(|one| one.name() == "listen");
    listens.flat_map(Directive::args).any(|word| word == "ssl" || word == "443" || word.ends_with(":443"))
}

/// Whether `path` is where certificate authorities look, which is answered before any site is looked for.
fn is_challenge(path: &str) -> bool {
    path.trim_end_matches('/') == "/.well-known/acme-challenge"
}

/// Whether `one` sends plain HTTP on to HTTPS at the host that was asked for.
fn sends_on(one: &Directive) -> bool {
    let to = |one: &Directive| {
        one.name() == "return" && one.args().last().is_some_and(|url| url.starts_with("https://$host"))
    };
    one.name() == "if"
        && one.block.iter().flatten().all(to)
        && one.block.as_ref().is_some_and(|block| !block.is_empty())
}

fn server(whole: &Directive, context: &mut Context<'_>, out: &mut String) {
    let block = whole.block.as_deref().unwrap_or_default();
    let hosts = hosts_of(block, context);
    certificates(block, context, out);
    let mut common = Draft::default();
    let locations: Vec<&Directive> = block.iter().filter(|directive| directive.name() == "location").collect();
    let is_path = |path: &String| !path.starts_with('@') && !is_challenge(path);
    let has_path = locations.iter().any(|one| one.args().last().is_some_and(is_path));
    context.sends_on = block.iter().any(sends_on) && !has_path;
    let file = context.file.clone();
    let group = |name: &str| if name == "deny" { "allow".to_owned() } else { name.to_owned() };
    let own = |one: &&Placed| !block.iter().any(|own| group(own.name()) == group(one.directive.name()));
    let around: Vec<&Placed> = context.inherited.iter().filter(own).collect();
    for placed in around.iter().filter(|placed| !["allow", "deny"].contains(&placed.directive.name())) {
        context.file.clone_from(&placed.file);
        apply(&placed.directive, "/", &hosts, &mut common, block, context);
    }
    let rules: Vec<&Directive> = around.iter().map(|placed| &placed.directive).collect();
    access::apply(&rules, &mut common, context);
    context.file = file;
    let level: Vec<&Directive> = block.iter().filter(|directive| directive.name() != "location").collect();
    for directive in &level {
        apply(directive, "/", &hosts, &mut common, block, context);
    }
    access::apply(&level, &mut common, context);
    common.settle_certificates();
    let around = around.iter().find(|placed| placed.directive.name() == "root");
    sources(block, around.map_or("", |placed| placed.directive.arg(0)), &mut common.sources);
    if common.sources.iter().any(String::is_empty) {
        // Any of them may be it.
        roots(block, &mut common.sources);
    }
    if context.sends_on && !common.answers() {
        comment(out, &format!("{}/: plain HTTP is sent on to HTTPS by edge.redirect_https", hosts.join(", ")));
        return out.push('\n');
    }
    if common.has("redirect") {
        // Before any location is looked for.
        return finish(&common, "/", &hosts, whole, context, out);
    }
    let mut root = false;
    for location in locations {
        root |= self::location(location, &hosts, &common, block, context, out);
    }
    if !root && common.answers() {
        finish(&common, "/", &hosts, whole, context, out);
    }
}

/// The hosts of a server; none means all that no other has.
fn hosts_of(block: &[Directive], context: &mut Context<'_>) -> Vec<String> {
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
    hosts
}

/// One location as a site, and those in it; whether it is that of `/`.
fn location(
    location: &Directive,
    hosts: &[String],
    common: &Draft,
    server: &[Directive],
    context: &mut Context<'_>,
    out: &mut String,
) -> bool {
    let (path, exact) = match location.args() {
        [path] => (path.as_str(), false),
        [how, path] if how == "^~" => (path.as_str(), false),
        [how, path] if how == "=" => (path.as_str(), true),
        _ => {
            let why = if location.block.iter().flatten().any(access::shuts_out_all) {
                "a pattern of paths, which nginx shuts out and is not shut out here: name the paths as sites of their own"
            } else {
                "a pattern of paths: name the paths as sites of their own"
            };
            context.leave(location, why);
            return false;
        }
    };
    let inner = location.block.as_deref().unwrap_or_default();
    if path.starts_with('@') || inner.iter().any(|one| one.name() == "internal") {
        // Only asked for by others of this server; those that use it read it.
        return false;
    }
    if is_challenge(path) {
        return false;
    }
    if exact && path == "/" {
        context.leave(location, "the root alone: use edge.sites.redirects or rewrites with ^/$");
        return false;
    }
    let mut draft = common.for_location(inner);
    if exact {
        draft.notes.push("nginx takes this path only; here also what is below it".to_owned());
    }
    access::apply(&inner.iter().collect::<Vec<_>>(), &mut draft, context);
    for directive in inner.iter().filter(|one| one.name() != "location") {
        apply(directive, path, hosts, &mut draft, server, context);
    }
    finish(&draft, path, hosts, location, context, out);
    for nested in inner.iter().filter(|one| one.name() == "location") {
        let mut base = draft.clone();
        base.notes.clear();
        // Who answers is each location's own affair, but for files.
        base.forget_app();
        self::location(nested, hosts, &base, server, context, out);
    }
    path == "/"
}

fn finish(
    draft: &Draft,
    path: &str,
    hosts: &[String],
    location: &Directive,
    context: &mut Context<'_>,
    out: &mut String,
) {
    let mut draft = draft.clone();
    if draft.sends_on {
        // Only a server for plain HTTP says so: anywhere else it would lead back to itself.
        comment(out, &format!("{}{path}: plain HTTP is sent on to HTTPS by edge.redirect_https", hosts.join(", ")));
        return out.push('\n');
    }
    if draft.has("upstream") || draft.lists.contains_key("upstreams") {
        // An app behind its files (`try_files`) is asked for them too.
        for key in ["root", "index", "fallback"] {
            draft.drop(key);
        }
    }
    if draft.shows_sources() {
        let why = "its files hold sources that PHP or the like runs, which would be shown: only what answers HTTP is taken over";
        context.leave(location, why);
        draft.lines.retain(|(key, _)| !["root", "fallback", "index"].contains(key));
        if !draft.shuts_out_all() {
            return;
        }
    }
    if !draft.answers() {
        if !draft.shuts_out_all() {
            return context.leave(location, "nothing in it that answers");
        }
        // Nobody gets as far as that.
        draft.set("redirect", quoted("/"));
    }
    if let Some(why) = cache::settle(&mut draft) {
        context.leave(location, why);
    }
    let trimmed = path.trim_end_matches('/');
    let path = if trimmed.is_empty() { "/" } else { trimmed };
    let mut hosts = hosts.to_vec();
    if let Some(leads) = draft.leads_to().filter(|leads| hosts.iter().any(|host| host == leads)) {
        // To itself over HTTPS, and the others to it.
        comment(out, &format!("{leads}{path}: plain HTTP is sent on to HTTPS by edge.redirect_https"));
        hosts.retain(|host| *host != leads);
        if hosts.is_empty() {
            return out.push('\n');
        }
    }
    write(&draft, path, hosts, location, context, out);
}

/// Writes a site for those of `hosts` that have none at `path` yet.
fn write(
    draft: &Draft,
    path: &str,
    hosts: Vec<String>,
    location: &Directive,
    context: &mut Context<'_>,
    out: &mut String,
) {
    let text_for = |hosts: &[String]| {
        let mut text = String::new();
        draft.write(&mut text, hosts, path);
        text
    };
    let text = text_for(&hosts);
    let place = |host: &String| (host.clone(), path.to_owned());
    let mut places: Vec<(String, String)> =
        if hosts.is_empty() { vec![(String::new(), path.to_owned())] } else { hosts.iter().map(place).collect() };
    let known: Vec<&String> = places.iter().filter_map(|place| context.written.get(place)).collect();
    if known.iter().any(|known| **known == text) {
        // The same once more, on another port as a rule.
        return;
    }
    if !known.is_empty() {
        let taken: Vec<String> =
            places.iter().filter(|place| context.written.contains_key(*place)).map(|place| place.0.clone()).collect();
        context.leave(
            location,
            &format!(
                "{} has a site at {path} already",
                if hosts.is_empty() { "every host".to_owned() } else { taken.join(", ") }
            ),
        );
        places.retain(|place| !context.written.contains_key(place));
    }
    if places.is_empty() {
        return;
    }
    let left: Vec<String> = hosts.into_iter().filter(|host| places.iter().any(|place| place.0 == *host)).collect();
    let text = text_for(&left);
    context.written.extend(places.into_iter().map(|place| (place, text.clone())));
    out.push_str(&text);
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

#[cfg(test)]
#[path = "nginx_tests.rs"]
mod tests;
