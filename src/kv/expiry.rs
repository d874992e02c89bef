//! Keys whose time has come but that nobody asks for: the active expiry cycle.
//!
//! A second index of expiry times would cost memory for every key with a lifetime and work for every `SET EX`; the
//! cycle costs neither. It walks the buckets of databases that hold expiring keys, a bounded number of entries a call,
//! in cursor order, so every key is met once a round. While more than one in ten of the expiring keys it meets are dead
//! it goes on for its whole budget; otherwise a small stretch is enough.

use super::config::DATABASES;
use super::keyspace::Keyspace;

/// Entries looked at before the share of dead keys decides whether to go on.
const STRETCH: usize = 64;

/// Where the cycle stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    db: u8,
    cursor: u64,
}

impl Keyspace {
    /// Deletes keys whose time has come, looking at `budget` entries at most (one bucket more at worst). Returns whether
    /// many were dead, so that the caller may want to call again soon. Call it every 100 ms or so, between turns.
    ///
    /// Also frees a part of what `FLUSHDB` put aside.
    pub fn tick(&mut self, budget: usize) -> bool {
        let many = self.sweep_databases(budget);
        self.announce("", &[]);
        many
    }

    fn sweep_databases(&mut self, budget: usize) -> bool {
        let mut slices = budget;
        while let Some(table) = self.dying.last_mut()
            && slices > 0
        {
            slices -= table.drop_some(slices);
            if table.buckets() == 0 {
                self.dying.pop();
            }
        }
        let mut left = budget;
        for _ in 0..=DATABASES {
            let mut many = true;
            while left > 0 && many && self.database(self.sweep.db).expiring > 0 {
                let (seen, alive, dead) = self.sweep_stretch(left.min(STRETCH));
                left = left.saturating_sub(seen.max(1));
                many = dead * 10 > alive + dead;
                if self.sweep.cursor == 0 {
                    break;
                }
            }
            if left == 0 {
                return many || !self.dying.is_empty();
            }
            if self.sweep.cursor == 0 || self.database(self.sweep.db).expiring == 0 {
                self.sweep = Sweep { db: (self.sweep.db + 1) % DATABASES, cursor: 0 };
            } else if !many {
                return !self.dying.is_empty();
            }
        }
        !self.dying.is_empty()
    }

    /// Looks at some buckets; returns entries seen, expiring ones alive, and expired ones deleted.
    fn sweep_stretch(&mut self, entries: usize) -> (usize, usize, usize) {
        let (mut seen, mut alive) = (0, 0);
        let mut dead: Vec<Vec<u8>> = Vec::new();
        let Sweep { db, mut cursor } = self.sweep;
        let now = self.clock.wall;
        let table = &self.database(db).entries;
        // Sparse buckets count too, so that an emptied table cannot hold the loop.
        for _ in 0..entries {
            cursor = table.scan(cursor, |entry| {
                seen += 1;
                match entry.expires() {
                    Some(at) if at <= now => dead.push(entry.key().to_vec()),
                    Some(_) => alive += 1,
                    None => {}
                }
            });
            if cursor == 0 || seen >= entries {
                break;
            }
        }
        self.sweep.cursor = cursor;
        for key in &dead {
            // `find` deletes an expired key it meets.
            self.find(db, key);
        }
        (seen, alive, dead.len())
    }
}
