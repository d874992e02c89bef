//! `/buckets/{bucket}/settings`: what is set for a bucket. Who may do what without a key, the quota
//! and the rules for files are shown and changed here.

use std::str::FromStr;

use askama::Template;
use axum::extract::{Path, State};

use super::buckets::{bucket_name, fault};
use super::mail::sentence;
use super::usage;
use crate::base::{ByteSize, Timestamp};
use crate::console::chart::Drawing;
use crate::console::{Answer, Console, Fault, Flash, Form, Frame, Page, Section, format, page};
use crate::objects::file_rules::RuleError;
use crate::objects::key_change::KeyChange;
use crate::objects::lifecycle::{Expiration, LifecycleRule, Noncurrent};
use crate::objects::policy::Policy;
use crate::objects::public::{self, Listing};
use crate::objects::usage::{Quota, Usage};
use crate::objects::{BackendName, BucketName, BucketSet, BucketSettings, FileRules, MoveStatus, ObjectError};

/// Most bytes of a prefix: as many as an object's key has.
const PREFIX_MAX: usize = 1024;

#[derive(Template)]
#[template(path = "bucket_settings.html", whitespace = "preserve")]
struct Settings {
    frame: Frame,
    bucket: BucketName,
    opened: Vec<Opened>,
    quota: Quota,
    files: Files,
    usage: Usage,
    charts: [Drawing; 2],
    rules: Vec<Rule>,
    tags: Vec<(String, String)>,
    /// Where its bodies go.
    home: String,
    /// Where they may go: every backend, and `local`. Empty where there is only that.
    homes: Vec<String>,
    moving: Option<MoveStatus>,
    key_change: Option<KeyChange>,
}

/// What files it takes, as its form shows it.
struct Files {
    max_bytes: Option<u64>,
    types: String,
    extensions: String,
    download: bool,
}

impl From<&FileRules> for Files {
    fn from(rules: &FileRules) -> Self {
        Self {
            max_bytes: rules.max_bytes,
            types: listed(&rules.types),
            extensions: listed(&rules.extensions),
            download: rules.download,
        }
    }
}

fn listed(rules: &[impl ToString]) -> String {
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A rule of the lifecycle, in words.
struct Rule {
    id: String,
    enabled: bool,
    about: String,
    ends: Vec<String>,
}

/// A statement of the policy.
struct Opened {
    actions: String,
    /// Patterns of keys or prefixes; the bucket itself when there are none.
    patterns: Vec<String>,
    /// The statement as it stands in the policy, by which it is taken out.
    statement: String,
}

fn opened(settings: &BucketSettings, bucket: &BucketName) -> Vec<Opened> {
    let Some(text) = &settings.policy else { return Vec::new() };
    // What was stored was understood as a whole; what is not understood any more opens nothing.
    let Ok(policy) = Policy::parse(text, bucket) else { return Vec::new() };
    let statements = policy.statements().iter().zip(public::listed(text));
    let shown = statements.map(|(statement, text)| Opened {
        actions: statement.actions().join(", "),
        patterns: statement.patterns().into_iter().map(str::to_owned).collect(),
        statement: text,
    });
    shown.collect()
}

fn rule(rule: &LifecycleRule) -> Rule {
    let filter = &rule.filter;
    let mut about = vec![match filter.prefix.as_str() {
        "" => "all keys".to_owned(),
        prefix => format!("keys that begin with {prefix}"),
    }];
    about.extend(filter.tags.iter().map(|(key, value)| format!("tagged {key}={value}")));
    about.extend(filter.larger_than.map(|bytes| format!("larger than {}", format::bytes(bytes))));
    about.extend(filter.smaller_than.map(|bytes| format!("smaller than {}", format::bytes(bytes))));
    let mut ends = Vec::new();
    ends.extend(rule.expiration.map(|expiration| match expiration {
        Expiration::Days(days) => format!("objects {days} days after they were stored"),
        Expiration::Date(at) => format!("objects from {} on", Timestamp(at)),
        Expiration::Markers => "delete markers that hide nothing".to_owned(),
    }));
    ends.extend(rule.noncurrent.map(|Noncurrent { days, keep }| match keep {
        Some(keep) => format!("older versions after {days} days, all but the newest {keep}"),
        None => format!("older versions after {days} days"),
    }));
    ends.extend(rule.abort_days.map(|days| format!("unfinished uploads after {days} days")));
    Rule { id: rule.id.clone(), enabled: rule.enabled, about: about.join(", "), ends }
}

/// `GET /buckets/{bucket}/settings`.
pub async fn show(State(console): State<Console>, page: Page, Path(bucket): Path<String>) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let detail = console.world().objects.bucket_detail(&bucket).await.map_err(fault)?;
    let (settings, usage) = (detail.settings, detail.usage);
    let mut homes = console.world().objects.backend_names();
    if !homes.is_empty() {
        homes.insert(0, BackendName::LOCAL.to_owned());
    }
    page::show(&Settings {
        home: BackendName::home(detail.home.as_ref()).to_owned(),
        homes,
        moving: detail.moving,
        quota: settings.quota,
        files: Files::from(&settings.files),
        usage,
        charts: usage::charts(&console, Some(&bucket)).await?,
        frame: page.frame(format!("Settings of {bucket}"), Section::Buckets),
        opened: opened(&settings, &bucket),
        rules: settings.lifecycle.iter().map(rule).collect(),
        tags: settings.tags.clone(),
        key_change: detail.key_change,
        bucket,
    })
}

