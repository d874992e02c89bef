//! Charts, drawn on the server as SVG, with the numbers as a table beneath for whoever does not see them.

use std::fmt::Write as _;
use std::time::Duration;

use askama::Template;
use askama::filters::HtmlSafe;

use super::format;
use crate::base::Timestamp;

/// The drawing's size, and what of it is for the labels, in the SVG's own units.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;

/// Most points drawn for one line; more are joined, each group by its largest.
const POINTS_MAX: usize = 240;

/// Most rows of the table beneath.
const ROWS_MAX: usize = 24;

/// How the values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lines.
    Line,
    /// Lines with the space below filled: for one series that starts at zero.
    Area,
    /// A column for each value.
    Bar,
}

/// What the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Things a second.
    PerSecond,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Hundredths.
    Percent,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// `value` as people read it.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Count => short(value),
            Self::PerSecond => format!("{}/s", short(value)),
            Self::Bytes => format::bytes(value.max(0.0) as u64),
            Self::BytesPerSecond => format!("{}/s", format::bytes(value.max(0.0) as u64)),
            Self::Percent => format!("{} %", short(value)),
            Self::Seconds if value < 1.0 => format!("{} ms", short(value * 1000.0)),
            Self::Seconds => format!("{} s", short(value)),
        }
    }

    /// The smallest round number at or above `value`: the top of the axis.
    fn top(self, value: f64) -> f64 {
        let base = match self {
            Self::Bytes | Self::BytesPerSecond => 1024_f64.powf((value.max(1.0)).log(1024.0).floor()),
            _ => 1.0,
        };
        let least = match self {
            Self::PerSecond => 0.1,
            Self::Seconds => 0.001,
            _ => 1.0,
        };
        let scaled = (value / base).max(least);
        let decade = 10_f64.powf(scaled.log10().floor());
        let step = [1.0, 2.0, 4.0, 5.0, 10.0].into_iter().find(|step| step * decade >= scaled * 0.999_999);
        step.unwrap_or(10.0) * decade * base
    }
}

/// One line, area or set of columns.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// What it is, for the legend.
    pub name: String,
    /// Its values, one a step; `None` where nothing is known.
    pub values: Vec<Option<f64>>,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows. Also its name for screen readers.
    pub title: String,
    /// How it is drawn.
    pub kind: Kind,
    /// What the values are.
    pub unit: Unit,
    /// The lines; up to four can be told apart.
    pub series: Vec<Series>,
    /// When the last step ends.
    pub end: Timestamp,
    /// How long each step is.
    pub step: Duration,
}

impl Chart {
    /// The drawing, ready for a template: `{{ chart }}`.
    pub fn draw(mut self) -> Drawing {
        for series in &mut self.series {
            join(&mut series.values);
        }
        let longest = self.series.iter().map(|series| series.values.len()).max().unwrap_or_default();
        let highest = self.series.iter().flat_map(|series| &series.values).flatten().copied().fold(0.0, f64::max);
        let top = self.unit.top(highest);
        let total = self.length();
        let marks = self.series.iter().enumerate().map(|(place, series)| Mark {
            class: format!("s{}", place % 4 + 1),
            name: series.name.clone(),
            now: series.values.iter().rev().flatten().next().map_or_else(|| "–".to_owned(), |now| self.unit.show(*now)),
            line: if self.kind == Kind::Bar { String::new() } else { line(&series.values, longest, top, false) },
            area: if self.kind == Kind::Area { line(&series.values, longest, top, true) } else { String::new() },
            bars: if self.kind == Kind::Bar { bars(&series.values, longest, top) } else { String::new() },
        });
        Drawing {
            marks: marks.collect(),
            empty: !self.series.iter().any(|series| series.values.iter().any(Option::is_some)),
            grid: [0.0, 0.5, 1.0].map(|part| Grid { y: y(part * top, top), label: self.unit.show(part * top) }),
            times: [(LEFT, "start"), (f64::midpoint(LEFT, WIDTH - RIGHT), "middle"), (WIDTH - RIGHT, "end")]
                .into_iter()
                .zip([1.0, 0.5, 0.0])
                .map(|((x, anchor), part)| Time { x, anchor, label: clock(self.end, total.mul_f64(part), total) })
                .collect(),
            rows: self.rows(longest),
            names: self.series.iter().map(|series| series.name.clone()).collect(),
            title: self.title,
        }
    }

