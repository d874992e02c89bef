//! What can be asked about stored objects over `control.sock`.
//!
//! A check takes as long as there is to read, an answer must not: so each question is for one piece of it, and the
//! command asks for the next until there is none. A command that is stopped ends the check with it. A scrub and a sweep
//! are the server's own work: a question begins one, others tell how far it is.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::control::{Ask, ControlError, ask, told};
use super::status::Facts;
use crate::accounts::By;
use crate::objects::check::{Depth, Piece, Place};
use crate::objects::{AskedSweep, BackendName, BucketName, MoveStatus, ObjectError, ScrubStatus};

/// Most damaged objects of one answer: a key of 1,024 bytes takes up to six times as many as JSON.
const SHOWN: usize = 500;

/// What is asked about scrubs, sweeps and moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectsAsk {
    /// How scrubbing stands.
    Scrub,
    /// Begins a pass.
    StartScrub,
    /// How the sweep stands that was asked for.
    Sweep,
    /// Begins a sweep.
    StartSweep,
    /// How the move of a bucket stands.
    Move {
        /// The bucket.
        bucket: String,
    },
    /// Begins to move a bucket's bodies.
    StartMove {
        /// The bucket.
        bucket: String,
        /// Where to: a backend, or `local`.
        to: String,
    },
}

/// How scrubbing stands, as a command shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubView {
    /// Whether a pass was begun by the question.
    pub begun: bool,
    /// How it stands, with as much of the damage as fits an answer.
    pub status: ScrubStatus,
    /// How much more is damaged.
    pub more: usize,
}

/// Answers what is asked.
pub(super) async fn answer(asked: ObjectsAsk, facts: &Facts) -> (Option<serde_json::Value>, Option<String>) {
    match asked {
        ObjectsAsk::Scrub => told(view(facts, false).await),
        ObjectsAsk::StartScrub => told(begin(facts).await),
        ObjectsAsk::Sweep => told(Ok::<_, ObjectError>(facts.objects.asked_sweep())),
        ObjectsAsk::StartSweep => told(Ok::<_, ObjectError>(facts.objects.begin_sweep())),
        ObjectsAsk::Move { bucket } => told(moving(facts, &bucket, None).await),
        ObjectsAsk::StartMove { bucket, to } => told(moving(facts, &bucket, Some(&to)).await),
    }
}

async fn moving(facts: &Facts, bucket: &str, to: Option<&str>) -> Result<Option<MoveStatus>, String> {
    let told = |error: ObjectError| error.to_string();
    let name: BucketName = bucket.parse().map_err(|error| format!("{error}"))?;
    if let Some(to) = to {
        let to = BackendName::or_local(to).map_err(|error| error.to_string())?;
        facts.objects.start_move(&name, to.clone()).await.map_err(told)?;
        let what = format!("{name} to {}", BackendName::home(to.as_ref()));
        let noted = facts.users.note(&By::command_line(), "bucket.moved", &what).await;
        noted.map_err(|error| error.to_string())?;
    }
    facts.objects.move_status(&name).await.map_err(told)
}

async fn begin(facts: &Facts) -> Result<ScrubView, ObjectError> {
    let begun = facts.objects.start_scrub().await?;
    view(facts, begun).await
}

async fn view(facts: &Facts, begun: bool) -> Result<ScrubView, ObjectError> {
    let mut status = facts.objects.scrub_status().await?;
    let more = status.damage.len().saturating_sub(SHOWN);
    status.damage.truncate(SHOWN);
    Ok(ScrubView { begun, status, more })
}

/// Has the server that runs on `folder` look at a piece of the object store. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn check(folder: &Path, from: Place, depth: Depth) -> Result<Piece, ControlError> {
    ask(folder, Ask::CheckObjects { from, depth })
}

/// Asks the server that runs on `folder` how scrubbing stands, or has it begin a pass. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn scrub(folder: &Path, start: bool) -> Result<ScrubView, ControlError> {
    ask(folder, Ask::Objects(if start { ObjectsAsk::StartScrub } else { ObjectsAsk::Scrub }))
}

/// Asks the server that runs on `folder` how the sweep stands, or has it begin one. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn sweep(folder: &Path, start: bool) -> Result<AskedSweep, ControlError> {
    ask(folder, Ask::Objects(if start { ObjectsAsk::StartSweep } else { ObjectsAsk::Sweep }))
}

/// Asks the server that runs on `folder` how moving a bucket's bodies stands, or has it begin to move them to `to`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn moves(folder: &Path, bucket: String, to: Option<String>) -> Result<Option<MoveStatus>, ControlError> {
    let asked = match to {
        Some(to) => ObjectsAsk::StartMove { bucket, to },
        None => ObjectsAsk::Move { bucket },
    };
    ask(folder, Ask::Objects(asked))
}
