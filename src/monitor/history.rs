//! What the dashboard draws: numbers over the last hour and the last day, in memory.
//!
//! A sample every ten seconds is kept for an hour, their means over two minutes for a day. Memory is fixed from the
//! start: (360 + 720) numbers of four bytes for each of at most [`TRACKS_MAX`] tracks, 104 KiB in all. A restart begins
//! anew; what shall outlive it is scraped from `/metrics`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::{Clock, Shutdown, Timestamp};

/// Most numbers that are followed.
pub const TRACKS_MAX: usize = 24;

/// Time between samples.
pub const EVERY: Duration = Duration::from_secs(10);

/// How a number is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As it is, such as bytes of memory.
    Level,
    /// A count that only grows: what it grew by, a second.
    Rate,
}

/// A number to follow.
pub struct Track {
    name: &'static str,
    reading: Reading,
    read: Box<dyn Fn() -> Option<f64> + Send + Sync>,
}

impl Track {
    /// Follows what `read` gives, under `name`. `read` must not block; `None` leaves a gap.
    pub fn new(name: &'static str, reading: Reading, read: impl Fn() -> Option<f64> + Send + Sync + 'static) -> Self {
        Self { name, reading, read: Box::new(read) }
    }
}

impl std::fmt::Debug for Track {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Track").field(&self.name).finish()
    }
}

/// How far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The last hour, ten seconds a value.
    Hour,
    /// The last day, two minutes a value.
    Day,
}

impl Range {
    /// The time of one value.
    pub const fn step(self) -> Duration {
        match self {
            Self::Hour => EVERY,
            Self::Day => Duration::from_mins(2),
        }
    }

    /// Values at most.
    pub const fn length(self) -> usize {
        match self {
            Self::Hour => 360,
            Self::Day => 720,
        }
    }
}

/// The numbers of the last day. Clones share them.
#[derive(Clone, Debug)]
pub struct History(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tracks: Vec<Track>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    hour: Ring,
    day: Ring,
    /// Each track's last count, and when it was read.
    last: Vec<Option<f64>>,
    last_at: Option<Duration>,
}

impl History {
    /// Follows `tracks`; those beyond [`TRACKS_MAX`] are left out.
    pub fn new(mut tracks: Vec<Track>, clock: Arc<dyn Clock>) -> Self {
        tracks.truncate(TRACKS_MAX);
        let ring = |range| Ring::new(range, tracks.len());
        let state =
            State { hour: ring(Range::Hour), day: ring(Range::Day), last: vec![None; tracks.len()], last_at: None };
        Self(Arc::new(Inner { tracks, clock, state: Mutex::new(state) }))
    }

    /// Takes a sample every ten seconds until the server stops.
    pub async fn run(self, shutdown: Shutdown) {
        loop {
            self.sample();
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.draining() => return,
            }
        }
    }

    /// Takes one sample.
    pub fn sample(&self) {
        let now = self.0.clock.monotonic();
        let read: Vec<Option<f64>> = self.0.tracks.iter().map(|track| (track.read)()).collect();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = state.last_at.map(|last| now.saturating_sub(last).as_secs_f64()).filter(|since| *since > 0.0);
        let mut values = Vec::with_capacity(read.len());
        for ((track, read), last) in self.0.tracks.iter().zip(&read).zip(&state.last) {
            values.push(match track.reading {
                Reading::Level => *read,
                // A count that went back has begun anew.
                Reading::Rate => match (*read, *last, since) {
                    (Some(read), Some(last), Some(since)) => Some((read - last).max(0.0) / since),
                    _ => None,
                },
            });
        }
        state.hour.put(now, &values);
        state.day.put(now, &values);
        state.last = read;
        state.last_at = Some(now);
    }

    /// The values of the track `name`, the oldest first, the newest one now; `None` where nothing was measured. Empty
    /// for a name that is not followed.
    pub fn values(&self, name: &str, range: Range) -> Vec<Option<f64>> {
        let Some(place) = self.0.tracks.iter().position(|track| track.name == name) else { return Vec::new() };
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match range {
            Range::Hour => state.hour.values(place),
            Range::Day => state.day.values(place),
        }
    }

    /// The newest value of the track `name`.
    pub fn now(&self, name: &str) -> Option<f64> {
        self.values(name, Range::Hour).into_iter().rev().flatten().next()
    }

    /// When the newest value was measured, nearly: now.
    pub fn end(&self) -> Timestamp {
        self.0.clock.now()
    }
}

/// The newest values of every track, one slot a step of time.
#[derive(Debug)]
struct Ring {
    step: Duration,
    slots: usize,
    /// The slot that time stands in, counted from the clock's start; `None` before the first sample.
    newest: Option<u64>,
    /// Track after track, `slots` numbers each; not a number where nothing is known.
    values: Vec<f32>,
    /// For each track, how many samples the newest slot is the mean of.
    samples: Vec<u16>,
}

