//! What every engine promises, run against each of them.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::testing::{FaultyDisk, TwiceStore, memory_store, plain_memory_store, store_on};

const A: Table = Table::new("test.a");
const B: Table = Table::new("test.b");

/// Runs every promise on stores made by `open`.
async fn keeps_every_promise(open: impl Fn() -> Store) {
    rows_come_back_in_their_table(&open()).await;
    scans_are_ordered_bounded_and_limited(&open()).await;
    a_failing_closure_leaves_nothing(&open()).await;
    a_transaction_sees_its_own_changes(&open()).await;
    concurrent_increments_all_count(&open()).await;
    too_large_rows_are_refused(&open()).await;
    a_snapshot_stays_what_it_was(&open()).await;
    nothing_is_committed_during_a_pause(&open()).await;
    a_closed_store_says_so(&open()).await;
}

#[tokio::test]
async fn the_memory_engine_keeps_every_promise() {
    keeps_every_promise(plain_memory_store).await;
    keeps_every_promise(memory_store).await;
}

#[tokio::test]
async fn the_redb_engine_keeps_every_promise() {
    let fresh = || store_on(&FaultyDisk::new(), &STATE, 1).unwrap();
    keeps_every_promise(fresh).await;
    keeps_every_promise(|| TwiceStore::over(&fresh())).await;
}

#[tokio::test]
async fn the_double_runs_every_closure_twice() {
    let store = memory_store();
    let runs = Arc::new(AtomicU32::new(0));
    let (in_write, in_read) = (Arc::clone(&runs), Arc::clone(&runs));
    let write = move |tx: &mut dyn WriteTx| {
        in_write.fetch_add(1, Ordering::SeqCst);
        let there = tx.get(A, b"k")?.is_some();
        tx.put(A, b"k", b"v").map(|()| there)
    };
    assert!(!store.write::<_, StoreError>(write).await.unwrap());
    let read = move |tx: &dyn ReadTx| {
        in_read.fetch_add(1, Ordering::SeqCst);
        tx.get(A, b"k")
    };
    assert!(store.read::<_, StoreError>(read).await.unwrap().is_some());
    assert_eq!(runs.load(Ordering::SeqCst), 4);
}

async fn put(store: &Store, table: Table, rows: &'static [(&'static str, &'static str)]) {
    let put_all = move |tx: &mut dyn WriteTx| {
        rows.iter().try_for_each(|(key, value)| tx.put(table, key.as_bytes(), value.as_bytes()))
    };
    store.write::<_, StoreError>(put_all).await.unwrap();
}

async fn get(store: &Store, table: Table, key: &'static str) -> Option<String> {
    let value = store.read::<_, StoreError>(move |tx| tx.get(table, key.as_bytes())).await.unwrap();
    value.map(|value| String::from_utf8(value).unwrap())
}

async fn keys(
    store: &Store,
    from: Bound<&'static str>,
    to: Bound<&'static str>,
    direction: Direction,
    limit: usize,
) -> String {
    let scan = move |tx: &dyn ReadTx| tx.scan(A, from.map(str::as_bytes), to.map(str::as_bytes), direction, limit);
    let rows = store.read::<_, StoreError>(scan).await.unwrap();
    rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

async fn rows_come_back_in_their_table(store: &Store) {
    put(store, A, &[("k", "one"), ("", "empty key"), ("e", "")]).await;
    put(store, B, &[("k", "two")]).await;
    assert_eq!(get(store, A, "k").await.unwrap(), "one");
    assert_eq!(get(store, A, "").await.unwrap(), "empty key");
    assert_eq!(get(store, A, "e").await.unwrap(), "");
    assert_eq!(get(store, B, "k").await.unwrap(), "two");
    assert_eq!(get(store, B, "e").await, None);
    let many = |tx: &dyn ReadTx| tx.get_many(A, &[b"k", b"none", b"e"]);
    assert_eq!(store.read::<_, StoreError>(many).await.unwrap(), [Some(b"one".to_vec()), None, Some(Vec::new())]);
    let delete = |tx: &mut dyn WriteTx| Ok((tx.delete(A, b"k")?, tx.delete(A, b"k")?, tx.delete(A, b"none")?));
    assert_eq!(store.write::<_, StoreError>(delete).await.unwrap(), (true, false, false));
    assert_eq!(get(store, A, "k").await, None);
}

async fn scans_are_ordered_bounded_and_limited(store: &Store) {
    use Bound::{Excluded, Included, Unbounded};
    use Direction::{Backward, Forward};
    assert_eq!(keys(store, Unbounded, Unbounded, Forward, 10).await, "");
    put(store, A, &[("c", ""), ("a", ""), ("b", ""), ("d", "")]).await;
    assert_eq!(keys(store, Unbounded, Unbounded, Forward, 10).await, "abcd");
    assert_eq!(keys(store, Unbounded, Unbounded, Backward, 3).await, "dcb");
    assert_eq!(keys(store, Excluded("a"), Included("c"), Forward, 10).await, "bc");
    assert_eq!(keys(store, Included("b"), Excluded("d"), Backward, 10).await, "cb");
    assert_eq!(keys(store, Included("b"), Unbounded, Forward, 0).await, "");
    assert_eq!(keys(store, Included("c"), Included("a"), Forward, 10).await, "");
    assert_eq!(keys(store, Excluded("a"), Excluded("a"), Forward, 10).await, "");
}

async fn a_failing_closure_leaves_nothing(store: &Store) {
    put(store, A, &[("k", "one")]).await;
    let fail = |tx: &mut dyn WriteTx| -> Result<(), StoreError> {
        tx.put(A, b"k", b"two")?;
        tx.put(B, b"new", b"x")?;
        tx.delete(A, b"k")?;
        Err(StoreError::Engine { file: "test", reason: "on purpose".to_owned() })
    };
    assert!(store.write(fail).await.unwrap_err().to_string().contains("on purpose"));
    assert_eq!(get(store, A, "k").await.unwrap(), "one");
    assert_eq!(get(store, B, "new").await, None);
}

async fn a_transaction_sees_its_own_changes(store: &Store) {
    put(store, A, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]).await;
    let op = |tx: &mut dyn WriteTx| {
        tx.delete(A, b"a")?;
        tx.delete(A, b"c")?;
        tx.put(A, b"b", b"new")?;
        tx.put(A, b"bb", b"between")?;
        assert_eq!(tx.get(A, b"a")?, None);
        let first_two = tx.scan(A, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 2)?;
        let last_two = tx.scan(A, Bound::Unbounded, Bound::Unbounded, Direction::Backward, 2)?;
        Ok((first_two, last_two))
    };
    let (first_two, last_two) = store.write::<_, StoreError>(op).await.unwrap();
    let row = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(first_two, [row("b", "new"), row("bb", "between")]);
    assert_eq!(last_two, [row("d", "4"), row("bb", "between")]);
}

