//! Records that the file holds captured errors.

use super::super::{FORMAT, Step};

pub(super) const STEP: Step = Step { number: 1, run: |tx| tx.put(FORMAT, b"format", b"mainstay issues") };
