//! Counts by name with a bound: the most frequent names are kept, what the others had is one number.
//!
//! When twice as many names are there as are kept, the rarer half is let go of and its counts go to `others`. A name that was
//! let go of and comes again begins anew, so a count may be too small by what it had before; the sum of all is always exact.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: HashMap<String, u64>,
    others: u64,
}

/// A name and how often it was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The name.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// A [`Tally`] as it is stored and shown: the most frequent first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The names kept.
    pub items: Vec<Item>,
    /// How often others were there.
    pub others: u64,
}

impl Tally {
    /// Counts `name` once, and keeps room for `most` names (and as many again for those that come up).
    pub fn add(&mut self, name: &str, most: usize) {
        if let Some(count) = self.counts.get_mut(name) {
            *count = count.saturating_add(1);
            return;
        }
        if self.counts.len() >= most.max(1).saturating_mul(2) {
            *self = Self::from(self.list(most.max(1)));
        }
        self.counts.insert(name.to_owned(), 1);
    }

    /// Adds what `list` has, without a bound: the caller's number of lists is one.
    pub fn join(&mut self, list: &List) {
        for item in &list.items {
            let count = self.counts.entry(item.name.clone()).or_insert(0);
            *count = count.saturating_add(item.count);
        }
        self.others = self.others.saturating_add(list.others);
    }

    /// The `most` frequent names.
    pub fn list(&self, most: usize) -> List {
        let mut items: Vec<Item> =
            self.counts.iter().map(|(name, count)| Item { name: name.clone(), count: *count }).collect();
        items.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
        let rest = items.get(most..).unwrap_or_default().iter().map(|item| item.count);
        let others = rest.fold(self.others, u64::saturating_add);
        items.truncate(most);
        List { items, others }
    }
}

impl From<List> for Tally {
    fn from(list: List) -> Self {
        let counts = list.items.into_iter().map(|item| (item.name, item.count)).collect();
        Self { counts, others: list.others }
    }
}

impl List {
    /// All counts together.
    pub fn total(&self) -> u64 {
        self.items.iter().map(|item| item.count).fold(self.others, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_frequent_stays_and_the_rest_is_one_number() {
        let mut tally = Tally::default();
        for number in 0..1_000 {
            tally.add("/", 10);
            tally.add(&format!("/{number}"), 10);
        }
        let list = tally.list(10);
        assert_eq!((list.items[0].name.as_str(), list.items[0].count, list.items.len()), ("/", 1_000, 10));
        assert_eq!((list.total(), list.others), (2_000, 991));
        assert!(tally.counts.len() <= 20);
    }

    proptest! {
        #[test]
        fn sums_are_exact_whatever_comes(names in prop::collection::vec("[a-f]{1,2}", 0..300), most in 1_usize..8) {
            let mut tally = Tally::default();
            for name in &names {
                tally.add(name, most);
                prop_assert!(tally.counts.len() <= most * 2);
            }
            let list = tally.list(most);
            prop_assert_eq!(list.total(), names.len() as u64);
            prop_assert!(list.items.len() <= most && list.items.is_sorted_by(|a, b| a.count >= b.count));
            let mut joined = Tally::default();
            joined.join(&list);
            joined.join(&list);
            prop_assert_eq!(joined.list(most).total(), 2 * names.len() as u64);
        }
    }
}
