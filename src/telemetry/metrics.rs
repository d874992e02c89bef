//! Counters, gauges and histograms, and their text form (Prometheus text exposition format 0.0.4).
//!
//! Handles are cheap to clone and to update: one relaxed atomic operation. Names follow `mainstay_room_thing_unit`.
//! Label values come from closed sets (a door's name, a status class), never from clients, so the registry is bounded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Upper bounds in seconds that suit requests on one machine: 100 µs to 10 s.
pub const LATENCY_SECONDS: &[f64] = &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Upper bounds in seconds for whole requests, close enough together that quantiles read off them mean something.
pub const REQUEST_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets the number.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `delta`, which may be negative.
    pub fn add(&self, delta: i64) {
        self.0.fetch_add(delta, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How observations spread over buckets.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one observation, in seconds (or the unit the name says), to a millionth.
    pub fn observe(&self, value: f64) {
        let slot = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(slot) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum_micros.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    /// The observations so far, by bucket.
    pub fn counts(&self) -> LatencyCounts {
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        LatencyCounts { bounds: self.0.bounds, counts }
    }

    /// Observations so far.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// A histogram's observations at one moment.
#[derive(Clone, Debug, Default)]
pub struct LatencyCounts {
    bounds: &'static [f64],
    counts: Vec<u64>,
}

impl LatencyCounts {
    /// Those that came after `before`, which the same histogram gave.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let earlier = before.counts.iter().copied().chain(std::iter::repeat(0));
        let counts = self.counts.iter().zip(earlier).map(|(now, before)| now.saturating_sub(before)).collect();
        Self { bounds: self.bounds, counts }
    }

    /// The value below which `part` (0 to 1) of the observations lie, as if each bucket's were spread evenly over it;
    /// what lies above the last bound counts as that. `None` without observations.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = part * total as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (slot, count) in self.counts.iter().enumerate() {
            let Some(upper) = self.bounds.get(slot).copied() else { break };
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                return Some(lower + (upper - lower) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            lower = upper;
        }
        Some(lower)
    }
}

enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Computed(Box<dyn Fn() -> f64 + Send + Sync>),
    Histogram(Histogram),
}

struct Family {
    help: &'static str,
    kind: &'static str,
    /// Rendered labels (`door="s3"`) to the series; empty text for none.
    series: BTreeMap<String, Series>,
}

/// The registry. Clones are the same registry.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<&'static str, Family>>>);

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter `name` with `labels`; the same handle for the same name and labels.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Counter {
        self.with(
            name,
            help,
            "counter",
            labels,
            || Series::Counter(Counter::default()),
            |series| match series {
                Series::Counter(counter) => Some(counter.clone()),
                _ => None,
            },
        )
        .unwrap_or_default()
    }

    /// The gauge `name` with `labels`; the same handle for the same name and labels.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        self.with(
            name,
            help,
            "gauge",
            labels,
            || Series::Gauge(Gauge::default()),
            |series| match series {
                Series::Gauge(gauge) => Some(gauge.clone()),
                _ => None,
            },
        )
        .unwrap_or_default()
    }

    /// A gauge whose value is asked for at each scrape. `value` must not block.
    pub fn computed(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.with(name, help, "gauge", labels, || Series::Computed(Box::new(value)), |_| Some(()));
    }

    /// The histogram `name` with `labels` and upper `bounds` in ascending order.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        bounds: &'static [f64],
    ) -> Histogram {
        let fresh = || {
            Histogram(Arc::new(Buckets {
                bounds,
                counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
                sum_micros: AtomicU64::new(0),
            }))
        };
        self.with(
            name,
            help,
            "histogram",
            labels,
            || Series::Histogram(fresh()),
            |series| match series {
                Series::Histogram(histogram) => Some(histogram.clone()),
                _ => None,
            },
        )
        .unwrap_or_else(fresh)
    }

    /// Drops every series with `label`, for a thing that is no more. Handles that somebody still has count into nothing.
    pub fn forget(&self, label: (&str, &str)) {
        let label = render(&[label]);
        let has = |labels: &str| {
            labels.match_indices(label.as_str()).any(|(at, _)| {
                let (before, after) = (labels.get(..at).unwrap_or(""), labels.get(at + label.len()..).unwrap_or(""));
                (before.is_empty() || before.ends_with("\",")) && (after.is_empty() || after.starts_with(','))
            })
        };
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for family in families.values_mut() {
            family.series.retain(|labels, _| !has(labels));
        }
        families.retain(|_, family| !family.series.is_empty());
    }

    /// Everything in Prometheus's text form.
    pub fn exposition(&self) -> String {
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::with_capacity(16 << 10);
        for (name, family) in families.iter() {
            // Writing into a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind);
            for (labels, series) in &family.series {
                let shown = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
                let _ = match series {
                    Series::Counter(counter) => writeln!(out, "{name}{shown} {}", counter.value()),
                    Series::Gauge(gauge) => writeln!(out, "{name}{shown} {}", gauge.value()),
                    Series::Computed(value) => writeln!(out, "{name}{shown} {}", value()),
                    Series::Histogram(histogram) => {
                        write_histogram(&mut out, name, labels, &histogram.0);
                        Ok(())
                    }
                };
            }
        }
        out
    }

    /// The sum of all series of the family `name` that have every one of `labels`; `None` when there is none. A histogram
    /// counts with its observations.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<String> = labels.iter().map(|label| render(&[*label])).collect();
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.get(name)?;
        let has = |rendered: &str| wanted.iter().all(|label| rendered.split(',').any(|part| part == label));
        let values = family.series.iter().filter(|(rendered, _)| has(rendered)).map(|(_, series)| match series {
            Series::Counter(counter) => counter.value() as f64,
            Series::Gauge(gauge) => gauge.value() as f64,
            Series::Computed(value) => value(),
            Series::Histogram(histogram) => histogram.count() as f64,
        });
        values.reduce(|sum, value| sum + value)
    }

    fn with<T>(
        &self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: &[(&str, &str)],
        fresh: impl FnOnce() -> Series,
        take: impl FnOnce(&Series) -> Option<T>,
    ) -> Option<T> {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_insert_with(|| Family { help, kind, series: BTreeMap::new() });
        take(family.series.entry(render(labels)).or_insert_with(fresh))
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

fn render(labels: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (index, (name, value)) in labels.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{comma}{name}=\"{value}\"");
    }
    out
}

