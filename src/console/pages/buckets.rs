//! `/buckets`: the buckets, and making and removing them.

use askama::Template;
use axum::extract::{Path, State};

use super::mail::sentence;
use super::usage;
use crate::console::chart::Drawing;
use crate::console::{Answer, Confirm, Console, Fault, Flash, Form, Frame, Page, Section, format, page};
use crate::objects::{BucketDetail, BucketName, Created, ObjectError, Versioning};

#[derive(Template)]
#[template(path = "buckets.html", whitespace = "preserve")]
struct List {
    frame: Frame,
    buckets: Vec<BucketDetail>,
    charts: [Drawing; 2],
}

/// `GET /buckets`.
pub async fn list(State(console): State<Console>, page: Page) -> Answer {
    let buckets = console.world().objects.bucket_details().await;
    let buckets = buckets.map_err(|error| Fault::failed("list of buckets", &error))?;
    let charts = usage::charts(&console, None).await?;
    page::show(&List { frame: page.frame("Buckets", Section::Buckets), buckets, charts })
}

/// `POST /buckets`.
pub async fn create(State(console): State<Console>, form: Form) -> Answer {
    let name: BucketName = match form.fields.trimmed("name").parse() {
        Ok(name) => name,
        Err(error) => return form.page.redirect_saying("/buckets", &Flash::bad(sentence(&error))),
    };
    match console.world().objects.create_bucket(&name).await {
        Ok(Created::New) => form.page.redirect_saying(&format!("/buckets/{name}"), &Flash::good("The bucket is made.")),
        Ok(Created::Already) => form
            .page
            .redirect_saying(&format!("/buckets/{name}"), &Flash::bad("There is a bucket of that name already.")),
        Err(error @ (ObjectError::TooManyBuckets { .. } | ObjectError::Full { .. })) => {
            form.page.redirect_saying("/buckets", &Flash::bad(sentence(&error)))
        }
        Err(error) => Err(fault(error)),
    }
}

/// `GET /buckets/{bucket}/delete`.
pub async fn ask_delete(State(console): State<Console>, page: Page, Path(bucket): Path<String>) -> Answer {
    let name = bucket_name(&bucket)?;
    console.world().objects.bucket(&name).await.map_err(fault)?;
    let text = format!("The bucket {name} and the key of its objects are destroyed. It must be empty.");
    let frame = page.frame(format!("Delete {name}?"), Section::Buckets);
    Confirm::new(frame, text, "Delete the bucket", format!("/buckets/{name}")).by_typing(name.as_str()).show()
}

/// `POST /buckets/{bucket}/delete`.
pub async fn delete(State(console): State<Console>, Path(bucket): Path<String>, form: Form) -> Answer {
    let name = bucket_name(&bucket)?;
    if !Confirm::typed(&form.fields, name.as_str()) {
        return form
            .page
            .redirect_saying(&format!("/buckets/{name}/delete"), &Flash::bad("That is not the bucket's name."));
    }
    match console.world().objects.delete_bucket(&name).await {
        Ok(()) => form.page.redirect_saying("/buckets", &Flash::good(format!("The bucket {name} is gone."))),
        Err(ObjectError::BucketNotEmpty) => {
            let text = "The bucket still holds objects or unfinished uploads; delete them first.";
            form.page.redirect_saying(&format!("/buckets/{name}"), &Flash::bad(text))
        }
        Err(error) => Err(fault(error)),
    }
}

pub(super) fn bucket_name(text: &str) -> Result<BucketName, Fault> {
    text.parse().map_err(|_no_name| Fault::not_found("bucket"))
}

pub(super) fn fault(error: ObjectError) -> Fault {
    match error {
        ObjectError::NoSuchBucket => Fault::not_found("bucket"),
        ObjectError::NoSuchKey | ObjectError::NoSuchVersion | ObjectError::DeleteMarker { .. } => {
            Fault::not_found("object")
        }
        ObjectError::Full { .. }
        | ObjectError::QuotaExceeded { .. }
        | ObjectError::TooLarge { .. }
        | ObjectError::NotTaken(_)
        | ObjectError::TooManyRules { .. }
        | ObjectError::KeptElsewhere
        | ObjectError::BackendName(_)
        | ObjectError::Backends(_)
        | ObjectError::Body(_) => Fault::bad_request(sentence(&error)),
        error => Fault::failed("bucket", &error),
    }
}
