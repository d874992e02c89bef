//! What each site is asked and how it answers: counters for `/metrics`, and the last hour for the console.
//!
//! A request costs a few relaxed additions, at its end. Sites come from settings, so their number is bounded by them; past
//! [`MOST_SITES`] the rest are counted together as `other`. What a reload takes away disappears from the metrics.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::sites::Sites;
use crate::base::Supervisor;
use crate::monitor::{SiteSample, SiteView};
use crate::telemetry::metrics::{LatencyCounts, REQUEST_SECONDS};
use crate::telemetry::{Counter, Histogram, Metrics};

/// Most sites that are counted apart.
pub const MOST_SITES: usize = 200;
/// Time between two samples for the console.
pub const EVERY: Duration = Duration::from_secs(10);
/// Samples kept of each site: an hour.
const SAMPLES: usize = 360;
/// Under what name further sites are counted.
const OTHER: &str = "other";
/// The label of a site's series.
const LABEL: &str = "site";

/// Classes of statuses, in the order of [`SiteCounts::requests`].
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What is counted of one site.
#[derive(Clone, Debug)]
pub struct SiteCounts {
    requests: [Counter; 5],
    bytes: Counter,
    seconds: Histogram,
    upstream: Histogram,
}

/// One answer, at its end.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its status.
    pub status: u16,
    /// Bytes of its body.
    pub bytes: u64,
    /// From the request's head to the body's end.
    pub took: Duration,
    /// How long the app took to its response head.
    pub upstream: Option<Duration>,
}

impl SiteCounts {
    fn new(metrics: &Metrics, site: &str) -> Self {
        let requests = CLASSES.map(|class| {
            let labels = [(LABEL, site), ("status", class)];
            metrics.counter("mainstay_edge_site_requests_total", "Requests by site and class of status.", &labels)
        });
        let histogram = |name, help| metrics.histogram(name, help, &[(LABEL, site)], REQUEST_SECONDS);
        Self {
            requests,
            bytes: metrics.counter(
                "mainstay_edge_site_bytes_total",
                "Bytes of answers' bodies by site.",
                &[(LABEL, site)],
            ),
            seconds: histogram(
                "mainstay_edge_site_seconds",
                "From a request's head to the end of its answer, by site.",
            ),
            upstream: histogram(
                "mainstay_edge_site_upstream_seconds",
                "From sending a request to the app to its response head, by site.",
            ),
        }
    }

    /// Counts an answer.
    pub fn count(&self, ended: &Ended) {
        let class = usize::from(ended.status / 100).saturating_sub(1);
        if let Some(counter) = self.requests.get(class) {
            counter.inc();
        }
        self.bytes.add(ended.bytes);
        self.seconds.observe(ended.took.as_secs_f64());
        if let Some(upstream) = ended.upstream {
            self.upstream.observe(upstream.as_secs_f64());
        }
    }

    fn reading(&self) -> Reading {
        Reading {
            requests: [0, 1, 2, 3, 4].map(|class: usize| self.requests.get(class).map_or(0, Counter::value)),
            bytes: self.bytes.value(),
            seconds: self.seconds.counts(),
        }
    }
}

/// The counters at one moment.
#[derive(Clone, Debug, Default)]
struct Reading {
    requests: [u64; 5],
    bytes: u64,
    seconds: LatencyCounts,
}

/// One site that is followed.
#[derive(Debug)]
struct Followed {
    name: Arc<str>,
    kind: &'static str,
    counts: Arc<SiteCounts>,
    last: Mutex<Past>,
}

/// The last hour of a site.
#[derive(Debug, Default)]
struct Past {
    reading: Reading,
    samples: VecDeque<SiteSample>,
}

/// The counters of all sites, in the order of [`Sites`].
#[derive(Debug, Default)]
pub struct Traffic {
    sites: Vec<Arc<Followed>>,
    other: Option<Arc<SiteCounts>>,
}