    fn length(&self) -> Duration {
        let steps = self.series.iter().map(|series| series.values.len()).max().unwrap_or_default();
        self.step.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
    }

    /// The newest rows first: when, and each series' value.
    fn rows(&self, longest: usize) -> Vec<(String, Vec<String>)> {
        let every = longest.div_ceil(ROWS_MAX).max(1);
        let total = self.length();
        let mut rows = Vec::new();
        for ago in (0..longest).step_by(every) {
            let values: Vec<String> = self
                .series
                .iter()
                .map(|series| {
                    let value = series.values.iter().rev().nth(ago).copied().flatten();
                    value.map_or_else(|| "–".to_owned(), |value| self.unit.show(value))
                })
                .collect();
            let back = self.step.saturating_mul(u32::try_from(ago).unwrap_or(u32::MAX));
            rows.push((clock(self.end, back, total), values));
        }
        rows
    }
}

/// A chart, drawn.
#[derive(Clone, Debug, Template)]
#[template(path = "parts/chart.html")]
pub struct Drawing {
    title: String,
    marks: Vec<Mark>,
    grid: [Grid; 3],
    times: Vec<Time>,
    names: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
    empty: bool,
}

impl HtmlSafe for Drawing {}

#[derive(Clone, Debug)]
struct Mark {
    class: String,
    name: String,
    now: String,
    line: String,
    area: String,
    bars: String,
}

#[derive(Clone, Debug)]
struct Grid {
    y: f64,
    label: String,
}

#[derive(Clone, Debug)]
struct Time {
    x: f64,
    anchor: &'static str,
    label: String,
}

/// Joins neighbours until at most [`POINTS_MAX`] are left.
fn join(values: &mut Vec<Option<f64>>) {
    let every = values.len().div_ceil(POINTS_MAX).max(1);
    if every > 1 {
        *values = values.chunks(every).map(|group| group.iter().flatten().copied().reduce(f64::max)).collect();
    }
}

fn x(place: usize, of: usize) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * place as f64 / of.saturating_sub(1).max(1) as f64
}

fn y(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top).clamp(0.0, 1.0)
}

/// The path of a line, one part for each run without a gap; closed along the axis for an area.
fn line(values: &[Option<f64>], longest: usize, top: f64, closed: bool) -> String {
    let offset = longest - values.len().min(longest);
    let mut out = String::new();
    let mut begun: Option<f64> = None;
    let mut last = 0.0;
    let close = |out: &mut String, first: f64, last: f64| {
        if closed {
            let axis = y(0.0, top);
            let _ = write!(out, "L{last:.1} {axis:.1}L{first:.1} {axis:.1}Z");
        }
    };
    for (place, value) in values.iter().enumerate() {
        let at = x(offset + place, longest);
        match (value, begun) {
            (Some(value), None) => {
                let _ = write!(out, "M{at:.1} {:.1}", y(*value, top));
                // A lone point is a line of no length, which round ends make visible.
                let _ = write!(out, "h0");
                begun = Some(at);
            }
            (Some(value), Some(_)) => {
                let _ = write!(out, "L{at:.1} {:.1}", y(*value, top));
            }
            (None, Some(first)) => {
                close(&mut out, first, last);
                begun = None;
            }
            (None, None) => {}
        }
        last = at;
    }
    if let Some(first) = begun {
        close(&mut out, first, last);
    }
    out
}