async fn concurrent_increments_all_count(store: &Store) {
    let increment = |tx: &mut dyn WriteTx| {
        let count = tx.get(A, b"count")?.map_or(0, |bytes| bytes[0]);
        tx.put(A, b"count", &[count + 1])
    };
    let writes = (0..50).map(|_| store.write::<_, StoreError>(increment));
    for result in futures_util::future::join_all(writes).await {
        result.unwrap();
    }
    let count = store.read::<_, StoreError>(|tx| tx.get(A, b"count")).await.unwrap();
    assert_eq!(count, Some(vec![50]));
}

async fn too_large_rows_are_refused(store: &Store) {
    let key = store.write::<_, StoreError>(|tx| tx.put(A, &[0; KEY_MAX + 1], b"")).await;
    assert!(matches!(key, Err(StoreError::TooLarge { part: "key", .. })));
    let value = store.write::<_, StoreError>(|tx| tx.put(A, b"", &vec![0; VALUE_MAX + 1])).await;
    assert!(matches!(value, Err(StoreError::TooLarge { part: "value", .. })));
    store.write::<_, StoreError>(|tx| tx.put(A, &[0; KEY_MAX], &vec![0; VALUE_MAX])).await.unwrap();
}

async fn a_snapshot_stays_what_it_was(store: &Store) {
    put(store, A, &[("a", "1"), ("b", "2")]).await;
    let snapshot = store.snapshot().unwrap();
    put(store, A, &[("a", "changed"), ("c", "3")]).await;
    put(store, B, &[("k", "new")]).await;
    assert_eq!(snapshot.get(A, b"a").unwrap().unwrap(), b"1");
    let rows = snapshot.scan(A, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 10).unwrap();
    assert_eq!(rows, [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    assert_eq!(snapshot.get(B, b"k").unwrap(), None);
    let tables = snapshot.tables().unwrap();
    assert!(tables.contains(&A) && !tables.contains(&B), "{tables:?}");
    store.close().await;
    drop(snapshot);
}

async fn nothing_is_committed_during_a_pause(store: &Store) {
    put(store, A, &[("k", "one")]).await;
    let pausing = store.clone();
    let pause = tokio::task::spawn_blocking(move || pausing.pause_blocking().unwrap()).await.unwrap();
    let write = store.write::<_, StoreError>(|tx| tx.put(A, b"k", b"two"));
    let mut write = std::pin::pin!(write);
    assert!(futures_util::FutureExt::now_or_never(write.as_mut()).is_none());
    assert_eq!(get(store, A, "k").await.unwrap(), "one");
    assert!(pause.end());
    write.await.unwrap();
    assert_eq!(get(store, A, "k").await.unwrap(), "two");
}

async fn a_closed_store_says_so(store: &Store) {
    assert_eq!(store.health().await, StoreHealth::Well);
    store.close().await;
    store.close().await;
    assert_eq!(store.health().await, StoreHealth::Closed);
    let read = store.read::<_, StoreError>(|tx| tx.get(A, b"k")).await;
    assert!(matches!(read, Err(StoreError::Closed { .. })));
    let write = store.write::<_, StoreError>(|tx| tx.put(A, b"k", b"v")).await;
    assert!(matches!(write, Err(StoreError::Closed { .. })));
    assert!(matches!(store.snapshot().map(drop), Err(StoreError::Closed { .. })));
    assert!(matches!(store.pause_blocking().map(drop), Err(StoreError::Closed { .. })));
}
