//! The query of a request, decoded once, without duplicates.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::uri::{self, UriError};

/// Most parameters of one query.
const PARAMETERS_MAX: usize = 128;

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It does not decode.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A parameter is there twice, so two readers could see two different requests.
    #[error("query parameter {name} is given more than once")]
    Duplicate {
        /// The parameter.
        name: String,
    },
    /// It has too many parameters.
    #[error("more than {PARAMETERS_MAX} query parameters")]
    TooMany,
}

/// Query parameters by name. A parameter without `=` has the empty value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Sorted by name.
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Parses the part of an address behind `?`.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if pairs.len() >= PARAMETERS_MAX {
                return Err(QueryError::TooMany);
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (uri::decode_query(name)?, uri::decode_query(value)?);
            match pairs.binary_search_by(|(known, _)| known.as_str().cmp(&name)) {
                Ok(_) => return Err(QueryError::Duplicate { name }),
                Err(place) => pairs.insert(place, (name, value)),
            }
        }
        Ok(Self { pairs })
    }

    /// The value of `name`; parameter names are case-sensitive.
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self.pairs.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        self.pairs.get(place).map(|(_, value)| value.as_str())
    }

    /// Whether `name` is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Names and values in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_found_by_decoded_name() {
        let query = Query::parse("prefix=a%2Fb&uploads&x%2Did=1&&empty=").unwrap();
        assert_eq!(query.get("prefix"), Some("a/b"));
        assert_eq!((query.get("uploads"), query.get("x-id"), query.get("empty")), (Some(""), Some("1"), Some("")));
        assert!(!query.has("Uploads"));
    }

    #[test]
    fn a_parameter_given_twice_is_refused_however_it_is_spelled() {
        assert_eq!(Query::parse("a=1&%61=2"), Err(QueryError::Duplicate { name: "a".to_owned() }));
    }

    #[test]
    fn the_number_of_parameters_is_capped() {
        let text: Vec<String> = (0..=PARAMETERS_MAX).map(|n| format!("p{n}")).collect();
        assert_eq!(Query::parse(&text.join("&")), Err(QueryError::TooMany));
    }

    proptest! {
        #[test]
        fn a_written_query_reads_back(pairs in proptest::collection::btree_map(".{1,8}", ".{0,8}", 0..10)) {
            let text: Vec<String> = pairs
                .iter()
                .map(|(name, value)| format!("{}={}", uri::encode_component(name), uri::encode_component(value)))
                .collect();
            let query = Query::parse(&text.join("&")).unwrap();
            prop_assert!(query.iter().eq(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))));
        }
    }
}
