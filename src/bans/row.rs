//! A ban, and its row in the store: table `bans`, sealed as every row. The key is the network in 17 bytes, the address as
//! IPv6 and the number of leading bits that count; the value is a [`Ban`].

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;
use crate::base::network::Network;
use crate::store::record::{self, Record};
use crate::store::{Direction, ReadTx, Store, StoreError, Table, WriteTx};

const BANS: Table = Table::new("bans");
/// Rows read at once.
const PAGE: usize = 1_000;

/// Who made a ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A jail, by its name.
    Jail(String),
    /// A person or a program.
    Hand,
}

/// One ban. Version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Who made it.
    pub origin: Origin,
    /// Why, for people.
    pub reason: String,
    /// When it began, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it ends, in milliseconds since 1970; the largest number is never.
    pub until_ms: u64,
    /// Which ban of this network it is, as far as is remembered: 1 for the first.
    pub times: u32,
}

impl Ban {
    /// Whether it is in force.
    pub const fn is_active(&self, now: Timestamp) -> bool {
        self.until_ms > now.0
    }
}

impl Record for Ban {
    const VERSION: u8 = 1;
}

/// Every row.
pub fn all(tx: &dyn ReadTx) -> Result<Vec<(Network, Ban)>, StoreError> {
    let mut out = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let page = tx.scan(BANS, from, Bound::Unbounded, Direction::Forward, PAGE)?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, value) in page {
            match (Network::from_bytes(&key), record::decode(&value)) {
                (Some(network), Ok(ban)) => out.push((network, ban)),
                (None, _) => tracing::error!("a ban's row has no network"),
                (Some(network), Err(error)) => tracing::error!(%network, %error, "a ban's row cannot be read"),
            }
        }
        if is_last {
            return Ok(out);
        }
    }
}

/// Writes `rows`; `None` removes one.
pub async fn write(store: &Store, rows: Vec<(Network, Option<Ban>)>) -> Result<(), StoreError> {
    let rows: Vec<_> =
        rows.into_iter().map(|(network, ban)| (network.to_bytes(), ban.as_ref().map(record::encode))).collect();
    store
        .write(move |tx: &mut dyn WriteTx| {
            for (key, value) in &rows {
                match value {
                    Some(value) => tx.put(BANS, key, value)?,
                    None => tx.delete(BANS, key).map(drop)?,
                }
            }
            Ok(())
        })
        .await
}
