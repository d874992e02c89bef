//! What becomes of configurations as guides show them.

use super::super::config::EdgeConfig;
use super::super::nginx_parse::parse;
use super::*;

pub(super) fn taken_over(text: &str) -> (Vec<toml::Value>, Translation) {
    let file = "site.conf".to_owned();
    let all = parse(text).unwrap().into_iter().map(|directive| Placed { file: file.clone(), directive });
    let out = translate(&all.collect::<Vec<_>>());
    let settings: toml::Table = toml::from_str(&out.settings).unwrap();
    let sites = settings.get("edge").and_then(|edge| edge.get("sites")?.as_array()).cloned().unwrap_or_default();
    (sites, out)
}

#[test]
fn a_site_of_a_guide_becomes_sites_that_are_valid() {
    let (sites, out) = taken_over(
        r#"
        limit_req_zone $binary_remote_addr zone=api2:10m rate=10r/s;
        upstream app { least_conn; server 127.0.0.1:3000; server 127.0.0.1:3001 weight=2; keepalive 64; }
        server { listen 80; server_name example.com www.example.com; location /.well-known/acme-challenge/ { root /var/www; }
            location / { return 301 https://$host$request_uri; } }
        server {
            listen 443 ssl http2;
            server_name example.com www.example.com;
            client_max_body_size 20m;
            add_header X-Frame-Options "DENY" always;
            location / { proxy_pass http://app; proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;
                proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_read_timeout 60; }
            location /api/ { limit_req zone=api2 burst=20 nodelay; proxy_pass http://127.0.0.1:4000/; }
            location /static/ { alias /srv/static/; expires 7d; }
            location ~ \.php$ { fastcgi_pass unix:/run/php.sock; }
            location = /old { return 302 https://new.example$request_uri; }
            location /admin { allow 10.0.0.0/8; deny all; proxy_pass http://app; sub_filter a b; }
        }
        "#,
    );
    assert!(out.settings.contains("plain HTTP is sent on"), "{}", out.settings);
    let at = |path: &str| {
        let of = |site: &toml::Value| site.get("path").and_then(|path| path.as_str()).unwrap_or("/") == path;
        sites.iter().find(|site| of(site)).unwrap_or_else(|| panic!("no {path} in {}", out.settings))
    };
    let text = |path: &str, key: &str| at(path).get(key).map(ToString::to_string).unwrap_or_default();
    assert_eq!(text("/", "upstreams"), "[\"http://127.0.0.1:3000\", \"http://127.0.0.1:3001\"]");
    assert_eq!((text("/", "body"), text("/", "response_timeout")), ("\"20 MiB\"".to_owned(), "\"60s\"".to_owned()));
    assert_eq!((text("/api", "strip_path"), text("/api", "rates")), ("true".to_owned(), "[\"api2\"]".to_owned()));
    assert_eq!(
        (text("/static", "root"), text("/static", "cache")),
        ("\"/srv/static/\"".to_owned(), "[\"*: 7d\"]".to_owned())
    );
    assert_eq!(text("/old", "redirect"), "\"https://new.example$uri\"");
    assert_eq!(text("/admin", "allow"), "[\"10.0.0.0/8\"]");
    assert_eq!(text("/admin", "headers"), "[\"X-Frame-Options: DENY\"]");
    assert_eq!(out.left_out.len(), 3, "{:?}", out.left_out);
    assert!(out.left_out[0].contains("weight=2 (only the address"), "{:?}", out.left_out);
    assert!(out.left_out[1].contains("site.conf:15: location ~") && out.left_out[2].contains("sub_filter"));
    assert!(out.settings.contains("burst = 20") && !out.settings.contains("acme-challenge"), "{}", out.settings);
    let edge: toml::Table = toml::from_str(&out.settings).unwrap();
    let config: EdgeConfig = edge["edge"].clone().try_into().unwrap();
    config.validate().unwrap();
}

#[test]
fn log_ins_rewrites_and_pages_are_taken_over() {
    let (sites, out) = taken_over(
        r#"
        server {
            server_name app.example;
            root /srv/app;
            error_page 404 /404.html;
            auth_basic "Staff"; auth_basic_user_file /etc/nginx/htpasswd;
            location / { try_files $uri /index.html; }
            location /auth { internal; proxy_pass http://127.0.0.1:9091/api/authz/auth-request; }
            location /private/ { auth_basic off; auth_request /auth; proxy_pass https://10.0.0.2; rewrite ^/private/(.*)$ /$1 break;
                rewrite ^/x/(.*)$ /y/$1 permanent; }
            location /bad/ { proxy_pass http://$backend; }
        }
        "#,
    );
    let text = out.settings.as_str();
    assert_eq!(sites.len(), 2, "{text}");
    for line in [
        "fallback = \"/index.html\"",
        "error_pages = [\"404: /srv/app/404.html\"]",
        "basic_auth_file = \"/etc/nginx/htpasswd\"",
        "auth_url = \"http://127.0.0.1:9091/api/authz/auth-request\"",
        "upstream = \"https://10.0.0.2\"",
        "redirects = [\"^/x/(.*)$ /y/$1 301\"]",
    ] {
        assert!(text.contains(line), "{line} not in {text}");
    }
    assert_eq!(out.left_out.len(), 2, "{:?}", out.left_out);
}

/// The settings for `text`, which are valid, and what was left out.
fn valid(text: &str) -> (EdgeConfig, Vec<String>) {
    let (_, out) = taken_over(text);
    let whole: toml::Table = toml::from_str(&out.settings).unwrap();
    let config: EdgeConfig = whole.get("edge").map(|edge| edge.clone().try_into().unwrap()).unwrap_or_default();
    // Its files are elsewhere.
    let mut alone = config.clone();
    for site in &mut alone.sites {
        for file in [&mut site.basic_auth_file, &mut site.client_ca_file, &mut site.client_crl_file] {
            file.clear();
        }
        site.error_pages.clear();
    }
    alone.certificates.clear();
    alone.validate().unwrap_or_else(|error| panic!("{error} in {}", out.settings));
    (config, out.left_out)
}

#[test]
fn what_certbot_wrote_is_an_app_and_nothing_for_plain_http() {
    let (config, left) = valid(
        r#"
        server {
            server_name app.example.com;
            location / { proxy_pass http://localhost:3000; proxy_set_header Upgrade $http_upgrade; proxy_cache_bypass $http_upgrade; }
            location /_next/static { alias /srv/app/.next/static; add_header Cache-Control "public, immutable"; }
            listen [::]:443 ssl ipv6only=on; # managed by Certbot
            listen 443 ssl;
            ssl_certificate /etc/letsencrypt/live/app.example.com/fullchain.pem;
            ssl_certificate_key /etc/letsencrypt/live/app.example.com/privkey.pem;
        }
        server {
            if ($host = app.example.com) { return 301 https://$host$request_uri; } # managed by Certbot
            listen 80; listen [::]:80;
            server_name app.example.com;
            return 404; # managed by Certbot
        }
        "#,
    );
    assert!(left.is_empty(), "{left:?}");
    let shown: Vec<_> = config.sites.iter().map(|site| (site.path.as_str(), site.upstream.as_str())).collect();
    assert_eq!(shown, [("/", "http://localhost:3000"), ("/_next/static", "")]);
    assert_eq!(config.certificates.len(), 1);
}

#[test]
fn an_app_behind_its_files_is_an_app() {
    let (config, left) = valid(
        r"
        upstream puma { server unix:///srv/app/puma.sock fail_timeout=0; }
        server {
            listen 80 default_server deferred;
            server_name rails.example.com;
            root /srv/app/public;
            location ^~ /assets/ { gzip_static on; expires max; add_header Cache-Control public; }
            try_files $uri/index.html $uri @puma;
            location @puma { proxy_set_header Host $http_host; proxy_redirect off; proxy_pass http://puma; }
            error_page 500 502 503 504 /500.html;
        }
        ",
    );
    let shown: Vec<_> =
        config.sites.iter().map(|site| (site.path.as_str(), site.root.as_str(), site.upstreams.clone())).collect();
    let puma = vec!["unix:/srv/app/puma.sock".to_owned()];
    assert_eq!(shown, [("/assets", "/srv/app/public", Vec::new()), ("/", "", puma)]);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().any(|line| line.contains("try_files") && line.contains("the app is asked for files too")));
}

#[test]
fn where_php_runs_no_file_is_shown() {
    let (config, left) = valid(
        r"
        server {
            server_name example.com;
            root /var/www/html;
            index index.php;
            location / { try_files $uri $uri/ /index.php?$args; }
            location ~ \.php$ { fastcgi_pass unix:/run/php.sock; }
            location = /robots.txt { allow all; }
            location /private { deny all; }
        }
        ",
    );
    let shown: Vec<_> = config.sites.iter().map(|site| (site.path.as_str(), site.root.as_str())).collect();
    assert_eq!(shown, [("/private", "")], "what is shut stays shut");
    assert!(left.iter().any(|line| line.contains("location /") && line.contains("sources")), "{left:?}");
    assert!(left.iter().any(|line| line.contains("location = /robots.txt")), "{left:?}");
}

#[test]
fn what_stands_around_servers_counts_in_each_and_is_told_once() {
    let (config, left) = valid(
        r#"
        user www-data;
        events { worker_connections 768; }
        http {
            sendfile on;
            allow 10.0.0.0/8; deny all;
            auth_basic "All"; auth_basic_user_file /etc/x;
            add_header X-Content-Type-Options nosniff always;
            proxy_read_timeout 300;
            set_real_ip_from 173.245.48.0/20;
            set_real_ip_from 2400:cb00::/32;
            real_ip_header X-Forwarded-For;
            map $http_upgrade $connection_upgrade { default upgrade; '' close; }
            lua_shared_dict x 1m;
            server { server_name a.example; location / { proxy_pass http://127.0.0.1:3; } }
            server { server_name b.example; allow all; auth_basic off; location / { add_header X-Frame-Options DENY; proxy_pass http://127.0.0.1:4; } }
        }
        "#,
    );
    assert_eq!(left, ["site.conf:14: lua_shared_dict x 1m"]);
    assert_eq!(config.trusted_proxies, ["173.245.48.0/20", "2400:cb00::/32"]);
    let [a, b] = config.sites.as_slice() else { panic!("{:?}", config.sites) };
    assert_eq!((a.allow.clone(), a.basic_auth_file.as_str()), (vec!["10.0.0.0/8".to_owned()], "/etc/x"));
    assert_eq!(a.response_timeout, crate::base::Span::mins(5));
    assert!(b.allow.is_empty() && b.deny.is_empty() && b.basic_auth_file.is_empty());
    assert_eq!(b.headers, ["X-Content-Type-Options: nosniff", "X-Frame-Options: DENY"]);
}

#[test]
fn who_is_kept_out_by_nginx_is_kept_out() {
    let all = ["0.0.0.0/0", "::/0"].map(str::to_owned).to_vec();
    let (config, left) = valid(
        r#"
        server {
            server_name a.example;
            allow 10.0.0.0/8; deny all;
            location / { proxy_pass http://127.0.0.1:3; }
            location /shut { deny all; }
            location /gone { return 410; }
            location /one { allow 192.0.2.1; deny all; proxy_pass http://127.0.0.1:3; }
            location /open { allow all; proxy_pass http://127.0.0.1:3; }
            location /but { deny 192.0.2.66; proxy_pass http://127.0.0.1:3; }
            location /odd { allow 192.0.2.1; deny 192.0.2.0/24; proxy_pass http://127.0.0.1:3; }
            location /text { return 200 "ok"; }
            location ~ \.sql$ { deny all; }
        }
        server { listen 80 default_server; server_name _; return 444; }
        server { listen 8080 proxy_protocol; server_name c.example; satisfy any; location / { proxy_pass http://127.0.0.1:3; } }
        "#,
    );
    let at = |path: &str| {
        let site = config.sites.iter().find(|site| site.path == path && site.hosts == ["a.example"]).unwrap();
        (site.allow.clone(), site.deny.clone())
    };
    let none = Vec::new();
    assert_eq!(at("/"), (vec!["10.0.0.0/8".to_owned()], none.clone()));
    assert_eq!(at("/shut"), (none.clone(), all.clone()));
    assert_eq!(at("/gone"), (none.clone(), all));
    assert_eq!(at("/one"), (vec!["192.0.2.1".to_owned()], none.clone()));
    assert_eq!(at("/open"), (none.clone(), none.clone()));
    assert_eq!(at("/but"), (none.clone(), vec!["192.0.2.66".to_owned()]));
    assert_eq!(at("/odd"), (none, vec!["192.0.2.0/24".to_owned()]));
    for told in
        ["deny 192.0.2.0/24", "return 200 ok", "nginx shuts out", "return 444", "PROXY", "edge.http", "satisfy any"]
    {
        assert!(left.iter().any(|line| line.contains(told)), "{told} not in {left:?}");
    }
}

#[test]
fn clients_certificates_and_locations_in_locations_are_taken_over() {
    let (config, left) = valid(
        r"
        ssl_client_certificate /etc/ca.pem;
        server {
            server_name a.example;
            ssl_verify_client on; ssl_crl /etc/crl.pem;
            location / { proxy_pass http://127.0.0.1:3; }
            location /n/ { proxy_pass http://127.0.0.1:6; proxy_set_header X-A b; location /n/a/ { proxy_pass http://127.0.0.1:7; } }
            location = / { return 302 /home; }
        }
        server { server_name b.example; location / { proxy_pass http://127.0.0.1:3; proxy_redirect http://a/ http://b/; } }
        server { listen 443 ssl; server_name b.example; location / { proxy_pass http://127.0.0.1:3; } }
        server { listen 443 ssl; server_name b.example; location / { proxy_pass http://127.0.0.1:9; } }
        ",
    );
    let shown: Vec<_> = config.sites.iter().map(|site| (site.path.as_str(), site.upstream.as_str())).collect();
    // What speaks TLS comes first.
    let wanted = [("/", "3"), ("/", "3"), ("/n", "6"), ("/n/a", "7")]
        .map(|(path, port)| (path, format!("http://127.0.0.1:{port}")));
    assert_eq!(shown, wanted.each_ref().map(|(path, upstream)| (*path, upstream.as_str())));
    let [b, a, .., nested] = config.sites.as_slice() else { panic!("{shown:?}") };
    assert_eq!((a.client_ca_file.as_str(), a.client_crl_file.as_str()), ("/etc/ca.pem", "/etc/crl.pem"));
    assert_eq!(nested.request_headers, ["X-A: b"]);
    assert!(b.client_ca_file.is_empty());
    for told in ["location = /", "proxy_redirect", "b.example has a site at / already"] {
        assert!(left.iter().any(|line| line.contains(told)), "{told} not in {left:?}");
    }
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_host_that_leads_to_itself_over_https_is_the_app_and_the_others_lead_to_it() {
    let (config, left) = valid(
        r"
        server { listen 80; server_name example.com www.example.com; return 301 https://example.com$request_uri; }
        server { listen 443 ssl; server_name www.example.com; return 301 https://example.com$request_uri; }
        server { listen 443 ssl; server_name example.com; location / { try_files $uri @a; } location @a { try_files $uri @a; proxy_pass http://127.0.0.1:3; } }
        ",
    );
    let shown: Vec<_> =
        config.sites.iter().map(|site| (site.hosts.clone(), site.redirect.as_str(), site.upstream.as_str())).collect();
    let host = |host: &str| vec![host.to_owned()];
    let wanted =
        [(host("www.example.com"), "https://example.com$uri", ""), (host("example.com"), "", "http://127.0.0.1:3")];
    assert_eq!(shown, wanted);
    assert_eq!(left.len(), 1, "{left:?}");
}

proptest::proptest! {
    #[test]
    fn whatever_is_read_becomes_settings_that_read(text in "(server ?\\{|location /[a-z]* \\{|\\}|proxy_pass http://[a-z\"]+;|return 30[12] /[$a-z\"]*;| |\n){0,20}") {
        if let Ok(all) = parse(&text) {
            let placed: Vec<Placed> = all.into_iter().map(|directive| Placed { file: "f".to_owned(), directive }).collect();
            let out = translate(&placed);
            proptest::prop_assert!(toml::from_str::<toml::Table>(&out.settings).is_ok(), "{}", out.settings);
        }
    }
}
