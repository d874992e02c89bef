//! Settings of the counts.

use crate::settings;

/// Most days that are kept.
pub const MOST_DAYS: u32 = 800;
/// Most names kept of one list of a day.
pub const MOST_NAMES: u32 = 1_000;

settings! {
    /// Counts of pages and visitors, without cookies, of the sites with `analytics = true` (see `edge.sites`), and of `edge.app` with
    /// `edge.analytics`.
    pub struct AnalyticsConfig {
        /// Days kept, today among them, 1 to 800; older ones are removed.
        pub days: u32 = 90,
        /// Most names kept of each list of a site's day (pages, referrers, campaigns, missing pages), 10 to 1000; what else
        /// there was is one number.
        pub names: u32 = 100,
    }
}

impl AnalyticsConfig {
    /// What is wrong: the key, and why.
    pub fn contradictions(&self) -> Vec<(&'static str, String)> {
        let within = |key: &'static str, value: u32, least: u32, most: u32| {
            let wrong = !(least..=most).contains(&value);
            wrong.then(|| (key, format!("{key} = {value} is not from {least} to {most}")))
        };
        let found =
            [within("analytics.days", self.days, 1, MOST_DAYS), within("analytics.names", self.names, 10, MOST_NAMES)];
        found.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right_and_what_is_out_of_range_is_told_by_its_key() {
        assert!(AnalyticsConfig::default().contradictions().is_empty());
        let wrong = AnalyticsConfig { days: 0, names: 5_000 }.contradictions();
        assert_eq!(wrong.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["analytics.days", "analytics.names"]);
    }
}
