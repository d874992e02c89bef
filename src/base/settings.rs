//! Settings declared once: the field, its default and its manual in one place.
//!
//! A room writes its settings with [`settings!`](crate::settings); the `config` room puts them into one tree, fills it
//! from file, environment and flags, and prints the reference from the doc comments kept here.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// One setting, as the reference shows it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The key in the file.
    pub name: &'static str,
    /// The lines of its doc comment, each with its leading space.
    pub doc: &'static [&'static str],
    /// The Rust type, for telling a table from a value.
    pub type_name: &'static str,
}

/// A struct made by [`settings!`](crate::settings). Unknown keys are errors, missing keys take their default.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// The lines of the struct's doc comment.
    const DOC: &'static [&'static str];
    /// Its fields in order.
    const FIELDS: &'static [Field];
}

/// Declares a settings struct: every field with its doc comment (the manual) and its default.
///
/// ```
/// mainstay::settings! {
///     /// Redis protocol listener.
///     pub struct Example {
///         /// Most clients served at once.
///         pub max_clients: u32 = 10_000,
///     }
/// }
/// assert_eq!(Example::default().max_clients, 10_000);
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $doc:literal])+
        pub struct $name:ident {
            $( $(#[doc = $field_doc:literal])+ pub $field:ident : $type:ty = $default:expr ),+ $(,)?
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $field_doc])+ pub $field: $type ),+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default ),+ }
            }
        }

        impl $crate::base::settings::Settings for $name {
            const DOC: &'static [&'static str] = &[$($doc),+];
            const FIELDS: &'static [$crate::base::settings::Field] = &[
                $( $crate::base::settings::Field {
                    name: stringify!($field),
                    doc: &[$($field_doc),+],
                    type_name: stringify!($type),
                } ),+
            ];
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    settings! {
        /// A part.
        pub struct Example {
            /// How many.
            ///
            /// More is more.
            pub count: u32 = 3,
            /// How long.
            pub wait: crate::base::Span = crate::base::Span::secs(5),
        }
    }

    #[test]
    fn missing_keys_take_their_default_and_unknown_ones_are_errors() {
        let example: Example = toml::from_str("count = 4").unwrap();
        assert_eq!((example.count, example.wait.to_string().as_str()), (4, "5s"));
        assert!(toml::from_str::<Example>("cuont = 4").unwrap_err().to_string().contains("cuont"));
    }

    #[test]
    fn the_manual_stands_on_the_field() {
        assert_eq!(Example::FIELDS[0].name, "count");
        assert_eq!(Example::FIELDS[0].doc, &[" How many.", "", " More is more."]);
        assert_eq!(Example::DOC, &[" A part."]);
    }
}
