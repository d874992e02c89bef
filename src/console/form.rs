//! Forms: the only way a handler gets at a request that changes something.
//!
//! Each checks the form's token before the handler runs. [`super::entry`] has refused foreign origins by then.

use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, StatusCode, header};

use super::page::{Page, Visitor};
use super::{Console, Fault};
use crate::crypto::mac;
use crate::http::query::Query;
use crate::http::{Body, body};

/// Longest form, in bytes.
const FORM_MAX: usize = 64 << 10;

/// The header with which a script sends the form token.
const HEADER: &str = "x-csrf-token";

/// The fields of a form. A name is there once; a form with a list numbers its names.
#[derive(Clone, Debug)]
pub struct Fields(Query);

impl Fields {
    /// A field as it was sent; empty when it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_default()
    }

    /// A field without spaces at its ends.
    pub fn trimmed(&self, name: &str) -> &str {
        self.text(name).trim()
    }

    /// Whether a box is ticked.
    pub fn ticked(&self, name: &str) -> bool {
        self.0.has(name)
    }

    /// Names and values, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter()
    }
}

/// A form of somebody who is logged in.
#[derive(Clone, Debug)]
pub struct Form {
    /// Who sent it.
    pub page: Page,
    /// What it says.
    pub fields: Fields,
}

impl<S: Send + Sync> FromRequest<S> for Form
where
    Console: FromRef<S>,
{
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let OpenForm { visitor, fields } = OpenForm::from_request(request, state).await?;
        Ok(Self { page: Page::of(visitor)?, fields })
    }
}

/// A form of anybody: login, set-up, theme.
#[derive(Clone, Debug)]
pub struct OpenForm {
    /// Who sent it.
    pub visitor: Visitor,
    /// What it says.
    pub fields: Fields,
}

impl<S: Send + Sync> FromRequest<S> for OpenForm
where
    Console: FromRef<S>,
{
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, state).await?;
        let fields = read(&parts.headers, body).await?;
        let token = parts.headers.get(HEADER).and_then(|token| token.to_str().ok()).unwrap_or(fields.text("csrf"));
        held(&visitor, token)?;
        Ok(Self { visitor, fields })
    }
}

/// A file on its way in, of somebody who is logged in. The token comes in the header `x-csrf-token` or as `csrf` in the
/// address, since the body is a stream that is too long to look through first.
#[derive(Debug)]
pub struct Upload {
    /// Who sends it.
    pub page: Page,
    /// The headers it came with.
    pub headers: HeaderMap,
    /// The bytes. Whoever reads them sets the limit.
    pub body: Body,
}

impl<S: Send + Sync> FromRequest<S> for Upload
where
    Console: FromRef<S>,
{
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, state).await?;
        let token = parts.headers.get(HEADER).and_then(|token| token.to_str().ok());
        held(&visitor, token.unwrap_or_else(|| visitor.query("csrf")))?;
        Ok(Self { page: Page::of(visitor)?, headers: parts.headers, body })
    }
}

fn held(visitor: &Visitor, token: &str) -> Result<(), Fault> {
    let genuine = mac::equal(visitor.entry().csrf().as_bytes(), token.as_bytes());
    if genuine { Ok(()) } else { Err(Fault::forged()) }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Fields, Fault> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    {
        return Err(Fault::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Forms are sent as application/x-www-form-urlencoded.",
        ));
    }
    let bytes = body::read(body, FORM_MAX).await.map_err(|error| match error {
        body::ReadError::TooLarge { limit } => {
            Fault::new(StatusCode::PAYLOAD_TOO_LARGE, format!("A form has at most {limit} bytes."))
        }
        body::ReadError::Broken(_) => Fault::bad_request("The form did not arrive whole. Send it again."),
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_not_utf8| Fault::bad_request("The form is not UTF-8."))?;
    Query::parse(text).map(Fields).map_err(|error| Fault::bad_request(format!("The form cannot be read: {error}.")))
}
