//! The S3 door: Amazon's object storage protocol over `objects`.
//!
//! The way of a request: [`door`] takes it; [`gate`] verifies its signature and hands out the only value operations run
//! with; [`address`] and [`operation`] make one [`operation::Operation`] of it; [`access`] decides whether its sender may;
//! its family's file does the work, with
//! bodies read through [`payload`], which verifies them; [`error`] turns what went wrong into S3's words.
//!
//! Promises:
//! - Nothing runs that its sender may not do. The rules and the CVEs behind them are in [`gate`] and [`crate::http::sigv4`].
//! - What is not known is `NotImplemented`, never taken for something else.
//! - Nothing of a body becomes visible before every claim about it held.
//! - Memory per request is bounded, whatever the size of the object.
//!
//! Start reading at [`operation`]: it is the list of features.

pub mod access;
pub mod address;
pub mod attributes;
pub mod buckets;
pub mod checksum;
mod composite;
pub mod config;
pub mod confirm;
pub mod copy;
mod cors;
pub mod delete;
pub mod door;
pub mod error;
pub mod form;
pub mod form_policy;
pub mod gate;
mod health;
pub mod lifecycle;
pub mod link_v2;
pub mod listing;
pub mod multipart;
pub mod operation;
pub mod payload;
pub mod policies;
pub mod read;
pub mod request;
mod respond;
pub mod settings;
pub mod tags;
#[cfg(test)]
mod tests;
pub mod versions;
pub mod write;
pub mod xml;

pub use config::S3Config;
pub use door::S3Door;
