//! The steps that brought each data file to its present shape, one Rust file a step.
//!
//! The list is append-only: a step that was released is never edited, reordered or removed, and its number is never
//! used again. Each runs once per file, in one transaction together with the row that records it.

mod issues_0001_format;
mod objects_0001_format;
mod objects_0002_versions;
mod state_0001_format;

use super::Step;

/// Steps of `state.redb`.
pub(super) const STATE: &[Step] = &[state_0001_format::STEP];

/// Steps of `objects.redb`.
pub(super) const OBJECTS: &[Step] = &[objects_0001_format::STEP, objects_0002_versions::STEP];

/// Steps of `issues.redb`.
pub(super) const ISSUES: &[Step] = &[issues_0001_format::STEP];