impl Ring {
    fn new(range: Range, tracks: usize) -> Self {
        let slots = range.length();
        Self {
            step: range.step(),
            slots,
            newest: None,
            values: vec![f32::NAN; slots * tracks],
            samples: vec![0; tracks],
        }
    }

    fn put(&mut self, now: Duration, values: &[Option<f64>]) {
        let slot = (now.as_millis() / self.step.as_millis().max(1)) as u64;
        match self.newest {
            Some(newest) if slot <= newest => {}
            newest => {
                // Everything since the last sample but the newest slot is a gap: the machine slept.
                let passed = newest.map_or(self.slots as u64, |newest| slot - newest).min(self.slots as u64);
                for skipped in 0..passed {
                    let place = self.place(slot - skipped.min(slot));
                    for track in 0..self.samples.len() {
                        self.set(track, place, f32::NAN);
                    }
                }
                self.newest = Some(slot);
                self.samples.fill(0);
            }
        }
        let place = self.place(self.newest.unwrap_or(slot));
        for (track, value) in values.iter().enumerate() {
            let (Some(value), Some(count)) = (*value, self.samples.get_mut(track)) else { continue };
            *count = count.saturating_add(1);
            let count = f32::from(*count);
            let mean = self.get(track, place);
            let mean = if mean.is_nan() { value as f32 } else { mean + (value as f32 - mean) / count };
            self.set(track, place, mean);
        }
    }

    fn values(&self, track: usize) -> Vec<Option<f64>> {
        let Some(newest) = self.newest else { return Vec::new() };
        let oldest = (newest + 1).saturating_sub(self.slots as u64);
        let value = |slot| Some(f64::from(self.get(track, self.place(slot)))).filter(|value| !value.is_nan());
        (oldest..=newest).map(value).skip_while(Option::is_none).collect()
    }

    fn place(&self, slot: u64) -> usize {
        (slot % self.slots as u64) as usize
    }

    fn get(&self, track: usize, place: usize) -> f32 {
        self.values.get(track * self.slots + place).copied().unwrap_or(f32::NAN)
    }

    fn set(&mut self, track: usize, place: usize, value: f32) {
        if let Some(stored) = self.values.get_mut(track * self.slots + place) {
            *stored = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use crate::testing::TestClock;

    fn history() -> (History, Arc<TestClock>, Metrics) {
        let (clock, metrics) = (Arc::new(TestClock::default()), Metrics::new());
        let (count, level) = (metrics.counter("mainstay_x_total", "x", &[]), metrics.gauge("mainstay_y", "y", &[]));
        let tracks = vec![
            Track::new("rate", Reading::Rate, move || Some(count.value() as f64)),
            Track::new("level", Reading::Level, move || Some(level.value() as f64)),
        ];
        (History::new(tracks, clock.clone()), clock, metrics)
    }

    #[test]
    fn a_count_is_shown_as_what_it_grew_by_a_second() {
        let (history, clock, metrics) = history();
        let count = metrics.counter("mainstay_x_total", "x", &[]);
        history.sample();
        for _ in 0..3 {
            clock.advance(EVERY);
            count.add(50);
            history.sample();
        }
        assert_eq!(history.values("rate", Range::Hour), vec![Some(5.0); 3]);
        assert_eq!(history.values("rate", Range::Day), vec![Some(5.0)]);
        assert_eq!(history.values("nothing", Range::Hour), Vec::new());
    }

    #[test]
    fn a_pause_is_a_gap() {
        let (history, clock, metrics) = history();
        metrics.gauge("mainstay_y", "y", &[]).set(7);
        history.sample();
        clock.advance(EVERY * 3);
        history.sample();
        assert_eq!(history.values("level", Range::Hour), [Some(7.0), None, None, Some(7.0)]);
        clock.advance(Duration::from_hours(48));
        history.sample();
        assert_eq!(history.values("level", Range::Hour), [Some(7.0)]);
    }

    #[test]
    fn no_more_is_kept_than_an_hour_and_a_day() {
        let (history, clock, metrics) = history();
        for second in 0..20_000 {
            metrics.gauge("mainstay_y", "y", &[]).set(second);
            history.sample();
            clock.advance(EVERY);
        }
        let (hour, day) = (history.values("level", Range::Hour), history.values("level", Range::Day));
        assert_eq!((hour.len(), day.len()), (360, 720));
        assert_eq!(hour.last(), Some(&Some(19_999.0)));
        assert_eq!(day.first(), Some(&Some(f64::from((19_999 / 12 - 719) * 12) + 5.5)), "a mean over two minutes");
    }

    #[tokio::test]
    async fn it_ends_when_the_server_stops() {
        let (history, _, _) = history();
        let shutdown = Shutdown::new();
        shutdown.drain();
        history.clone().run(shutdown).await;
        assert_eq!(history.values("level", Range::Hour).len(), 1);
    }
}
