//! Records that are in the DNS for a challenge, kept in the store so that a process that was killed leaves none behind.
//!
//! Table `edge.acme.records`: the key is the record's name, a NUL, and its text; the value a [`RecordRow`]. A row is there
//! before its record, and goes after it: what a start finds is taken away ([`sweep`]), also when it was never put up.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::wire::Change;
use super::{CLEANUP, Dns, Spot};
use crate::base::{Clock, Random, Timestamp};
use crate::store::record::{self, Record};
use crate::store::{Direction, Store, StoreError, Table, WriteTx};

const RECORDS: Table = Table::new("edge.acme.records");
/// Most rows looked at in one sweep; what is beyond comes next time.
const MOST: usize = 1_000;
/// Rows whose records are taken away at once.
const AT_ONCE: usize = 4;
/// How long it is tried to take a record away.
const LONGEST: Duration = Duration::from_hours(24 * 30);

/// A record that is, or may be, in the DNS. Version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRow {
    /// The name a certificate was wanted for.
    pub certificate: String,
    /// The record's name.
    pub name: String,
    /// The zone it is in; empty when the provider does not want to know.
    pub zone: String,
    /// Its text.
    pub value: String,
    /// When it was put up, in milliseconds since 1970.
    pub since_ms: u64,
}

impl Record for RecordRow {
    const VERSION: u8 = 1;
}

impl RecordRow {
    fn key(&self) -> Vec<u8> {
        [self.name.as_bytes(), self.value.as_bytes()].join(&0)
    }

    /// Where it is.
    pub fn spot(&self) -> Spot {
        Spot { zone: self.zone.clone(), name: self.name.clone() }
    }
}

/// Notes that `row`'s record is about to be put up. Returns once that would survive power loss.
///
/// # Errors
/// [`StoreError`]: it is not noted.
pub async fn note(store: &Store, row: &RecordRow) -> Result<(), StoreError> {
    let (key, value) = (row.key(), record::encode(row));
    store.write(move |tx: &mut dyn WriteTx| tx.put(RECORDS, &key, &value)).await
}

/// Notes that `row`'s record is gone.
///
/// # Errors
/// [`StoreError`]: the next sweep takes it away once more, which does no harm.
pub async fn forget(store: &Store, row: &RecordRow) -> Result<(), StoreError> {
    let key = row.key();
    store.write(move |tx: &mut dyn WriteTx| tx.delete(RECORDS, &key).map(drop)).await
}

/// Takes away every record that was left behind; whether some are there yet. No order may be under way.
///
/// # Errors
/// [`StoreError`].
pub async fn sweep(
    dns: &Dns,
    store: &Store,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<bool, StoreError> {
    let rows = store
        .read::<_, StoreError>(|tx| tx.scan(RECORDS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, MOST))
        .await?;
    let mut left = rows.len() >= MOST;
    let mut taken = stream::iter(rows)
        .map(|(key, value)| async move {
            let gone = match record::decode::<RecordRow>(&value) {
                Ok(row) => take_away(dns, &row, clock, random).await,
                Err(error) => {
                    tracing::error!(%error, "the row of a challenge's record cannot be read");
                    false
                }
            };
            (key, gone)
        })
        .buffer_unordered(AT_ONCE);
    let mut gone = Vec::new();
    while let Some((key, is_gone)) = taken.next().await {
        if is_gone {
            gone.push(key);
        } else {
            left = true;
        }
    }
    if !gone.is_empty() {
        let remove = move |tx: &mut dyn WriteTx| gone.iter().try_for_each(|key| tx.delete(RECORDS, key).map(drop));
        store.write(remove).await?;
    }
    Ok(left)
}

/// Whether `row` is done with.
async fn take_away(dns: &Dns, row: &RecordRow, clock: &Arc<dyn Clock>, random: &Arc<dyn Random>) -> bool {
    let name = row.name.as_str();
    let Some(entry) = dns.of(&row.certificate) else {
        tracing::warn!(
            name,
            text = row.value,
            "a challenge's record was left behind, and no entry of edge.acme.dns is for it any more: take it away by hand"
        );
        return true;
    };
    let spot = row.spot();
    let change = entry.change(&spot, &row.value, Change::Remove, clock.as_ref(), random.as_ref());
    let failure = match tokio::time::timeout(CLEANUP, change).await {
        Ok(Ok(())) => {
            tracing::info!(name, "took away a challenge's record that was left behind");
            return true;
        }
        Ok(Err(failure)) => failure.text,
        Err(_elapsed) => "no answer in time".to_owned(),
    };
    let given_up = clock.now().since(Timestamp(row.since_ms)) > LONGEST;
    let next = if given_up { "take it away by hand" } else { "it is tried again" };
    tracing::warn!(
        name,
        text = row.value,
        failure,
        "a challenge's record that was left behind cannot be taken away; {next}"
    );
    given_up
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Disk, LocalDisk, SystemRandom};
    use crate::edge::acme::dns::config::DnsConfig;
    use crate::testing::{TestClock, memory_store};

    fn row(certificate: &str, value: &str, clock: &TestClock) -> RecordRow {
        let name = format!("_acme-challenge.{certificate}");
        let since_ms = clock.now().millis();
        RecordRow { certificate: certificate.to_owned(), name, zone: String::new(), value: value.to_owned(), since_ms }
    }

    async fn dns(script: &str) -> Dns {
        let command = ["/bin/sh", "-c", script, "hook"].map(str::to_owned).to_vec();
        let (domains, provider) = (vec!["example.com".to_owned()], "exec".to_owned());
        let config = DnsConfig { domains, provider, command, ..DnsConfig::default() };
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk);
        Dns::open(&[config], &disk).await.unwrap()
    }

    fn count(store: &Store) -> usize {
        let read = |tx: &dyn crate::store::ReadTx| {
            tx.scan(RECORDS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 10)
        };
        store.read_blocking::<_, StoreError>(read).unwrap().len()
    }

    #[tokio::test]
    async fn what_a_killed_process_left_in_the_dns_is_taken_away_by_the_next() {
        let (store, test_clock) = (memory_store(), Arc::new(TestClock::default()));
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (test_clock.clone(), Arc::new(SystemRandom));
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let dns = dns(&format!("echo \"$@\" >> {}", out.display())).await;
        for left in [row("shop.example.com", "first", &test_clock), row("gone.example.org", "second", &test_clock)] {
            note(&store, &left).await.unwrap();
            note(&store, &left).await.unwrap();
        }
        assert_eq!(count(&store), 2);
        assert!(!sweep(&dns, &store, &clock, &random).await.unwrap());
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "cleanup _acme-challenge.shop.example.com first\n");
        assert_eq!(count(&store), 0, "what nobody can take away was told");
        forget(&store, &row("a.example.com", "never there", &test_clock)).await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_taken_away_is_tried_again_for_a_month() {
        let (store, test_clock) = (memory_store(), Arc::new(TestClock::default()));
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (test_clock.clone(), Arc::new(SystemRandom));
        let dns = dns("exit 1").await;
        note(&store, &row("example.com", "stays", &test_clock)).await.unwrap();
        assert!(sweep(&dns, &store, &clock, &random).await.unwrap());
        assert_eq!(count(&store), 1);
        test_clock.advance(LONGEST + Duration::from_secs(1));
        assert!(!sweep(&dns, &store, &clock, &random).await.unwrap());
        assert_eq!(count(&store), 0);
    }
}
