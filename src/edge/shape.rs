//! What a site changes of requests and answers: patterns that redirect or rewrite, headers for the app, own pages for
//! errors.
//!
//! A site that uses none of it has no [`Shape`]. Patterns are regular expressions that run in linear time over the path of
//! the request as it was sent, so neither a path nor a pattern can hold a worker up; what a pattern may grow to is bounded
//! ([`PATTERN_SIZE`]).

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use regex::{Regex, RegexBuilder};

use super::error::ConfigError;
use super::head;
use super::security::{self, Override};
use super::site_config::SiteConfig;
use crate::http::Body;

/// Largest form of a compiled pattern, in bytes.
const PATTERN_SIZE: usize = 1 << 20;
/// Most patterns of one list of a site.
const MOST_PATTERNS: usize = 200;
/// Largest page for an error.
const LARGEST_PAGE: u64 = 1 << 20;
/// Longest path and query that a rewrite or redirect may lead to.
const LONGEST: usize = 16 << 10;

/// What one site changes.
#[derive(Debug)]
pub struct Shape {
    redirects: Vec<(Pattern, StatusCode)>,
    rewrites: Vec<Pattern>,
    /// The path in front that the app does not see; empty changes nothing.
    strip: String,
    request_headers: Vec<Override>,
    pages: HashMap<u16, Arc<Page>>,
    /// Whether the app's own errors get these pages too.
    intercept: bool,
}

#[derive(Debug)]
struct Pattern {
    pattern: Regex,
    to: String,
}

#[derive(Debug)]
struct Page {
    kind: &'static str,
    text: bytes::Bytes,
}

impl Shape {
    /// What `site` changes; `None` when it changes nothing. Reads the pages: blocks.
    ///
    /// # Errors
    /// A pattern, a header or a page that is none.
    pub fn of(site: &SiteConfig) -> Result<Option<Box<Self>>, ConfigError> {
        let shape = Self {
            redirects: redirects(&site.redirects)?,
            rewrites: patterns("edge.sites.rewrites", &site.rewrites)?
                .into_iter()
                .map(|(pattern, _)| pattern)
                .collect(),
            strip: if site.strip_path { site.path.trim_end_matches('/').to_owned() } else { String::new() },
            request_headers: request_headers(&site.request_headers)?,
            pages: pages(&site.error_pages)?,
            intercept: site.intercept_errors,
        };
        let changes = !shape.redirects.is_empty()
            || !shape.rewrites.is_empty()
            || !shape.strip.is_empty()
            || !shape.request_headers.is_empty()
            || !shape.pages.is_empty();
        Ok(changes.then(|| Box::new(shape)))
    }

    /// Where a request for `uri` is sent instead, by the first pattern that fits. `$1` and `${name}` stand for what was
    /// found; the query goes along unless the target has one.
    pub fn redirect(&self, uri: &Uri) -> Option<(StatusCode, HeaderValue)> {
        let (pattern, status) = self.redirects.iter().find(|(pattern, _)| pattern.pattern.is_match(uri.path()))?;
        let location = pattern.apply(uri)?;
        // A browser takes `//host` and `/\host` for another server's address.
        if location.starts_with("//") || location.starts_with("/\\") {
            return None;
        }
        Some((*status, HeaderValue::from_str(&location).ok()?))
    }

    /// The path and query the app is asked for; `None` when it is what the client sent.
    ///
    /// # Errors
    /// What comes out is no path.
    pub fn rewritten(&self, uri: &Uri) -> Result<Option<PathAndQuery>, NoPath> {
        let stripped = uri.path().strip_prefix(self.strip.as_str()).filter(|_| !self.strip.is_empty());
        let mut target = None;
        if let Some(rest) = stripped {
            let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
            target = Some(format!("{}{query}", rooted(rest)));
        }
        let begun = match &target {
            Some(target) => target.parse::<Uri>().map_err(|_bad| NoPath)?,
            None => uri.clone(),
        };
        if let Some(pattern) = self.rewrites.iter().find(|pattern| pattern.pattern.is_match(begun.path())) {
            let text = pattern.apply(&begun).ok_or(NoPath)?;
            target = Some(rooted(&text));
        }
        target.map(|target| target.parse::<PathAndQuery>().map_err(|_bad| NoPath)).transpose()
    }

    /// Writes the headers the app is to see.
    pub fn dress_request(&self, headers: &mut HeaderMap) {
        security::apply(&self.request_headers, headers);
    }

