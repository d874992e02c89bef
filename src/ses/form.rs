//! The query protocol's form: flat names such as `Destination.ToAddresses.member.2`.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::HashMap;

use percent_encoding::percent_decode_str;

use super::error::SesError;

/// Most fields of a form.
const FIELDS_MAX: usize = 1000;

/// A decoded form. Every name is there once.
#[derive(Debug)]
pub(super) struct Form(HashMap<String, String>);

impl Form {
    /// Decodes `application/x-www-form-urlencoded` text.
    ///
    /// # Errors
    /// Broken encoding, a name given twice, or more than [`FIELDS_MAX`] fields.
    pub fn parse(body: &[u8]) -> Result<Self, SesError> {
        let invalid = |text: &str| SesError::Invalid(text.to_owned());
        let text = std::str::from_utf8(body).map_err(|_no_text| invalid("the form is not UTF-8"))?;
        let mut fields = HashMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                let spaced = text.replace('+', " ");
                let decoded = percent_decode_str(&spaced).decode_utf8().map(std::borrow::Cow::into_owned);
                decoded.map_err(|_no_text| invalid("the form does not decode to UTF-8"))
            };
            if fields.insert(decode(name)?, decode(value)?).is_some() {
                return Err(invalid("a field of the form is given more than once"));
            }
            if fields.len() > FIELDS_MAX {
                return Err(invalid("the form has too many fields"));
            }
        }
        Ok(Self(fields))
    }

    /// The value of `name`, unless it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The values of `name.member.1`, `name.member.2`, … up to the first gap.
    pub fn list(&self, name: &str) -> Vec<&str> {
        (1..=FIELDS_MAX).map_while(|number| self.get(&format!("{name}.member.{number}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_and_encoded_values_are_read() {
        let form = Form::parse(b"A=b+c%26d&To.member.1=x&To.member.2=y&To.member.4=z&E=").unwrap();
        assert_eq!(form.get("A"), Some("b c&d"));
        assert_eq!(form.list("To"), ["x", "y"]);
        assert_eq!((form.get("E"), form.get("F")), (None, None));
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        assert!(Form::parse(b"Source=a&Source=b").is_err());
        assert!(Form::parse(b"%ff=a").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&bytes);
        }
    }
}
