//! `/buckets/{bucket}`: looking through a bucket, and what can be done with an object.
//!
//! An object's bytes are foreign. The console saves them, draws pictures of them in `<img>`, or shows text escaped; whatever
//! a browser would run is opened at the S3 door, which is another origin.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, header};
use futures_util::{StreamExt as _, stream};

use super::buckets::{bucket_name, fault};
use super::mail::sentence;
use super::versions::{self, Versions, deleted_page, version_id};
use crate::console::paging::Pager;
use crate::console::{
    Answer, Confirm, Console, Fault, Flash, Form, Frame, Page, Section, Upload, foreign, format, page,
};
use crate::http::multipart::Multipart;
use crate::http::{Body, uri};
use crate::objects::{
    BodyError, BucketName, Condition, ListQuery, Metadata, ObjectError, ObjectInfo, ObjectKey, ObjectSummary,
    PutExpect, RangeSpec, Target, Versioning,
};

/// Rows of a page.
const ROWS: usize = 100;

/// Most bytes taken from a form in one upload of one file.
pub const UPLOAD_MAX: u64 = 5 << 30;

/// Most bytes of text shown, and largest picture drawn.
const TEXT_SHOWN: u64 = 64 << 10;
const PICTURE_MAX: u64 = 20 << 20;

/// Pictures a browser draws in `<img>`, where none of them runs anything.
const PICTURES: [&str; 6] = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/svg+xml"];

/// Choices for how long a shared address works: seconds and name.
const EXPIRIES: [(u64, &str); 5] =
    [(900, "15 minutes"), (3600, "1 hour"), (86_400, "1 day"), (259_200, "3 days"), (604_800, "7 days")];

/// How long an address works that is opened at once.
pub(super) const OPENED_FOR: Duration = Duration::from_mins(5);

#[derive(Template)]
#[template(path = "objects.html", whitespace = "preserve")]
struct List {
    frame: Frame,
    bucket: BucketName,
    prefix: String,
    /// The folders above: name and address.
    above: Vec<(String, String)>,
    /// Folders here: name and address.
    folders: Vec<(String, String)>,
    objects: Vec<(String, String, ObjectSummary)>,
    upload: String,
    /// The page of what was deleted here, where that is kept.
    deleted: Option<String>,
    pager: Pager,
}

/// `GET /buckets/{bucket}`.
pub async fn list(State(console): State<Console>, page: Page, Path(bucket): Path<String>) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let prefix = page.query("prefix").to_owned();
    let after = Some(page.query("after")).filter(|after| !after.is_empty());
    let query = ListQuery {
        prefix: prefix.clone(),
        delimiter: Some(String::from("/")),
        after: after.map(str::to_owned),
        max_keys: ROWS,
    };
    let found = console.world().objects.list(&bucket, query).await.map_err(fault)?;
    let here = |key: &str| key.strip_prefix(prefix.as_str()).unwrap_or(key).to_owned();
    let folders = found.common_prefixes.iter().map(|folder| (here(folder), folder_page(&bucket, folder)));
    let objects = found.objects.into_iter();
    let objects = objects.map(|object| (here(&object.key), object_page(&bucket, &object.key), object));
    let kept = console.world().objects.versioning(&bucket).await.map_err(fault)? != Versioning::Off;
    let frame = page.frame(bucket.as_str(), Section::Buckets);
    let csrf = uri::encode_component(frame.csrf_token());
    page::show(&List {
        upload: format!("/buckets/{bucket}/upload?prefix={}&csrf={csrf}", uri::encode_component(&prefix)),
        pager: Pager::new(&format!("/buckets/{bucket}"), &[("prefix", &prefix)], after, found.next.as_deref()),
        folders: folders.collect(),
        objects: objects.collect(),
        deleted: kept.then(|| deleted_page(&bucket, &prefix)),
        above: above(&prefix, |folder| folder_page(&bucket, folder)),
        prefix,
        bucket,
        frame,
    })
}

