//! `LCS`: the longest common subsequence of two strings.

use super::{Command, READ, keyed};
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::number;
use crate::kv::value::Kind;

pub(super) const COMMANDS: &[Command] = &[keyed("lcs", -3, READ, 2, lcs)];

/// Most cells of the table, four bytes each: the product of both lengths plus one. Nobody else is served meanwhile.
const CELLS: usize = 16 << 20;

const TOO_LONG: Fault = Fault::Text("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");

/// A stretch that both strings have: where it begins in each, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    first: usize,
    second: usize,
    len: usize,
}

/// What is answered.
#[derive(Debug, Default)]
struct Options {
    length: bool,
    matches: bool,
    least: usize,
    with_lengths: bool,
}

impl Options {
    fn read(call: &Call<'_>) -> Result<Self, Fault> {
        let mut options = Self::default();
        let mut rest = call.rest(3);
        while let Some((option, after)) = rest.split_first() {
            rest = after;
            match option.to_ascii_uppercase().as_slice() {
                b"LEN" => options.length = true,
                b"IDX" => options.matches = true,
                b"WITHMATCHLEN" => options.with_lengths = true,
                b"MINMATCHLEN" => {
                    let (least, after) = rest.split_first().ok_or(Fault::Syntax)?;
                    let least = number::integer(least).ok_or(Fault::NotInteger)?;
                    options.least = usize::try_from(least).unwrap_or(0);
                    rest = after;
                }
                _ => return Err(Fault::Syntax),
            }
        }
        if options.length && options.matches {
            return Err(Fault::Text("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

fn lcs(call: &mut Call<'_>) -> Result<(), Fault> {
    let options = Options::read(call)?;
    let mut texts = Vec::with_capacity(2);
    for key in call.rest(1).iter().take(2) {
        texts.push(match call.keyspace.read_kind(call.client.db, key, Kind::String) {
            Ok(found) => found.map(|entry| entry.text().to_vec()).unwrap_or_default(),
            Err(Fault::WrongType) => return Err(Fault::Text("ERR The specified keys must contain string values")),
            Err(fault) => return Err(fault),
        });
    }
    let [first, second] = texts.as_slice() else { return Err(Fault::Syntax) };
    let table = Table::new(first, second)?;
    if options.length {
        call.reply.integer(i64::from(table.longest()));
        return Ok(());
    }
    let found = table.matches();
    if !options.matches {
        let text: Vec<u8> = found
            .iter()
            .rev()
            .flat_map(|found| first.get(found.first..found.first + found.len).unwrap_or_default())
            .copied()
            .collect();
        call.reply.bulk(&text);
        return Ok(());
    }
    let reply = &mut *call.reply;
    reply.map(2);
    reply.bulk(b"matches");
    let shown: Vec<&Match> = found.iter().filter(|found| found.len >= options.least).collect();
    reply.array(shown.len());
    for found in shown {
        reply.array(2 + usize::from(options.with_lengths));
        for start in [found.first, found.second] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer((start + found.len - 1) as i64);
        }
        if options.with_lengths {
            reply.integer(found.len as i64);
        }
    }
    reply.bulk(b"len");
    reply.integer(i64::from(table.longest()));
    Ok(())
}

/// Lengths of the longest common subsequences of all pairs of beginnings.
struct Table<'a> {
    first: &'a [u8],
    second: &'a [u8],
    cells: Vec<u32>,
}

impl<'a> Table<'a> {
    fn new(first: &'a [u8], second: &'a [u8]) -> Result<Self, Fault> {
        let size = (first.len() + 1).checked_mul(second.len() + 1).filter(|size| *size <= CELLS).ok_or(TOO_LONG)?;
        let mut table = Self { first, second, cells: vec![0; size] };
        for (i, byte) in first.iter().enumerate() {
            for (j, other) in second.iter().enumerate() {
                let longest =
                    if byte == other { table.at(i, j) + 1 } else { table.at(i, j + 1).max(table.at(i + 1, j)) };
                let place = table.place(i + 1, j + 1);
                if let Some(cell) = table.cells.get_mut(place) {
                    *cell = longest;
                }
            }
        }
        Ok(table)
    }

    const fn place(&self, first: usize, second: usize) -> usize {
        first * (self.second.len() + 1) + second
    }

    /// Of the first `first` bytes of one and the first `second` of the other.
    fn at(&self, first: usize, second: usize) -> u32 {
        self.cells.get(self.place(first, second)).copied().unwrap_or(0)
    }

    fn longest(&self) -> u32 {
        self.at(self.first.len(), self.second.len())
    }

    /// The stretches of one longest common subsequence, from the end to the start; where there are several, the one Redis
    /// finds.
    fn matches(&self) -> Vec<Match> {
        let (mut i, mut j) = (self.first.len(), self.second.len());
        let mut found: Vec<Match> = Vec::new();
        while i > 0 && j > 0 {
            if self.first.get(i - 1) == self.second.get(j - 1) {
                (i, j) = (i - 1, j - 1);
                match found.last_mut().filter(|last| last.first == i + 1 && last.second == j + 1) {
                    Some(last) => *last = Match { first: i, second: j, len: last.len + 1 },
                    None => found.push(Match { first: i, second: j, len: 1 }),
                }
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        found
    }
}
