//! Kept answers of apps over `control.sock`, for `mainstay cache`.

use std::path::Path;
use std::sync::Arc;

use super::control::{Ask, ControlError, ask};
use super::status::Facts;
use crate::accounts::By;
use crate::monitor::WhichKept;

/// Takes kept answers away, and tells how many.
///
/// # Errors
/// The edge is off, or the audit log cannot be written: they are gone then all the same.
pub(super) async fn purge(which: &WhichKept, facts: &Facts) -> Result<u64, String> {
    let edge = facts.edge.as_ref().ok_or("the edge is off: edge.http and edge.https are empty")?;
    let (edge, wanted) = (Arc::clone(edge), which.clone());
    let purged = tokio::task::spawn_blocking(move || edge.purge_cache(&wanted)).await;
    let purged = purged.map_err(|error| error.to_string())?;
    let noted = facts.users.note(&By::command_line(), "cache.purged", &which.to_string()).await;
    noted.map_err(|error| error.to_string())?;
    Ok(purged)
}

/// Has the server that runs on `folder` take kept answers away, and tells how many. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn purged(folder: &Path, which: WhichKept) -> Result<u64, ControlError> {
    ask(folder, Ask::PurgeCache(which))
}
