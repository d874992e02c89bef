//! How many events there were, by hour and by day.
//!
//! One row for each issue and each project (`issues.charts`) holds the last [`HOURS`] hours and [`DAYS`] days that had
//! events, so that it has at most a few kilobytes whatever comes in.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::IssuesError;
use super::rows::{CHARTS, pair};
use super::service::Issues;
use crate::base::Timestamp;
use crate::store::record::{decode, encode};
use crate::store::{Direction, ReadTx, Record, WriteTx, after_prefix};

/// Hours that can be looked back on.
pub const HOURS: u32 = 7 * 24;
/// Days that can be looked back on.
pub const DAYS: u32 = 90;
/// Issues whose charts are read at once.
pub const CHARTS_MAX: usize = 200;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Projects whose rows are read for a chart of everything.
const PROJECTS_MAX: usize = 1_000;

/// Whose events are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// All there are.
    Everything,
    /// Those of one project.
    Project(u64),
    /// Those of one issue.
    Issue(u64),
}

/// The width of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An hour; at most [`HOURS`] of them are known.
    Hour,
    /// A day in UTC; at most [`DAYS`] of them are known.
    Day,
}

/// Events over time, in columns of the same width; the last one is still filling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chart {
    /// Where the first column starts, RFC 3339.
    pub start: String,
    /// The width of a column in seconds.
    pub step_seconds: u64,
    /// Events in each column, oldest first.
    pub counts: Vec<u64>,
}

/// What the row of an issue or a project holds: number of the hour or day since 1970, and events in it; ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ChartRow {
    hours: Vec<(u32, u64)>,
    days: Vec<(u32, u64)>,
}

impl Record for ChartRow {
    const VERSION: u8 = 1;
}

impl Step {
    const fn millis(self) -> u64 {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }

    /// The column of a moment, counted from 1970.
    fn column(self, at_ms: u64) -> u32 {
        u32::try_from(at_ms / self.millis()).unwrap_or(u32::MAX)
    }

    fn known(self, row: &ChartRow) -> &[(u32, u64)] {
        match self {
            Self::Hour => &row.hours,
            Self::Day => &row.days,
        }
    }

    const fn most(self) -> u32 {
        match self {
            Self::Hour => HOURS,
            Self::Day => DAYS,
        }
    }
}

impl Issues {
    /// The events of the last `columns` hours or days, the one that runs included; at most [`HOURS`] or [`DAYS`].
    /// An issue or project without events has a chart of zeros.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn chart(&self, of: Of, step: Step, columns: u32) -> Result<Chart, IssuesError> {
        let now = self.0.clock.now();
        let read = self.0.store.read(move |tx| {
            let rows = match of {
                Of::Everything => {
                    let (prefix, end) = (0_u64.to_be_bytes(), after_prefix(&0_u64.to_be_bytes()));
                    let to = end.as_ref().map(Vec::as_slice);
                    let rows = tx.scan(CHARTS, Bound::Included(&prefix), to, Direction::Forward, PROJECTS_MAX)?;
                    rows.iter().map(|(_, row)| decode(row)).collect::<Result<Vec<ChartRow>, _>>()?
                }
                Of::Project(project) => vec![row(tx, &project_key(project))?],
                Of::Issue(id) => vec![row(tx, &issue_key(id))?],
            };
            Ok::<_, IssuesError>(chart(&rows, step, columns, now))
        });
        read.await
    }

    /// The hourly [`chart`](Issues::chart) of each of `issues`, of which the first [`CHARTS_MAX`] count.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn hourly(&self, issues: Vec<u64>, hours: u32) -> Result<Vec<Chart>, IssuesError> {
        let now = self.0.clock.now();
        let read = self.0.store.read(move |tx| {
            let rows = issues.iter().take(CHARTS_MAX).map(|id| row(tx, &issue_key(*id)));
            rows.map(|row| Ok::<_, IssuesError>(chart(&[row?], Step::Hour, hours, now))).collect()
        });
        read.await
    }
}

/// Counts an event of issue `id`.
pub(super) fn count(tx: &mut dyn WriteTx, id: u64, project: u64, received_ms: u64) -> Result<(), IssuesError> {
    for key in [issue_key(id), project_key(project)] {
        let mut row = row(tx, &key)?;
        add(&mut row.hours, Step::Hour, received_ms);
        add(&mut row.days, Step::Day, received_ms);
        tx.put(CHARTS, &key, &encode(&row))?;
    }
    Ok(())
}

/// Removes what is known of issue `id`.
pub(super) fn remove(tx: &mut dyn WriteTx, id: u64) -> Result<(), IssuesError> {
    tx.delete(CHARTS, &issue_key(id))?;
    Ok(())
}

/// Issues are numbered from 1 on, so that the rows of projects stand before them.
fn issue_key(id: u64) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

fn project_key(project: u64) -> Vec<u8> {
    pair(0, project)
}

fn row(tx: &dyn ReadTx, key: &[u8]) -> Result<ChartRow, IssuesError> {
    Ok(tx.get(CHARTS, key)?.map(|bytes| decode(&bytes)).transpose()?.unwrap_or_default())
}

/// Counts one event in `columns`, and lets go of those too old to be shown. A clock that was set back finds its column.
fn add(columns: &mut Vec<(u32, u64)>, step: Step, at_ms: u64) {
    let column = step.column(at_ms);
    match columns.binary_search_by_key(&column, |(number, _)| *number) {
        Ok(found) => {
            if let Some((_, count)) = columns.get_mut(found) {
                *count = count.saturating_add(1);
            }
        }
        Err(place) => columns.insert(place, (column, 1)),
    }
    let newest = columns.last().map_or(0, |(number, _)| *number);
    columns.retain(|(number, _)| number.saturating_add(step.most()) > newest);
}

fn chart(rows: &[ChartRow], step: Step, columns: u32, now: Timestamp) -> Chart {
    let columns = columns.clamp(1, step.most());
    let last = step.column(now.millis());
    let first = last.saturating_sub(columns.saturating_sub(1));
    let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
    for (number, count) in rows.iter().flat_map(|row| step.known(row)) {
        let sum = sums.entry(*number).or_default();
        *sum = sum.saturating_add(*count);
    }
    Chart {
        start: Timestamp(u64::from(first) * step.millis()).to_string(),
        step_seconds: step.millis() / 1000,
        counts: (first..=last).map(|number| sums.get(&number).copied().unwrap_or_default()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_consecutive_and_the_last_is_now() {
        let mut row = ChartRow::default();
        for hour in [10, 10, 12] {
            add(&mut row.hours, Step::Hour, hour * HOUR_MS + 5);
        }
        let chart = chart(&[row.clone(), row], Step::Hour, 4, Timestamp(13 * HOUR_MS));
        assert_eq!(chart.counts, [4, 0, 2, 0]);
        assert_eq!((chart.start.as_str(), chart.step_seconds), ("1970-01-01T10:00:00.000Z", 3600));
    }

    proptest! {
        #[test]
        fn a_row_stays_small_and_sorted(hours in proptest::collection::vec(0_u64..2_000, 0..400)) {
            let mut row = ChartRow::default();
            for hour in &hours {
                add(&mut row.hours, Step::Hour, hour * HOUR_MS);
                add(&mut row.days, Step::Day, hour * HOUR_MS);
            }
            prop_assert!(row.hours.len() <= HOURS as usize && row.days.len() <= DAYS as usize);
            prop_assert!(row.hours.is_sorted_by(|a, b| a.0 < b.0));
        }
    }
}
