//! The settings of one site while they are put together.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::edge::nginx_parse::Directive;

/// Everybody, as addresses.
pub(super) const EVERYBODY: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The settings of one site, key and value in TOML.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Draft {
    pub(super) lines: Vec<(&'static str, String)>,
    pub(super) lists: BTreeMap<&'static str, Vec<String>>,
    pub(super) notes: Vec<String>,
    /// All it does is to send plain HTTP on.
    pub(super) sends_on: bool,
    /// Folders of sources that PHP or the like runs.
    pub(super) sources: Vec<String>,
    /// It is for a location, not for a whole server.
    pub(super) is_location: bool,
    /// What `ssl_verify_client` says.
    pub(super) asks_clients: bool,
}

impl Draft {
    pub(super) fn set(&mut self, key: &'static str, value: String) {
        self.drop(key);
        self.lines.push((key, value));
    }

    pub(super) fn drop(&mut self, key: &str) {
        self.lines.retain(|(known, _)| *known != key);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.lines.iter().any(|(known, _)| *known == key)
    }

    pub(super) fn add(&mut self, key: &'static str, value: String) {
        self.lists.entry(key).or_default().push(value);
    }

    /// Adds a header in place of one of the same name.
    pub(super) fn header(&mut self, key: &'static str, name: &str, value: &str) {
        let lines = self.lists.entry(key).or_default();
        lines.retain(|line| !line.split(':').next().is_some_and(|known| known.eq_ignore_ascii_case(name)));
        lines.push(if value.is_empty() { format!("{name}:") } else { format!("{name}: {value}") });
    }

    pub(super) fn answers(&self) -> bool {
        self.has("upstream") || self.lists.contains_key("upstreams") || self.has("root") || self.has("redirect")
    }

    /// Whether sources would be shown as files.
    pub(super) fn shows_sources(&self) -> bool {
        let Some((_, root)) = self.lines.iter().find(|(key, _)| *key == "root") else { return false };
        let root = root.trim_matches('"').trim_end_matches('/');
        let holds = |outer: &str, inner: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let sources =
            self.sources.iter().map(|folder| folder.trim_end_matches('/')).filter(|folder| !folder.is_empty());
        sources.into_iter().any(|folder| holds(folder, root) || holds(root, folder))
    }

    /// The host that it sends everything on to, path and all, if it does.
    pub(super) fn leads_to(&self) -> Option<String> {
        let (_, address) = self.lines.iter().find(|(key, _)| *key == "redirect")?;
        let rest = address.trim_matches('"').strip_prefix("https://")?;
        rest.strip_suffix("$uri").map(str::to_owned)
    }

    pub(super) fn shuts_out_all(&self) -> bool {
        self.lists.get("deny").is_some_and(|deny| EVERYBODY.iter().all(|all| deny.iter().any(|one| one == all)))
    }

    /// Takes out who answers, but for files.
    pub(super) fn forget_app(&mut self) {
        for key in ["upstream", "fallback", "redirect", "redirect_status", "strip_path", "balance"] {
            self.drop(key);
        }
        self.lists.remove("upstreams");
    }

    /// What a location that holds `inner` begins with: what its server says, but for lists that it has itself and who
    /// answers.
    pub(super) fn for_location(&self, inner: &[Directive]) -> Self {
        let mut draft = self.clone();
        draft.is_location = true;
        draft.forget_app();
        let serves = |names: &[&str]| inner.iter().any(|one| names.contains(&one.name()));
        if serves(&["proxy_pass", "grpc_pass", "return", "alias", "root"]) {
            draft.drop("root");
            if !serves(&["root", "alias"]) {
                draft.drop("index");
            }
        }
        for (names, list) in [
            (["proxy_cache_valid"].as_slice(), "cache_default"),
            (["limit_req"].as_slice(), "rates"),
            (["expires"].as_slice(), "cache"),
            (["error_page"].as_slice(), "error_pages"),
            (["proxy_set_header", "grpc_set_header"].as_slice(), "request_headers"),
        ] {
            if serves(names) {
                draft.lists.remove(list);
            }
        }
        draft
    }

    /// Without `ssl_verify_client` the authorities of clients are there for nothing.
    pub(super) fn settle_certificates(&mut self) {
        if !self.asks_clients {
            for key in ["client_ca_file", "client_crl_file", "client_cert"] {
                self.drop(key);
            }
        }
    }

    pub(super) fn write(&self, out: &mut String, hosts: &[String], path: &str) {
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

/// The folders from which `block` has PHP or the like run sources; an empty text for one that it does not name. `around` is
/// the folder of what is around it.
pub(super) fn sources(block: &[Directive], around: &str, out: &mut Vec<String>) {
    let own = block.iter().find(|one| ["root", "alias"].contains(&one.name()));
    let folder = own.map_or(around, |one| one.arg(0));
    if block.iter().any(|one| ["fastcgi_pass", "uwsgi_pass", "scgi_pass"].contains(&one.name())) {
        out.push(folder.to_owned());
    }
    for inner in block.iter().filter_map(|one| one.block.as_deref()) {
        sources(inner, folder, out);
    }
}

/// Every `root` of `block` and of what is in it.
pub(super) fn roots(block: &[Directive], out: &mut Vec<String>) {
    out.extend(block.iter().filter(|one| one.name() == "root").map(|one| one.arg(0).to_owned()));
    for inner in block.iter().filter_map(|one| one.block.as_deref()) {
        roots(inner, out);
    }
}

/// A line that is not read.
pub(super) fn comment(out: &mut String, text: &str) {
    let plain: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    let _ = writeln!(out, "# {plain}");
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(super) fn list(values: &[String]) -> String {
    let all: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", all.join(", "))
}
