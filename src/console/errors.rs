//! The pages that say no.

use std::sync::Arc;

use askama::Template;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::entry::Entry;
use super::{Console, Fault, Frame, Section, page};

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'f> {
    frame: Frame,
    status: u16,
    text: &'f str,
}

/// The page of `fault` for whoever is looking.
pub fn page(console: &Console, entry: &Entry, fault: &Fault) -> Response {
    let frame = Frame::new(entry, Arc::clone(console.assets()), fault.title(), Section::None);
    let template = ErrorPage { frame, status: fault.status.as_u16(), text: &fault.text };
    page::show_as(fault.status, &template).unwrap_or_else(|failed| bare(&failed))
}

/// The same without a frame, when it is not known who is looking.
pub fn bare(fault: &Fault) -> Response {
    (fault.status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{}\n", fault.text)).into_response()
}
