//! A counted B-tree: the order of a large sorted set, with ranks in logarithmic time.
//!
//! Items are a score and the number of the member's slot; who compares two items with equal scores looks the members
//! up. Every inner node keeps, for each child, how many items it holds and which is its first.

use std::cmp::Ordering;

/// Most items in a leaf and most children of an inner node. A leaf of 64 is 1 KiB: shifting half of it costs less than
/// one cache miss more on the way down.
const MOST: usize = 64;

/// Below this many, a node is joined with a neighbour where both fit into three quarters of a node.
const FEW: usize = MOST / 4;

/// One place in the order.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// The score.
    pub score: f64,
    /// The member's slot.
    pub slot: u32,
}

/// Items in order. The order is the caller's, passed along each time; it must always be the same.
#[derive(Debug)]
pub struct Tree {
    root: Node,
}

#[derive(Debug)]
enum Node {
    Leaf(Vec<Item>),
    Inner(Inner),
}

#[derive(Debug, Default)]
struct Inner {
    children: Vec<Node>,
    counts: Vec<usize>,
    firsts: Vec<Item>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: Node::Leaf(Vec::new()) }
    }
}

impl Tree {
    /// Adds an item that is not there yet.
    pub fn insert(&mut self, item: Item, order: &impl Fn(&Item, &Item) -> Ordering) {
        if let Some(right) = self.root.insert(item, order) {
            let left = std::mem::replace(&mut self.root, Node::Inner(Inner::default()));
            if let Node::Inner(root) = &mut self.root {
                root.put(0, left);
                root.put(1, right);
            }
        }
    }

    /// Takes an item out; says whether it was there.
    pub fn remove(&mut self, item: Item, order: &impl Fn(&Item, &Item) -> Ordering) -> bool {
        let removed = self.root.remove(item, order);
        while let Node::Inner(inner) = &mut self.root {
            if inner.children.len() > 1 {
                break;
            }
            self.root = inner.children.pop().unwrap_or(Node::Leaf(Vec::new()));
        }
        removed
    }

    /// How many items at the front `before` accepts; it must accept a front part of the order.
    pub fn count_before(&self, before: &impl Fn(&Item) -> bool) -> usize {
        let (mut node, mut count) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(items) => return count + items.partition_point(before),
                Node::Inner(inner) => {
                    let Some(child) = inner.firsts.partition_point(before).checked_sub(1) else { return count };
                    count += inner.counts[..child].iter().sum::<usize>();
                    node = &inner.children[child];
                }
            }
        }
    }

    /// Shows up to `most` items from rank `start` on, or, in reverse, from `start` counted from the end backwards.
    pub fn each(&self, start: usize, most: usize, reverse: bool, visit: &mut impl FnMut(&Item)) {
        let mut left = most;
        self.root.each(start, &mut left, reverse, visit);
    }
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    /// Items or children.
    const fn width(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }

    fn first(&self) -> Option<Item> {
        match self {
            Self::Leaf(items) => items.first().copied(),
            Self::Inner(inner) => inner.firsts.first().copied(),
        }
    }

    /// Adds an item; returns the right half when the node had to split.
    fn insert(&mut self, item: Item, order: &impl Fn(&Item, &Item) -> Ordering) -> Option<Self> {
        match self {
            Self::Leaf(items) => {
                let at = items.partition_point(|other| order(other, &item) == Ordering::Less);
                if items.len() < MOST {
                    if items.len() == items.capacity() {
                        // Joined leaves have any capacity, up to one less than the most.
                        items.reserve_exact((items.len() / 2).max(4).min(MOST - items.len()));
                    }
                    items.insert(at, item);
                    return None;
                }
                // Rising scores (time stamps) always split the last leaf: leave the left one nearly full.
                let cut = if at == MOST { MOST - MOST / 8 } else { MOST / 2 };
                let mut right = items.split_off(cut);
                if at > cut {
                    right.insert(at - cut, item);
                } else {
                    items.insert(at, item);
                }
                Some(Self::Leaf(right))
            }
            Self::Inner(inner) => {
                let at = inner.child_of(&item, order);
                let split = inner.children[at].insert(item, order);
                inner.refresh(at);
                if let Some(right) = split {
                    inner.put(at + 1, right);
                }
                (inner.children.len() > MOST).then(|| Self::Inner(inner.split()))
            }
        }
    }

    fn remove(&mut self, item: Item, order: &impl Fn(&Item, &Item) -> Ordering) -> bool {
        match self {
            Self::Leaf(items) => {
                let at = items.partition_point(|other| order(other, &item) == Ordering::Less);
                let there = items.get(at).is_some_and(|other| order(other, &item) == Ordering::Equal);
                if there {
                    items.remove(at);
                }
                there
            }
            Self::Inner(inner) => {
                let at = inner.child_of(&item, order);
                let removed = inner.children[at].remove(item, order);
                if removed {
                    inner.refresh(at);
                    inner.tidy(at);
                }
                removed
            }
        }
    }

    fn each(&self, mut skip: usize, left: &mut usize, reverse: bool, visit: &mut impl FnMut(&Item)) {
        match self {
            Self::Leaf(items) => {
                let most = *left;
                let shown = items.len().saturating_sub(skip).min(most);
                if reverse {
                    items.iter().rev().skip(skip).take(most).for_each(visit);
                } else {
                    items.iter().skip(skip).take(most).for_each(visit);
                }
                *left -= shown;
            }
            Self::Inner(inner) => {
                for step in 0..inner.children.len() {
                    let at = if reverse { inner.children.len() - 1 - step } else { step };
                    if *left == 0 {
                        return;
                    }
                    if skip >= inner.counts[at] {
                        skip -= inner.counts[at];
                    } else {
                        inner.children[at].each(skip, left, reverse, visit);
                        skip = 0;
                    }
                }
            }
        }
    }
}

