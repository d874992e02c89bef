//! What is counted of an address: the page, where the visitor came from, the campaign. Everything here is foreign text: it
//! is bounded, and what looks like a secret is taken out.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use http::Uri;
use percent_encoding::percent_decode_str;

/// Longest page, in bytes.
pub const LONGEST_PAGE: usize = 160;
/// Longest host of a referrer, in bytes.
const LONGEST_HOST: usize = 100;
/// Longest source or campaign, in bytes.
const LONGEST_NAME: usize = 64;
/// Most parameters of a query that are looked at.
const MOST_PARAMETERS: usize = 64;
/// A part of a path from this length on may be a token or an id.
const SHORTEST_TOKEN: usize = 16;

/// The page that `path` names: without query and fragment, decoded for people, parts that look like a token or an id as
/// `*`, at most [`LONGEST_PAGE`] bytes. `None` when it is no path.
pub fn page(path: &str) -> Option<String> {
    let path = path.split(['?', '#']).next().filter(|path| path.starts_with('/'))?;
    // Further parts are beyond what is kept of a page.
    let path = path.get(..path.floor_char_boundary(LONGEST_PAGE.saturating_mul(8))).unwrap_or_default();
    let mut out = String::with_capacity(path.len());
    for (number, part) in path.split('/').enumerate() {
        if number > 0 {
            out.push('/');
        }
        let decoded = percent_decode_str(part).decode_utf8().ok();
        let shown = decoded.as_deref().filter(|text| is_plain(text)).unwrap_or(part);
        out.push_str(if is_token(shown) { "*" } else { shown });
    }
    out.truncate(out.floor_char_boundary(LONGEST_PAGE));
    is_plain(&out).then_some(out)
}

/// The host that `referrer` names, without `www.`; `None` when it is no address of the web.
pub fn host(referrer: &str) -> Option<String> {
    let uri: Uri = referrer.trim().parse().ok()?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return None;
    }
    bare(uri.host()?)
}

/// `host` as hosts are compared: lower case, without port, `www.` and final dot. `None` when it is no name.
pub fn bare(host: &str) -> Option<String> {
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host });
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let name = name.strip_prefix("www.").unwrap_or(&name);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let fits = !name.is_empty() && name.len() <= LONGEST_HOST && name.bytes().all(is_name);
    fits.then(|| name.to_owned())
}

/// What a query says about a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Campaign {
    /// `utm_source`, or else `ref`.
    pub source: Option<String>,
    /// `utm_campaign`.
    pub campaign: Option<String>,
}

/// The campaign in `query`; every other parameter is passed over.
pub fn campaign(query: &str) -> Campaign {
    let (mut found, mut other) = (Campaign::default(), None);
    for pair in query.split('&').take(MOST_PARAMETERS) {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let place = match name {
            "utm_source" => &mut found.source,
            "utm_campaign" => &mut found.campaign,
            "ref" => &mut other,
            _ => continue,
        };
        if place.is_none() {
            *place = name_of(value);
        }
    }
    found.source = found.source.or(other);
    found
}

/// A value of a query, for people.
fn name_of(value: &str) -> Option<String> {
    let value = value.get(..value.floor_char_boundary(LONGEST_NAME.saturating_mul(3))).unwrap_or_default();
    let spaced = value.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8().ok()?.trim().to_lowercase();
    let text = text.get(..text.floor_char_boundary(LONGEST_NAME)).unwrap_or_default();
    (!text.is_empty() && is_plain(text) && !is_token(text)).then(|| text.to_owned())
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Whether a part of a path looks like a token or an id rather than like words: hexadecimal, or a mixture of capitals, small
/// letters and digits that no one chose.
fn is_token(part: &str) -> bool {
    if part.len() < SHORTEST_TOKEN || !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~=".contains(&byte))
    {
        return false;
    }
    let has = |kind: fn(&u8) -> bool| part.as_bytes().iter().any(kind);
    let hexadecimal = part.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (hexadecimal && has(u8::is_ascii_digit))
        || (has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_its_path_in_words() {
        for (path, shown) in [
            ("/", Some("/")),
            ("/blog/hello-world-2024/", Some("/blog/hello-world-2024/")),
            ("/a?x=1#y", Some("/a")),
            ("/caf%C3%A9/a%20b", Some("/café/a b")),
            ("/a%00b/c", Some("/a%00b/c")),
            ("/a%ff", Some("/a%ff")),
            ("/reset/dGhpcyBpcyBhIHNlY3JldA", Some("/reset/*")),
            ("/reset/4fKq9Zx2LmPw81TtYv", Some("/reset/*")),
            ("/orders/019b76da-a806-72fd-df88-5eb1a6b905c8/pay", Some("/orders/*/pay")),
            ("/orders/1234", Some("/orders/1234")),
            ("/ten-things-you-should-know-about-2024", Some("/ten-things-you-should-know-about-2024")),
            ("a", None),
            ("", None),
            ("*", None),
            ("/a\nb", None),
        ] {
            assert_eq!(page(path).as_deref(), shown, "{path}");
        }
        assert_eq!(page(&format!("/{}", "é".repeat(5_000))).unwrap().len(), LONGEST_PAGE - 1);
    }

    #[test]
    fn of_a_referrer_the_host_is_kept_alone() {
        for (referrer, shown) in [
            ("https://www.Example.com/search?q=secret", Some("example.com")),
            ("http://news.example:8080/x", Some("news.example")),
            ("https://user:password@example.com/", Some("example.com")),
            ("android-app://com.example/", None),
            ("about:blank", None),
            ("/x", None),
            ("https://[::1]/", None),
            ("", None),
        ] {
            assert_eq!(host(referrer).as_deref(), shown, "{referrer}");
        }
        assert_eq!(bare("www.Shop.example.:8443").as_deref(), Some("shop.example"));
    }

    #[test]
    fn a_campaign_is_read_and_nothing_else_of_a_query() {
        let found = campaign("token=abc&utm_source=News+Letter&utm_campaign=Spring%202026&ref=other&utm_source=second");
        assert_eq!((found.source.as_deref(), found.campaign.as_deref()), (Some("news letter"), Some("spring 2026")));
        assert_eq!(campaign("ref=hn").source.as_deref(), Some("hn"));
        assert_eq!(campaign("utm_source=%00&utm_campaign="), Campaign::default());
        assert_eq!(campaign("ref=0123456789abcdef0123"), Campaign::default());
        assert_eq!(campaign(&format!("ref={}", "x".repeat(900))).source.unwrap().len(), LONGEST_NAME);
    }

    proptest! {
        #[test]
        fn any_text_is_bounded_and_plain(text in "\\PC{0,300}|[/%a-f0-9?#.]{0,600}") {
            if let Some(page) = page(&text) {
                prop_assert!(page.starts_with('/') && page.len() <= LONGEST_PAGE && is_plain(&page));
            }
            prop_assert!(host(&text).is_none_or(|host| host.len() <= LONGEST_HOST));
            let found = campaign(&text);
            prop_assert!(found.source.into_iter().chain(found.campaign).all(|name| name.len() <= LONGEST_NAME));
        }
    }
}
