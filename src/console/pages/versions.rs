//! `/buckets/{bucket}/versions`: the versions of an object and what can be done with one; and what was deleted.
//!
//! Only where a bucket keeps versions, or once did. A version is made current by a copy onto the key, as S3 does it, so that
//! nothing that was kept is lost.

use askama::Template;
use axum::extract::{Path, State};

use super::buckets::{bucket_name, fault};
use super::objects::{OPENED_FOR, above, folder_of, folder_page, object_key, object_page};
use crate::base::Timestamp;
use crate::console::paging::Pager;
use crate::console::{Answer, Confirm, Console, Fault, Flash, Form, Frame, Page, Section, format, page};
use crate::http::uri;
use crate::objects::{
    BucketName, Condition, CopyMetadata, CopySource, ObjectKey, Target, VersionId, VersionPage, VersionQuery,
    VersionSummary, Versioning,
};

/// Versions on a page, and deleted keys on one.
const ROWS: usize = 50;
/// Versions looked through for a page of deleted keys: at most so many times a thousand.
const LOOKS: usize = 5;
/// Most delete markers that one undoing removes.
const MARKERS: usize = 1000;

/// A version, and an address at the S3 door that shows it.
pub struct Row {
    /// The version.
    pub version: VersionSummary,
    /// The address; `None` for a delete marker, and while the S3 door is off.
    pub open: Option<String>,
}

/// The versions of a key, newest first.
#[derive(Default)]
pub struct Versions {
    /// Those of this page.
    pub rows: Vec<Row>,
    /// The links to the next page.
    pub pager: Pager,
}

impl Versions {
    /// A page of the versions of `key`, from behind the version `after`; none where the bucket keeps no versions.
    pub async fn find(
        console: &Console,
        page: &Page,
        (bucket, key): (&BucketName, &ObjectKey),
        after: &str,
    ) -> Result<Self, Fault> {
        let world = console.world();
        if world.objects.versioning(bucket).await.map_err(fault)? == Versioning::Off {
            return Ok(Self::default());
        }
        let behind = if after.is_empty() { None } else { Some(version_id(after)?) };
        let query = VersionQuery {
            prefix: key.as_str().to_owned(),
            after_key: behind.map(|_| key.as_str().to_owned()),
            after_version: behind,
            max_keys: ROWS,
            ..VersionQuery::default()
        };
        let found = world.objects.list_versions(bucket, query).await.map_err(fault)?;
        // A key comes before all others that begin with it.
        let next = found.next.filter(|(last, _)| last == key.as_str()).and_then(|(_, version)| version);
        let (secure, now) = (page.entry().is_secure(), world.clock.now());
        let own = found.versions.into_iter().filter(|version| version.key == key.as_str());
        let rows = own.map(|version| {
            let id = version.version.to_string();
            let query = [("response-content-disposition", "inline"), ("versionId", id.as_str())];
            let name = (bucket.as_str(), key.as_str());
            let open = world.share.link(name, &query, OPENED_FOR, secure, now);
            Row { open: open.filter(|_| version.object.is_some()), version }
        });
        let rows = rows.collect();
        let (after, next) = (Some(after).filter(|after| !after.is_empty()), next.map(|next| next.to_string()));
        let path = format!("/buckets/{bucket}/versions");
        Ok(Self { rows, pager: Pager::new(&path, &[("key", key.as_str())], after, next.as_deref()) })
    }
}

#[derive(Template)]
#[template(path = "versions.html", whitespace = "preserve")]
struct Show {
    frame: Frame,
    bucket: BucketName,
    key: String,
    encoded: String,
    folder: String,
    versions: Versions,
    /// Whether the newest of all is an object, a delete marker, or not on this page.
    deleted: Option<bool>,
}

/// `GET /buckets/{bucket}/versions?key=`.
pub async fn show(State(console): State<Console>, page: Page, Path(bucket): Path<String>) -> Answer {
    let (bucket, key) = (bucket_name(&bucket)?, object_key(page.query("key"))?);
    show_key(&console, &page, bucket, &key).await
}

