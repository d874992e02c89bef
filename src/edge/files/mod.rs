//! Sites that are folders of files.
//!
//! Promises: nothing outside the root is served, nor anything whose name begins with a dot ([`disk`]); a small file that
//! was asked for within the last second costs no system call and no thread ([`cache`]); a large one is read piece by
//! piece on blocking threads, never as a whole.
//!
//! A request's path is cut nowhere: a site at `/docs` with the root `/srv/www` serves `/srv/www/docs/...`. Beside a file,
//! `name.br`, `name.zst` and `name.gz` are taken for the same file compressed. Start reading at [`Files::answer`].

mod cache;
mod disk;
mod mime;
mod rules;
mod stream;

use std::fs::{File, Metadata};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use self::cache::FileCache;
use self::disk::FilePath;
use self::rules::CacheRule;
use self::stream::Open;
use super::config::SiteConfig;
use super::error::ConfigError;
use super::pages::{self, Form};
use super::reading::FileBody;
use crate::base::Timestamp;
use crate::http::Body;
use crate::http::conditional::{self, Verdict};
use crate::http::range::{self, ByteRange};

/// Largest file kept in memory.
const SMALL: usize = 128 << 10;
/// Compressed forms: their suffix and their name in `Content-Encoding`, best first.
const CODINGS: [(&str, &str); 3] = [(".br", "br"), (".zst", "zstd"), (".gz", "gzip")];

/// One folder as a site.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    index: String,
    fallback: Option<FilePath>,
    rules: Vec<CacheRule>,
    cache: FileCache,
}

/// What a path is on the disk.
#[derive(Debug)]
pub struct Found {
    plain: Variant,
    /// In the order of [`CODINGS`].
    coded: [Option<Variant>; 3],
    kind: HeaderValue,
    control: HeaderValue,
    /// The file's own path, which is another than the one asked for in a folder or for the fallback.
    path: FilePath,
}

/// A file in one form: as it is, or compressed.
#[derive(Debug)]
struct Variant {
    mark: Mark,
    etag: HeaderValue,
    modified: Timestamp,
    last_modified: HeaderValue,
    /// All of it, when it is small.
    content: Option<Bytes>,
}

/// What tells one state of a file from another: seconds and nanoseconds of its last change, size, and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    seconds: i64,
    nanos: i64,
    size: u64,
    inode: u64,
}

/// What a look at the disk gave.
enum Look {
    Found(Arc<Found>),
    /// A folder without final slash.
    Folder,
    Nothing,
}

impl Files {
    /// The folder `site` names, with `cache_bytes` of memory. Whether it is there is seen when it is asked for: a
    /// deployment may bring it later.
    ///
    /// # Errors
    /// A setting that is wrong.
    pub fn new(site: &SiteConfig, cache_bytes: u64) -> Result<Self, ConfigError> {
        let wrong = |key, value: &str, allowed: &str| ConfigError::Value {
            key,
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        };
        let root = PathBuf::from(&site.root);
        if !root.is_absolute() {
            return Err(wrong("edge.sites.root", &site.root, "a folder's whole path, from /"));
        }
        let plain = FilePath::of(&format!("/{}", site.index)).is_some_and(|path| !path.folder);
        if site.index.contains('/') || !plain {
            return Err(wrong("edge.sites.index", &site.index, "a file's name"));
        }
        let fallback = match site.fallback.as_str() {
            "" => None,
            text => Some(FilePath::of(text).filter(|path| !path.folder).ok_or_else(|| {
                wrong("edge.sites.fallback", text, "a file's path below the root, such as /index.html")
            })?),
        };
        let rules = rules::rules("edge.sites.cache", &site.cache)?;
        Ok(Self { root, index: site.index.clone(), fallback, rules, cache: FileCache::new(cache_bytes) })
    }

