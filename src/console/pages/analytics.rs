//! `/sites/analytics`: how the pages of a site are visited, and how fast they are where they are shown.

use std::time::Duration;

use askama::Template;
use axum::extract::State;

use crate::analytics::report::{MetricCounts, PageVitals};
use crate::analytics::tally::List;
use crate::analytics::vitals::Rating;
use crate::analytics::{Day, Report};
use crate::console::chart::{Chart, Drawing, Kind, Series, Unit};
use crate::console::{Answer, Console, Fault, Frame, Page, Section, format, page};

/// Names shown of each list.
const SHOWN: usize = 20;
/// The stretches of days that can be chosen, and their names; the second is shown at first.
const RANGES: [(u32, &str); 3] = [(7, "7 days"), (30, "30 days"), (90, "90 days")];
/// Metrics shown by page: the first three.
const BY_PAGE: usize = 3;

#[derive(Template)]
#[template(path = "analytics.html")]
struct AnalyticsPage {
    frame: Frame,
    report: Report,
    ranges: Vec<Choice>,
    chart: Drawing,
    today: u64,
    lists: Vec<Listed>,
}

/// A stretch of days that can be chosen.
struct Choice {
    days: u32,
    name: &'static str,
    chosen: bool,
}

/// A list with its heading.
struct Listed {
    /// Its place in the page's address.
    id: &'static str,
    title: &'static str,
    what: &'static str,
    counted: &'static str,
    rows: Vec<(String, u64, u64)>,
    others: u64,
}

/// `GET /sites/analytics`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let analytics = &console.world().analytics;
    let site = analytics.site(page.query("name")).ok_or_else(|| Fault::not_found("site whose pages are counted"))?;
    let (today, first) = analytics.kept();
    let [_, (usual, _), _] = RANGES;
    let days = page.query("days").parse::<u32>().ok().filter(|days| RANGES.iter().any(|(range, _)| range == days));
    let days = days.unwrap_or(usual);
    let from = today.earlier(days - 1).max(first);
    let report =
        analytics.report(&site, from, today).await.map_err(|error| Fault::failed("counts of pages", &error))?;
    let ranges = RANGES.map(|(range, name)| Choice { days: range, name, chosen: range == days });
    page::show(&AnalyticsPage {
        frame: page.frame("Visitors", Section::Edge),
        chart: chart(&report, today),
        today: report.days.last().map_or(0, |day| day.visitors),
        lists: lists(&report),
        ranges: ranges.into(),
        report,
    })
}

/// Views and visitors by day.
fn chart(report: &Report, today: Day) -> Drawing {
    let series = |name: &str, value: fn(&crate::analytics::report::DayCounts) -> u64| Series {
        name: name.to_owned(),
        values: report.days.iter().map(|day| Some(value(day) as f64)).collect(),
    };
    let series = vec![series("Page views", |day| day.views), series("Visitors", |day| day.visitors)];
    let step = Duration::from_hours(24);
    Chart { title: "By day (UTC)".to_owned(), kind: Kind::Line, unit: Unit::Count, series, end: today.start(), step }
        .draw()
}

fn lists(report: &Report) -> Vec<Listed> {
    let lists = [
        ("pages", "Pages", "Page", "Views", &report.pages),
        ("referrers", "Came from", "Host", "Visits", &report.referrers),
        ("sources", "Sources of campaigns", "Source", "Visits", &report.sources),
        ("campaigns", "Campaigns", "Campaign", "Visits", &report.campaigns),
        ("missing", "Not there (404)", "Page", "Times", &report.missing),
        ("browsers", "Browsers", "Browser", "Views", &report.browsers),
        ("systems", "Systems", "System", "Views", &report.systems),
        ("devices", "Devices", "Device", "Views", &report.devices),
    ];
    let listed = |(id, title, what, counted, list): (&'static str, &'static str, &'static str, &'static str, &List)| {
        let total = list.total();
        let row = |item: &crate::analytics::tally::Item| {
            let name = if item.name.is_empty() { "no address told".to_owned() } else { item.name.clone() };
            (name, item.count, (item.count.saturating_mul(100) + total / 2) / total.max(1))
        };
        let rows: Vec<_> = list.items.iter().take(SHOWN).map(row).collect();
        let others = total.saturating_sub(rows.iter().map(|(_, count, _)| *count).sum());
        Listed { id, title, what, counted, rows, others }
    };
    lists.into_iter().map(listed).filter(|list| !list.rows.is_empty()).collect()
}

/// A metric's value as people read it.
fn value(counts: &MetricCounts) -> String {
    match (counts.p75, counts.metric.as_str()) {
        (None, _) => "–".to_owned(),
        (Some(p75), "CLS") => format!("{p75:.2}"),
        (Some(p75), _) => Unit::Seconds.show(p75 / 1_000.0),
    }
}

/// What a metric is, in words.
fn meaning(counts: &MetricCounts) -> &'static str {
    match counts.metric.as_str() {
        "LCP" => "the largest thing is there",
        "INP" => "a click shows",
        "CLS" => "the page jumps about",
        "FCP" => "the first thing is there",
        _ => "the server has answered",
    }
}

/// The class and the words of a rating.
const fn rating(counts: &MetricCounts) -> Option<(&'static str, &'static str)> {
    match counts.rating {
        None => None,
        Some(Rating::Good) => Some(("good", "good")),
        Some(Rating::NeedsImprovement) => Some(("warn", "needs improvement")),
        Some(Rating::Poor) => Some(("bad", "poor")),
    }
}

/// The shares that are good, neither and poor.
fn shares(counts: &MetricCounts) -> String {
    let all = counts.good.saturating_add(counts.needs_improvement).saturating_add(counts.poor);
    if all == 0 {
        return "not measured".to_owned();
    }
    let share = |part: u64| Unit::Percent.show((part as f64 * 1_000.0 / all as f64).round() / 10.0);
    format!("{}, {}, {}", share(counts.good), share(counts.needs_improvement), share(counts.poor))
}

/// Whether anything was measured.
fn is_measured(report: &Report) -> bool {
    report.vitals.iter().any(|counts| counts.p75.is_some())
}

/// The metrics shown of a page.
fn of_page(page: &PageVitals) -> &[MetricCounts] {
    page.vitals.get(..BY_PAGE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::tally::Item;

    #[test]
    fn a_list_has_shares_and_what_is_not_shown() {
        let items = (0..30).map(|number| Item { name: format!("/{number}"), count: 2 }).collect();
        let report = Report { pages: List { items, others: 40 }, ..Report::default() };
        let [pages] = lists(&report).try_into().ok().unwrap();
        assert_eq!((pages.rows.len(), pages.rows[0].clone(), pages.others), (20, ("/0".to_owned(), 2, 2), 60));
    }

    #[test]
    fn shares_and_values_are_read_by_people() {
        let counts = MetricCounts {
            metric: "LCP".into(),
            p75: Some(1_250.0),
            rating: Some(Rating::Good),
            good: 2,
            needs_improvement: 1,
            poor: 0,
        };
        assert_eq!((value(&counts).as_str(), shares(&counts).as_str()), ("1.25 s", "66.7 %, 33.3 %, 0 %"));
        let shift = MetricCounts { metric: "CLS".into(), p75: Some(0.052), ..counts };
        assert_eq!(value(&shift), "0.05");
    }
}