/// The path of all columns.
fn bars(values: &[Option<f64>], longest: usize, top: f64) -> String {
    let offset = longest - values.len().min(longest);
    let room = (WIDTH - LEFT - RIGHT) / longest.max(1) as f64;
    let mut out = String::new();
    for (place, value) in values.iter().enumerate() {
        let Some(value) = value.filter(|value| *value > 0.0) else { continue };
        let left = LEFT + room * (offset + place) as f64 + room * 0.15;
        let (high, axis) = (y(value, top), y(0.0, top));
        let _ = write!(out, "M{left:.1} {axis:.1}V{high:.1}h{:.1}V{axis:.1}Z", room * 0.7);
    }
    out
}

/// The time `back` before `end`: of the day, and of the year for a chart over more than two days.
fn clock(end: Timestamp, back: Duration, total: Duration) -> String {
    let at = Timestamp(end.millis().saturating_sub(u64::try_from(back.as_millis()).unwrap_or(u64::MAX)));
    let form = if total > Duration::from_hours(48) { "%d %b" } else { "%H:%M" };
    at.to_jiff().strftime(form).to_string()
}

/// `0`, `0.25`, `12`, `3.4k`, `1.2M`.
fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        huge if huge >= 1e9 => (value / 1e9, "G"),
        large if large >= 1e6 => (value / 1e6, "M"),
        some if some >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = if scaled.abs() < 10.0 { format!("{scaled:.2}") } else { format!("{scaled:.1}") };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(kind: Kind, values: &[Option<f64>]) -> String {
        let series = vec![Series { name: String::from("<script>"), values: values.to_vec() }];
        let end = Timestamp::from_seconds(1_767_225_600);
        let (title, step) = (String::from("Requests & more"), Duration::from_secs(10));
        Chart { title, kind, unit: Unit::PerSecond, series, end, step }.draw().to_string()
    }

    #[test]
    fn a_chart_names_itself_and_has_a_table() {
        let html = chart(Kind::Area, &[Some(1.0), Some(3.0), None, Some(2.5)]);
        assert!(html.contains("Requests &#38; more"), "{html}");
        assert!(html.contains("&#60;script&#62;") && !html.contains("<script>"), "{html}");
        assert!(html.contains("<td>2.5/s</td>") && html.contains("4/s"), "{html}");
        assert!(!html.contains("style="), "an inline style would be refused by the policy");
    }

    #[test]
    fn nothing_known_draws_nothing() {
        for kind in [Kind::Line, Kind::Area, Kind::Bar] {
            assert!(chart(kind, &[]).contains("Nothing measured yet"));
            assert!(!chart(kind, &[None, None]).contains("NaN"));
        }
    }

    #[test]
    fn a_gap_parts_the_line() {
        assert_eq!(line(&[Some(0.0), None, Some(1.0)], 3, 1.0, false).matches('M').count(), 2);
        assert_eq!(line(&[Some(0.0), Some(1.0)], 2, 1.0, true).matches('Z').count(), 1);
    }

    #[test]
    fn many_points_are_joined_by_their_largest() {
        let mut values: Vec<_> = (0..1000).map(|n| Some(f64::from(n))).collect();
        join(&mut values);
        assert!(values.len() <= POINTS_MAX);
        assert_eq!(values.last(), Some(&Some(999.0)));
    }

    #[test]
    fn the_axis_ends_at_a_round_number() {
        assert!((Unit::Count.top(37.0) - 40.0).abs() < 1e-9);
        assert!((Unit::Count.top(0.0) - 1.0).abs() < 1e-9);
        assert!((Unit::Bytes.top(3.0 * 1024.0 * 1024.0) - 4.0 * 1024.0 * 1024.0).abs() < 1e-3);
        assert_eq!(Unit::Bytes.show(1024.0), "1 KiB");
        assert_eq!((short(0.0), short(12_345.0), short(0.25)), ("0".into(), "12.3k".into(), "0.25".into()));
    }
}
