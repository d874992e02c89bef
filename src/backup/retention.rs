//! Which snapshots stay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::snapshot::{SnapshotInfo, SnapshotName};
use crate::base::{Span, Timestamp};

/// A clock may be so much behind another before a snapshot counts as dated in the future.
pub(super) const SKEW: Duration = Duration::from_mins(10);

/// Which snapshots stay. By time, never by count: a flood of new snapshots drives out no old one.
///
/// Counts within each source. Whatever the times say, the newest snapshot of a source stays, and the newest complete one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Everything younger than this stays.
    pub all: Span,
    /// The last of each day (UTC), for so many days back.
    pub daily: u32,
    /// The last of each week (Monday to Sunday), for so many weeks back.
    pub weekly: u32,
    /// The last of each month, for so many months back.
    pub monthly: u32,
    /// The last of each year, for so many years back.
    pub yearly: u32,
}

impl Default for Retention {
    /// Two days of everything, two weeks of days, two months of weeks, a year of months, no years.
    fn default() -> Self {
        Self { all: Span::hours(48), daily: 14, weekly: 8, monthly: 12, yearly: 0 }
    }
}

/// Snapshots sorted by what becomes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sorted {
    pub(super) keep: BTreeSet<SnapshotName>,
    pub(super) future: BTreeSet<SnapshotName>,
}

/// Days, weeks, months, years since 1970, of a moment in UTC.
fn periods(moment: Timestamp) -> [i64; 4] {
    let date = moment.to_jiff().to_zoned(jiff::tz::TimeZone::UTC).date();
    let days = i64::try_from(moment.seconds() / 86_400).unwrap_or(i64::MAX);
    let year = i64::from(date.year());
    // 1970-01-01 was a Thursday: day 4 begins a Monday.
    [days, (days + 3).div_euclid(7), year * 12 + i64::from(date.month()), year]
}

impl Retention {
    /// Sorts `snapshots` as of `now`.
    pub(super) fn sort(&self, snapshots: &[SnapshotInfo], now: Timestamp) -> Sorted {
        let mut out = Sorted::default();
        let mut sources: BTreeMap<&str, Vec<&SnapshotInfo>> = BTreeMap::new();
        for snapshot in snapshots {
            if snapshot.started > now.after(SKEW) {
                out.future.insert(snapshot.name.clone());
            } else {
                sources.entry(&snapshot.source).or_default().push(snapshot);
            }
        }
        for mut snapshots in sources.into_values() {
            snapshots.sort_by_key(|snapshot| (snapshot.started, snapshot.name.clone()));
            snapshots.reverse();
            out.keep.extend(snapshots.first().map(|newest| newest.name.clone()));
            let complete = snapshots.iter().find(|snapshot| snapshot.is_complete());
            out.keep.extend(complete.map(|newest| newest.name.clone()));
            self.keep_by_time(&snapshots, now, &mut out.keep);
        }
        out
    }

    /// `snapshots` of one source, newest first.
    fn keep_by_time(&self, snapshots: &[&SnapshotInfo], now: Timestamp, keep: &mut BTreeSet<SnapshotName>) {
        let backs = [self.daily, self.weekly, self.monthly, self.yearly].map(i64::from);
        let today = periods(now);
        let mut taken: BTreeSet<(usize, i64)> = BTreeSet::new();
        for snapshot in snapshots {
            if now.since(snapshot.started) < self.all.duration() {
                keep.insert(snapshot.name.clone());
            }
            let here = periods(snapshot.started);
            for (kind, ((back, today), here)) in backs.iter().zip(today).zip(here).enumerate() {
                // The last of a period stands for it, and an incomplete one only if the period has no other.
                let stands = snapshot.is_complete() || !others_in(snapshots, kind, here);
                if today.saturating_sub(here) < *back && stands && taken.insert((kind, here)) {
                    keep.insert(snapshot.name.clone());
                }
            }
        }
    }
}

/// Whether a complete snapshot is in that period.
fn others_in(snapshots: &[&SnapshotInfo], kind: usize, period: i64) -> bool {
    snapshots.iter().any(|other| other.is_complete() && periods(other.started).get(kind) == Some(&period))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{Counts, HostFacts};

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600 + 86_400 * 100);

    fn snapshot(number: u64, hours_ago: u64) -> SnapshotInfo {
        let started = Timestamp(NOW.millis() - hours_ago * 3_600_000);
        SnapshotInfo {
            name: SnapshotName(format!("{number:016x}-{number:016x}")),
            source: "files".to_owned(),
            host: HostFacts::default(),
            started,
            finished: started,
            counts: Counts::default(),
            fault_count: 0,
            faults: Vec::new(),
            listing: crate::backup::format::Content::default(),
            previous: Vec::new(),
        }
    }

    fn kept(retention: &Retention, snapshots: &[SnapshotInfo]) -> Vec<u64> {
        retention.sort(snapshots, NOW).keep.iter().map(SnapshotName::sequence).collect()
    }

    const NONE: Retention = Retention { all: Span::hours(0), daily: 0, weekly: 0, monthly: 0, yearly: 0 };

    #[test]
    fn the_newest_and_the_newest_complete_one_always_stay() {
        let mut snapshots = vec![snapshot(1, 900), snapshot(2, 800), snapshot(3, 700)];
        snapshots[2].fault_count = 1;
        assert_eq!(kept(&NONE, &snapshots), [2, 3]);
    }

    #[test]
    fn a_flood_of_new_snapshots_drives_out_no_old_one() {
        let retention = Retention { daily: 14, ..NONE };
        let days: Vec<SnapshotInfo> = (0..10).map(|day| snapshot(10 - day, 1 + day * 24)).collect();
        let before = kept(&retention, &days);
        assert_eq!(before.len(), 10);
        let mut flooded = days.clone();
        flooded.extend((0..500).map(|more| snapshot(1000 + more, 0)));
        let after = kept(&retention, &flooded);
        assert!(before.iter().filter(|number| **number != 10).all(|number| after.contains(number)));
    }

    #[test]
    fn snapshots_of_the_future_are_neither_kept_nor_counted() {
        let mut snapshots = vec![snapshot(1, 30), snapshot(2, 0)];
        snapshots[1].started = NOW.after(Duration::from_hours(5));
        let sorted = Retention { daily: 3, ..NONE }.sort(&snapshots, NOW);
        assert_eq!(sorted.keep.len(), 1);
        assert_eq!(sorted.future.iter().map(SnapshotName::sequence).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn each_period_keeps_its_last_and_sources_do_not_mix() {
        // One every 6 hours for 60 days.
        let mut snapshots: Vec<SnapshotInfo> = (0..240).map(|n| snapshot(240 - n, n * 6)).collect();
        let retention = Retention { all: Span::hours(24), daily: 7, weekly: 4, monthly: 2, yearly: 0 };
        let one = kept(&retention, &snapshots).len();
        assert!((11..=16).contains(&one), "{one}");
        let mut other = snapshot(999, 1400);
        other.source = "other".to_owned();
        snapshots.push(other);
        assert!(kept(&retention, &snapshots).contains(&999));
    }

    #[test]
    fn an_incomplete_snapshot_does_not_stand_for_its_day() {
        let mut snapshots = vec![snapshot(1, 60), snapshot(2, 50), snapshot(3, 1)];
        let day = |s: &SnapshotInfo| periods(s.started)[0];
        assert_eq!(day(&snapshots[0]), day(&snapshots[1]));
        snapshots[1].fault_count = 2;
        assert_eq!(kept(&Retention { daily: 7, ..NONE }, &snapshots), [1, 3]);
    }
}
