//! Records that the file holds the state of a server: accounts, certificates, jobs.

use super::super::{FORMAT, Step};

pub(super) const STEP: Step = Step { number: 1, run: |tx| tx.put(FORMAT, b"format", b"mainstay state") };