impl Traffic {
    /// Counters for `sites`. Those that were there `before` go on; those that are gone leave `metrics`.
    pub fn of(sites: &Sites, metrics: &Metrics, before: Option<&Self>) -> Self {
        let before: &[Arc<Followed>] = before.map_or(&[], |before| &before.sites);
        let named: Vec<(Arc<str>, &'static str)> = sites.kinds().collect();
        let mut traffic = Self::default();
        for (name, kind) in named.iter().take(MOST_SITES) {
            let known = before.iter().find(|site| site.name == *name);
            let counts =
                known.map_or_else(|| Arc::new(SiteCounts::new(metrics, name)), |site| Arc::clone(&site.counts));
            let last = known.map(|site| std::mem::take(&mut *site.past())).unwrap_or_default();
            traffic.sites.push(Arc::new(Followed { name: Arc::clone(name), kind, counts, last: Mutex::new(last) }));
        }
        if named.len() > MOST_SITES {
            traffic.other = Some(Arc::new(SiteCounts::new(metrics, OTHER)));
        }
        for gone in before.iter().filter(|site| !traffic.sites.iter().any(|now| now.name == site.name)) {
            metrics.forget((LABEL, &gone.name));
        }
        traffic
    }

    /// The counters of the site of `number`.
    pub fn counts(&self, number: usize) -> Option<&Arc<SiteCounts>> {
        self.sites.get(number).map(|site| &site.counts).or(self.other.as_ref())
    }

    /// Takes a sample of every site.
    pub fn sample(&self) {
        for site in &self.sites {
            let reading = site.counts.reading();
            let mut past = site.past();
            let sample = sample(&past.reading, &reading);
            if past.samples.len() >= SAMPLES {
                past.samples.pop_front();
            }
            past.samples.push_back(sample);
            past.reading = reading;
        }
    }

    /// Every site that is followed, and its last hour.
    pub fn view(&self) -> Vec<SiteView> {
        let view = |site: &Arc<Followed>| {
            let reading = site.counts.reading();
            SiteView {
                name: site.name.to_string(),
                kind: site.kind,
                requests: reading.requests,
                bytes: reading.bytes,
                samples: site.past().samples.iter().copied().collect(),
                every: EVERY,
                kept: None,
            }
        };
        self.sites.iter().map(view).collect()
    }
}

impl Followed {
    fn past(&self) -> std::sync::MutexGuard<'_, Past> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has happened from `before` to `now`.
fn sample(before: &Reading, now: &Reading) -> SiteSample {
    let mut requests = [0; 5];
    for ((out, now), before) in requests.iter_mut().zip(now.requests).zip(before.requests) {
        *out = u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
    }
    let since = now.seconds.since(&before.seconds);
    SiteSample {
        requests,
        bytes: now.bytes.saturating_sub(before.bytes),
        seconds: [0.5, 0.95, 0.99].map(|part| since.quantile(part).map(|seconds| seconds as f32)),
    }
}

/// Takes samples of what is `current`, until nothing new is accepted any more.
pub async fn follow(current: Arc<ArcSwap<Traffic>>, supervisor: Supervisor) {
    let shutdown = supervisor.shutdown().clone();
    loop {
        tokio::select! {
            () = shutdown.leaving() => return,
            () = tokio::time::sleep(EVERY) => current.load().sample(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::EdgeConfig;

    fn sites(names: &[String]) -> Sites {
        let site = |name: &String| format!("[[sites]]\nhosts = [\"{name}\"]\nredirect = \"/x\"\n");
        let text = names.iter().map(site).collect::<Vec<_>>().concat();
        let config: EdgeConfig = toml::from_str(&text).unwrap();
        Sites::new(&config).unwrap()
    }

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn ended(status: u16, took_ms: u64) -> Ended {
        Ended { status, bytes: 10, took: Duration::from_millis(took_ms), upstream: None }
    }

    #[test]
    fn a_sample_tells_what_happened_since_the_last() {
        let traffic = Traffic::of(&sites(&names(&["a.example"])), &Metrics::new(), None);
        let counts = traffic.counts(0).unwrap();
        for _ in 0..98 {
            counts.count(&ended(200, 2));
        }
        traffic.sample();
        counts.count(&ended(503, 900));
        traffic.sample();
        traffic.sample();
        let [view] = traffic.view().try_into().unwrap();
        assert_eq!(
            (view.name.as_str(), view.kind, view.requests, view.bytes),
            ("a.example/", "redirect", [0, 98, 0, 0, 1], 990)
        );
        let [first, second, third] = view.samples.try_into().unwrap();
        assert_eq!((first.requests, second.requests), ([0, 98, 0, 0, 0], [0, 0, 0, 0, 1]));
        assert!(first.seconds[0].is_some_and(|p50| (0.001..0.0025).contains(&p50)), "{first:?}");
        assert!(second.seconds[2].is_some_and(|p99| (0.5..=1.0).contains(&p99)), "{second:?}");
        assert_eq!(third.seconds, [None; 3]);
    }

    #[test]
    fn what_a_reload_takes_away_leaves_the_metrics_and_the_rest_goes_on() {
        let metrics = Metrics::new();
        let before = Traffic::of(&sites(&names(&["a.example", "b.example"])), &metrics, None);
        before.counts(0).unwrap().count(&ended(200, 1));
        before.sample();
        let after = Traffic::of(&sites(&names(&["a.example"])), &metrics, Some(&before));
        let text = metrics.exposition();
        assert!(text.contains("mainstay_edge_site_requests_total{site=\"a.example/\",status=\"2xx\"} 1"), "{text}");
        assert!(!text.contains("b.example"), "{text}");
        assert_eq!(after.view()[0].samples.len(), 1);
    }

    #[test]
    fn further_sites_are_counted_together() {
        let many: Vec<String> = (0..MOST_SITES + 5).map(|number| format!("s{number}.example")).collect();
        let metrics = Metrics::new();
        let traffic = Traffic::of(&sites(&many), &metrics, None);
        traffic.counts(MOST_SITES + 3).unwrap().count(&ended(404, 1));
        assert!(metrics.exposition().contains("{site=\"other\",status=\"4xx\"} 1"));
    }
}
