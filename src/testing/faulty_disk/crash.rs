//! What a power cut may leave of a disk.
//!
//! The strictest reading of POSIX that real file systems still allow: each sector of unsynced data holds one of its
//! versions since the last sync, each unsynced name change has happened or not. Plain independent coin tosses would
//! almost never give the telling extremes (all lost, all there, all there but one), so the seed first picks how wild
//! the outcome is.

use std::path::Path;

use super::SECTOR;
use super::state::{Inode, Names, State};
use crate::base::random;
use crate::testing::TestRandom;

/// Picks one of the states a power cut could leave of `state`.
pub(super) fn after_power_cut(state: &State, seed: u64) -> State {
    let mut dice = Dice(TestRandom::new(seed));
    let mut names = state.durable.clone();
    let mood = Mood::draw(&mut dice);
    for change in &state.name_changes {
        if mood.keeps(&mut dice) {
            names.apply(change);
        }
    }
    drop_unreachable(&mut names);
    let mut left = State { next_inode: state.next_inode, ..State::default() };
    for (number, inode) in &state.inodes {
        if names.files.values().any(|named| named == number) {
            let content = content_left(inode, &mut dice);
            let inode = Inode { live: content.clone(), durable: content, modified: inode.modified, ..Inode::default() };
            left.inodes.insert(*number, inode);
        }
    }
    left.names.clone_from(&names.files);
    left.folders.clone_from(&names.folders);
    left.durable = names;
    left
}

/// How much of what was unsynced survives.
#[derive(Clone, Copy)]
enum Mood {
    Nothing,
    Everything,
    /// Each with this chance in 256.
    Some(u64),
}

impl Mood {
    fn draw(dice: &mut Dice) -> Self {
        match dice.below(6) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Some(16),
            3 => Self::Some(240),
            _ => Self::Some(128),
        }
    }

    fn keeps(self, dice: &mut Dice) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some(chance) => dice.below(256) < chance,
        }
    }
}

/// The content of a file after the cut.
///
/// Versions are counted 0 (durable) to n (all n changes). All sectors share a base version, 0, n or one between (an
/// orderly writer cut off), and each strays from it to a version of its own with the chance the mood gives.
fn content_left(inode: &Inode, dice: &mut Dice) -> Vec<u8> {
    let versions = inode.changes.len();
    let mood = Mood::draw(dice);
    let base = match dice.below(3) {
        0 => 0,
        1 => versions,
        _ => dice.index(versions + 1),
    };
    let stray = |dice: &mut Dice| if mood.keeps(dice) { dice.index(versions + 1) } else { base };

    let mut content = before_failed_syncs(inode, dice);
    let mut lengths = vec![content.len()];
    let mut longest = content.len();
    {
        let mut length = content.clone();
        for change in &inode.changes {
            change.apply(&mut length);
            lengths.push(length.len());
            longest = longest.max(length.len());
        }
    }
    let mut by_version = vec![Vec::new(); versions + 1];
    for sector in 0..longest.div_ceil(SECTOR) {
        by_version[stray(dice)].push(sector);
    }
    let length = lengths[stray(dice)];

    let mut out = vec![0; longest];
    for (version, sectors) in by_version.iter().enumerate() {
        if version > 0 {
            inode.changes[version - 1].apply(&mut content);
        }
        for sector in sectors {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(content.len());
            if start < end {
                out[start..end].copy_from_slice(&content[start..end]);
            }
        }
    }
    out.resize(length, 0);
    out
}

/// The durable content, with sectors in doubt as they are or as they were.
fn before_failed_syncs(inode: &Inode, dice: &mut Dice) -> Vec<u8> {
    let mut content = inode.durable.clone();
    if inode.doubt.is_empty() && inode.doubtful_len.is_none() {
        return content;
    }
    let mood = Mood::draw(dice);
    for (sector, old) in &inode.doubt {
        if !mood.keeps(dice) {
            let start = (sector * SECTOR).min(content.len());
            let end = (start + SECTOR).min(content.len());
            let mut whole = old.clone();
            whole.resize(SECTOR, 0);
            content[start..end].copy_from_slice(&whole[..end - start]);
        }
    }
    if let Some(length) = inode.doubtful_len
        && !mood.keeps(dice)
    {
        content.resize(length, 0);
    }
    content
}

/// Names in a folder whose own name is gone are gone.
fn drop_unreachable(names: &mut Names) {
    let folders = names.folders.clone();
    let reachable = |path: &Path| {
        path.ancestors().skip(1).all(|folder| matches!(folder.to_str(), Some("" | "/")) || folders.contains(folder))
    };
    names.folders.retain(|path| reachable(path));
    names.files.retain(|path, _| reachable(path));
}

struct Dice(TestRandom);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        random::below(&self.0, bound)
    }

    fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }
}
