//! Marks the file as one that may hold versions of objects, which an older Mainstay would not see and so not keep: it
//! refuses the file instead. Rows written so far stay as they are and read as S3's `null` versions.

use super::super::Step;

pub(super) const STEP: Step = Step { number: 2, run: |_tx| Ok(()) };
