//! Long lists a page at a time, by where the last page ended: no page is ever counted up to.

use std::fmt;

use askama::Template;
use askama::filters::HtmlSafe;

use crate::http::uri::encode_component;

/// The links below a list. The first page has no `after` in its address; each further one starts behind the row it names.
#[derive(Clone, Debug, Default, Template)]
#[template(path = "parts/pager.html")]
pub struct Pager {
    first: Option<String>,
    next: Option<String>,
}

impl HtmlSafe for Pager {}

impl Pager {
    /// The links of a list at `path` with the query `kept` (such as a filter: name and value). `after` is where this
    /// page starts, `next` where the next one does; `None` when there is none.
    pub fn new(path: &str, kept: &[(&str, &str)], after: Option<&str>, next: Option<&str>) -> Self {
        let address = |after: Option<&str>| {
            let pairs =
                kept.iter().copied().filter(|(_, value)| !value.is_empty()).chain(after.map(|at| ("after", at)));
            let query: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encode_component(value))).collect();
            if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
        };
        Self { first: after.map(|_| address(None)), next: next.map(|next| address(Some(next))) }
    }

    /// Whether all rows are on this page.
    pub const fn is_empty(&self) -> bool {
        self.first.is_none() && self.next.is_none()
    }
}

/// The rows of one page and where the next begins, of a list that was asked for one row more than a page has.
pub fn split<T, K: fmt::Display>(mut rows: Vec<T>, most: usize, key: impl Fn(&T) -> K) -> (Vec<T>, Option<String>) {
    let more = rows.len() > most;
    rows.truncate(most);
    let next = rows.last().filter(|_| more).map(|row| key(row).to_string());
    (rows, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_the_filter_and_are_encoded() {
        let pager = Pager::new("/mail", &[("state", "sent"), ("to", "")], Some("a"), Some("b&c"));
        assert_eq!(pager.first.as_deref(), Some("/mail?state=sent"));
        assert_eq!(pager.next.as_deref(), Some("/mail?state=sent&after=b%26c"));
        assert!(Pager::new("/mail", &[], None, None).is_empty());
    }

    #[test]
    fn one_row_more_than_a_page_makes_a_next_page() {
        assert_eq!(split(vec![1, 2, 3], 2, |row| *row), (vec![1, 2], Some(String::from("2"))));
        assert_eq!(split(vec![1, 2], 2, |row| *row), (vec![1, 2], None));
    }
}
