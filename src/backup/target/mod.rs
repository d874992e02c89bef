//! Where repositories live: a folder, or a bucket of any S3 service.
//!
//! A [`Target`] keeps named files that are written once and never changed. Names are relative, with `/` between parts,
//! made of `a-z0-9.-_` only. All calls block; they are made from threads of their own, never from async code.

mod address;
mod folder;
mod s3;

use std::fmt;

pub use address::{AddressError, S3Access, TargetAddress};
pub use folder::FolderTarget;
pub use s3::S3Target;

/// A file at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, from the root of the repository.
    pub name: String,
    /// Its bytes.
    pub size: u64,
}

/// A place for write-once files.
pub trait Target: Send + Sync + fmt::Debug {
    /// What people call it: the path or the `s3://` address. Never a secret.
    fn label(&self) -> &str;

    /// Stores `bytes` as `name`; once it returns `Ok`, they survive power loss. No reader ever sees a part of them.
    ///
    /// # Errors
    /// [`Trouble::Exists`] when the name is taken (the old bytes stay); otherwise the name may or may not be there, whole.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError>;

    /// All of `name`.
    ///
    /// # Errors
    /// [`Trouble::Missing`]; [`Trouble::TooLarge`] when it has more than `limit` bytes.
    fn get(&self, name: &str, limit: u64) -> Result<Vec<u8>, TargetError>;

    /// `len` bytes of `name` at `offset`; fewer only at its end.
    ///
    /// # Errors
    /// [`Trouble::Missing`].
    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, TargetError>;

    /// Every file whose name starts with the folder `prefix` (`packs`; empty for all), in no order.
    ///
    /// # Errors
    /// What the place says; a folder that is not there has no files.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, TargetError>;

    /// Removes `name`; fine when it is not there.
    ///
    /// # Errors
    /// What the place says.
    fn delete(&self, name: &str) -> Result<(), TargetError>;

    /// Bytes of `name`; `None` when it is not there.
    ///
    /// # Errors
    /// What the place says.
    fn size(&self, name: &str) -> Result<Option<u64>, TargetError>;
}

/// What kind of trouble a target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No such file.
    Missing,
    /// The name is taken.
    Exists,
    /// No room left.
    Full,
    /// More bytes than asked for can be.
    TooLarge,
    /// The credentials or the permissions do not allow it.
    Refused,
    /// Anything else: the disk, the network, the service.
    Other,
}

/// A target could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {name} at {target}: {source}")]
pub struct TargetError {
    /// The target's label.
    pub target: String,
    /// Such as `writing`.
    pub doing: &'static str,
    /// The file.
    pub name: String,
    /// The kind of trouble.
    pub trouble: Trouble,
    /// What the place said.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
