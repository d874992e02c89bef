//! Who may do what: the one place where it is decided.
//!
//! An operation names what it needs ([`Need`]): an action, a bucket, and a key or the prefix of a listing; a copy needs
//! its source as a read of its own. [`Judge`] holds that against the rights of the key that signed, and against the policy
//! of the bucket, which may open things to everybody. An operation of
//! which the keys are known only from its body (`DeleteObjects`) asks the judge for each.
//!
//! A key that may only append has its writes carried out under the condition that the object's key holds nothing, which
//! the commit itself checks: no two requests can race past it.

use super::door::Services;
use super::error::{Code, S3Error};
use super::request::Request;
use crate::accounts::Actions;
use crate::objects::policy::Policy;
use crate::objects::{BucketName, ObjectError, ObjectKey, Target};

/// What is done to a bucket or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads an object, its head, attributes or ACL.
    Read,
    /// The same of a version named.
    ReadVersion,
    /// Reads an object's tags.
    ReadTags,
    /// Changes an object's tags.
    WriteTags,
    /// Takes an object's tags away.
    DeleteTags,
    /// Stores an object.
    Write,
    /// Does what comes before storing one: starts an upload, stores its parts.
    Upload,
    /// Lists the parts of an upload.
    ListParts,
    /// Gives an upload up.
    Abort,
    /// Deletes an object.
    Delete,
    /// Deletes a version named.
    DeleteVersion,
    /// Deletes several objects, each of which is decided about by itself.
    DeleteSeveral,
    /// Lists keys.
    List,
    /// Lists versions.
    ListVersions,
    /// Lists uploads.
    ListUploads,
    /// Asks whether the bucket is there.
    Head,
    /// Asks for the bucket's region.
    Location,
    /// Asks for a setting of the bucket.
    Describe,
    /// Makes or deletes the bucket, or changes its settings.
    Manage,
}

impl Action {
    /// The rights of which any one is enough; none: knowing the bucket is.
    const fn rights(self) -> &'static [Actions] {
        match self {
            Self::Read | Self::ReadVersion | Self::ReadTags => &[Actions::READ],
            Self::Write | Self::WriteTags | Self::DeleteTags => &[Actions::WRITE],
            Self::Upload => &[Actions::APPEND],
            Self::ListParts => &[Actions::APPEND, Actions::LIST],
            Self::Abort => &[Actions::WRITE, Actions::DELETE],
            Self::Delete | Self::DeleteVersion => &[Actions::DELETE],
            Self::List | Self::ListVersions | Self::ListUploads => &[Actions::LIST],
            Self::Head | Self::Location | Self::Describe | Self::DeleteSeveral => &[],
            Self::Manage => &[Actions::MANAGE],
        }
    }
}

/// What an action is called in a bucket's policy; what is not here, no policy opens. Starting an upload is a part of
/// storing.
const NAMES: [(Action, &str); 16] = [
    (Action::Read, "s3:GetObject"),
    (Action::ReadVersion, "s3:GetObjectVersion"),
    (Action::ReadTags, "s3:GetObjectTagging"),
    (Action::WriteTags, "s3:PutObjectTagging"),
    (Action::DeleteTags, "s3:DeleteObjectTagging"),
    (Action::Write, "s3:PutObject"),
    (Action::Upload, "s3:PutObject"),
    (Action::ListParts, "s3:ListMultipartUploadParts"),
    (Action::Abort, "s3:AbortMultipartUpload"),
    (Action::Delete, "s3:DeleteObject"),
    (Action::DeleteVersion, "s3:DeleteObjectVersion"),
    (Action::List, "s3:ListBucket"),
    (Action::Head, "s3:ListBucket"),
    (Action::ListVersions, "s3:ListBucketVersions"),
    (Action::ListUploads, "s3:ListBucketMultipartUploads"),
    (Action::Location, "s3:GetBucketLocation"),
];

/// Something that must be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What is done.
    pub action: Action,
    /// In which bucket.
    pub bucket: BucketName,
    /// To which key; for listings their prefix, for the bucket itself nothing.
    pub key: String,
}

impl Need {
    /// `action` on the bucket itself.
    pub fn bucket(action: Action, bucket: &BucketName) -> Self {
        Self { action, bucket: bucket.clone(), key: String::new() }
    }

    /// `action` on a key, or on what is listed under a prefix.
    pub fn key(action: Action, bucket: &BucketName, key: &str) -> Self {
        Self { action, bucket: bucket.clone(), key: key.to_owned() }
    }

    /// `plain` on a target, `named` when a version of it is meant.
    pub fn target(plain: Action, named: Action, bucket: &BucketName, target: &Target) -> Self {
        let action = if target.version.is_some() { named } else { plain };
        Self::key(action, bucket, target.key.as_str())
    }

    /// Storing `key`.
    pub fn write(bucket: &BucketName, key: &ObjectKey) -> Self {
        Self::key(Action::Write, bucket, key.as_str())
    }
}

/// What was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// All that was asked for.
    Whole,
    /// Storing an object, but only where there is none.
    NewOnly,
}

