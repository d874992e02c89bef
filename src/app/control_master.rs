//! The master key over `control.sock`, for `mainstay key`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::control::{Ask, ControlError, ask};
use super::master_change::MasterStatus;
use super::status::Facts;

/// What is asked about the master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MasterAsk {
    /// How it stands.
    Status,
    /// Another one.
    Rotate,
}

/// A change, as a command tells it.
#[derive(Debug, Deserialize)]
pub struct Rotated {
    /// Id of the key in use from now on.
    pub active: String,
    /// Id of the one before.
    pub previous: String,
    /// The one before, written out.
    pub previous_key: String,
}

/// Answers what is asked.
///
/// # Errors
/// What the keyring says, in words.
pub(super) async fn answer(asked: MasterAsk, facts: &Facts) -> Result<Value, String> {
    let master = facts.master.clone();
    // Both read or write files.
    let answered = tokio::task::spawn_blocking(move || match asked {
        MasterAsk::Status => Ok(json!(master.status())),
        MasterAsk::Rotate => {
            let changed = master.rotate().map_err(|error| error.to_string())?;
            let previous_key = changed.previous_key.expose();
            Ok(json!({"active": changed.active, "previous": changed.previous, "previous_key": previous_key}))
        }
    });
    answered.await.map_err(|_ended| "the server is stopping".to_owned())?
}

/// Asks the server that runs on `folder` how its master key stands. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn status(folder: &Path) -> Result<MasterStatus, ControlError> {
    ask(folder, Ask::Master(MasterAsk::Status))
}

/// Has the server that runs on `folder` make another master key. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn rotate(folder: &Path) -> Result<Rotated, ControlError> {
    ask(folder, Ask::Master(MasterAsk::Rotate))
}
