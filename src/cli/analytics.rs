//! `mainstay analytics`: how the pages of a running server's sites are visited.

use std::fmt::Write as _;

use clap::Args;

use super::say;
use super::settings::Shell;
use crate::analytics::Report;
use crate::analytics::report::MetricCounts;
use crate::analytics::tally::List;
use crate::analytics::vitals::Rating;
use crate::app::control_analytics::{AnalyticsAsk, asked};

/// Names shown of each list.
const SHOWN: usize = 10;

#[derive(Args)]
pub(super) struct AnalyticsFlags {
    /// The site, by its first host; without it, the sums of each that is counted
    site: Option<String>,
    /// How many days, today the last of them
    #[arg(long, default_value_t = 30)]
    days: u32,
    /// JSON instead, with every name that is kept
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(shell: &Shell, flags: AnalyticsFlags) -> anyhow::Result<()> {
    let AnalyticsFlags { site, days, json } = flags;
    let one = site.is_some();
    let reports = asked(&shell.existing_data(), AnalyticsAsk { site, days })?;
    if json {
        let text = match reports.as_slice() {
            [report] if one => serde_json::to_string_pretty(report)?,
            all => serde_json::to_string_pretty(&all.iter().map(sums).collect::<Vec<_>>())?,
        };
        return say(&format!("{text}\n"));
    }
    match reports.as_slice() {
        [report] if one => say(&shown(report)),
        [] => say(
            "no site is counted: set analytics = true in its table of edge.sites, or edge.analytics = true for edge.app\n",
        ),
        all => say(&all.iter().map(line).collect::<String>()),
    }
}

fn sums(report: &Report) -> serde_json::Value {
    let Report { site, views, visits, visitors, .. } = report;
    serde_json::json!({ "site": site, "views": views, "visits": visits, "visitors": visitors })
}

fn line(report: &Report) -> String {
    let Report { site, views, visits, visitors, .. } = report;
    format!("{site:<40} {views:>9} views {visits:>9} visits {visitors:>9} visitors\n")
}

fn shown(report: &Report) -> String {
    let mut out = line(report);
    for day in report.days.iter().filter(|day| day.views > 0) {
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "{:<40} {:>9} views {:>9} visits {:>9} visitors",
            day.day, day.views, day.visits, day.visitors
        );
    }
    for (title, list) in [
        ("Pages", &report.pages),
        ("Came from", &report.referrers),
        ("Sources of campaigns", &report.sources),
        ("Campaigns", &report.campaigns),
        ("Not there (404)", &report.missing),
        ("Browsers", &report.browsers),
        ("Systems", &report.systems),
        ("Devices", &report.devices),
    ] {
        out.push_str(&listed(title, list));
    }
    let vitals: String = report.vitals.iter().filter_map(vital).collect();
    if !vitals.is_empty() {
        let _ = write!(out, "\nWeb Vitals, of three of four page views at most\n{vitals}");
    }
    out
}

fn listed(title: &str, list: &List) -> String {
    let mut out = String::new();
    if list.total() == 0 {
        return out;
    }
    let _ = writeln!(out, "\n{title}");
    let mut others = list.others;
    for (place, item) in list.items.iter().enumerate() {
        if place >= SHOWN {
            others = others.saturating_add(item.count);
            continue;
        }
        let name = if item.name.is_empty() { "(no address told)" } else { &item.name };
        let _ = writeln!(out, "{:>9}  {name}", item.count);
    }
    if others > 0 {
        let _ = writeln!(out, "{others:>9}  (others)");
    }
    out
}

fn vital(counts: &MetricCounts) -> Option<String> {
    let (p75, rating) = counts.p75.zip(counts.rating)?;
    let unit = if counts.metric == "CLS" { "" } else { " ms" };
    let rating = match rating {
        Rating::Good => "good",
        Rating::NeedsImprovement => "needs improvement",
        Rating::Poor => "poor",
    };
    Some(format!("{:>9}  {p75}{unit}, {rating}\n", counts.metric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analytics::tally::Item;

    #[test]
    fn a_list_shows_the_first_and_adds_up_the_rest() {
        let item = |number: u64| Item { name: format!("/{number}"), count: 1 };
        let list = List { items: (0..12).map(item).collect(), others: 3 };
        let text = listed("Pages", &list);
        assert!(text.starts_with("\nPages\n        1  /0\n") && text.ends_with("        5  (others)\n"), "{text}");
        assert_eq!(listed("Pages", &List::default()), "");
    }
}