/// `POST /buckets/{bucket}/upload`: the files of a form, stored as they stream in.
pub async fn upload(State(console): State<Console>, Path(bucket): Path<String>, upload: Upload) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let prefix = upload.page.query("prefix").to_owned();
    let kind = upload.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let broken = |error: crate::http::multipart::MultipartError| Fault::bad_request(sentence(&error));
    let mut form = Multipart::new(kind, upload.body).map_err(broken)?;
    let mut stored = 0_u64;
    while let Some(part) = form.next_part().await.map_err(broken)? {
        let Some(name) = part.file_name.filter(|name| part.name == "file" && !name.is_empty()) else { continue };
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let key: ObjectKey = format!("{prefix}{name}").parse().map_err(|error| Fault::bad_request(sentence(&error)))?;
        let metadata =
            Metadata { content_type: part.content_type.filter(|kind| kind.len() <= 200), ..Metadata::default() };
        let body = stream::unfold((&mut form, 0_u64), |(form, taken)| async move {
            let chunk = match form.chunk().await {
                Ok(chunk) => chunk?,
                Err(error) => return Some((Err(BodyError::new(error)), (form, taken))),
            };
            let taken = taken.saturating_add(chunk.len() as u64);
            if taken > UPLOAD_MAX {
                let text = "a file sent by form has at most 5 GiB; send larger ones over S3";
                return Some((Err(BodyError::new(text)), (form, taken)));
            }
            Some((Ok(chunk), (form, taken)))
        });
        console.world().objects.put(&bucket, &key, metadata, PutExpect::default(), body).await.map_err(fault)?;
        stored += 1;
    }
    let flash = match stored {
        0 => Flash::bad("No file was chosen."),
        1 => Flash::good("The file is stored."),
        many => Flash::good(format!("{many} files are stored.")),
    };
    upload.page.redirect_saying(&folder_page(&bucket, &prefix), &flash)
}