/// `POST /buckets/{bucket}/move`: another place for its bodies, those that are there too.
pub async fn move_to(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let there = format!("/buckets/{bucket}/settings");
    let to = match BackendName::or_local(form.fields.trimmed("backend")) {
        Ok(to) => to,
        Err(error) => return form.page.redirect_saying(&there, &Flash::bad(sentence(&error))),
    };
    console.world().objects.start_move(&bucket, to.clone()).await.map_err(fault)?;
    let what = format!("{bucket} to {}", BackendName::home(to.as_ref()));
    let noted = console.world().users.note(&form.page.by(), "bucket.moved", &what).await;
    noted.map_err(|error| Fault::refused(&error))?;
    form.page.redirect_saying(&there, &Flash::good("The move has begun. This page shows how far it is."))
}

/// `POST /buckets/{bucket}/quota`: the most it may hold; an empty field is no limit.
pub async fn limit(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let there = format!("/buckets/{bucket}/settings");
    let size = form.fields.trimmed("max-bytes");
    let max_bytes = match size.parse::<ByteSize>() {
        Ok(size) => Some(size.bytes()),
        Err(_) if size.is_empty() => None,
        Err(error) => return form.page.redirect_saying(&there, &Flash::bad(sentence(&error))),
    };
    let count = form.fields.trimmed("max-objects");
    let max_objects = match count.parse::<u64>() {
        Ok(count) => Some(count),
        Err(_) if count.is_empty() => None,
        Err(_) => return form.page.redirect_saying(&there, &Flash::bad("A number of objects is a whole number.")),
    };
    let quota = vec![BucketSet::QuotaBytes(max_bytes), BucketSet::QuotaObjects(max_objects)];
    console.world().objects.set_bucket(&bucket, quota).await.map_err(fault)?;
    let noted = console.world().users.note(&form.page.by(), "bucket.limited", bucket.as_str()).await;
    noted.map_err(|error| Fault::refused(&error))?;
    let text =
        if (max_bytes, max_objects) == (None, None) { "The bucket may hold anything." } else { "The quota is set." };
    form.page.redirect_saying(&there, &Flash::good(text))
}

/// `POST /buckets/{bucket}/files`: what files it takes; an empty field is no limit.
pub async fn take(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let there = format!("/buckets/{bucket}/settings");
    let wanted = match wanted_files(&form) {
        Ok(wanted) => wanted,
        Err(text) => return form.page.redirect_saying(&there, &Flash::bad(text)),
    };
    match console.world().objects.set_bucket(&bucket, wanted).await {
        Err(error @ ObjectError::TooManyRules { .. }) => {
            return form.page.redirect_saying(&there, &Flash::bad(sentence(&error)));
        }
        set => set.map_err(fault)?,
    }
    let noted = console.world().users.note(&form.page.by(), "bucket.limited", bucket.as_str()).await;
    noted.map_err(|error| Fault::refused(&error))?;
    form.page.redirect_saying(&there, &Flash::good("The rules for files are set."))
}

