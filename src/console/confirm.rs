//! Asking before something is destroyed, without a script: a link leads to this page, its button sends the form.

use askama::Template;

use super::{Answer, Frame, page};

/// A page that asks whether to go on.
///
/// The `GET` of an address shows it, the `POST` of the same address does it. For what cannot be undone,
/// [`Confirm::by_typing`] asks for the thing's name; the handler of the `POST` checks it with
/// [`Confirm::typed`].
#[derive(Clone, Debug, Template)]
#[template(path = "confirm.html")]
pub struct Confirm {
    frame: Frame,
    text: String,
    button: String,
    back: String,
    typed: String,
    hidden: Vec<(String, String)>,
}

impl Confirm {
    /// Asks `text`; the button says `button`, the other way out leads to `back`.
    pub fn new(frame: Frame, text: impl Into<String>, button: impl Into<String>, back: impl Into<String>) -> Self {
        let (text, button, back) = (text.into(), button.into(), back.into());
        Self { frame, text, button, back, typed: String::new(), hidden: Vec::new() }
    }

    /// Also asks to type `name`.
    #[must_use]
    pub fn by_typing(mut self, name: impl Into<String>) -> Self {
        self.typed = name.into();
        self
    }

    /// Also sends `value` as `name`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.hidden.push((name.into(), value.into()));
        self
    }

    /// The page.
    ///
    /// # Errors
    /// None that a request can cause.
    pub fn show(&self) -> Answer {
        page::show(self)
    }

    /// Whether the form of [`Confirm::by_typing`] names `name`.
    pub fn typed(fields: &super::Fields, name: &str) -> bool {
        fields.trimmed("typed") == name
    }
}
