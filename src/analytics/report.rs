//! Some days of a site together, as they are shown.

use serde::{Deserialize, Serialize};

use super::day::Day;
use super::rows::Row;
use super::tally::{List, Tally};
use super::vitals::{Metric, Rating, Spread, Vitals};

/// One day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayCounts {
    /// The day, such as `2026-11-20`.
    pub day: String,
    /// Pages shown.
    pub views: u64,
    /// Of them, those that no page of the site itself led to.
    pub visits: u64,
    /// Different visitors, estimated.
    pub visitors: u64,
}

/// What browsers measured of one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricCounts {
    /// Its short name, such as `LCP`.
    pub metric: String,
    /// What three of four page views do not exceed: milliseconds, of `CLS` a number without unit. `None` when there is none.
    pub p75: Option<f64>,
    /// How that is.
    pub rating: Option<Rating>,
    /// How many were good.
    pub good: u64,
    /// How many were neither.
    pub needs_improvement: u64,
    /// How many were poor.
    pub poor: u64,
}

/// What browsers measured of one page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageVitals {
    /// The page.
    pub page: String,
    /// How many page views were measured.
    pub measured: u64,
    /// Each metric.
    pub vitals: Vec<MetricCounts>,
}

/// Some days of a site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The site.
    pub site: String,
    /// Pages shown.
    pub views: u64,
    /// Of them, those that no page of the site itself led to.
    pub visits: u64,
    /// The visitors of each day together: who came on two days counts twice.
    pub visitors: u64,
    /// Every day, the first first.
    pub days: Vec<DayCounts>,
    /// Pages shown, by page.
    pub pages: List,
    /// Visits by the host that led there; the empty name is those without one.
    pub referrers: List,
    /// Visits by source of a campaign.
    pub sources: List,
    /// Visits by campaign.
    pub campaigns: List,
    /// Pages asked for that are not there.
    pub missing: List,
    /// Pages shown, by browser.
    pub browsers: List,
    /// Pages shown, by system.
    pub systems: List,
    /// Pages shown, by kind of device.
    pub devices: List,
    /// What browsers measured.
    pub vitals: Vec<MetricCounts>,
    /// The same by page, the one measured most first.
    pub by_page: Vec<PageVitals>,
}

/// Most pages of [`Report::by_page`].
const MOST_PAGES: usize = 30;

/// The lists of a row.
type Lists<'a> = [&'a List; 8];

impl Report {
    /// Of `site` the `rows` of `days`, the two in the same order, with `most` names in each list.
    pub fn of(site: &str, days: &[Day], rows: &[Option<Row>], most: usize) -> Self {
        let mut report = Self { site: site.to_owned(), ..Self::default() };
        let mut tallies: [Tally; 8] = Default::default();
        let mut vitals = Vitals::default();
        let mut by_page: Vec<(String, Vitals)> = Vec::new();
        for (day, row) in days.iter().zip(rows) {
            let (views, visits, visitors) = row.as_ref().map_or((0, 0, 0), |row| (row.views, row.visits, row.visitors));
            report.days.push(DayCounts { day: day.to_string(), views, visits, visitors });
            report.views = report.views.saturating_add(views);
            report.visits = report.visits.saturating_add(visits);
            report.visitors = report.visitors.saturating_add(visitors);
            let Some(row) = row else { continue };
            tallies.iter_mut().zip(lists(row)).for_each(|(tally, list)| tally.join(list));
            vitals.join(&row.vitals);
            by_page.extend(row.by_page.iter().cloned());
        }
        let [pages, referrers, sources, campaigns, missing, browsers, systems, devices] =
            tallies.map(|tally| tally.list(most));
        Self {
            pages,
            referrers,
            sources,
            campaigns,
            missing,
            browsers,
            systems,
            devices,
            vitals: metrics(&vitals),
            by_page: pages_of(by_page),
            ..report
        }
    }
}

fn lists(row: &Row) -> Lists<'_> {
    [&row.pages, &row.referrers, &row.sources, &row.campaigns, &row.missing, &row.browsers, &row.systems, &row.devices]
}

/// Pages of several days, each once.
fn pages_of(mut all: Vec<(String, Vitals)>) -> Vec<PageVitals> {
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut joined: Vec<(String, Vitals)> = Vec::new();
    for (page, vitals) in all {
        match joined.last_mut().filter(|(last, _)| *last == page) {
            Some((_, known)) => known.join(&vitals),
            None => joined.push((page, vitals)),
        }
    }
    joined.sort_by_key(|(_, vitals)| std::cmp::Reverse(vitals.count()));
    let shown =
        |(page, vitals): (String, Vitals)| PageVitals { page, measured: vitals.count(), vitals: metrics(&vitals) };
    joined.into_iter().take(MOST_PAGES).map(shown).collect()
}

fn metrics(vitals: &Vitals) -> Vec<MetricCounts> {
    vitals.0.iter().zip(Metric::ALL).map(|(spread, metric)| metric_counts(spread, metric)).collect()
}

fn metric_counts(spread: &Spread, metric: Metric) -> MetricCounts {
    let [good, needs_improvement, poor] = spread.bands;
    let (scale, digits) = if metric == Metric::Cls { (1_000.0, 1_000.0) } else { (1.0, 1.0) };
    MetricCounts {
        metric: metric.name().to_owned(),
        p75: spread.p75().map(|value| (value / scale * digits).round() / digits),
        rating: spread.rating(),
        good,
        needs_improvement,
        poor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::tally::Item;

    fn list(names: &[(&str, u64)]) -> List {
        List {
            items: names.iter().map(|(name, count)| Item { name: (*name).to_owned(), count: *count }).collect(),
            others: 1,
        }
    }

    #[test]
    fn days_are_added_up_and_empty_ones_are_there_too() {
        let mut vitals = Vitals::default();
        vitals.add(&[Some(1_000), None, Some(50), None, None]);
        let row = Row {
            views: 3,
            visits: 2,
            visitors: 1,
            pages: list(&[("/", 2)]),
            vitals: vitals.clone(),
            by_page: vec![("/".to_owned(), vitals)],
            ..Row::default()
        };
        let report = Report::of("a/", &[Day(0), Day(1), Day(2)], &[Some(row.clone()), None, Some(row)], 10);
        assert_eq!((report.views, report.visits, report.visitors), (6, 4, 2));
        assert_eq!(report.days.iter().map(|day| day.views).collect::<Vec<_>>(), [3, 0, 3]);
        assert_eq!((report.pages.items[0].count, report.pages.others), (4, 2));
        let lcp = &report.vitals[0];
        assert_eq!((lcp.metric.as_str(), lcp.good, lcp.rating), ("LCP", 2, Some(Rating::Good)));
        assert!(lcp.p75.is_some_and(|p75| (950.0..1_050.0).contains(&p75)), "{lcp:?}");
        assert!(report.vitals[2].p75.is_some_and(|p75| (0.045..0.055).contains(&p75)));
        assert_eq!((report.by_page.len(), report.by_page[0].measured), (1, 2));
    }
}
