//! What can be asked about stored objects over `control.sock`.
//!
//! A check takes as long as there is to read, an answer must not: so each question is for one piece of it, and the
//! command asks for the next until there is none. A command that is stopped ends the check with it.

use std::path::Path;

use super::control::{Ask, ControlError, ask};
use crate::objects::check::{Depth, Piece, Place};

/// Has the server that runs on `folder` look at a piece of the object store. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn check(folder: &Path, from: Place, depth: Depth) -> Result<Piece, ControlError> {
    ask(folder, Ask::CheckObjects { from, depth })
}
