//! What a request would meet, told from the settings alone: nothing is asked and nothing is counted.

use std::net::IpAddr;

use http::{Method, Uri};

use super::config::EdgeConfig;
use super::error::ConfigError;
use super::host::Host;
use super::sites::{Miss, Sites};
use super::target::Target;

/// A request as one would make it.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The whole address.
    pub url: Uri,
    /// The method.
    pub method: Method,
    /// Who asks; `None` leaves the address lists open.
    pub from: Option<IpAddr>,
}

/// What `asking` would meet under `config`, a line each, in the order in which it meets it. `doors` are the names in front
/// of the domain under which Mainstay itself answers.
///
/// # Errors
/// The settings are wrong.
pub fn explain(config: &EdgeConfig, doors: &[&str], asking: &Asking) -> Result<Vec<String>, ConfigError> {
    let config = &config.in_force();
    config.validate()?;
    let wrong = |allowed: &str| ConfigError::Value {
        key: "the address",
        value: asking.url.to_string(),
        allowed: allowed.to_owned(),
    };
    let host: Option<Host> = asking.url.authority().and_then(|authority| authority.as_str().parse().ok());
    let (Some(host), Some(scheme)) = (host, asking.url.scheme_str()) else {
        return Err(wrong("a whole address such as https://example.com/path"));
    };
    let mut out = Vec::new();
    let path = asking.url.path();
    if path.starts_with("/.well-known/acme-challenge/") {
        out.push("answers to a certificate authority's challenges come first here".to_owned());
    }
    let of_door = |door: &&&str| {
        let name = format!("{door}.{}", config.domain);
        host.name() == name || (**door == "s3" && host.name().ends_with(&format!(".{name}")))
    };
    let door = doors.iter().find(of_door);
    let both = config.http.address().is_some() && config.https.address().is_some();
    if scheme == "http" && config.redirect_https && both && door.is_none_or(|door| *door != "s3") {
        out.push(format!(
            "redirect: to https (edge.redirect_https), {}",
            if asking.method == Method::GET { 301 } else { 308 }
        ));
        return Ok(out);
    }
    if let Some(door) = door {
        out.push(format!("door: Mainstay's own, {door}"));
        return Ok(out);
    }
    let sites = Sites::new(config)?;
    let site = match sites.find(&host, path) {
        Ok(site) => site,
        Err(Miss::Ambiguous) => {
            out.push("refused: 400, the path means one site as sent and another when normalised".to_owned());
            return Ok(out);
        }
        Err(Miss::Unknown) => {
            out.push("no site has this host and path (edge.sites, edge.app)".to_owned());
            return Ok(out);
        }
    };
    out.push(format!("site: {}", site.name));
    if let Some(gate) = &site.gate {
        out.extend(gate.explain(asking.from));
    }
    if let Some(auth) = &site.client {
        let without = if auth.is_required() { "400 without" } else { "the app is told when there is none" };
        out.push(format!("client certificate: asked for, {without} (edge.sites.client_ca_file)"));
        if let Some((path, until)) = auth.lists() {
            out.push(format!("revoked client certificates: those on the lists of {path}, good until {until}"));
        }
    }
    if let Some(maintenance) = &site.maintenance {
        let shut = asking.from.is_none_or(|from| maintenance.shuts_out(from)) && maintenance.is_on();
        out.push(format!("maintenance: {}", if shut { "on, answered 503" } else { "off, or not for this address" }));
    }
    if let Some(shape) = &site.shape {
        let changes = shape.explain(&asking.url);
        let ends = changes.first().is_some_and(|first| first.starts_with("redirect: "));
        out.extend(changes);
        if ends {
            return Ok(out);
        }
    }
    if site.basic.is_some() {
        out.push("log-in: name and password (edge.sites.basic_auth)".to_owned());
    }
    if let Some(forward) = &site.forward {
        let service = forward.service.copies.first().and_then(|number| sites.peers().get(*number));
        out.push(format!("log-in: asks {}{}", service.map_or("", |peer| peer.name.as_str()), forward.shown()));
    }
    if let Some(caching) = &site.caching {
        out.push(match asking.method {
            Method::GET | Method::HEAD => {
                let otherwise = if caching.has_defaults() { ", or does not forbid it" } else { "" };
                format!(
                    "cache: the app's answer is kept if it says so{otherwise}, up to {} bytes of body",
                    caching.most()
                )
            }
            Method::OPTIONS => "cache: not for this method".to_owned(),
            _ => "cache: what is kept of this address goes when the app does not answer with an error".to_owned(),
        });
    }
    if let Some(audience) = &site.audience {
        let own = audience.own(path).is_some();
        out.push(
            if own {
                "answered by Mainstay: measures pages (edge.sites.analytics)"
            } else {
                "pages are counted (edge.sites.analytics, or edge.analytics)"
            }
            .to_owned(),
        );
        if own {
            return Ok(out);
        }
    }
    out.push(format!("limit: a body of {} bytes", site.body));
    match &site.target {
        Target::App(app) => {
            for peer in app.copies.iter().filter_map(|number| sites.peers().get(*number)) {
                out.push(format!("app: {}", peer.name));
            }
            if app.copies.len() > 1 {
                out.push(format!("balance: {}", app.balance().name()));
            }
        }
        Target::Files(_) => out.push("files: of edge.sites.root".to_owned()),
        Target::Redirect(_) => out.push("redirect: edge.sites.redirect".to_owned()),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str, method: Method) -> String {
        let config: EdgeConfig = toml::from_str(
            "domain = \"example.com\"\n[[sites]]\nhosts = [\"example.com\"]\npath = \"/api\"\nupstream = \"127.0.0.1:3\"\n\
             strip_path = true\nrates = [\"api\"]\nallow = [\"10.0.0.0/8\"]\nredirects = ['^/api/old$ /api/new']\n",
        )
        .unwrap();
        let asking = Asking { url: url.parse().unwrap(), method, from: Some("192.0.2.1".parse().unwrap()) };
        explain(&config, &["console", "s3"], &asking).unwrap().join("\n")
    }

    #[test]
    fn words_are_those_of_the_settings() {
        for name in ["least-connections", "round-robin", "random-two", "cookie", "address"] {
            let text = format!("[[sites]]\nupstreams = [\"127.0.0.1:3\", \"127.0.0.1:4\"]\nbalance = \"{name}\"\n");
            let asking = Asking { url: "https://a.example/".parse().unwrap(), method: Method::GET, from: None };
            let lines = explain(&toml::from_str(&text).unwrap(), &[], &asking).unwrap();
            assert!(lines.contains(&format!("balance: {name}")), "{lines:?}");
        }
    }

    #[test]
    fn whether_an_answer_may_be_kept_is_told() {
        let config: EdgeConfig = toml::from_str(
            "[[sites]]\nupstream = \"127.0.0.1:3\"\ncache_answers = true\ncache_max_object = \"2 KiB\"\n",
        )
        .unwrap();
        for (method, line) in [
            (Method::GET, "cache: the app's answer is kept if it says so, up to 2048 bytes of body"),
            (Method::POST, "cache: what is kept of this address goes when the app does not answer with an error"),
        ] {
            let asking = Asking { url: "https://a.example/".parse().unwrap(), method, from: None };
            let lines = explain(&config, &[], &asking).unwrap();
            assert!(lines.iter().any(|told| told == line), "{lines:?}");
        }
        assert!(!told("https://example.com/api/x", Method::GET).contains("cache:"));
    }

    #[test]
    fn a_request_is_followed_to_its_app() {
        let text = told("https://example.com/api/users?x=1", Method::GET);
        for line in
            ["site: example.com/api", "rate zone: api", "asked for: /users?x=1", "app: 127.0.0.1:3", "answered 403"]
        {
            assert!(text.contains(line), "{line} not in {text}");
        }
        assert!(told("https://example.com/api/old", Method::GET).ends_with("redirect: 301 to /api/new"));
        assert!(told("http://example.com/api", Method::POST).contains("308"));
        assert!(told("https://console.example.com/", Method::GET).contains("console"));
        assert!(told("https://other.example/", Method::GET).contains("no site"));
    }
}