/// The page of a key's versions, whether it holds an object or not.
pub async fn show_key(console: &Console, page: &Page, bucket: BucketName, key: &ObjectKey) -> Answer {
    let after = page.query("after");
    let versions = Versions::find(console, page, (&bucket, key), after).await?;
    if versions.rows.is_empty() && after.is_empty() {
        return Err(Fault::not_found("object"));
    }
    let newest = versions.rows.first().map(|row| &row.version).filter(|version| version.latest);
    let name = key.as_str();
    let title = name.rsplit('/').find(|part| !part.is_empty()).unwrap_or(name);
    page::show(&Show {
        frame: page.frame(title, Section::Buckets),
        deleted: newest.map(|version| version.object.is_none()),
        key: name.to_owned(),
        encoded: uri::encode_component(name),
        folder: folder_page(&bucket, &folder_of(name)),
        bucket,
        versions,
    })
}

/// `POST /buckets/{bucket}/versions/restore`: makes a version current by a copy of it.
pub async fn restore(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let target = target(form.fields.text("key"), form.fields.text("version"))?;
    let key = target.key.clone();
    let source = CopySource { bucket: bucket.clone(), target, etag: None, range: None };
    let copied = console.world().objects.copy(&source, &bucket, &key, CopyMetadata::Keep, Condition::Any).await;
    copied.map_err(fault)?;
    form.page.redirect_saying(&object_page(&bucket, key.as_str()), &Flash::good("That version is current again."))
}

/// `GET /buckets/{bucket}/versions/remove?key=&version=`.
pub async fn ask_remove(State(console): State<Console>, page: Page, Path(bucket): Path<String>) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let (key, version) = (page.query("key"), page.query("version"));
    let wanted = target(key, version)?;
    let query = VersionQuery { max_keys: MARKERS, ..of_key(&wanted.key) };
    let listed = console.world().objects.list_versions(&bucket, query).await.map_err(fault)?;
    let found = listed.versions.iter().find(|found| found.key == key && Some(found.version) == wanted.version);
    let what = match found {
        Some(VersionSummary { object: Some((_, size)), modified, .. }) => {
            format!("The version of {} ({})", moment(*modified), format::bytes(*size))
        }
        Some(VersionSummary { modified, .. }) => format!("The delete marker of {}", moment(*modified)),
        None => format!("Version {version}"),
    };
    let text = format!("{what} of {key} in {bucket} is destroyed for good.");
    let back = versions_page(&bucket, key);
    let confirm = Confirm::new(page.frame("Delete this version?", Section::Buckets), text, "Delete the version", back);
    confirm.with("key", key).with("version", version).show()
}

/// `POST /buckets/{bucket}/versions/remove`.
pub async fn remove(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let target = target(form.fields.text("key"), form.fields.text("version"))?;
    let objects = &console.world().objects;
    objects.delete_version(&bucket, target.clone(), Condition::Any).await.map_err(fault)?;
    let key = target.key.as_str();
    let left = objects.list_versions(&bucket, VersionQuery { max_keys: 1, ..of_key(&target.key) }).await;
    let some = left.map_err(fault)?.versions.iter().any(|version| version.key == key);
    let back = if some { versions_page(&bucket, key) } else { folder_page(&bucket, &folder_of(key)) };
    form.page.redirect_saying(&back, &Flash::good("The version is gone."))
}

/// `POST /buckets/{bucket}/versions/undelete`: removes the delete markers above the newest object of a key.
pub async fn undelete(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let (bucket, key) = (bucket_name(&bucket)?, object_key(form.fields.text("key"))?);
    let objects = &console.world().objects;
    let query = VersionQuery { max_keys: MARKERS, ..of_key(&key) };
    let listed = objects.list_versions(&bucket, query).await.map_err(fault)?;
    let own: Vec<&VersionSummary> = listed.versions.iter().filter(|version| version.key == key.as_str()).collect();
    let markers: Vec<Target> = own
        .iter()
        .take_while(|version| version.object.is_none())
        .map(|version| Target { key: key.clone(), version: Some(version.version) })
        .collect();
    let page = versions_page(&bucket, key.as_str());
    if markers.is_empty() {
        return form.page.redirect_saying(&page, &Flash::bad("The object is not deleted."));
    }
    if markers.len() == own.len() {
        return form.page.redirect_saying(&page, &Flash::bad("No version is left that could come back."));
    }
    objects.delete_many(&bucket, markers).await.map_err(fault)?;
    form.page.redirect_saying(&object_page(&bucket, key.as_str()), &Flash::good("The object is back."))
}

