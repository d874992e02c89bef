//! What each directive means for a site.

use super::draft::{Draft, EVERYBODY, comment, quoted};
use super::{Context, access, cache, sends_on, size};
use crate::edge::nginx_parse::Directive;

/// What nginx needs to be told and Mainstay does by itself, or does not have because it needs none.
const BY_ITSELF: &str = "
    server_name access_log error_log gzip gzip_types gzip_vary gzip_proxied gzip_comp_level
    gzip_min_length gzip_static gzip_buffers gzip_http_version gzip_disable gunzip brotli brotli_types brotli_comp_level
    brotli_static ssl_protocols ssl_ciphers ssl_conf_command ssl_buffer_size ssl_early_data
    ssl_prefer_server_ciphers ssl_session_cache ssl_session_timeout ssl_session_tickets ssl_session_ticket_key ssl_dhparam
    ssl_ecdh_curve ssl_stapling ssl_stapling_verify ssl_trusted_certificate ssl_verify_depth resolver resolver_timeout http2
    http3 quic_retry keepalive keepalive_timeout keepalive_requests sendfile sendfile_max_chunk tcp_nopush tcp_nodelay aio
    directio output_buffers open_file_cache open_file_cache_valid open_file_cache_min_uses open_file_cache_errors
    types types_hash_max_size types_hash_bucket_size server_names_hash_bucket_size server_names_hash_max_size
    variables_hash_max_size variables_hash_bucket_size map_hash_bucket_size map_hash_max_size proxy_headers_hash_max_size
    proxy_headers_hash_bucket_size server_tokens default_type charset proxy_http_version proxy_buffering proxy_buffers
    proxy_buffer_size proxy_busy_buffers_size proxy_request_buffering proxy_socket_keepalive proxy_temp_path
    proxy_temp_file_write_size proxy_ssl_session_reuse proxy_ssl_protocols proxy_ssl_ciphers proxy_ssl_verify_depth
    proxy_send_timeout proxy_max_temp_file_size log_not_found etag internal if_modified_since
    client_body_timeout client_header_timeout client_body_buffer_size client_header_buffer_size large_client_header_buffers
    client_body_temp_path client_body_in_file_only send_timeout reset_timedout_connection lingering_close lingering_timeout
    lingering_time merge_slashes msie_padding server_name_in_redirect port_in_redirect absolute_redirect
    limit_req_status limit_req_log_level limit_conn_status limit_conn_log_level limit_req_dry_run variables
    rewrite_log uninitialized_variable_warn allow deny fastcgi_param fastcgi_index fastcgi_split_path_info fastcgi_buffers
    fastcgi_buffer_size fastcgi_read_timeout fastcgi_intercept_errors fastcgi_hide_header uwsgi_param uwsgi_read_timeout
    grpc_send_timeout proxy_ssl_server_name proxy_next_upstream proxy_next_upstream_tries proxy_next_upstream_timeout
    proxy_pass_header auth_request_set ssl_certificate ssl_certificate_key
";

/// The certificates of a server, once each.
pub(super) fn certificates(block: &[Directive], context: &Context<'_>, out: &mut String) {
    let around = context.inherited.iter().map(|placed| &placed.directive);
    let only =
        |name: &str| block.iter().chain(around.clone()).find(|one| one.name() == name).map(|one| one.arg(0).to_owned());
    let (Some(certificate), Some(key)) = (only("ssl_certificate"), only("ssl_certificate_key")) else { return };
    let text = format!("[[edge.certificates]]\ncertificate = {}\nkey = {}\n\n", quoted(&certificate), quoted(&key));
    if out.contains(&text) {
        return;
    }
    if certificate.contains("/letsencrypt/") {
        comment(out, "Good for as long as certbot renews it; with edge.acme Mainstay gets its own, and this can go.");
    }
    out.push_str(&text);
}

