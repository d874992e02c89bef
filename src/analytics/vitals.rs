//! Web Vitals: what browsers measure of a page, as shares of good and bad values and as a spread from which the 75th
//! percentile is read.
//!
//! Bounds: web.dev/articles/vitals. Values are milliseconds, of CLS (which has no unit) thousandths. A value's place in the
//! spread is exact to 10 %; which share is good is exact.

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Largest Contentful Paint: when the main thing is there.
    Lcp,
    /// Interaction to Next Paint: how long a click takes to show.
    Inp,
    /// Cumulative Layout Shift: how much jumps about.
    Cls,
    /// First Contentful Paint: when the first thing is there.
    Fcp,
    /// Time to First Byte: when the server has answered.
    Ttfb,
}

impl Metric {
    /// All, in the order in which they are stored and shown.
    pub const ALL: [Self; 5] = [Self::Lcp, Self::Inp, Self::Cls, Self::Fcp, Self::Ttfb];

    /// Its usual short name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lcp => "LCP",
            Self::Inp => "INP",
            Self::Cls => "CLS",
            Self::Fcp => "FCP",
            Self::Ttfb => "TTFB",
        }
    }

    /// Up to what a value is good, and up to what it is not yet poor.
    pub const fn bounds(self) -> (u32, u32) {
        match self {
            Self::Lcp => (2_500, 4_000),
            Self::Inp => (200, 500),
            Self::Cls => (100, 250),
            Self::Fcp => (1_800, 3_000),
            Self::Ttfb => (800, 1_800),
        }
    }
}

/// How values do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rating {
    /// Good.
    Good,
    /// Between good and poor.
    NeedsImprovement,
    /// Poor.
    Poor,
}

/// Each step of the spread is so many times the one before.
const STEP: f64 = 1.1;

/// The values of one metric.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// How many were good, in between, poor.
    pub bands: [u64; 3],
    /// How many there were in each step of the spread, the lower first; only steps with any.
    steps: Vec<(u8, u64)>,
}

impl Spread {
    /// Counts `value` of `metric`.
    pub fn add(&mut self, metric: Metric, value: u32) {
        let (good, fair) = metric.bounds();
        let [first, second, third] = &mut self.bands;
        let band = if value <= good {
            first
        } else if value <= fair {
            second
        } else {
            third
        };
        *band = band.saturating_add(1);
        self.put(step_of(value), 1);
    }

    /// Adds what `other` has.
    pub fn join(&mut self, other: &Self) {
        for (band, more) in self.bands.iter_mut().zip(other.bands) {
            *band = band.saturating_add(more);
        }
        for (step, count) in &other.steps {
            self.put(*step, *count);
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.bands.iter().copied().fold(0, u64::saturating_add)
    }

    /// The value that three of four do not exceed; `None` when there is none.
    pub fn p75(&self) -> Option<f64> {
        let all: u64 = self.steps.iter().map(|(_, count)| *count).fold(0, u64::saturating_add);
        let wanted = all.saturating_sub(all / 4).max(1);
        let mut seen = 0_u64;
        for (step, count) in &self.steps {
            seen = seen.saturating_add(*count);
            if seen >= wanted {
                return Some(value_of(*step));
            }
        }
        None
    }

    /// How three of four values do, exactly; `None` when there is none.
    pub fn rating(&self) -> Option<Rating> {
        let [good, fair, _] = self.bands;
        let all = self.count();
        let wanted = all.saturating_sub(all / 4);
        (all > 0).then(|| {
            if good >= wanted {
                Rating::Good
            } else if good.saturating_add(fair) >= wanted {
                Rating::NeedsImprovement
            } else {
                Rating::Poor
            }
        })
    }

    fn put(&mut self, step: u8, more: u64) {
        match self.steps.binary_search_by_key(&step, |(known, _)| *known) {
            Ok(place) => {
                if let Some((_, count)) = self.steps.get_mut(place) {
                    *count = count.saturating_add(more);
                }
            }
            Err(place) => self.steps.insert(place, (step, more)),
        }
    }
}

/// Where `value` stands: 0 alone, then each step a tenth wider.
fn step_of(value: u32) -> u8 {
    if value == 0 {
        return 0;
    }
    // The logarithm of a u32 is at most 233 steps.
    f64::from(value).log(STEP).floor() as u8 + 1
}

/// The middle of a step.
fn value_of(step: u8) -> f64 {
    if step == 0 { 0.0 } else { STEP.powf(f64::from(step) - 0.5) }
}

/// One value of each metric, where it was measured, in the order of [`Metric::ALL`].
pub type Measured = [Option<u32>; 5];

/// The values of all metrics, in the order of [`Metric::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals(pub [Spread; 5]);

impl Vitals {
    /// Counts what one page view measured.
    pub fn add(&mut self, measured: &Measured) {
        for ((spread, metric), value) in self.0.iter_mut().zip(Metric::ALL).zip(measured) {
            if let Some(value) = value {
                spread.add(metric, *value);
            }
        }
    }

    /// Adds what `other` has.
    pub fn join(&mut self, other: &Self) {
        for (spread, more) in self.0.iter_mut().zip(&other.0) {
            spread.join(more);
        }
    }

    /// How many values the metric with the most of them has.
    pub fn count(&self) -> u64 {
        self.0.iter().map(Spread::count).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: impl IntoIterator<Item = u32>) -> Spread {
        let mut spread = Spread::default();
        for value in values {
            spread.add(Metric::Lcp, value);
        }
        spread
    }

    #[test]
    fn three_of_four_values_do_not_exceed_the_p75() {
        for (values, wanted) in [
            (vec![1_000, 1_000, 1_000, 9_000], 1_000.0),
            (vec![1_000, 1_000, 9_000, 9_000], 9_000.0),
            ((1..=1_000).collect(), 750.0),
            (vec![0], 0.0),
        ] {
            let p75 = spread(values.clone()).p75().unwrap();
            assert!((p75 - wanted).abs() <= wanted * 0.1, "{values:?}: {p75}");
        }
        assert_eq!((spread([]).p75(), spread([]).rating()), (None, None));
    }

    #[test]
    fn the_rating_is_exact_at_its_bounds() {
        assert_eq!(spread([2_500]).rating(), Some(Rating::Good));
        assert_eq!(spread([2_501]).rating(), Some(Rating::NeedsImprovement));
        assert_eq!(spread([4_000]).rating(), Some(Rating::NeedsImprovement));
        assert_eq!(spread([4_001]).rating(), Some(Rating::Poor));
        assert_eq!(spread([1, 1, 1, 9_000]).rating(), Some(Rating::Good));
        assert_eq!(spread([1, 1, 9_000, 9_000]).rating(), Some(Rating::Poor));
    }

    #[test]
    fn what_is_joined_is_as_if_counted_together() {
        let mut joined = spread([0, 5, 700]);
        joined.join(&spread([5, u32::MAX]));
        assert_eq!(joined, spread([0, 5, 5, 700, u32::MAX]));
        assert_eq!(joined.count(), 5);
    }
}
