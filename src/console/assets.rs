//! The static files of the pages: compiled in, served under names that change with their content.
//!
//! So a browser may keep a file forever (`immutable`), and a new release is seen at once.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Console;
use super::headers::NOSNIFF;
use crate::base::ids::hex;
use crate::crypto::mac;

/// The files: name, extension, media type, content.
const FILES: &[(&str, &str, &str, &[u8])] = &[
    ("console", "css", "text/css; charset=utf-8", include_bytes!("../../web/static/console.css")),
    ("console", "mjs", "text/javascript; charset=utf-8", include_bytes!("../../web/static/console.mjs")),
    ("icon", "svg", "image/svg+xml", include_bytes!("../../web/static/icon.svg")),
];

/// One file.
#[derive(Debug)]
struct Asset {
    /// Its name in the repository, `console.css`.
    name: String,
    /// Its name in addresses, `console.0a1b2c3d4e5f6071.css`.
    served: String,
    kind: &'static str,
    bytes: &'static [u8],
}

/// All static files.
#[derive(Debug)]
pub struct Assets(Vec<Asset>);

impl Assets {
    /// The files with their names worked out.
    pub fn new() -> Self {
        let asset = |(stem, extension, kind, bytes): &(&str, &str, &'static str, &'static [u8])| {
            let hash = hex(mac::sha256(bytes).get(..8).unwrap_or_default());
            let (name, served) = (format!("{stem}.{extension}"), format!("{stem}.{hash}.{extension}"));
            Asset { name, served, kind, bytes }
        };
        Self(FILES.iter().map(asset).collect())
    }

    /// The address of the file called `name` in `web/static`. One that does not exist leads nowhere; a test asks for
    /// each that the templates name.
    pub fn address(&self, name: &str) -> String {
        let served = self.0.iter().find(|asset| asset.name == name).map_or(name, |asset| asset.served.as_str());
        format!("/static/{served}")
    }

    fn find(&self, served: &str) -> Option<&Asset> {
        self.0.iter().find(|asset| asset.served == served)
    }
}

impl Default for Assets {
    fn default() -> Self {
        Self::new()
    }
}

/// `GET /static/{name}`.
pub async fn serve(State(console): State<Console>, Path(name): Path<String>) -> Response {
    const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
    let Some(asset) = console.assets().find(&name) else {
        return (StatusCode::NOT_FOUND, [NOSNIFF], "no such file\n").into_response();
    };
    let same_site = (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin".to_owned());
    let kind = (header::CONTENT_TYPE, asset.kind.to_owned());
    let mut response = ([same_site, kind], asset.bytes).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, FOREVER);
    response.headers_mut().insert(NOSNIFF.0, HeaderValue::from_static(NOSNIFF.1));
    response
}

/// `GET /robots.txt`: nothing here is for search engines.
pub async fn robots() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "User-agent: *\nDisallow: /\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_under_the_name_it_is_served_by() {
        let assets = Assets::new();
        for (stem, extension, _, bytes) in FILES {
            let address = assets.address(&format!("{stem}.{extension}"));
            let served = address.strip_prefix("/static/").unwrap();
            assert_eq!(assets.find(served).unwrap().bytes, *bytes);
            assert_eq!(served.split('.').nth(1).unwrap().len(), 16, "{served}");
        }
        assert!(assets.find("console.css").is_none(), "a name without a hash could not be kept forever");
    }
}