    /// Answers a request; `now` is monotonic.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn answer(self: &Arc<Self>, parts: &Parts, form: Form, now: Duration) -> Response<Body> {
        if parts.method != Method::GET && parts.method != Method::HEAD {
            let mut response = pages::page(StatusCode::METHOD_NOT_ALLOWED, "This method is not served here.", form);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let raw = parts.uri.path();
        let found = match self.cache.fresh(raw, now) {
            Some(found) => found,
            None => match self.look(raw, now).await {
                Ok(Look::Found(found)) => found,
                Ok(Look::Folder) => {
                    let query = parts.uri.query().map_or(String::new(), |query| format!("?{query}"));
                    return pages::redirect(&parts.method, &format!("{raw}/{query}"), form);
                }
                Ok(Look::Nothing) => return nothing(form),
                Err(error) => return broken(&error, form),
            },
        };
        match self.respond(&found, parts).await {
            Ok(response) => response,
            Err(error) if error.kind() == io::ErrorKind::NotFound => nothing(form),
            Err(error) => broken(&error, form),
        }
    }

    /// Looks at the disk, on a blocking thread, and keeps what it found.
    async fn look(self: &Arc<Self>, raw: &str, now: Duration) -> io::Result<Look> {
        let (files, raw) = (Arc::clone(self), raw.to_owned());
        let work = move || {
            let look = files.find(&raw, files.cache.known(&raw).as_ref());
            match &look {
                Ok(Look::Found(found)) => files.cache.put(&raw, found, now),
                _ => files.cache.forget(&raw),
            }
            look
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    fn find(&self, raw: &str, known: Option<&Arc<Found>>) -> io::Result<Look> {
        let Some(path) = FilePath::of(raw) else { return Ok(Look::Nothing) };
        let target = if path.folder { path.join(&self.index) } else { path.clone() };
        let look = self.load(target, known)?;
        // A missing picture or script is missing; any other name may be a place inside the app.
        let place = path.folder || mime::known(path.name()).is_none();
        match (look, &self.fallback) {
            (Look::Nothing, Some(fallback)) if place => self.load(fallback.clone(), known),
            (Look::Folder, _) if path.folder => Ok(Look::Nothing),
            (Look::Folder, Some(fallback)) => {
                let index = self.load(path.join(&self.index), None)?;
                if matches!(index, Look::Found(_)) { Ok(Look::Folder) } else { self.load(fallback.clone(), known) }
            }
            (look, _) => Ok(look),
        }
    }

    /// Loads the file at `path` with its compressed forms, or finds that `known` is still true.
    fn load(&self, path: FilePath, known: Option<&Arc<Found>>) -> io::Result<Look> {
        let Some((file, data)) = self.open(&path)? else { return Ok(Look::Nothing) };
        if data.is_dir() {
            return Ok(Look::Folder);
        }
        let known = known.filter(|known| known.path == path);
        let plain = form_of(file, &data, "", known.map(|known| &known.plain))?;
        let mut coded = [None, None, None];
        for (at, slot) in coded.iter_mut().enumerate() {
            let Some((suffix, _)) = CODINGS.get(at) else { continue };
            if let Some((file, data)) = self.open(&path.suffixed(suffix))?.filter(|(_, data)| data.is_file()) {
                let known = known.and_then(|known| known.coded.get(at)).and_then(Option::as_ref);
                *slot = Some(form_of(file, &data, suffix, known)?);
            }
        }
        let text = path.text();
        let rule = self.rules.iter().find(|rule| rule.fits(&text));
        let control = rule.map_or(HeaderValue::from_static("no-cache"), |rule| rule.value.clone());
        let kind = HeaderValue::from_static(mime::of(path.name()));
        Ok(Look::Found(Arc::new(Found { plain, coded, kind, control, path })))
    }

    /// Opens a file or folder; `None` when it is not there, is a link, is neither, or may not be read.
    fn open(&self, path: &FilePath) -> io::Result<Option<(File, Metadata)>> {
        use io::ErrorKind as K;
        let opened = path.open(&self.root).and_then(|file| file.metadata().map(|data| (file, data)));
        match opened {
            Ok((file, data)) => Ok(Some((file, data)).filter(|(_, data)| data.is_file() || data.is_dir())),
            Err(error) => match error.kind() {
                K::NotFound | K::NotADirectory | K::PermissionDenied | K::InvalidFilename => Ok(None),
                // A symbolic link; a socket.
                _ if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => Ok(None),
                _ => Err(error),
            },
        }
    }

    async fn respond(self: &Arc<Self>, found: &Arc<Found>, parts: &Parts) -> io::Result<Response<Body>> {
        let varies = found.coded.iter().any(Option::is_some);
        let chosen = if varies { choose(&found.coded, &parts.headers) } else { None };
        let (file, coding) = match chosen.and_then(|at| found.coded.get(at)?.as_ref().zip(CODINGS.get(at))) {
            Some((file, coding)) => (file, Some(*coding)),
            None => (&found.plain, None),
        };
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(ETAG, file.etag.clone());
        headers.insert(LAST_MODIFIED, file.last_modified.clone());
        headers.insert(CACHE_CONTROL, found.control.clone());
        if varies {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        let tag = file.etag.to_str().unwrap_or("").trim_matches('"');
        match conditional::evaluate(&parts.headers, tag, file.modified) {
            Verdict::NotModified => *response.status_mut() = StatusCode::NOT_MODIFIED,
            Verdict::Failed => *response.status_mut() = StatusCode::PRECONDITION_FAILED,
            Verdict::Proceed => {
                headers.insert(CONTENT_TYPE, found.kind.clone());
                headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
                if let Some((_, coding)) = coding {
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
                }
                let size = file.mark.size;
                let (first, last) = match ranged(&parts.headers, file, size) {
                    Part::Whole => (0, size),
                    Part::Bytes(first, last) => {
                        let text = format!("bytes {first}-{}/{size}", last.saturating_sub(1));
                        headers.insert(CONTENT_RANGE, HeaderValue::try_from(text).map_err(io::Error::other)?);
                        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                        (first, last)
                    }
                    Part::Outside => {
                        let text = format!("bytes */{size}");
                        headers.insert(CONTENT_RANGE, HeaderValue::try_from(text).map_err(io::Error::other)?);
                        headers.remove(CONTENT_ENCODING);
                        headers.remove(CONTENT_TYPE);
                        *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                        return Ok(response);
                    }
                };
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(last.saturating_sub(first)));
                if parts.method == Method::GET {
                    *response.body_mut() = self.body(found, file, coding, first, last).await?;
                }
            }
        }
        Ok(response)
    }

    /// Bytes `first` up to `last` of `file`.
    async fn body(
        self: &Arc<Self>,
        found: &Found,
        file: &Variant,
        coding: Option<(&str, &str)>,
        first: u64,
        last: u64,
    ) -> io::Result<Body> {
        if let Some(content) = &file.content {
            let part = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
            return Ok(Body::from(content.slice(part(first)..part(last))));
        }
        let path = coding.map_or_else(|| found.path.clone(), |(suffix, _)| found.path.suffixed(suffix));
        let (files, mark) = (Arc::clone(self), file.mark);
        let open = move || match files.open(&path)? {
            Some((file, data)) if Mark::of(&data) == mark => Ok(file),
            // Replaced since it was looked at: the head would not fit. The next look sees the new one.
            Some(_) => Err(io::Error::other("the file was replaced a moment ago")),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let file = tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??;
        Ok(Body::new(FileBody::new(Open::new(file), first, last)))
    }
}

/// One form of a file: what is known of it if that is still so, else what the disk says.
fn form_of(mut file: File, data: &Metadata, suffix: &str, known: Option<&Variant>) -> io::Result<Variant> {
    let mark = Mark::of(data);
    let content = match known.filter(|known| known.mark == mark) {
        Some(known) => known.content.clone(),
        None if mark.size <= SMALL as u64 => {
            let bytes = disk::read_small(&mut file, SMALL)?;
            // A file that is being written is served from the disk, with the size it had.
            bytes.filter(|bytes| bytes.len() as u64 == mark.size).map(Bytes::from)
        }
        None => None,
    };
    let modified = Timestamp::from_seconds(u64::try_from(mark.seconds).unwrap_or(0));
    let etag = format!("\"{:x}.{:x}-{:x}{suffix}\"", mark.seconds, mark.nanos, mark.size);
    let header = |text: String| HeaderValue::try_from(text).map_err(io::Error::other);
    Ok(Variant {
        mark,
        etag: header(etag)?,
        modified,
        last_modified: header(conditional::format_date(modified))?,
        content,
    })
}

impl Mark {
    fn of(data: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self { seconds: data.mtime(), nanos: data.mtime_nsec(), size: data.len(), inode: data.ino() }
    }
}

impl Found {
    /// Bytes of content in memory.
    fn bytes(&self) -> usize {
        let of = |form: &Variant| form.content.as_ref().map_or(0, Bytes::len);
        of(&self.plain).saturating_add(self.coded.iter().flatten().map(of).sum())
    }

    #[cfg(test)]
    fn for_test(size: usize) -> Self {
        let empty = HeaderValue::from_static("");
        let plain = Variant {
            mark: Mark { seconds: 0, nanos: 0, size: size as u64, inode: 0 },
            etag: empty.clone(),
            modified: Timestamp::from_seconds(0),
            last_modified: empty.clone(),
            content: Some(Bytes::from(vec![0; size])),
        };
        let path = FilePath::of("/x").unwrap_or_else(|| unreachable!());
        Self { plain, coded: [None, None, None], kind: empty.clone(), control: empty, path }
    }
}

/// The first compressed form there is and the client takes (RFC 9110 section 12.5.3). `*` is not taken for any: who
/// sends nothing else does not know what it will get.
fn choose(coded: &[Option<Variant>; 3], headers: &HeaderMap) -> Option<usize> {
    let accepted = |name: &str| {
        let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|entry| {
            let (coding, weight) = entry.split_once(';').unwrap_or((entry, ""));
            let none = weight.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok()) == Some(0.0);
            coding.trim().eq_ignore_ascii_case(name) && !none
        })
    };
    coded.iter().zip(CODINGS).position(|(form, (_, name))| form.is_some() && accepted(name))
}

/// What a request asks for of a file (RFC 9110 section 14).
enum Part {
    /// All of it.
    Whole,
    /// From the first byte up to the second, which is excluded.
    Bytes(u64, u64),
    /// A part that is not there.
    Outside,
}

/// The part asked for.
fn ranged(headers: &HeaderMap, file: &Variant, size: u64) -> Part {
    let asked = headers.get(RANGE).and_then(|value| range::parse(value.to_str().ok()?));
    let Some(asked) = asked else { return Part::Whole };
    if let Some(condition) = headers.get(IF_RANGE) {
        // A strong comparison: the same tag, or exactly the date that was sent.
        if *condition != file.etag && *condition != file.last_modified {
            return Part::Whole;
        }
    }
    let (first, last) = match asked {
        ByteRange::FromTo(first, last) => (first, last.saturating_add(1).min(size)),
        ByteRange::From(first) => (first, size),
        ByteRange::Last(count) => (size.saturating_sub(count), size),
    };
    if first < last { Part::Bytes(first, last) } else { Part::Outside }
}

fn nothing(form: Form) -> Response<Body> {
    pages::page(StatusCode::NOT_FOUND, "There is nothing at this address.", form)
}

fn broken(error: &io::Error, form: Form) -> Response<Body> {
    tracing::warn!(%error, "a site's file cannot be read");
    pages::internal(form)
}