fn write_histogram(out: &mut String, name: &str, labels: &str, buckets: &Buckets) {
    let comma = if labels.is_empty() { "" } else { "," };
    let shown = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    let mut total = 0;
    for (slot, count) in buckets.counts.iter().enumerate() {
        total += count.load(Ordering::Relaxed);
        let bound = buckets.bounds.get(slot).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}");
    }
    let sum = buckets.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
    let _ = writeln!(out, "{name}_sum{shown} {sum}\n{name}_count{shown} {total}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_and_labels_are_one_series() {
        let metrics = Metrics::new();
        metrics.counter("mainstay_x_total", "x", &[("door", "s3")]).inc();
        metrics.counter("mainstay_x_total", "x", &[("door", "s3")]).add(2);
        assert!(metrics.exposition().contains("# TYPE mainstay_x_total counter\nmainstay_x_total{door=\"s3\"} 3\n"));
    }

    #[test]
    fn histograms_are_cumulative() {
        let metrics = Metrics::new();
        let histogram = metrics.histogram("mainstay_y_seconds", "y", &[], &[0.1, 1.0]);
        for value in [0.05, 0.1, 0.5, 3.0] {
            histogram.observe(value);
        }
        let text = metrics.exposition();
        for line in ["{le=\"0.1\"} 2", "{le=\"1\"} 3", "{le=\"+Inf\"} 4", "_sum 3.65", "_count 4"] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn a_sum_takes_the_series_with_the_labels() {
        let metrics = Metrics::new();
        for (door, status, count) in [("s3", "2xx", 3), ("s3", "5xx", 1), ("edge", "2xx", 10)] {
            metrics.counter("mainstay_x_total", "x", &[("door", door), ("status", status)]).add(count);
        }
        assert_eq!(metrics.sum("mainstay_x_total", &[("door", "s3")]), Some(4.0));
        assert_eq!(metrics.sum("mainstay_x_total", &[]), Some(14.0));
        assert_eq!(metrics.sum("mainstay_x_total", &[("door", "smtp")]), None);
        assert_eq!(metrics.sum("mainstay_w_total", &[]), None);
    }

    #[test]
    fn quantiles_are_read_off_the_buckets() {
        let histogram = Metrics::new().histogram("mainstay_y_seconds", "y", &[], &[0.1, 1.0, 10.0]);
        assert_eq!(histogram.counts().quantile(0.5), None);
        for _ in 0..50 {
            histogram.observe(0.05);
            histogram.observe(0.5);
        }
        let before = histogram.counts();
        assert!(before.quantile(0.5).is_some_and(|half| (half - 0.1).abs() < 1e-9));
        assert!(before.quantile(0.75).is_some_and(|value| (value - 0.55).abs() < 1e-9));
        histogram.observe(100.0);
        assert_eq!(histogram.counts().since(&before).quantile(0.5), Some(10.0));
        assert_eq!(histogram.counts().since(&histogram.counts()).quantile(0.5), None);
    }

    #[test]
    fn what_is_forgotten_is_exactly_what_has_the_label() {
        let metrics = Metrics::new();
        for (site, status) in [("a", "2xx"), ("a", "5xx"), ("ab", "2xx"), ("b", "2xx")] {
            metrics.counter("mainstay_x_total", "x", &[("site", site), ("status", status)]).inc();
        }
        metrics.gauge("mainstay_y", "y", &[("site", "a")]).set(1);
        metrics.forget(("site", "a"));
        let text = metrics.exposition();
        assert!(!text.contains("site=\"a\"") && !text.contains("mainstay_y"), "{text}");
        assert_eq!(metrics.sum("mainstay_x_total", &[]), Some(2.0));
    }

    #[test]
    fn label_values_are_escaped() {
        let metrics = Metrics::new();
        metrics.gauge("mainstay_z", "z", &[("a", "q\"\\\n")]).set(-1);
        assert!(metrics.exposition().contains(r#"mainstay_z{a="q\"\\\n"} -1"#));
    }
}