/// Puts what one directive says into the draft of the site below `path`.
pub(super) fn apply(
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
        "try_files" => tried(directive, path, hosts, draft, server, context),
        "index" => {
            let first = directive.args().iter().find(|name| {
                std::path::Path::new(name.as_str()).extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("php"))
            });
            if let Some(first) = first.filter(|first| *first != "index.html") {
                draft.set("index", quoted(first));
            }
        }
        "listen" => listen(directive, context),
        "return" | "rewrite" => sent(directive, hosts, draft, context),
        "client_max_body_size" => match size(arg) {
            Some(size) => draft.set("body", quoted(&size)),
            None => context.leave(directive, "no limit: set edge.sites.body"),
        },
        "satisfy" if arg == "any" => context.leave(directive, "here address lists and log-ins count both"),
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
        }
        "add_header" => match directive.arg(1) {
            "$upstream_cache_status" => {
                draft.notes.push(format!("{arg}: Cache-Status says what was done with a request (RFC 9211)"));
            }
            value if value.contains('$') => context.leave(directive, "a variable"),
            value => draft.header("headers", arg, value),
        },
        "proxy_hide_header" => draft.header("headers", arg, ""),
        "proxy_set_header" | "grpc_set_header" => header(directive, draft, context),
        "expires" => match arg {
            "off" => {}
            "epoch" => draft.add("cache", "*: no-cache".to_owned()),
            "max" => draft.add("cache", "*: immutable".to_owned()),
            "modified" => context.leave(directive, "a time since the file was changed"),
            past if past.starts_with('-') => draft.add("cache", "*: no-cache".to_owned()),
            daytime if daytime.starts_with('@') || daytime.contains('$') => context.leave(directive, ""),
            time => draft.add("cache", format!("*: {}", span(time))),
        },
        "error_page" => errors(directive, draft, server, context),
        "proxy_intercept_errors" => draft.set("intercept_errors", (arg == "on").to_string()),
        "proxy_connect_timeout" => draft.set("connect_timeout", quoted(&span(arg))),
        "proxy_read_timeout" | "grpc_read_timeout" => draft.set("response_timeout", quoted(&span(arg))),
        "proxy_ssl_verify" if arg == "off" => draft.set("upstream_verify", quoted("insecure")),
        "proxy_ssl_verify" => draft.set("upstream_verify", quoted("full")),
        "proxy_ssl_trusted_certificate" => draft.set("upstream_ca", quoted(arg)),
        "proxy_ssl_name" if !arg.contains('$') => draft.set("upstream_name", quoted(arg)),
        "ssl_client_certificate" => draft.set("client_ca_file", quoted(arg)),
        "ssl_crl" => draft.set("client_crl_file", quoted(arg)),
        "ssl_verify_client" => match arg {
            "on" | "optional" => {
                draft.asks_clients = true;
                draft.set("client_cert", quoted(if arg == "on" { "require" } else { "request" }));
            }
            "off" => draft.asks_clients = false,
            _ => context.leave(directive, "on, optional or off"),
        },
        "underscores_in_headers" if arg == "on" => {
            context.leave(directive, "header names with _ are dropped, as apps take them for others");
        }
        "underscores_in_headers" | "satisfy" => {}
        "proxy_redirect" if ["off", "default"].contains(&arg) => {}
        "proxy_redirect" => context.leave(directive, "the app's redirects are passed on as they are"),
        "proxy_pass_request_body" | "proxy_pass_request_headers" if arg == "on" => {}
        "autoindex" if arg == "off" => {}
        "autoindex" => context.leave(directive, "folders are not listed"),
        "limit_conn" => context.leave(directive, "edge.limits.connections_per_ip caps those of one address"),
        "limit_rate" if arg == "0" => {}
        "include" => context.leave(directive, "there is no such file"),
        "if" if sends_on(directive) => {}
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
                        let address = match address.strip_prefix("unix:") {
                            // Guides write one slash or three.
                            Some(path) => format!("unix:/{}", path.trim_start_matches('/')),
                            None => whole(&address),
                        };
                        draft.add("upstreams", address);
                        if one.args().len() > 1 {
                            context.leave(one, "only the address is taken over");
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
        (_, value) if !value.contains('$') => draft.header("request_headers", directive.arg(0), value),
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
            [status] if status.bytes().all(|byte| byte.is_ascii_digit()) => return refused(directive, draft, context),
            [url] => ("302", url.as_str()),
            [status, url] => (status.as_str(), url.as_str()),
            _ => return context.leave(directive, ""),
        };
        if !["301", "302", "303", "307", "308"].contains(&status) {
            return context.leave(directive, "only redirects are taken over");
        }
        if url == "https://$host$request_uri" || url == "https://$server_name$request_uri" {
            draft.sends_on = true;
            draft.set("redirect", quoted("/"));
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

/// `return 404` and the like: in a location nobody gets in.
fn refused(directive: &Directive, draft: &mut Draft, context: &mut Context<'_>) {
    let status = directive.arg(0);
    if context.sends_on {
        // What is left of a server of certbot's after plain HTTP was sent on.
        return;
    }
    if !status.starts_with('4') || !draft.is_location {
        return context
            .leave(directive, "hosts that no site has, and places that are not there, are refused as they are");
    }
    draft.lists.remove("allow");
    draft.lists.insert("deny", EVERYBODY.map(str::to_owned).to_vec());
    draft.notes.push(format!("nginx answers {status} here, and this 403"));
}

/// `try_files $uri $uri/ last`.
fn tried(
    directive: &Directive,
    path: &str,
    hosts: &[String],
    draft: &mut Draft,
    server: &[Directive],
    context: &mut Context<'_>,
) {
    let Some((last, first)) = directive.args().split_last() else { return };
    if let Some(named) =
        server.iter().find(|one| last.starts_with('@') && one.name() == "location" && one.arg(0) == last)
    {
        // An app behind its files: the app has them too, or they get sites of their own.
        let inner = named.block.as_deref().unwrap_or_default();
        access::apply(&inner.iter().collect::<Vec<_>>(), draft, context);
        // Which may name itself.
        for one in inner.iter().filter(|one| one.name() != "try_files") {
            apply(one, path, hosts, draft, server, context);
        }
        return context
            .leave(directive, "the app is asked for files too: give their folders sites of their own, with root");
    }
    let usual = first.iter().all(|one| ["$uri", "$uri/", "$uri/index.html"].contains(&one.as_str()));
    match last.as_str() {
        "=404" if usual => {}
        last if usual && last.starts_with('/') && !last.contains('$') && !last.contains(".php") => {
            draft.set("fallback", quoted(last.split('?').next().unwrap_or(last)));
        }
        _ => context
            .leave(directive, "of what is tried, only $uri, $uri/ and one file or place at the end are known here"),
    }
}

/// `listen`: ports are `edge.http` and `edge.https`.
fn listen(directive: &Directive, context: &mut Context<'_>) {
    if directive.args().iter().any(|word| word == "proxy_protocol") {
        context.leave(directive, "name those who speak the PROXY protocol in edge.proxy_protocol");
    }
    let place = directive.arg(0);
    let port = match place.rsplit_once(':') {
        Some((_, port)) if !place.ends_with(']') => port,
        _ if place.bytes().all(|byte| byte.is_ascii_digit()) => place,
        _ => "80",
    };
    if place.starts_with("unix:") || !["80", "443"].contains(&port) {
        context.leave(directive, "sites answer at edge.http and edge.https");
    }
}

fn errors(directive: &Directive, draft: &mut Draft, server: &[Directive], context: &mut Context<'_>) {
    let Some((page, statuses)) = directive.args().split_last() else { return };
    // The page's own location may say where its file is.
    let own = server.iter().find(|one| one.name() == "location" && one.args().last() == Some(page));
    let inside = own.and_then(|one| one.block.as_ref()?.iter().find(|one| one.name() == "root"));
    let root = inside.or_else(|| server.iter().find(|one| one.name() == "root"));
    let root = root.map(|one| one.arg(0).trim_end_matches('/'));
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

/// A time as nginx writes it; seconds without a unit.
pub(super) fn span(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() }
}
