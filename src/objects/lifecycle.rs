//! What ends by itself: rules of a bucket's lifecycle, and when they hold.
//!
//! Days count as S3 counts them: from the moment something was stored (or was replaced) that many days on, then to the
//! next midnight (UTC). Source: S3 user guide, "Lifecycle configuration elements", "Expiring objects".

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;

/// Milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// Most older versions of a key that a rule keeps (S3 API reference, `NewerNoncurrentVersions`).
pub const KEEP_MAX: u32 = 100;

/// A rule. Part of the stored format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleRule {
    /// Its name, unique in its bucket.
    pub id: String,
    /// Whether it holds.
    pub enabled: bool,
    /// What it is about.
    pub filter: LifecycleFilter,
    /// When the newest version of a key ends.
    pub expiration: Option<Expiration>,
    /// When older versions end.
    pub noncurrent: Option<Noncurrent>,
    /// Days after which an upload that was neither completed nor aborted is given up.
    pub abort_days: Option<u32>,
}

/// What a rule is about. Part of the stored format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleFilter {
    /// What keys begin with; empty for all.
    pub prefix: String,
    /// Tags an object must have, all of them.
    pub tags: Vec<(String, String)>,
    /// Only objects of more bytes.
    pub larger_than: Option<u64>,
    /// Only objects of fewer bytes.
    pub smaller_than: Option<u64>,
    /// Whether the rule was written in the old form, with a prefix of its own instead of a filter.
    pub old_form: bool,
}

/// When the newest version of a key ends. Part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiration {
    /// So many days after it was stored.
    Days(u32),
    /// From this moment on: milliseconds since 1970.
    Date(u64),
    /// A delete marker of which no older version is left.
    Markers,
}

/// When older versions end. Part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noncurrent {
    /// So many days after a newer version came.
    pub days: u32,
    /// How many older versions of each key stay all the same.
    pub keep: Option<u32>,
}

/// The midnight after `days` days from `from`.
pub fn due(from: Timestamp, days: u32) -> Timestamp {
    let after = from.millis().saturating_add(u64::from(days).saturating_mul(DAY));
    Timestamp((after / DAY).saturating_add(1).saturating_mul(DAY))
}

impl LifecycleFilter {
    /// Whether it takes in `key`, of `size` bytes and with `tags`; a thing without bytes is never held to sizes.
    pub fn takes(&self, key: &str, size: Option<u64>, tags: &[(String, String)]) -> bool {
        let sized = size.is_none_or(|size| {
            self.larger_than.is_none_or(|least| size > least) && self.smaller_than.is_none_or(|most| size < most)
        });
        key.starts_with(&self.prefix) && sized && self.tags.iter().all(|tag| tags.contains(tag))
    }
}

impl LifecycleRule {
    /// When the newest version of `key`, stored at `modified`, ends by this rule.
    pub fn ends(&self, key: &str, modified: Timestamp, size: u64, tags: &[(String, String)]) -> Option<Timestamp> {
        if !self.enabled || !self.filter.takes(key, Some(size), tags) {
            return None;
        }
        match self.expiration? {
            Expiration::Days(days) => Some(due(modified, days)),
            Expiration::Date(date) => Some(Timestamp(date)),
            Expiration::Markers => None,
        }
    }

    /// Whether a delete marker of `modified`, of which nothing older is left, has ended by `now`.
    pub fn ends_marker(&self, key: &str, modified: Timestamp, now: Timestamp) -> bool {
        self.enabled
            && self.filter.takes(key, None, &[])
            && match self.expiration {
                Some(Expiration::Markers) => true,
                Some(Expiration::Days(days)) => due(modified, days) <= now,
                Some(Expiration::Date(date)) => Timestamp(date) <= now,
                None => false,
            }
    }

