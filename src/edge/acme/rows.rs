//! What is kept in the store, sealed as every row, in four tables:
//!
//! | table | key | value |
//! |---|---|---|
//! | `edge.acme.accounts` | directory's address | [`AccountRow`] |
//! | `edge.acme.issued` | name | [`Issued`]: the certificate in use with its private key |
//! | `edge.acme.names` | name | [`NameRow`]: attempts, the order under way, when to go on |
//! | `edge.acme.on_demand` | name | [`OnDemandRow`]: a name that no setting has |
//!
//! An issued certificate is replaced only by its successor, in one commit with the end of its order: whatever breaks off
//! in between, the row holds a certificate and the key that belongs to it.

use std::fmt;
use std::ops::Bound;

use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::store::record::{self, Record};
use crate::store::{Direction, Store, StoreError, Table, WriteTx};

const ACCOUNTS: Table = Table::new("edge.acme.accounts");
const ISSUED: Table = Table::new("edge.acme.issued");
const NAMES: Table = Table::new("edge.acme.names");
const ON_DEMAND: Table = Table::new("edge.acme.on_demand");
/// Rows read at once.
const PAGE: usize = 256;

/// The account at one authority. Version 1.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccountRow {
    /// Address and private key, as instant-acme writes them in JSON.
    pub credentials: String,
}

/// A certificate an authority gave out. Version 1.
#[derive(Clone, Serialize, Deserialize)]
pub struct Issued {
    /// Whose it is.
    pub directory: String,
    /// The certificate, then those above it, in DER.
    pub chain: Vec<Vec<u8>>,
    /// PKCS #8.
    pub key: Vec<u8>,
    /// First moment it is good for.
    pub not_before_ms: u64,
    /// Last moment it is good for.
    pub not_after_ms: u64,
    /// When to get the next one.
    pub renew_at_ms: u64,
    /// When to ask the authority again whether that is early enough (RFC 9773).
    pub ask_at_ms: u64,
}

/// How far a name has come. Version 1.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct NameRow {
    /// Failed attempts since the last success.
    pub failures: u32,
    /// When the last attempt began; 0 for never.
    pub last_attempt_ms: u64,
    /// No attempt before this moment.
    pub next_attempt_ms: u64,
    /// Why the last attempt failed; empty when it did not.
    pub error: String,
    /// An order that may be gone on with.
    pub order: Option<OrderRow>,
}

/// An order under way at an authority.
#[derive(Clone, Serialize, Deserialize)]
pub struct OrderRow {
    /// The authority.
    pub directory: String,
    /// The order's address there.
    pub url: String,
    /// The private key the certificate will be for, PKCS #8.
    pub key: Vec<u8>,
}

/// A name that the app said may have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDemandRow {
    /// When it did first; milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl Record for OnDemandRow {
    const VERSION: u8 = 1;
}

impl Record for AccountRow {
    const VERSION: u8 = 1;
}

impl Record for Issued {
    const VERSION: u8 = 1;
}

impl Record for NameRow {
    const VERSION: u8 = 1;
}