    /// The site's own page in place of an error; `from_app` tells whose it is.
    pub fn page(&self, response: Response<Body>, from_app: bool) -> Response<Body> {
        if from_app && !self.intercept {
            return response;
        }
        let Some(page) = self.pages.get(&response.status().as_u16()) else { return response };
        let (mut parts, _) = response.into_parts();
        // Of the error only what a client acts on stays: Retry-After, WWW-Authenticate, cookies.
        for name in [CONTENT_LENGTH, ETAG, LAST_MODIFIED, http::header::CONTENT_ENCODING, http::header::TRAILER] {
            parts.headers.remove(name);
        }
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.kind));
        parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Response::from_parts(parts, Body::from(page.text.clone()))
    }

    /// What it changes of a request for `uri`, in words.
    pub fn explain(&self, uri: &Uri) -> Vec<String> {
        let mut out = Vec::new();
        if let Some((status, location)) = self.redirect(uri) {
            out.push(format!("redirect: {} to {}", status.as_u16(), location.to_str().unwrap_or_default()));
            return out;
        }
        match self.rewritten(uri) {
            Ok(Some(target)) => out.push(format!("the app is asked for: {target}")),
            Ok(None) => {}
            Err(NoPath) => out.push("rewrites: what comes out is no path, answered 400".to_owned()),
        }
        for change in &self.request_headers {
            out.push(format!("request header: {}", change.describe()));
        }
        if !self.pages.is_empty() {
            let whose = if self.intercept { "its own and the app's" } else { "its own" };
            out.push(format!("own pages: for {whose} errors, {} statuses", self.pages.len()));
        }
        out
    }
}

/// What patterns made of a path is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPath;

/// The answer that sends a client on.
pub fn redirected(status: StatusCode, location: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    response
}

impl Pattern {
    /// What is found in the path of `uri`, put into the target, with the query.
    fn apply(&self, uri: &Uri) -> Option<String> {
        let found = self.pattern.captures(uri.path())?;
        let mut out = String::new();
        found.expand(&self.to, &mut out);
        // As in nginx: a `?` at the end leaves the query out.
        if let Some(query) = uri.query().filter(|_| !self.to.ends_with('?')) {
            out.push(if self.to.contains('?') { '&' } else { '?' });
            out.push_str(query);
        }
        let out = out.strip_suffix('?').map(str::to_owned).unwrap_or(out);
        (out.len() <= LONGEST).then_some(out)
    }
}

/// `path` with exactly one `/` in front: two would name a host.
fn rooted(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

/// Reads `pattern target [more]` lines.
fn patterns(key: &'static str, lines: &[String]) -> Result<Vec<(Pattern, Option<String>)>, ConfigError> {
    let wrong =
        |line: &str, allowed: &str| ConfigError::Value { key, value: line.to_owned(), allowed: allowed.to_owned() };
    if lines.len() > MOST_PATTERNS {
        return Err(wrong("a longer list", "at most 200 patterns"));
    }
    let read = |line: &String| {
        let mut words = line.split_whitespace();
        let (Some(pattern), Some(to), more, None) =
            (words.next(), words.next(), words.next().map(str::to_owned), words.next())
        else {
            return Err(wrong(line, "`pattern target`, such as `^/old/(.*)$ /new/$1`"));
        };
        let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).build();
        let pattern = compiled.map_err(|error| {
            let error = error.to_string();
            wrong(line, &format!("a regular expression ({})", error.lines().last().unwrap_or_default()))
        })?;
        let leads = to.starts_with('/') || to.starts_with("https://") || to.starts_with("http://");
        if !leads || !to.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(line, "a target that is a path or an address"));
        }
        Ok((Pattern { pattern, to: to.to_owned() }, more))
    };
    lines.iter().map(read).collect()
}

fn redirects(lines: &[String]) -> Result<Vec<(Pattern, StatusCode)>, ConfigError> {
    let key = "edge.sites.redirects";
    let with_status = |(pattern, status): (Pattern, Option<String>)| {
        let status = status.as_deref().unwrap_or("301");
        let known = ["301", "302", "303", "307", "308"].contains(&status);
        let code = known.then(|| status.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok())).flatten();
        let allowed = "301, 302, 303, 307 or 308".to_owned();
        code.map(|code| (pattern, code)).ok_or_else(|| ConfigError::Value { key, value: status.to_owned(), allowed })
    };
    patterns(key, lines)?.into_iter().map(with_status).collect()
}

fn request_headers(lines: &[String]) -> Result<Vec<Override>, ConfigError> {
    let key = "edge.sites.request_headers";
    let all = security::overrides(key, lines)?;
    match all.iter().find(|one| head::is_forwarding(one.name())) {
        Some(one) => Err(ConfigError::Value {
            key,
            value: one.name().to_string(),
            allowed: "headers other than X-Forwarded-*, Forwarded and X-Real-IP, which hold what this server found out"
                .to_owned(),
        }),
        None => Ok(all),
    }
}