#[derive(Template)]
#[template(path = "object.html", whitespace = "preserve")]
struct Object {
    frame: Frame,
    bucket: BucketName,
    key: String,
    encoded: String,
    folder: String,
    info: ObjectInfo,
    picture: bool,
    text: Option<String>,
    cut: bool,
    versions: Versions,
    open: Option<String>,
    expiries: [(u64, &'static str); 5],
    shared: Option<(String, &'static str)>,
}

/// `GET /buckets/{bucket}/object?key=`.
pub async fn show(State(console): State<Console>, page: Page, Path(bucket): Path<String>) -> Answer {
    let key = page.query("key").to_owned();
    show_with(&console, &page, &bucket, &key, None).await
}

/// `POST /buckets/{bucket}/share`: the same page with an address to pass on.
pub async fn share(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let key = form.fields.text("key").to_owned();
    let chosen = form.fields.text("expires");
    let (seconds, name) = EXPIRIES
        .into_iter()
        .find(|(seconds, _)| seconds.to_string() == chosen)
        .ok_or_else(|| Fault::bad_request("Choose how long the address shall work."))?;
    let world = console.world();
    let disposition = foreign::disposition("inline", &key);
    let query = [("response-content-disposition", disposition.to_str().unwrap_or("inline"))];
    let secure = form.page.entry().is_secure();
    let (expires, now) = (Duration::from_secs(seconds), world.clock.now());
    let link = world.share.link((&bucket, &key), &query, expires, secure, now);
    let link = link.ok_or_else(|| Fault::bad_request("The S3 door is off, so there is no address to share."))?;
    tracing::info!(bucket, key, seconds, user = form.page.session().user(), "an object was shared by address");
    show_with(&console, &form.page, &bucket, &key, Some((link, name))).await
}

async fn show_with(
    console: &Console,
    page: &Page,
    bucket: &str,
    key: &str,
    shared: Option<(String, &'static str)>,
) -> Answer {
    let (bucket, name) = (bucket_name(bucket)?, object_key(key)?);
    let world = console.world();
    let info = match world.objects.head(&bucket, &name).await {
        Err(ObjectError::DeleteMarker { .. }) => return versions::show_key(console, page, bucket, &name).await,
        info => info.map_err(fault)?,
    };
    let versions = Versions::find(console, page, (&bucket, &name), "").await?;
    let kind = kind(&info);
    let picture = PICTURES.contains(&kind.as_str()) && info.size <= PICTURE_MAX;
    let (mut text, mut cut) = (None, false);
    if is_text(&kind, key) && info.size > 0 {
        let range = Some(RangeSpec::FromTo(0, TEXT_SHOWN - 1));
        let mut found = world.objects.get(&bucket, &name, range).await.map_err(fault)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = found.body.next().await {
            bytes.extend_from_slice(&chunk.map_err(fault)?);
        }
        cut = info.size > TEXT_SHOWN;
        text = Some(String::from_utf8_lossy(&bytes).into_owned());
    }
    let secure = page.entry().is_secure();
    let inline = [("response-content-disposition", "inline")];
    let open = world.share.link((bucket.as_str(), key), &inline, OPENED_FOR, secure, world.clock.now());
    let folder = folder_of(key);
    let title = key.rsplit('/').find(|part| !part.is_empty()).unwrap_or(key);
    page::show(&Object {
        frame: page.frame(title, Section::Buckets),
        encoded: uri::encode_component(key),
        folder: folder_page(&bucket, &folder),
        key: key.to_owned(),
        open: open.filter(|_| kind == "application/pdf"),
        bucket,
        info,
        picture,
        text,
        cut,
        versions,
        expiries: EXPIRIES,
        shared,
    })
}

/// `GET /buckets/{bucket}/download?key=&version=`: the newest version without one.
pub async fn download(State(console): State<Console>, page: Page, Path(bucket): Path<String>) -> Answer {
    let (bucket, key) = (bucket_name(&bucket)?, object_key(page.query("key"))?);
    let version = Some(page.query("version")).filter(|version| !version.is_empty()).map(version_id).transpose()?;
    let target = Target { key, version };
    let found = console.world().objects.get_version(&bucket, &target, None).await.map_err(fault)?;
    let size = found.info.size;
    let mut response = foreign::download(target.key.as_str(), Body::from_stream(found.body));
    response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
    Ok(response)
}

/// `GET /buckets/{bucket}/picture?key=`: for `<img>` only.
pub async fn picture(State(console): State<Console>, page: Page, Path(bucket): Path<String>) -> Answer {
    let (bucket, key) = (bucket_name(&bucket)?, object_key(page.query("key"))?);
    let found = console.world().objects.get(&bucket, &key, None).await.map_err(fault)?;
    let kind = kind(&found.info);
    let kind = PICTURES.into_iter().find(|picture| *picture == kind).filter(|_| found.info.size <= PICTURE_MAX);
    let kind = kind.ok_or_else(|| Fault::not_found("picture"))?;
    let mut response: Response<Body> = foreign::download(key.as_str(), Body::from_stream(found.body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// `GET /buckets/{bucket}/remove?key=`.
pub async fn ask_remove(State(console): State<Console>, page: Page, Path(bucket): Path<String>) -> Answer {
    let (bucket, key) = (bucket_name(&bucket)?, object_key(page.query("key"))?);
    let objects = &console.world().objects;
    objects.head(&bucket, &key).await.map_err(fault)?;
    let text = match objects.versioning(&bucket).await.map_err(fault)? {
        Versioning::Enabled => {
            format!("{key} in {bucket} is deleted; its versions are kept, and it can be brought back.")
        }
        Versioning::Suspended => {
            format!(
                "{key} in {bucket} is deleted; only versions of the time when the bucket kept them are there afterwards."
            )
        }
        Versioning::Off => format!("{key} in {bucket} is destroyed; no copy is kept here."),
    };
    let frame = page.frame("Delete this object?", Section::Buckets);
    Confirm::new(frame, text, "Delete the object", object_page(&bucket, key.as_str())).with("key", key.as_str()).show()
}

/// `POST /buckets/{bucket}/remove`.
pub async fn remove(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let (bucket, key) = (bucket_name(&bucket)?, object_key(form.fields.text("key"))?);
    console.world().objects.delete(&bucket, &key, Condition::Any).await.map_err(fault)?;
    form.page.redirect_saying(&folder_page(&bucket, &folder_of(key.as_str())), &Flash::good("The object is gone."))
}

pub(super) fn object_key(text: &str) -> Result<ObjectKey, Fault> {
    text.parse().map_err(|_no_key| Fault::not_found("object"))
}

/// The folder a key is in: empty, or with a slash at its end.
pub(super) fn folder_of(key: &str) -> String {
    key.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default()
}

/// The folders that lead to `prefix`: name and address.
pub(super) fn above(prefix: &str, address: impl Fn(&str) -> String) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (at, _) in prefix.match_indices('/') {
        let folder = prefix.get(..=at).unwrap_or_default();
        let name = folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        out.push((name, address(folder)));
    }
    out
}

pub(super) fn folder_page(bucket: &BucketName, prefix: &str) -> String {
    if prefix.is_empty() {
        return format!("/buckets/{bucket}");
    }
    format!("/buckets/{bucket}?prefix={}", uri::encode_component(prefix))
}

pub(super) fn object_page(bucket: &BucketName, key: &str) -> String {
    format!("/buckets/{bucket}/object?key={}", uri::encode_component(key))
}

/// The media type without parameters, in lower case.
fn kind(info: &ObjectInfo) -> String {
    let kind = info.metadata.content_type.as_deref().unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_text(kind: &str, key: &str) -> bool {
    let extension = key.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default();
    let named =
        ["txt", "md", "csv", "log", "json", "xml", "toml", "yaml", "yml", "html", "css", "js", "mjs", "ts", "sql"];
    kind.starts_with("text/")
        || ["application/json", "application/xml", "application/javascript", "application/x-ndjson"].contains(&kind)
        || (named.contains(&extension.as_str()) && (kind.is_empty() || kind == "application/octet-stream"))
}
