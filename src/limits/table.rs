//! The counters themselves: at most so many, and which of them are to be saved.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Verdict;
use super::failures::Failures;
use super::policy::{Key, Rule};
use crate::store::Record;

/// Parts the counters are saved in, by the first byte of their key.
pub const PARTS: usize = 256;

/// The state of one counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// When attempts were let through, and for how long the last one counts; milliseconds.
    Window(Vec<u64>, u64),
    /// The theoretical arrival time, microseconds.
    Gcra(u64),
    /// Failures.
    Failures(Failures),
}

impl Cell {
    /// When it is as if it had never been, in milliseconds since 1970.
    fn ends_ms(&self) -> u64 {
        match self {
            Self::Window(times, length) => times.last().map_or(0, |last| last.saturating_add(*length)),
            Self::Gcra(arrival) => arrival / 1000,
            Self::Failures(failures) => failures.ends_ms(),
        }
    }
}

/// One part as it is saved.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Part(pub Vec<(Key, Cell)>);

impl Record for Part {
    const VERSION: u8 = 1;
}

/// The counters.
#[derive(Debug)]
pub struct Table {
    cells: HashMap<Key, Cell>,
    most: usize,
    /// Parts that have changed since they were saved.
    changed: [bool; PARTS],
}

fn part(key: &Key) -> usize {
    usize::from(key[0])
}

impl Table {
    /// Room for `most` counters.
    pub fn new(most: usize) -> Self {
        Self { cells: HashMap::new(), most: most.max(1), changed: [false; PARTS] }
    }

    /// Takes back what was saved.
    pub fn load(&mut self, part: Part, now_ms: u64) {
        self.cells.extend(part.0.into_iter().filter(|(_, cell)| cell.ends_ms() > now_ms));
        self.make_room(now_ms);
    }

    /// What `rule` says to `cost` attempts on all of `keys`, which count in all or in none.
    pub fn decide(&mut self, rule: Rule, keys: &[Key], now_ms: u64, cost: u32) -> Verdict {
        let decided: Vec<(Key, Verdict, Cell)> = keys
            .iter()
            .map(|key| {
                let (verdict, cell) = decide(rule, self.cells.get(key), now_ms, cost);
                (*key, verdict, cell)
            })
            .collect();
        let verdicts = decided.iter().map(|(_, verdict, _)| *verdict);
        let none = Verdict { allowed: true, remaining: u32::MAX, retry_ms: 0, reset_ms: 0 };
        let verdict = verdicts.fold(none, |all, one| Verdict {
            allowed: all.allowed && one.allowed,
            remaining: all.remaining.min(one.remaining),
            retry_ms: all.retry_ms.max(one.retry_ms),
            reset_ms: all.reset_ms.max(one.reset_ms),
        });
        if verdict.allowed && cost > 0 {
            for (key, _, cell) in decided {
                self.put(key, cell, now_ms);
            }
        }
        verdict
    }

    /// Notes a failure under `key`.
    pub fn fail(&mut self, key: Key, now_ms: u64) {
        let mut failures = match self.cells.get(&key) {
            Some(Cell::Failures(failures)) => failures.clone(),
            _ => Failures::default(),
        };
        failures.add(now_ms);
        self.put(key, Cell::Failures(failures), now_ms);
    }

    /// Failures of the last day under `key`.
    pub fn failures(&mut self, key: &Key, now_ms: u64) -> u32 {
        match self.cells.get_mut(key) {
            Some(Cell::Failures(failures)) => failures.count(now_ms),
            _ => 0,
        }
    }

    /// Forgets the counter `key`.
    pub fn forget(&mut self, key: &Key) {
        if self.cells.remove(key).is_some() {
            self.note_change(key);
        }
    }

    /// The parts that have changed since they were taken last, without what has ended.
    pub fn take_changed(&mut self, now_ms: u64) -> Vec<(u8, Part)> {
        let changed = std::mem::replace(&mut self.changed, [false; PARTS]);
        let mut parts: Vec<(u8, Part)> = (0..=u8::MAX)
            .filter(|part| changed.get(usize::from(*part)) == Some(&true))
            .map(|part| (part, Part::default()))
            .collect();
        if parts.is_empty() {
            return parts;
        }
        self.cells.retain(|_, cell| cell.ends_ms() > now_ms);
        for (key, cell) in &self.cells {
            if let Ok(place) = parts.binary_search_by_key(&key[0], |(number, _)| *number)
                && let Some((_, part)) = parts.get_mut(place)
            {
                part.0.push((*key, cell.clone()));
            }
        }
        parts
    }