/// Reads `status: file` lines; a status is `404`, `5xx`, or a range such as `500-504`.
fn pages(lines: &[String]) -> Result<HashMap<u16, Arc<Page>>, ConfigError> {
    let wrong = |value: &str, allowed: &str| ConfigError::Value {
        key: "edge.sites.error_pages",
        value: value.to_owned(),
        allowed: allowed.to_owned(),
    };
    let mut all = HashMap::new();
    for line in lines {
        let (statuses, path) =
            line.split_once(':').ok_or_else(|| wrong(line, "`status: file`, such as `404: /srv/errors/404.html`"))?;
        let path = path.trim();
        let (low, high) = match statuses.trim() {
            "4xx" => (400, 499),
            "5xx" => (500, 599),
            text => {
                let (low, high) = text.split_once('-').unwrap_or((text, text));
                match (low.parse::<u16>(), high.parse::<u16>()) {
                    (Ok(low), Ok(high)) if 400 <= low && low <= high && high < 600 => (low, high),
                    _ => return Err(wrong(line, "a status from 400 to 599, `4xx`, `5xx` or a range")),
                }
            }
        };
        let length = std::fs::metadata(path).map(|data| data.len());
        if length.as_ref().is_ok_and(|length| *length > LARGEST_PAGE) {
            return Err(wrong(path, "a file of at most 1 MiB"));
        }
        let text = std::fs::read(path).map_err(|error| wrong(path, &format!("a readable file ({error})")))?;
        let kind = if std::path::Path::new(path).extension().is_some_and(|kind| kind == "json") {
            "application/json"
        } else {
            "text/html; charset=utf-8"
        };
        let page = Arc::new(Page { kind, text: text.into() });
        for status in low..=high {
            // What is named for one status is not undone by what is named for many.
            if low == high || !all.contains_key(&status) {
                all.insert(status, Arc::clone(&page));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Result<Option<Box<Shape>>, ConfigError> {
        Shape::of(&toml::from_str(text).unwrap())
    }

    fn sent_on(shape: &Shape, uri: &str) -> Option<String> {
        let (_, location) = shape.redirect(&uri.parse().unwrap())?;
        Some(location.to_str().unwrap().to_owned())
    }

    #[test]
    fn redirects_put_in_what_was_found_and_keep_the_query() {
        assert!(shape("redirects = ['^/a(.*)$ $1']").is_err(), "a target must lead somewhere");
        let shape = shape(
            "redirects = ['^/blog/(\\d+)/(?P<slug>[^/]+)$ https://blog.example/${slug}-$1 302', '^/q$ /x?y=1', '^/drop$ /x?', '^/go(/.*)$ /$1']",
        )
        .unwrap()
        .unwrap();
        assert_eq!(sent_on(&shape, "/blog/7/hi?a=b").as_deref(), Some("https://blog.example/hi-7?a=b"));
        assert_eq!(sent_on(&shape, "/q?a=b").as_deref(), Some("/x?y=1&a=b"));
        assert_eq!(sent_on(&shape, "/drop?a=b").as_deref(), Some("/x"));
        assert_eq!(sent_on(&shape, "/other"), None);
        assert_eq!(sent_on(&shape, "/go/evil.example"), None, "never to another host by accident");
    }

    #[test]
    fn the_app_sees_the_path_without_its_prefix_and_rewritten() {
        let shape = shape("path = '/api'\nstrip_path = true\nrewrites = ['^/v1/(.*)$ /$1']").unwrap().unwrap();
        let seen = |uri: &str| shape.rewritten(&uri.parse().unwrap()).unwrap().unwrap().to_string();
        assert_eq!(seen("/api"), "/");
        assert_eq!(seen("/api?x=1"), "/?x=1");
        assert_eq!(seen("/api/users?x=1"), "/users?x=1");
        assert_eq!(seen("/api/v1/users?x=1"), "/users?x=1");
        assert_eq!(seen("/api//evil.example/x"), "/evil.example/x");
    }

    #[test]
    fn pages_and_headers_are_read_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("e.html");
        std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), b"<p>own</p>").unwrap();
        let named = shape(&format!("error_pages = ['5xx: {0}', '404: {0}']", file.display())).unwrap().unwrap();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        assert_eq!(named.page(response, false).headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        for (text, key) in [
            ("error_pages = ['200: /x']", "error_pages"),
            ("error_pages = ['404: /does/not/exist']", "error_pages"),
            ("rewrites = ['( /x']", "rewrites"),
            ("rewrites = ['^/x$']", "rewrites"),
            ("rewrites = ['(?:a{1000}){1000} /x']", "rewrites"),
            ("redirects = ['^/x$ /y 200']", "redirects"),
            ("request_headers = ['Host: x']", "request_headers"),
            ("request_headers = ['X-Forwarded-For: 1.2.3.4']", "request_headers"),
        ] {
            let error = shape(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
        assert!(shape("").unwrap().is_none());
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_rewritten_stays_one_path(path in "/[ -~]{0,40}") {
            let shape = shape("path = '/api'\nstrip_path = true\nrewrites = ['^/(.*)x(.*)$ /$2/$1']").unwrap().unwrap();
            if let Ok(uri) = path.parse::<Uri>()
                && let Ok(Some(target)) = shape.rewritten(&uri)
            {
                proptest::prop_assert!(target.as_str().starts_with('/') && !target.as_str().starts_with("//"));
            }
        }
    }
}
