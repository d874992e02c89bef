//! Listing against a model that looks at every key.

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::objects::index::{Content, object_key};
use crate::objects::types::{Etag, Metadata};
use crate::store::{Direction, Row, Store, StoreError, Table, record};
use crate::testing::plain_memory_store;

const BUCKET: Id128 = Id128::from_bytes([0xff; 16]);

fn store_with(keys: impl IntoIterator<Item = String>) -> Store {
    let store = plain_memory_store();
    let row = ObjectRow {
        modified: 1,
        size: 2,
        etag: Etag { md5: [3; 16], parts: 0 },
        content: Content::Inline(BUCKET),
        metadata: Metadata::default(),
        version: crate::objects::index::VersionTag::UNVERSIONED,
    };
    let keys: Vec<_> = keys.into_iter().map(|key| object_key(BUCKET, &key.parse().unwrap())).collect();
    let value = record::encode(&row);
    let put = move |tx: &mut dyn crate::store::WriteTx| keys.iter().try_for_each(|key| tx.put(CURRENT, key, &value));
    store.write_blocking::<_, StoreError>(put).unwrap();
    store
}

/// The names of a page in order, and where to go on.
fn naive(keys: &BTreeSet<String>, query: &ListQuery) -> (Vec<String>, Option<String>) {
    let delimiter = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let after = query.after.as_deref();
    let mut names: Vec<String> = Vec::new();
    for key in keys.iter().filter(|key| after.is_none_or(|after| key.as_str() > after)) {
        let Some(rest) = key.strip_prefix(&query.prefix) else { continue };
        let rolled = delimiter.and_then(|d| rest.find(d).map(|at| &key[..query.prefix.len() + at + d.len()]));
        let name = rolled.unwrap_or(key);
        let passed = rolled.is_some() && after == rolled;
        if !passed && names.last().is_none_or(|last| last != name) {
            names.push(name.to_owned());
        }
    }
    let more = names.len() > query.max_keys && query.max_keys > 0;
    names.truncate(query.max_keys);
    let next = names.last().filter(|_| more).cloned();
    (names, next)
}

fn names(page: &ListPage) -> Vec<String> {
    let mut all: Vec<String> = page.objects.iter().map(|object| object.key.clone()).collect();
    all.extend(page.common_prefixes.iter().cloned());
    all.sort();
    all
}

proptest! {
    #[test]
    fn pages_are_what_looking_at_every_key_gives(
        keys in proptest::collection::btree_set("[ab/é]{1,5}", 0..60),
        prefix in "[ab/]{0,2}",
        delimiter in proptest::option::of("/|b|a/|é|"),
        after in proptest::option::of("[ab/é]{0,4}"),
        max_keys in 0usize..6,
    ) {
        let store = store_with(keys.iter().cloned());
        let mut query = ListQuery { prefix, delimiter, after, max_keys };
        for _ in 0..80 {
            let page = store.read_blocking(|tx| list_page(tx, BUCKET, &query)).unwrap();
            let (wanted, next) = naive(&keys, &query);
            prop_assert_eq!(names(&page), wanted);
            prop_assert_eq!(&page.next, &next);
            let Some(next) = next else { break };
            query.after = Some(next);
        }
    }
}

/// Counts the rows a listing has read.
struct Counting<'a>(&'a dyn ReadTx, Cell<usize>);

impl ReadTx for Counting<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(table, key)
    }
    fn scan(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.0.scan(table, from, to, direction, limit)?;
        self.1.set(self.1.get() + rows.len());
        Ok(rows)
    }
}

fn rows_read(store: &Store, query: &ListQuery) -> (ListPage, usize) {
    store
        .read_blocking(|tx| {
            let counting = Counting(tx, Cell::new(0));
            let page = list_page(&counting, BUCKET, query)?;
            Ok::<_, ObjectError>((page, counting.1.get()))
        })
        .unwrap()
}

#[test]
fn a_folder_costs_a_seek_whatever_it_holds() {
    let folders = (0..20).flat_map(|folder| (0..500).map(move |file| format!("{folder:02}/{file}")));
    let store = store_with(folders);
    let query = ListQuery { delimiter: Some("/".to_owned()), max_keys: 1000, ..ListQuery::default() };
    let (page, read) = rows_read(&store, &query);
    assert_eq!(page.common_prefixes.len(), 20);
    assert!(read <= 20 * 16, "{read} of 10000 rows read");
    let (page, read) = rows_read(&store, &ListQuery { after: Some("18/".to_owned()), ..query });
    assert_eq!(page.common_prefixes, ["19/"]);
    assert!(read <= 2 * 16, "{read}");
}

#[test]
fn a_page_reads_little_more_than_it_shows() {
    let store = store_with((0..3000).map(|at| format!("{at:05}")));
    let (page, read) = rows_read(&store, &ListQuery { max_keys: 1, ..ListQuery::default() });
    assert_eq!((page.objects.len(), page.next.as_deref(), read), (1, Some("00000"), 2));
    let (page, read) = rows_read(&store, &ListQuery { max_keys: 5000, ..ListQuery::default() });
    assert_eq!((page.objects.len(), page.next.as_deref()), (1000, Some("00999")));
    assert!(read <= 1280, "{read}");
}
