//! The composition root: the only place that constructs rooms, and the life of the process.
//!
//! [`start::start`] goes top to bottom: data folder and lock, sockets, keyring, stores, services, doors, control socket;
//! [`doors`] knows the listeners. Whatever is wrong is a [`StartError`] that says what to do; nothing answers before what is behind it is open. [`run`]
//! then waits for the stop, drains, and closes what holds data last; or hands all over to another program ([`handover`]). [`status`] and [`connect`] are what the commands ask
//! a running server for over [`control`].

mod accepting;
mod admin;
pub mod backups;
pub mod connect;
mod console;
pub mod control;
pub mod control_analytics;
pub mod control_backup;
pub mod control_bans;
pub mod control_buckets;
pub mod control_cache;
pub mod control_certificates;
pub mod control_keys;
pub mod control_mail;
pub mod control_master;
pub mod control_objects;
pub mod control_people;
pub mod doors;
pub mod error;
pub mod folder;
pub mod handover;
mod history;
pub mod inherited;
pub mod mail;
pub mod master;
pub mod master_change;
pub mod notify;
pub mod own_errors;
pub mod pages;
pub mod rebuild;
pub mod redis;
pub mod reload;
pub mod run;
pub mod sockets;
pub mod start;
pub mod status;

pub use error::StartError;
pub use folder::Folder;
pub use start::{Plan, Running, start};
pub use status::Status;
