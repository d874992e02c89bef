//! What goes wrong with backends.

use super::BackendName;

/// A text is no name of a backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of a backend: up to 32 small letters, digits and `-`, not `local`")]
pub struct BackendNameError(pub(super) String);

/// What kind of trouble a backend has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It has no such body.
    Missing,
    /// What it has is shorter, or longer, than what was stored.
    Length,
    /// It does not answer, or not now: a later try may succeed.
    Down,
    /// It says no: to the credentials, to the bucket, or for a reason of its own.
    Refused,
}

/// A backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("backend `{backend}`: {doing}: {source}")]
pub struct BackendError {
    /// Its name.
    pub backend: BackendName,
    /// Such as `reading a body`.
    pub doing: &'static str,
    /// The kind of trouble.
    pub trouble: Trouble,
    /// What it said.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl BackendError {
    /// Whether a later try may succeed.
    pub const fn is_passing(&self) -> bool {
        matches!(self.trouble, Trouble::Down)
    }

    pub(super) fn new(backend: &BackendName, doing: &'static str, error: &object_store::Error) -> Self {
        Self { backend: backend.clone(), doing, trouble: trouble(error), source: words(&error.to_string()).into() }
    }
}

/// Told by what services say, since the library keeps some of it in words alone.
pub(in crate::objects) fn trouble(error: &object_store::Error) -> Trouble {
    use object_store::Error;
    let says = |marks: &[&str]| {
        let text = error.to_string();
        marks.iter().any(|mark| text.contains(mark))
    };
    match error {
        Error::NotFound { .. } if says(&["NoSuchBucket"]) => Trouble::Refused,
        Error::NotFound { .. } => Trouble::Missing,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Trouble::Refused,
        // A range that begins behind the end, as the service or the library say it.
        _ if says(&["status code: 416", "but object was only"]) => Trouble::Length,
        // A range that is answered with all there is, or as if it were: no later answer will be another.
        _ if says(&["non-partial response"]) => Trouble::Refused,
        // Other answers below 500 than the one that asks to slow down do not change by themselves.
        _ if says(&["status code: 4"]) && !says(&["429", "408", "RequestTimeout"]) => Trouble::Refused,
        _ => Trouble::Down,
    }
}

/// Most characters of what a service says.
const SAID_MAX: usize = 400;

/// What happened, without the document that services send with it: that has more of the request in it than a log should.
fn words(text: &str) -> String {
    let whole = match text.find("<?xml").or_else(|| text.find("<Error")).and_then(|at| text.split_at_checked(at)) {
        None => text.to_owned(),
        Some((before, document)) => {
            let said = |name: &str| document.split_once(name).and_then(|(_, rest)| rest.split_once("</"));
            let said = ["<Code>", "<Message>"].into_iter().filter_map(said).map(|(text, _)| text);
            format!("{before}{}", said.collect::<Vec<_>>().join(", "))
        }
    };
    whole.chars().filter(|char| !char.is_control()).take(SAID_MAX).collect()
}

/// Backends are not as what is stored needs them.
#[derive(Debug, thiserror::Error)]
pub enum BackendsError {
    /// A backend that is needed is not in the settings.
    #[error(
        "{what}, but objects.backends has no `{name}`; put it back, and move the buckets elsewhere first (`mainstay objects move`) to do without it"
    )]
    Gone {
        /// Its name.
        name: BackendName,
        /// What needs it.
        what: String,
    },
    /// A backend that holds bodies is another place by the settings.
    #[error(
        "backend `{name}` holds {held} bodies in the bucket `{was}`, but objects.backends says `{is}`; bodies do not follow by themselves: use another name for another place"
    )]
    Elsewhere {
        /// Its name.
        name: BackendName,
        /// How many bodies it holds.
        held: u64,
        /// Bucket and prefix they were put to.
        was: String,
        /// Bucket and prefix in the settings.
        is: String,
    },
    /// There is no such backend.
    #[error("there is no backend `{0}` in objects.backends")]
    Unknown(BackendName),
    /// It cannot be set up.
    #[error("objects.backends: `{name}`: {what}")]
    SetUp {
        /// Its name.
        name: String,
        /// Why not.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn of_what_a_service_sends_only_code_and_message_are_told() {
        let document = "<?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>It differs.</Message>\
                        <AWSAccessKeyId>AKID</AWSAccessKeyId><StringToSign>AWS4 x</StringToSign></Error>";
        let said = words(&format!("PUT http://h/b: status code: 403 Forbidden: {document}"));
        assert_eq!(said, "PUT http://h/b: status code: 403 Forbidden: SignatureDoesNotMatch, It differs.");
        assert_eq!(words("no\nroute"), "noroute");
        assert_eq!(words("502: <Error>"), "502: ");
        assert_eq!(words(&"x".repeat(10_000)).len(), super::SAID_MAX);
    }
}