impl Inner {
    /// The child an item belongs into.
    fn child_of(&self, item: &Item, order: &impl Fn(&Item, &Item) -> Ordering) -> usize {
        self.firsts.partition_point(|first| order(first, item) != Ordering::Greater).saturating_sub(1)
    }

    /// Adds a child that is not empty.
    fn put(&mut self, at: usize, child: Node) {
        if let Some(first) = child.first() {
            self.counts.insert(at, child.len());
            self.firsts.insert(at, first);
            self.children.insert(at, child);
        }
    }

    /// Notes what a change made of a child; an emptied one goes.
    fn refresh(&mut self, at: usize) {
        if let Some(first) = self.children[at].first() {
            self.firsts[at] = first;
            self.counts[at] = self.children[at].len();
        } else {
            self.children.remove(at);
            self.counts.remove(at);
            self.firsts.remove(at);
        }
    }

    /// Joins a child that has become narrow with a neighbour, where both fit.
    fn tidy(&mut self, at: usize) {
        if self.children.get(at).is_none_or(|child| child.width() >= FEW) {
            return;
        }
        for left in [at.checked_sub(1), Some(at)].into_iter().flatten() {
            let right = left + 1;
            let fits = right < self.children.len()
                && self.children[left].width() + self.children[right].width() <= MOST * 3 / 4;
            if fits {
                let joined = self.children.remove(right);
                self.counts.remove(right);
                self.firsts.remove(right);
                match (&mut self.children[left], joined) {
                    (Node::Leaf(items), Node::Leaf(more)) => items.extend(more),
                    (Node::Inner(inner), Node::Inner(more)) => {
                        inner.children.extend(more.children);
                        inner.counts.extend(more.counts);
                        inner.firsts.extend(more.firsts);
                    }
                    // Children of one node are of one height.
                    (_, other) => self.put(right, other),
                }
                self.refresh(left);
                return;
            }
        }
    }

    fn split(&mut self) -> Self {
        let cut = self.children.len() / 2;
        Self {
            children: self.children.split_off(cut),
            counts: self.counts.split_off(cut),
            firsts: self.firsts.split_off(cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(a: &Item, b: &Item) -> Ordering {
        a.score.total_cmp(&b.score).then(a.slot.cmp(&b.slot))
    }

    fn slots(tree: &Tree, start: usize, most: usize, reverse: bool) -> Vec<u32> {
        let mut slots = Vec::new();
        tree.each(start, most, reverse, &mut |item| slots.push(item.slot));
        slots
    }

    #[test]
    fn rising_and_falling_scores_keep_order_and_rank() {
        let mut tree = Tree::default();
        for slot in 0..5_000 {
            tree.insert(Item { score: f64::from(slot), slot }, &order);
        }
        for slot in (5_000..9_000).rev() {
            tree.insert(Item { score: f64::from(slot), slot }, &order);
        }
        assert_eq!(tree.root.len(), 9_000);
        assert_eq!(slots(&tree, 0, 9_000, false), (0..9_000).collect::<Vec<_>>());
        assert_eq!(slots(&tree, 10, 3, true), [8_989, 8_988, 8_987]);
        assert_eq!(tree.count_before(&|item| item.score < 4_321.0), 4_321);
        for slot in 0..9_000 {
            assert!(tree.remove(Item { score: f64::from(slot), slot }, &order));
        }
        assert_eq!(tree.root.len(), 0);
    }

    #[test]
    fn a_leaf_of_any_capacity_grows_to_the_most() {
        for capacity in 1..=MOST {
            let mut items = Vec::with_capacity(capacity);
            items.extend((0..capacity as u32).map(|slot| Item { score: f64::from(slot), slot }));
            let mut tree = Tree { root: Node::Leaf(items) };
            for slot in capacity as u32..200 {
                tree.insert(Item { score: f64::from(slot), slot }, &order);
            }
            assert_eq!(slots(&tree, 0, 200, false), (0..200).collect::<Vec<_>>());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn behaves_like_a_sorted_set(steps in proptest::collection::vec((0u32..2_000, 0u8..3), 1..6_000)) {
            let (mut tree, mut model) = (Tree::default(), std::collections::BTreeSet::new());
            for (slot, step) in steps {
                let item = Item { score: f64::from(slot / 3), slot };
                if step == 0 {
                    prop_assert_eq!(tree.remove(item, &order), model.remove(&slot));
                } else if model.insert(slot) {
                    tree.insert(item, &order);
                }
            }
            prop_assert_eq!(tree.root.len(), model.len());
            let all: Vec<u32> = model.iter().copied().collect();
            prop_assert_eq!(slots(&tree, 0, usize::MAX, false), all.clone());
            for (rank, slot) in all.iter().enumerate() {
                prop_assert_eq!(tree.count_before(&|item| item.slot < *slot), rank);
                prop_assert_eq!(slots(&tree, rank, 1, false), vec![*slot]);
                prop_assert_eq!(slots(&tree, all.len() - 1 - rank, 1, true), vec![*slot]);
            }
        }
    }
}