    /// Marks `part` as not saved after all.
    pub fn unsaved(&mut self, part: u8) {
        if let Some(changed) = self.changed.get_mut(usize::from(part)) {
            *changed = true;
        }
    }

    /// Counters kept.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    fn put(&mut self, key: Key, cell: Cell, now_ms: u64) {
        self.cells.insert(key, cell);
        self.note_change(&key);
        self.make_room(now_ms);
    }

    fn note_change(&mut self, key: &Key) {
        if let Some(changed) = self.changed.get_mut(part(key)) {
            *changed = true;
        }
    }

    /// Past the cap, forgets what has ended, and if that is not enough, the tenth that ends first.
    fn make_room(&mut self, now_ms: u64) {
        if self.cells.len() <= self.most {
            return;
        }
        self.cells.retain(|_, cell| cell.ends_ms() > now_ms);
        if self.cells.len() <= self.most {
            return;
        }
        let mut ends: Vec<u64> = self.cells.values().map(Cell::ends_ms).collect();
        let tenth = (self.most / 10).min(ends.len() - 1);
        let (_, limit, _) = ends.select_nth_unstable(tenth);
        let limit = *limit;
        let mut left = self.cells.len() - self.most + tenth;
        self.cells.retain(|_, cell| {
            let goes = left > 0 && cell.ends_ms() <= limit;
            left -= usize::from(goes);
            !goes
        });
    }
}

/// What `rule` says, and the state afterwards. A state of another rule (the settings have changed) is none.
fn decide(rule: Rule, cell: Option<&Cell>, now_ms: u64, cost: u32) -> (Verdict, Cell) {
    match rule {
        Rule::Window(window) => {
            let mut times = match cell {
                Some(Cell::Window(times, _)) => times.clone(),
                _ => Vec::new(),
            };
            let verdict = window.decide(&mut times, now_ms, cost);
            (verdict, Cell::Window(times, window.length_ms))
        }
        Rule::Gcra(rate) => {
            let arrival = match cell {
                Some(Cell::Gcra(arrival)) => *arrival,
                _ => 0,
            };
            let (verdict, arrival) = rate.decide(arrival, now_ms.saturating_mul(1000), cost);
            (verdict, Cell::Gcra(arrival))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::window::Window;

    const RULE: Rule = Rule::Window(Window { limit: 2, length_ms: 1000 });

    fn key(number: u32) -> Key {
        let mut key = Key::default();
        key[..4].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn an_attempt_counts_in_all_counters_or_in_none() {
        let mut table = Table::new(100);
        assert!(table.decide(RULE, &[key(1)], 5000, 2).allowed);
        assert!(!table.decide(RULE, &[key(1), key(2)], 5000, 1).allowed);
        assert_eq!(table.decide(RULE, &[key(2)], 5000, 0).remaining, 2);
        assert!(table.decide(RULE, &[key(2), key(3)], 5000, 1).allowed);
        assert_eq!(table.decide(RULE, &[key(3)], 5000, 0).remaining, 1);
    }

    #[test]
    fn it_never_grows_past_its_cap_and_keeps_what_lasts() {
        let mut table = Table::new(100);
        table.fail(key(1_000_000), 5000);
        for number in 0..1000 {
            table.decide(RULE, &[key(number)], 5000 + u64::from(number), 1);
            assert!(table.len() <= 100);
        }
        assert_eq!(table.failures(&key(1_000_000), 6000), 1, "a day outlasts a second");
    }

    #[test]
    fn what_was_saved_comes_back() {
        let mut table = Table::new(100);
        table.decide(RULE, &[key(1), key(2)], 5000, 2);
        table.fail(key(3), 5000);
        let parts = table.take_changed(5000);
        assert_eq!(parts.len(), 3);
        assert!(table.take_changed(5000).is_empty());
        let mut again = Table::new(100);
        for (_, part) in parts {
            let bytes = crate::store::record::encode(&part);
            again.load(crate::store::record::decode(&bytes).unwrap(), 5500);
        }
        assert!(!again.decide(RULE, &[key(1)], 5500, 1).allowed);
        assert_eq!(again.failures(&key(3), 5500), 1);
    }
}
