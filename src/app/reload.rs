//! The settings read again while the server runs: by SIGHUP, `mainstay reload`, `systemctl reload`.
//!
//! The same places are read as at the start: the file, and the environment and flags the process was started with. What is
//! wrong anywhere in them changes nothing. What can change without a restart is the edge's (`edge/reload.rs` has the
//! exceptions); the rest is told by name and waits for the next start.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::control::{Ask, ControlError, ask};
use crate::bans::Bans;
use crate::config::Config;
use crate::edge::{self, Edge, reload};
use crate::monitor::{SettingView, SettingViews};

type Read = dyn Fn() -> Result<(Config, Vec<SettingView>), String> + Send + Sync;

/// Where settings come from. Clones are the same.
#[derive(Clone)]
pub struct Source(Arc<Read>);

impl Source {
    /// Settings that `read` reads, on a thread that may block; its error is for people and holds no secret.
    pub fn new(read: impl Fn() -> Result<(Config, Vec<SettingView>), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::new(|| Err(String::from("the settings cannot be read again here")))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// What a reload came to, by the keys of the settings that had changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// In force now.
    pub applied: Vec<String>,
    /// In force after a restart.
    pub waiting: Vec<String>,
}

/// Reads the settings again.
#[derive(Debug, Default)]
pub struct Reloader {
    source: Source,
    edge: Option<Arc<Edge>>,
    bans: Option<Bans>,
    shown: SettingViews,
    one_at_a_time: Mutex<()>,
}

impl Reloader {
    /// Settings from `source` go to `edge`, or to `bans` alone while that is off, and into `shown` once they are in force.
    pub fn new(source: Source, edge: Option<Arc<Edge>>, bans: Option<Bans>, shown: SettingViews) -> Self {
        Self { source, edge, bans, shown, one_at_a_time: Mutex::new(()) }
    }

    /// Reads the settings and puts into force what can be. The outcome is logged.
    ///
    /// # Errors
    /// What is wrong with them, for people; all settings are what they were.
    ///
    /// # Cancel safety
    /// Dropped before its end, the edge may work by some of the new settings; the next call puts that right.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let outcome = self.put_into_force().await;
        match &outcome {
            Ok(Reloaded { applied, waiting }) if waiting.is_empty() => {
                tracing::info!(applied = applied.join(", "), "the settings were read again");
            }
            Ok(Reloaded { applied, waiting }) => {
                let (applied, waiting) = (applied.join(", "), waiting.join(", "));
                tracing::warn!(applied, waiting, "the settings were read again; some wait for a restart");
            }
            Err(error) => tracing::error!(error, "the settings cannot be used; those before stay in force"),
        }
        outcome
    }

    async fn put_into_force(&self) -> Result<Reloaded, String> {
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || source.0()).await;
        let (config, mut views) = read.map_err(|_panic| String::from("reading the settings failed"))??;
        if let Some(edge) = &self.edge {
            edge.reload(&config.edge).await.map_err(|error| error.to_string())?;
        } else if let Some(bans) = &self.bans {
            // Other doors shut out who is banned, too.
            bans.set_rules(edge::ban_rules(&config.edge));
        }
        let before = self.shown.all();
        let mut outcome = Reloaded::default();
        for view in &mut views {
            let Some(old) = before.iter().find(|old| old.key == view.key && old.value != view.value) else { continue };
            if is_live(&view.key) {
                outcome.applied.push(view.key.clone());
            } else {
                outcome.waiting.push(view.key.clone());
                view.clone_from(old);
            }
        }
        self.shown.replace(views);
        Ok(outcome)
    }
}

/// Whether the setting `key` can change without a restart.
fn is_live(key: &str) -> bool {
    key.starts_with("edge.") && !reload::FIXED.contains(&key)
}

/// Tells the server that runs on `folder` to read its settings again. Blocks.
///
/// # Errors
/// [`ControlError`]: what is wrong with the settings; nothing has changed then.
pub fn ask_to_reload(folder: &Path) -> Result<Reloaded, ControlError> {
    ask(folder, Ask::Reload)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn view(key: &str, value: &str) -> SettingView {
        let [default, source, doc] = [const { String::new() }; 3];
        SettingView { key: key.to_owned(), value: value.to_owned(), default, source, doc }
    }

    #[tokio::test]
    async fn what_waits_for_a_restart_is_named_and_shown_as_it_is() {
        let shown = SettingViews::new(vec![view("edge.sites", "[]"), view("edge.domain", "a"), view("s3.region", "r")]);
        let read = AtomicU32::new(0);
        let source = Source::new(move || {
            if read.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(String::from("mainstay.toml:1:1: no"));
            }
            let views = vec![view("edge.sites", "[1]"), view("edge.domain", "b"), view("s3.region", "r")];
            Ok((Config::default(), views))
        });
        let reloader = Reloader::new(source, None, None, shown.clone());
        assert_eq!(reloader.reload().await, Err(String::from("mainstay.toml:1:1: no")));
        assert_eq!(shown.all()[0].value, "[]");
        for applied in [vec![String::from("edge.sites")], Vec::new()] {
            let waiting = vec![String::from("edge.domain")];
            assert_eq!(reloader.reload().await, Ok(Reloaded { applied, waiting }));
        }
        assert_eq!((shown.all()[0].value.as_str(), shown.all()[1].value.as_str()), ("[1]", "a"));
    }
}
