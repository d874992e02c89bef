//! `/sites`: what each site of the edge is asked, how it answers, and the last requests.

use askama::Template;
use axum::extract::State;

use crate::base::Timestamp;
use crate::console::chart::{Chart, Drawing, Kind, Series, Unit};
use crate::console::format::Figure;
use crate::console::{Answer, Console, Fault, Flash, Form, Frame, Page, Section, format, page};
use crate::http::uri::encode_component;
use crate::monitor::{CacheView, DiskState, DiskView, Passed, SiteSample, SiteView, WhichKept};

/// Sites shown, the busiest first.
const SHOWN: usize = 200;
/// Samples that a row of the list tells of: five minutes.
const RECENT: usize = 30;
/// Samples joined to one point of a curve, so that a quiet site's curve can be read.
const JOINED: usize = 3;

#[derive(Template)]
#[template(path = "sites.html")]
struct SitesPage {
    frame: Frame,
    sites: Vec<Row>,
    more: usize,
    passed: Vec<Passed>,
    /// Kept answers of all sites, where any keeps some.
    cache: Option<CacheView>,
    now: Timestamp,
}

#[derive(Template)]
#[template(path = "site.html")]
struct SitePage<'a> {
    frame: Frame,
    site: &'a SiteView,
    charts: Vec<Drawing>,
    /// Whether its pages are counted.
    counted: bool,
}

/// A site, and its last minutes.
struct Row {
    site: SiteView,
    rate: f64,
    failed: f64,
    seconds: [Option<f32>; 3],
}

/// `GET /sites`.
pub async fn list(State(console): State<Console>, page: Page) -> Answer {
    let world = console.world();
    let mut sites: Vec<Row> = world.sites.all().into_iter().map(row).collect();
    sites.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| a.site.name.cmp(&b.site.name)));
    let more = sites.len().saturating_sub(SHOWN);
    sites.truncate(SHOWN);
    let (passed, now) = (world.sites.passed(), world.clock.now());
    let cache = world.sites.cache().filter(|cache| cache.sites > 0);
    page::show(&SitesPage { frame: page.frame("Sites", Section::Edge), sites, more, passed, cache, now })
}

/// `GET /sites/show`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let world = console.world();
    let sites = world.sites.all();
    let name = page.query("name");
    let site = sites.iter().find(|site| site.name == name).ok_or_else(|| Fault::not_found("site"))?;
    let charts = charts(site, world.clock.now());
    let counted = world.analytics.site(name).is_some();
    page::show(&SitePage { frame: page.frame("Sites", Section::Edge), site, charts, counted })
}

/// `POST /sites/purge`: takes the kept answers of a site away.
pub async fn purge(State(console): State<Console>, Form { page, fields }: Form) -> Answer {
    let world = console.world();
    let name = fields.text("name");
    if !world.sites.all().iter().any(|site| site.name == name && site.kept.is_some()) {
        return Err(Fault::not_found("site"));
    }
    let which = WhichKept::Site(name.to_owned());
    let count = world.sites.purge(which.clone()).await.unwrap_or_default();
    let noted = world.users.note(&page.by(), "cache.purged", &which.to_string()).await;
    noted.map_err(|error| Fault::refused(&error))?;
    let text = match count {
        0 => "Nothing was kept.".to_owned(),
        1 => "One answer is gone.".to_owned(),
        count => format!("{} answers are gone.", format::count(count)),
    };
    page.redirect_saying(&format!("/sites/show?name={}", encode_component(name)), &Flash::good(text))
}

fn row(site: SiteView) -> Row {
    let recent = site.samples.get(site.samples.len().saturating_sub(RECENT)..).unwrap_or_default();
    let total: u64 = recent.iter().map(SiteSample::total).sum();
    let failed: u64 = recent.iter().map(|sample| u64::from(sample.requests[4])).sum();
    let seconds = site.every.as_secs_f64() * recent.len() as f64;
    Row {
        rate: if seconds > 0.0 { total as f64 / seconds } else { 0.0 },
        failed: if total > 0 { failed as f64 * 100.0 / total as f64 } else { 0.0 },
        seconds: worst(recent),
        site,
    }
}

/// The slowest of the samples' latencies: never better than the truth over all of them.
fn worst(samples: &[SiteSample]) -> [Option<f32>; 3] {
    [0, 1, 2].map(|part: usize| {
        let of = |sample: &SiteSample| sample.seconds.get(part).copied().flatten();
        samples.iter().filter_map(of).reduce(f32::max)
    })
}

