//! Looking through a database a piece at a time, for people: names and figures, no values.

use super::Keyspace;

/// Buckets and keys looked at in one turn of the keyspace's loop: about a millisecond.
pub const PER_TURN: usize = 2_000;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: Box<[u8]>,
    /// The type, as `TYPE` says it.
    pub kind: &'static str,
    /// When it goes, in milliseconds since 1970.
    pub expires: Option<u64>,
    /// Bytes it takes in memory, roughly.
    pub bytes: usize,
    /// Whether its value is on disk only.
    pub cold: bool,
}

/// A piece of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Where the next piece begins; 0 after the last.
    pub next: u64,
    /// Living keys looked at, whatever their name.
    pub seen: usize,
    /// Those that begin with the prefix.
    pub found: Vec<Listed>,
}

impl Keyspace {
    /// The keys of `db` from `cursor` on (0 at first) that begin with `prefix`, from about [`PER_TURN`] keys. What stays
    /// while all pieces are taken is shown at least once, as by `SCAN`.
    pub fn browse(&self, db: u8, cursor: u64, prefix: &[u8]) -> Piece {
        let (table, now) = (&self.database(db).entries, self.now().millis());
        let mut piece = Piece { next: cursor, ..Piece::default() };
        // An empty bucket costs as well.
        for _ in 0..PER_TURN {
            piece.next = table.scan(piece.next, |entry| {
                if entry.expires().is_some_and(|at| at <= now) {
                    return;
                }
                piece.seen += 1;
                if entry.key().starts_with(prefix) {
                    piece.found.push(Listed {
                        key: entry.key().into(),
                        kind: entry.kind().name(),
                        expires: entry.expires(),
                        bytes: entry.memory(),
                        cold: entry.is_cold(),
                    });
                }
            });
            if piece.next == 0 || piece.seen >= PER_TURN {
                break;
            }
        }
        piece
    }
}

#[cfg(test)]
mod tests {
    use crate::kv::tests::Session;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_of_a_prefix_is_shown_and_none_that_is_gone() {
        let mut session = Session::tiny();
        for number in 0..5000 {
            session.run(&format!("SET user:{number} x"));
        }
        session.run("SET user:gone x PX 1");
        session.run("RPUSH queue:mail a b");
        session.advance(5);
        let (mut cursor, mut seen, mut turns) = (0, 0, 0);
        let (mut users, mut queues) = (BTreeSet::new(), Vec::new());
        loop {
            let piece = session.keyspace.browse(0, cursor, b"user:");
            queues.extend(session.keyspace.browse(0, cursor, b"queue:").found);
            users.extend(piece.found.into_iter().map(|listed| listed.key));
            (cursor, seen, turns) = (piece.next, seen + piece.seen, turns + 1);
            if cursor == 0 {
                break;
            }
        }
        assert_eq!((users.len(), seen), (5000, 5001));
        assert!(turns > 1, "no turn looks at everything");
        assert_eq!(queues.iter().map(|queue| queue.kind).collect::<Vec<_>>(), ["list"]);
        assert!(session.keyspace.browse(1, 0, b"").found.is_empty());
    }
}
