//! Who may come in: the credentials programs use.
//!
//! [`AccessKeys`] holds the S3 access keys and the Redis password. The first start makes one of each; they live in
//! `state.redb`, sealed as every value there, and are looked up in memory. Start reading there.

pub mod access_keys;
pub mod error;

pub use access_keys::{AccessKey, AccessKeys, FirstCredentials};
pub use error::AccountsError;
