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
    assert_eq!(out.left_out.len(), 2, "{:?}", out.left_out);
    assert!(out.left_out[0].contains("site.conf:15: location ~") && out.left_out[1].contains("sub_filter"));
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
