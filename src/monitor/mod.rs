//! Whether the server and each of its parts works.
//!
//! [`health`] knows the parts and asks them.

pub mod health;
pub mod setting_view;

pub use health::{Check, Checks, Part, Report};
pub use setting_view::SettingView;
