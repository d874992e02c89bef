//! What every command starts from, and the commands that look at the settings.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::arguments::RequestFlags;
use super::say;
use crate::base::LocalDisk;
use crate::config::{self, Environment, Inputs, Loaded, Origin};
use crate::edge::{self, Asking};

/// Where the data folder is when no flag names one.
const DATA: &str = "mainstay-data";

/// Where packages put the data folder.
const PACKAGED_DATA: &str = "/var/lib/mainstay";

/// The surroundings of a command.
pub(super) struct Shell {
    pub environment: Environment,
    pub config: Option<PathBuf>,
    pub data: Option<PathBuf>,
}

impl Shell {
    /// The settings from file, environment and `flags`.
    pub(super) fn load(&self, flags: &[(&'static str, &'static str, String)]) -> anyhow::Result<Loaded> {
        let file = config::file::find(&LocalDisk, self.config.as_deref()).map_err(config::Problems::from)?;
        Ok(config::load(Inputs { file: file.as_ref(), environment: &self.environment, flags })?)
    }

    /// The data folder a server makes.
    pub(super) fn data(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| PathBuf::from(DATA))
    }

    /// The data folder a command looks into: as [`Shell::data`], else the packaged server's.
    pub(super) fn existing_data(&self) -> PathBuf {
        let own = self.data();
        let packaged = PathBuf::from(PACKAGED_DATA);
        if self.data.is_none() && !own.exists() && packaged.exists() { packaged } else { own }
    }
}

/// Prints what a request to `url` would meet.
pub(super) fn explain(shell: &Shell, url: &str, with: &RequestFlags) -> anyhow::Result<()> {
    let asking = Asking { url: url.parse()?, method: with.method.to_ascii_uppercase().parse()?, from: with.from };
    let lines = edge::explain(&shell.load(&[])?.config.edge, &["console", "s3"], &asking)?;
    say(&lines.iter().fold(String::new(), |out, line| out + line + "\n"))
}

/// Prints what is set and from where.
pub(super) fn check(shell: &Shell) -> anyhow::Result<()> {
    let file = config::file::find(&LocalDisk, shell.config.as_deref()).map_err(config::Problems::from)?;
    let loaded = config::load(Inputs { file: file.as_ref(), environment: &shell.environment, flags: &[] })?;
    let mut out = match &file {
        Some(file) => format!("settings file: {}\n", file.path.display()),
        None => String::from("settings file: none, defaults are used\n"),
    };
    let width = loaded.origins.0.keys().map(String::len).max().unwrap_or_default();
    for (key, Origin { source, written }) in &loaded.origins.0 {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{key:width$} = {written}  ({source})");
    }
    for warning in &loaded.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    let _ = writeln!(out, "{} settings are set, all are valid; the rest are defaults", loaded.origins.0.len());
    say(&out)
}