impl Drop for Issued {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Drop for OrderRow {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Drop for AccountRow {
    fn drop(&mut self) {
        self.credentials.zeroize();
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl fmt::Debug for NameRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameRow").field("failures", &self.failures).finish_non_exhaustive()
    }
}

impl Issued {
    /// Its chain, as rustls takes it.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().cloned().map(CertificateDer::from).collect()
    }
}

/// The account at `directory`.
///
/// # Errors
/// [`StoreError`]. A row that does not fit is told in the log and counts as none.
pub async fn account(store: &Store, directory: &str) -> Result<Option<AccountRow>, StoreError> {
    let key = directory.to_owned();
    let row = store.read::<_, StoreError>(move |tx| tx.get(ACCOUNTS, key.as_bytes())).await?;
    Ok(row.and_then(|bytes| understood(directory, &bytes)))
}

/// Keeps the account at `directory`, or forgets it.
///
/// # Errors
/// [`StoreError`].
pub async fn put_account(store: &Store, directory: &str, row: Option<&AccountRow>) -> Result<(), StoreError> {
    let (key, row) = (directory.to_owned(), row.map(record::encode));
    store
        .write(move |tx: &mut dyn WriteTx| match &row {
            Some(row) => tx.put(ACCOUNTS, key.as_bytes(), row),
            None => tx.delete(ACCOUNTS, key.as_bytes()).map(drop),
        })
        .await
}

/// Every certificate and every name's row.
///
/// # Errors
/// [`StoreError`].
pub async fn load(store: &Store) -> Result<(Vec<(String, Issued)>, Vec<(String, NameRow)>), StoreError> {
    Ok((all(store, ISSUED).await?, all(store, NAMES).await?))
}

/// Keeps `row` for `name`, together with a new certificate when there is one.
///
/// # Errors
/// [`StoreError`]: neither is kept.
pub async fn put_name(store: &Store, name: &str, row: &NameRow, issued: Option<&Issued>) -> Result<(), StoreError> {
    let (key, row, issued) = (name.to_owned(), record::encode(row), issued.map(record::encode));
    store
        .write(move |tx: &mut dyn WriteTx| {
            if let Some(issued) = &issued {
                tx.put(ISSUED, key.as_bytes(), issued)?;
            }
            tx.put(NAMES, key.as_bytes(), &row)
        })
        .await
}

/// Forgets everything about `name`.
///
/// # Errors
/// [`StoreError`].
pub async fn forget(store: &Store, name: &str) -> Result<(), StoreError> {
    let key = name.to_owned();
    store
        .write(move |tx: &mut dyn WriteTx| {
            tx.delete(ISSUED, key.as_bytes())?;
            tx.delete(ON_DEMAND, key.as_bytes())?;
            tx.delete(NAMES, key.as_bytes()).map(drop)
        })
        .await
}

/// The names that no setting has.
///
/// # Errors
/// The store cannot be read.
pub async fn on_demand(store: &Store) -> Result<Vec<String>, StoreError> {
    Ok(all::<OnDemandRow>(store, ON_DEMAND).await?.into_iter().map(|(name, _)| name).collect())
}

/// Takes `name` on.
///
/// # Errors
/// The store cannot be written.
pub async fn put_on_demand(store: &Store, name: &str, row: OnDemandRow) -> Result<(), StoreError> {
    let (key, row) = (name.to_owned(), record::encode(&row));
    store.write(move |tx: &mut dyn WriteTx| tx.put(ON_DEMAND, key.as_bytes(), &row)).await
}

async fn all<T: Record + DeserializeOwned>(store: &Store, table: Table) -> Result<Vec<(String, T)>, StoreError> {
    let mut out = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let from = after.clone();
        let page = store
            .read::<_, StoreError>(move |tx| {
                let from = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                tx.scan(table, from, Bound::Unbounded, Direction::Forward, PAGE)
            })
            .await?;
        let last = page.len() < PAGE;
        after = page.last().map(|(key, _)| key.clone());
        for (key, value) in page {
            let name = String::from_utf8_lossy(&key).into_owned();
            out.extend(understood(&name, &value).map(|row| (name, row)));
        }
        if last {
            return Ok(out);
        }
    }
}

fn understood<T: Record>(name: &str, bytes: &[u8]) -> Option<T> {
    record::decode(bytes).inspect_err(|error| tracing::error!(name, %error, "a certificate's row cannot be read")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory_store;

    #[tokio::test]
    async fn a_certificate_and_the_end_of_its_order_are_one_commit() {
        let store = memory_store();
        let order = OrderRow { directory: "https://ca.example/".into(), url: "u".into(), key: vec![1] };
        let row = NameRow { failures: 2, order: Some(order), ..NameRow::default() };
        put_name(&store, "a.example", &row, None).await.unwrap();
        let (issued, names) = load(&store).await.unwrap();
        assert!(issued.is_empty() && names[0].1.order.is_some());
        let certificate = Issued {
            directory: "https://ca.example/".into(),
            chain: vec![vec![1, 2]],
            key: vec![3],
            not_before_ms: 1,
            not_after_ms: 2,
            renew_at_ms: 3,
            ask_at_ms: 4,
        };
        put_name(&store, "a.example", &NameRow::default(), Some(&certificate)).await.unwrap();
        let (issued, names) = load(&store).await.unwrap();
        assert_eq!((issued[0].1.chain.clone(), names[0].1.failures), (certificate.chain.clone(), 0));
        assert!(!format!("{:?}", issued[0].1).contains('3'));
        forget(&store, "a.example").await.unwrap();
        assert!(load(&store).await.unwrap().0.is_empty());
    }

    #[tokio::test]
    async fn an_account_is_kept_and_forgotten() {
        let store = memory_store();
        let row = AccountRow { credentials: "{}".into() };
        put_account(&store, "d", Some(&row)).await.unwrap();
        assert_eq!(account(&store, "d").await.unwrap().unwrap().credentials, "{}");
        put_account(&store, "d", None).await.unwrap();
        assert!(account(&store, "d").await.unwrap().is_none());
    }
}