    /// Whether an older version has ended by `now`: its bytes and tags, none for a delete marker; `replaced` is when the next
    /// newer one came, `newer` how many older versions lie between it and the newest.
    pub fn ends_older(
        &self,
        key: &str,
        object: Option<(u64, &[(String, String)])>,
        replaced: Timestamp,
        newer: u32,
        now: Timestamp,
    ) -> bool {
        self.enabled
            && self.filter.takes(key, object.map(|(size, _)| size), object.map_or(&[], |(_, tags)| tags))
            && self.noncurrent.is_some_and(|rule| newer >= rule.keep.unwrap_or(0) && due(replaced, rule.days) <= now)
    }

    /// Whether an upload of `key`, begun at `initiated`, has ended by `now`.
    pub fn ends_upload(&self, key: &str, initiated: Timestamp, now: Timestamp) -> bool {
        self.enabled
            && self.filter.takes(key, None, &[])
            && self.abort_days.is_some_and(|days| due(initiated, days) <= now)
    }
}

/// When the newest version of `key` ends by the first of `rules` to end it, and which that is.
pub fn first_end<'a>(
    rules: &'a [LifecycleRule],
    key: &str,
    modified: Timestamp,
    size: u64,
    tags: &[(String, String)],
) -> Option<(Timestamp, &'a str)> {
    let ends = rules.iter().filter_map(|rule| Some((rule.ends(key, modified, size, tags)?, rule.id.as_str())));
    ends.min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2014-01-15T10:30:00Z.
    const THEN: Timestamp = Timestamp(1_389_781_800_000);

    fn tags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn rule() -> LifecycleRule {
        LifecycleRule { id: "r".to_owned(), enabled: true, expiration: Some(Expiration::Days(3)), ..Default::default() }
    }

    #[test]
    fn days_end_at_the_next_midnight() {
        // The example of the user guide: stored on the 15th at 10:30, three days, ends on the 19th at 00:00.
        assert_eq!(due(THEN, 3).to_string(), "2014-01-19T00:00:00.000Z");
        assert_eq!(rule().ends("a", THEN, 1, &[]), Some(due(THEN, 3)));
    }

    #[test]
    fn filters_must_hold_as_a_whole() {
        let filter = LifecycleFilter {
            prefix: "logs/".to_owned(),
            tags: tags(&[("a", "1"), ("b", "2")]),
            larger_than: Some(10),
            smaller_than: Some(20),
            old_form: false,
        };
        let all = tags(&[("b", "2"), ("c", "3"), ("a", "1")]);
        assert!(filter.takes("logs/x", Some(15), &all));
        for (key, size, given) in
            [("log", 15, &all), ("logs/x", 10, &all), ("logs/x", 20, &all), ("logs/x", 15, &tags(&[("a", "1")]))]
        {
            assert!(!filter.takes(key, Some(size), given), "{key} {size}");
        }
    }

    #[test]
    fn a_rule_that_is_off_ends_nothing() {
        let off = LifecycleRule { enabled: false, abort_days: Some(1), ..rule() };
        let late = Timestamp(THEN.millis() + 100 * DAY);
        assert_eq!(off.ends("a", THEN, 1, &[]), None);
        assert!(!off.ends_upload("a", THEN, late) && !off.ends_marker("a", THEN, late));
        assert!(LifecycleRule { enabled: true, ..off }.ends_upload("a", THEN, late));
    }

    #[test]
    fn so_many_older_versions_stay() {
        let rule = LifecycleRule { noncurrent: Some(Noncurrent { days: 1, keep: Some(2) }), ..rule() };
        let late = Timestamp(THEN.millis() + 100 * DAY);
        let ends = |newer| rule.ends_older("a", Some((1, &[])), THEN, newer, late);
        assert_eq!([ends(0), ends(1), ends(2), ends(9)], [false, false, true, true]);
        assert!(!rule.ends_older("a", None, late, 9, late));
    }

    #[test]
    fn the_first_rule_to_end_an_object_counts() {
        let soon = LifecycleRule { id: "soon".to_owned(), expiration: Some(Expiration::Days(1)), ..rule() };
        let rules = [rule(), soon];
        assert_eq!(first_end(&rules, "a", THEN, 1, &[]), Some((due(THEN, 1), "soon")));
    }
}
