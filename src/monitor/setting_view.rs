//! The settings as people see them, handed down by whoever knows the whole tree.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// One setting. No setting holds a secret: those are files, named by a setting, or come from the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingView {
    /// Its key, such as `s3.listen`.
    pub key: String,
    /// Its value, in TOML.
    pub value: String,
    /// What it is when nobody sets it, in TOML; empty when there is no such value.
    pub default: String,
    /// Where the value comes from: `mainstay.toml:3:1`, `MAINSTAY_S3__LISTEN`, `--app`, `default`.
    pub source: String,
    /// Its manual, one paragraph a line.
    pub doc: String,
}

impl SettingView {
    /// Whether somebody set it.
    pub fn is_set(&self) -> bool {
        self.source != "default"
    }
}

/// The settings in force. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SettingViews(Arc<ArcSwap<Vec<SettingView>>>);

impl SettingViews {
    /// Begins with `all`.
    pub fn new(all: Vec<SettingView>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(all)))
    }

    /// All of them now, in the order of the reference.
    pub fn all(&self) -> Arc<Vec<SettingView>> {
        self.0.load_full()
    }

    /// Puts `all` in their place.
    pub fn replace(&self, all: Vec<SettingView>) {
        self.0.store(Arc::new(all));
    }
}