/// Decides for the sender of one request.
#[derive(Debug)]
pub struct Judge<'a> {
    request: &'a Request,
    /// The policy of the bucket the request is about, when it matters.
    policy: Option<(BucketName, Policy)>,
}

impl<'a> Judge<'a> {
    /// For the sender of `request`.
    ///
    /// # Errors
    /// Storage fails.
    pub async fn new(services: &Services, request: &'a Request) -> Result<Self, S3Error> {
        let needs_none = request.verified().key().is_some_and(|key| key.rights.is_all());
        let Some(bucket) = request.bucket().ok().filter(|_| !needs_none) else {
            return Ok(Self { request, policy: None });
        };
        let settings = match services.objects.bucket_settings(&bucket).await {
            // Whether a bucket is there is not told to who may not know.
            Err(ObjectError::NoSuchBucket) => return Ok(Self { request, policy: None }),
            settings => settings?,
        };
        // It was understood when it was put; one that is not understood any more opens nothing.
        let policy = settings.policy.as_deref().and_then(|text| Policy::parse(text, &bucket).ok());
        Ok(Self { request, policy: policy.map(|policy| (bucket, policy)) })
    }

    /// Decides about everything an operation needs.
    ///
    /// # Errors
    /// [`Code::AccessDenied`] for the first thing that is not allowed.
    pub fn admit(&self, needs: &[Need]) -> Result<Allowed, S3Error> {
        let mut allowed = Allowed::Whole;
        for need in needs {
            if self.allows(need) {
                continue;
            }
            if need.action != Action::Write || !self.may_append(need) {
                return Err(refusal(self.request));
            }
            allowed = Allowed::NewOnly;
        }
        Ok(allowed)
    }

    /// Whether `need` is allowed.
    pub fn allows(&self, need: &Need) -> bool {
        key_allows(self.request, need) || self.policy_allows(need)
    }

    fn policy_allows(&self, need: &Need) -> bool {
        let Some((_, policy)) = self.policy.as_ref().filter(|(bucket, _)| *bucket == need.bucket) else { return false };
        if need.action == Action::DeleteSeveral {
            // Each is decided about by itself; whoever may delete none is told so at once.
            return policy.allows_somewhere(&["s3:DeleteObject", "s3:DeleteObjectVersion"]);
        }
        let mut names = NAMES.iter().filter(|(action, _)| *action == need.action);
        names.any(|(_, name)| policy.allows(name, &need.key))
    }

    fn may_append(&self, need: &Need) -> bool {
        let key = self.request.verified().key();
        key.is_some_and(|key| key.rights.allow(Actions::APPEND, need.bucket.as_str(), &need.key))
    }
}

/// Whether the key that signed `request` may do what `need` names, whatever a policy opens.
fn key_allows(request: &Request, need: &Need) -> bool {
    let Some(key) = request.verified().key() else { return false };
    let (rights, bucket) = (need.action.rights(), need.bucket.as_str());
    match need.action {
        Action::Head | Action::Location | Action::Describe | Action::DeleteSeveral => key.rights.know(bucket),
        _ => rights.iter().any(|right| key.rights.allow(*right, bucket, &need.key)),
    }
}

/// Whether the key that signed `request` may itself delete all that begins with `prefix`, and so may have it end.
///
/// # Errors
/// [`Code::AccessDenied`].
pub fn may_end(request: &Request, bucket: &BucketName, prefix: &str) -> Result<(), S3Error> {
    if key_allows(request, &Need::key(Action::DeleteVersion, bucket, prefix)) {
        return Ok(());
    }
    let problem = format!("the access key may not itself delete all keys beginning with `{prefix}`");
    Err(S3Error::new(Code::AccessDenied, problem))
}

/// Whether the sender of `request` may open to everybody what `policy` opens: nobody gives away what they do not have.
///
/// # Errors
/// [`Code::AccessDenied`].
pub fn may_open(request: &Request, bucket: &BucketName, policy: &Policy) -> Result<(), S3Error> {
    let may = |(name, begins): &(&'static str, String)| {
        // The first action of that name is the one that needs most.
        let action = NAMES.iter().find(|(_, known)| known == name).map(|(action, _)| *action);
        action.is_some_and(|action| key_allows(request, &Need::key(action, bucket, begins)))
    };
    match policy.openings().iter().find(|opening| !may(opening)) {
        None => Ok(()),
        Some((name, begins)) => {
            let problem = format!("the access key may not itself do {name} on all keys beginning with `{begins}`");
            Err(S3Error::new(Code::AccessDenied, problem))
        }
    }
}

/// What the sender of `request` is told, who may not do what it asks for.
pub fn refusal(request: &Request) -> S3Error {
    match request.verified().key() {
        Some(_) => S3Error::new(Code::AccessDenied, "the access key does not have the right to do this"),
        None => S3Error::new(Code::AccessDenied, "anonymous requests are not allowed to do this"),
    }
}

/// The answer when a key that may only append meets an object.
pub fn holds_one() -> S3Error {
    S3Error::new(Code::AccessDenied, "the access key may store new objects alone, and this key holds one")
}