fn charts(site: &SiteView, now: Timestamp) -> Vec<Drawing> {
    let groups: Vec<&[SiteSample]> = site.samples.rchunks(JOINED).rev().collect();
    let step = site.every * u32::try_from(JOINED).unwrap_or(1);
    let per_second = |group: &[SiteSample], count: &dyn Fn(&SiteSample) -> u64| {
        let spans = site.every.as_secs_f64() * group.len() as f64;
        group.iter().map(count).sum::<u64>() as f64 / spans
    };
    let rate = |name: &str, count: &dyn Fn(&SiteSample) -> u64| Series {
        name: name.to_owned(),
        values: groups.iter().map(|group| Some(per_second(group, count))).collect(),
    };
    let class = |at: usize| move |sample: &SiteSample| u64::from(sample.requests.get(at).copied().unwrap_or(0));
    let latency = |name: &str, part: usize| Series {
        name: name.to_owned(),
        values: groups.iter().map(|group| worst(group)[part].map(f64::from)).collect(),
    };
    let chart = |title: &str, kind, unit, series| Chart { title: title.to_owned(), kind, unit, series, end: now, step };
    let statuses = vec![rate("2xx", &class(1)), rate("3xx", &class(2)), rate("4xx", &class(3)), rate("5xx", &class(4))];
    let latencies = vec![latency("half", 0), latency("95 %", 1), latency("99 %", 2)];
    let bytes = vec![rate("Sent", &|sample| sample.bytes)];
    [
        chart("Requests by status", Kind::Line, Unit::PerSecond, statuses),
        chart("Answered within", Kind::Line, Unit::Seconds, latencies),
        chart("Bytes", Kind::Area, Unit::BytesPerSecond, bytes),
    ]
    .map(Chart::draw)
    .into()
}

/// How often `row`'s site is asked.
fn rate(row: &Row) -> String {
    Unit::PerSecond.show(row.rate)
}

/// The part of its answers that are errors.
fn share(row: &Row) -> String {
    Unit::Percent.show(row.failed)
}

/// Its latencies with their names.
fn latencies(row: &Row) -> [(&'static str, String); 3] {
    let shown =
        |seconds: Option<f32>| seconds.map_or_else(String::new, |seconds| Unit::Seconds.show(f64::from(seconds)));
    let [half, most, nearly_all] = row.seconds;
    [("Half within", shown(half)), ("95 %", shown(most)), ("99 %", shown(nearly_all))]
}

/// How long `passed` took.
fn took(passed: &Passed) -> String {
    Unit::Seconds.show(passed.took.as_secs_f64())
}

/// The class of a status's badge.
const fn class(passed: &Passed) -> &'static str {
    match passed.status {
        500.. => "bad",
        400.. => "warn",
        _ => "good",
    }
}

/// The part of the requests that were answered from what is kept, when there were any.
fn hit_rate(hits: impl Figure<u64>, misses: impl Figure<u64>) -> Option<String> {
    let hits = hits.figure();
    let all = hits.saturating_add(misses.figure());
    (all > 0).then(|| Unit::Percent.show(hits as f64 * 100.0 / all as f64))
}

/// The class of the badge of the disk for kept answers.
const fn standing(disk: &DiskView) -> &'static str {
    match disk.state {
        DiskState::Ready => "good",
        DiskState::Starting => "warn",
        DiskState::Refusing => "bad",
    }
}

/// All requests of `site` since the start.
fn total(site: &SiteView) -> u64 {
    site.requests.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_of_the_last_five_minutes() {
        let busy = SiteSample { requests: [0, 90, 0, 0, 10], bytes: 1, seconds: [Some(0.001), Some(0.2), Some(0.5)] };
        let mut samples = vec![SiteSample { requests: [0, 0, 0, 0, 1_000_000], ..busy }; 10];
        samples.extend(vec![busy; RECENT]);
        let site = SiteView {
            name: "a".into(),
            kind: "app",
            requests: [0; 5],
            bytes: 0,
            samples,
            every: std::time::Duration::from_secs(10),
            kept: None,
        };
        let row = row(site);
        assert!((row.rate - 10.0).abs() < 1e-9 && (row.failed - 10.0).abs() < 1e-9);
        assert_eq!(row.seconds, busy.seconds);
        assert_eq!(charts(&row.site, Timestamp(0)).len(), 3);
    }
}