#[derive(Template)]
#[template(path = "deleted.html", whitespace = "preserve")]
struct Deleted {
    frame: Frame,
    bucket: BucketName,
    prefix: String,
    above: Vec<(String, String)>,
    /// Folders here: name and address.
    folders: Vec<(String, String)>,
    /// Keys: name, address, delete marker.
    keys: Vec<(String, String, VersionSummary)>,
    back: String,
    pager: Pager,
}

/// `GET /buckets/{bucket}/deleted?prefix=`: keys whose newest version is a delete marker, in a folder.
pub async fn deleted(State(console): State<Console>, page: Page, Path(bucket): Path<String>) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let prefix = page.query("prefix").to_owned();
    let objects = &console.world().objects;
    if objects.versioning(&bucket).await.map_err(fault)? == Versioning::Off {
        return Err(Fault::not_found("list"));
    }
    let after = page.query("after");
    let mut next = Some(after).filter(|after| !after.is_empty()).map(parse_place).transpose()?;
    let (mut folders, mut keys) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        let (after_key, after_version) = next.take().map_or((None, None), |(key, version)| (Some(key), version));
        let delimiter = Some(String::from("/"));
        let query = VersionQuery { prefix: prefix.clone(), delimiter, after_key, after_version, max_keys: MARKERS };
        let VersionPage { versions, common_prefixes, next: more } =
            objects.list_versions(&bucket, query).await.map_err(fault)?;
        folders.extend(common_prefixes);
        keys.extend(versions.into_iter().filter(|version| version.latest && version.object.is_none()));
        next = more;
        if next.is_none() || keys.len() >= ROWS || folders.len() >= ROWS {
            break;
        }
    }
    let here = |key: &str| key.strip_prefix(prefix.as_str()).unwrap_or(key).to_owned();
    let next = next.map(|(key, version)| format!("{}.{key}", version.map_or_else(String::new, |id| id.to_string())));
    let after = Some(after).filter(|after| !after.is_empty());
    let path = format!("/buckets/{bucket}/deleted");
    page::show(&Deleted {
        frame: page.frame("Deleted", Section::Buckets),
        folders: folders.iter().map(|folder| (here(folder), deleted_page(&bucket, folder))).collect(),
        keys: keys
            .into_iter()
            .map(|version| (here(&version.key), versions_page(&bucket, &version.key), version))
            .collect(),
        above: above(&prefix, |folder| deleted_page(&bucket, folder)),
        back: folder_page(&bucket, &prefix),
        pager: Pager::new(&path, &[("prefix", &prefix)], after, next.as_deref()),
        prefix,
        bucket,
    })
}

/// Where a page of deleted keys begins: a version, which may be none, and a key.
fn parse_place(text: &str) -> Result<(String, Option<VersionId>), Fault> {
    let (version, key) = text.split_once('.').ok_or_else(|| Fault::not_found("list"))?;
    let version = if version.is_empty() { None } else { Some(version_id(version)?) };
    Ok((key.to_owned(), version))
}

/// A moment within a sentence.
fn moment(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn of_key(key: &ObjectKey) -> VersionQuery {
    VersionQuery { prefix: key.as_str().to_owned(), ..VersionQuery::default() }
}

fn target(key: &str, version: &str) -> Result<Target, Fault> {
    Ok(Target { key: object_key(key)?, version: Some(version_id(version)?) })
}

/// A version that is asked for by its id.
pub fn version_id(text: &str) -> Result<VersionId, Fault> {
    text.parse().map_err(|_no_version| Fault::not_found("version"))
}

fn versions_page(bucket: &BucketName, key: &str) -> String {
    format!("/buckets/{bucket}/versions?key={}", uri::encode_component(key))
}

/// The page of what was deleted in a folder.
pub fn deleted_page(bucket: &BucketName, prefix: &str) -> String {
    if prefix.is_empty() {
        return format!("/buckets/{bucket}/deleted");
    }
    format!("/buckets/{bucket}/deleted?prefix={}", uri::encode_component(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_list_is_a_version_and_a_key_with_any_characters() {
        let id = "0000000000000003ffffffffffffffff";
        let (key, version) = parse_place(&format!("{id}.a.b/")).unwrap_or_else(|_| panic!("no place"));
        assert_eq!((key.as_str(), version.map(|id| id.to_string()).as_deref()), ("a.b/", Some(id)));
        assert!(parse_place(".folder/").is_ok_and(|place| place == (String::from("folder/"), None)));
        assert!(parse_place("x.a").is_err() && parse_place("a").is_err());
    }
}
