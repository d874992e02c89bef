//! Where a challenge's name leads through CNAMEs: `_acme-challenge.example.com` may be delegated to a name in another zone,
//! and the authority follows it there (RFC 8555 section 8.4).

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::wire;

/// Most names that one leads through.
pub const MOST: usize = 8;

/// Names, each of which the one before is an alias of.
#[derive(Debug)]
pub struct Path(Vec<String>);

/// A path that ends nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Astray {
    /// A name comes again.
    #[error("{0} is a CNAME that leads back to itself")]
    Circle(String),
    /// There are more than [`MOST`] of them.
    #[error("{0} leads through more than {MOST} CNAMEs")]
    Long(String),
    /// What it leads to is no name that could be asked for.
    #[error("{0} is a CNAME to something that is no name")]
    Nameless(String),
}

impl Path {
    /// A path that begins, and so far ends, at `name`.
    pub fn new(name: &str) -> Self {
        Self(vec![name.to_ascii_lowercase()])
    }

    /// Where it ends.
    pub fn end(&self) -> &str {
        self.0.last().map(String::as_str).unwrap_or_default()
    }

    /// Its end is an alias of `next`.
    ///
    /// # Errors
    /// [`Astray`]; the path is what it was.
    pub fn add(&mut self, next: &str) -> Result<(), Astray> {
        let next = next.trim_end_matches('.').to_ascii_lowercase();
        let first = || self.0.first().cloned().unwrap_or_default();
        // A backslash stands for a letter that no name of ours has.
        if next.is_empty() || next.contains('\\') || wire::name(&next).is_none() {
            return Err(Astray::Nameless(self.end().to_owned()));
        }
        if self.0.contains(&next) {
            return Err(Astray::Circle(first()));
        }
        if self.0.len() > MOST {
            return Err(Astray::Long(first()));
        }
        self.0.push(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_where_the_last_alias_leads() {
        let mut path = Path::new("_acme-challenge.Shop.example");
        assert_eq!(path.end(), "_acme-challenge.shop.example");
        path.add("shop.Auth.example.").unwrap();
        assert_eq!(path.end(), "shop.auth.example");
    }

    #[test]
    fn circles_long_paths_and_what_is_no_name_are_refused() {
        let mut path = Path::new("a.example");
        path.add("b.example").unwrap();
        assert_eq!(path.add("A.example"), Err(Astray::Circle("a.example".to_owned())));
        assert_eq!(path.add("b.example"), Err(Astray::Circle("a.example".to_owned())));
        for wrong in ["", ".", "a\\032b.example", &"x".repeat(64), &["y"; 200].join(".")] {
            assert_eq!(path.add(wrong), Err(Astray::Nameless("b.example".to_owned())), "{wrong}");
        }
        for number in 2..=MOST {
            path.add(&format!("{number}.example")).unwrap();
        }
        assert_eq!(path.add("end.example"), Err(Astray::Long("a.example".to_owned())));
        assert_eq!(path.end(), format!("{MOST}.example"));
    }
}