/// `POST /buckets/{bucket}/rotate-key`: another key for it.
pub async fn rotate_key(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let there = format!("/buckets/{bucket}/settings");
    match console.world().objects.rotate_bucket_key(&bucket).await {
        Err(error @ ObjectError::Unavailable(_)) => {
            return form.page.redirect_saying(&there, &Flash::bad(sentence(&error)));
        }
        begun => begun.map_err(fault)?,
    }
    let noted = console.world().users.note(&form.page.by(), "bucket.key_rotated", bucket.as_str()).await;
    noted.map_err(|error| Fault::refused(&error))?;
    form.page.redirect_saying(&there, &Flash::good("What is stored from now on is under another key."))
}

/// What the form says, or what is wrong with it.
fn wanted_files(form: &Form) -> Result<Vec<BucketSet>, String> {
    let most = form.fields.trimmed("max-file");
    let most: Option<ByteSize> =
        if most.is_empty() { None } else { Some(most.parse::<ByteSize>().map_err(|error| sentence(&error))?) };
    Ok(vec![
        BucketSet::MaxFile(most.map(ByteSize::bytes)),
        BucketSet::Types(parsed(form.fields.text("types"))?),
        BucketSet::Extensions(parsed(form.fields.text("extensions"))?),
        BucketSet::Download(form.fields.ticked("download")),
    ])
}

/// The words of `text`, with commas or spaces in between.
fn parsed<T: FromStr<Err = RuleError>>(text: &str) -> Result<Vec<T>, String> {
    let words = text.split([',', ' ', '\n', '\r']).map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word.parse::<T>().map_err(|error| sentence(&error))).collect()
}

/// `POST /buckets/{bucket}/public`: opens a prefix for reading.
pub async fn open(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let prefix = form.fields.text("prefix").to_owned();
    let there = format!("/buckets/{bucket}/settings");
    if prefix.len() > PREFIX_MAX {
        return form.page.redirect_saying(&there, &Flash::bad("A prefix has at most 1024 bytes."));
    }
    let listing = if form.fields.ticked("listing") { Listing::Open } else { Listing::Closed };
    let settings = console.world().objects.bucket_settings(&bucket).await.map_err(fault)?;
    let was = settings.policy.clone();
    let policy = match public::open(was.as_deref(), &bucket, &prefix, listing) {
        Ok(policy) => policy,
        Err(error) => return form.page.redirect_saying(&there, &Flash::bad(sentence(&error))),
    };
    let text = format!("Everybody may read what begins with {bucket}/{prefix}.");
    change(&console, form, &bucket, (was, Some(policy)), "bucket.opened", text).await
}

/// `POST /buckets/{bucket}/close`: takes a statement out of the policy.
pub async fn close(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let bucket = bucket_name(&bucket)?;
    let settings = console.world().objects.bucket_settings(&bucket).await.map_err(fault)?;
    let was = settings.policy.clone();
    let without = was.as_deref().and_then(|text| public::close(text, form.fields.text("statement")));
    let Some(policy) = without else {
        let there = format!("/buckets/{bucket}/settings");
        return form.page.redirect_saying(&there, &Flash::bad("The policy does not say that any more."));
    };
    change(&console, form, &bucket, (was, policy), "bucket.closed", "That is closed again.".to_owned()).await
}

/// Puts the second policy in place of the first, which it was made of.
async fn change(
    console: &Console,
    form: Form,
    bucket: &BucketName,
    (was, policy): (Option<String>, Option<String>),
    action: &'static str,
    text: String,
) -> Answer {
    let there = format!("/buckets/{bucket}/settings");
    let set = move |settings: &mut BucketSettings| {
        let same = settings.policy == was;
        if same {
            settings.policy.clone_from(&policy);
        }
        same
    };
    if !console.world().objects.change_bucket_settings(bucket, set).await.map_err(fault)? {
        return form.page.redirect_saying(&there, &Flash::bad("The policy was changed meanwhile; look again."));
    }
    let noted = console.world().users.note(&form.page.by(), action, bucket.as_str()).await;
    noted.map_err(|error| Fault::refused(&error))?;
    form.page.redirect_saying(&there, &Flash::good(text))
}
