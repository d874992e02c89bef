//! Versions: what a key holds after every mixture of writes, deletions and settings.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

impl World {
    pub(super) async fn versions(&self, query: VersionQuery) -> VersionPage {
        self.objects.list_versions(&bucket(), query).await.unwrap()
    }

    pub(super) async fn read_version(&self, name: &str, id: VersionId) -> Result<Vec<u8>, ObjectError> {
        let target = Target { key: key(name), version: Some(id) };
        collect(self.objects.get_version(&bucket(), &target, None).await?.body).await
    }

    pub(super) async fn delete(&self, name: &str, version: Option<VersionId>) -> Deleted {
        let target = Target { key: key(name), version };
        self.objects.delete_version(&bucket(), target, Condition::Any).await.unwrap()
    }

    pub(super) async fn keep_versions(&self, keep: bool) {
        self.objects.set_versioning(&bucket(), keep).await.unwrap();
    }
}

fn all() -> VersionQuery {
    VersionQuery { max_keys: 1000, ..VersionQuery::default() }
}

#[tokio::test]
async fn what_is_overwritten_or_deleted_stays_and_comes_back() {
    let world = World::new().await;
    assert!(!world.put("k", &bytes(0, 20_000)).await.unwrap().versioned);
    world.keep_versions(true).await;
    let first = world.put("k", &bytes(1, 20_000)).await.unwrap();
    let second = world.put("k", &bytes(2, 30)).await.unwrap();
    assert!(first.versioned && first.version != second.version);
    let marker = world.delete("k", None).await;
    assert!(marker.marker);
    assert!(matches!(world.read("k").await, Err(ObjectError::DeleteMarker { named: false, .. })));
    world.collect_garbage().await;
    assert_eq!(world.read_version("k", VersionId::Null).await.unwrap(), bytes(0, 20_000));
    assert_eq!(world.read_version("k", first.version).await.unwrap(), bytes(1, 20_000));
    assert_eq!(world.read_version("k", second.version).await.unwrap(), bytes(2, 30));
    let named = world.read_version("k", marker.version.unwrap()).await;
    assert!(matches!(named, Err(ObjectError::DeleteMarker { named: true, .. })));
    assert!(matches!(world.objects.delete_bucket(&bucket()).await, Err(ObjectError::BucketNotEmpty)));
    // Without the marker it is back.
    assert_eq!(world.delete("k", marker.version).await, marker);
    assert_eq!(world.read("k").await.unwrap(), bytes(2, 30));
    world.delete("k", Some(second.version)).await;
    assert_eq!(world.read("k").await.unwrap(), bytes(1, 20_000));
    assert!(matches!(world.read_version("k", second.version).await, Err(ObjectError::NoSuchVersion)));
    for id in [first.version, VersionId::Null] {
        world.delete("k", Some(id)).await;
    }
    assert!(matches!(world.read("k").await, Err(ObjectError::NoSuchKey)));
    world.collect_garbage().await;
    assert!(world.files().is_empty());
    world.objects.delete_bucket(&bucket()).await.unwrap();
}

#[tokio::test]
async fn a_suspended_bucket_has_one_null_version_and_keeps_the_others() {
    let world = World::new().await;
    world.keep_versions(true).await;
    let kept = world.put("k", &bytes(1, 20_000)).await.unwrap();
    world.keep_versions(false).await;
    for seed in 2..5 {
        assert_eq!(world.put("k", &bytes(seed, 20_000)).await.unwrap().version, VersionId::Null);
    }
    world.collect_garbage().await;
    assert_eq!(world.files().len(), 2);
    let deleted = world.delete("k", None).await;
    assert_eq!(deleted, Deleted { version: Some(VersionId::Null), marker: true });
    assert_eq!(world.versions(all()).await.versions.len(), 2);
    assert_eq!(world.read_version("k", kept.version).await.unwrap(), bytes(1, 20_000));
    world.keep_versions(true).await;
    world.put("k", b"new").await.unwrap();
    assert_eq!(world.delete("k", Some(VersionId::Null)).await, deleted);
    assert_eq!(world.versions(all()).await.versions.len(), 2);
    assert_eq!(world.read("k").await.unwrap(), b"new");
}

#[tokio::test]
async fn a_multipart_object_is_a_version_and_tags_stay_with_theirs() {
    let world = World::new().await;
    world.keep_versions(true).await;
    let (bucket, name) = (bucket(), key("k"));
    let upload = world.objects.create_upload(&bucket, &name, Metadata::default()).await.unwrap();
    let sent = bytes(1, 30_000);
    let put = world.objects.put_part(&bucket, &name, upload, number(1), PutExpect::default(), None, body(&sent));
    let part = put.await.unwrap();
    let chosen = vec![PartChoice { number: part.number, etag: part.etag }];
    let joined = world.objects.complete_upload(&bucket, &name, upload, chosen, None, Condition::Any).await.unwrap();
    world.put("k", b"newer").await.unwrap();
    let older = Target { key: name, version: Some(joined.version) };
    let tags = vec![("a".to_owned(), "b".to_owned())];
    world.objects.set_tags(&bucket, &older, tags.clone()).await.unwrap();
    world.objects.set_tags(&bucket, &newest("k"), vec![("c".to_owned(), String::new())]).await.unwrap();
    assert_eq!(world.objects.head_version(&bucket, &older).await.unwrap().metadata.tags, tags);
    world.collect_garbage().await;
    assert_eq!(world.read_version("k", joined.version).await.unwrap(), sent);
    assert_eq!(world.read("k").await.unwrap(), b"newer");
    world.delete("k", Some(joined.version)).await;
    world.collect_garbage().await;
    assert!(world.files().is_empty());
}

#[tokio::test]
async fn deleting_page_by_page_reaches_every_version() {
    let world = World::new().await;
    world.put("a", b"null").await.unwrap();
    world.keep_versions(true).await;
    for at in 0..4_u8 {
        world.put("a", &[at]).await.unwrap();
        world.put("b/x", &[at]).await.unwrap();
    }
    world.delete("a", None).await;
    let mut query = VersionQuery { max_keys: 2, ..VersionQuery::default() };
    let mut seen = 0;
    loop {
        let page = world.versions(query.clone()).await;
        seen += page.versions.len();
        for version in &page.versions {
            world.delete(&version.key, Some(version.version)).await;
        }
        let Some((key, version)) = page.next else { break };
        (query.after_key, query.after_version) = (Some(key), version);
    }
    assert_eq!(seen, 10);
    assert_eq!(world.versions(all()).await, VersionPage::default());
}

/// A key's versions, the newest first: id and contents, `None` for a marker.
type Model = BTreeMap<&'static str, Vec<(VersionId, Option<Vec<u8>>)>>;

const KEYS: [&str; 5] = ["a", "a\0", "d/x", "d/y", "e"];

async fn do_step(world: &World, model: &mut Model, keep: bool, step: (u8, u8, u8)) {
    let (kind, which, pick) = step;
    let name = KEYS[usize::from(which) % KEYS.len()];
    let versions = model.entry(name).or_default();
    if kind == 2 && !versions.is_empty() {
        let (id, contents) = versions.remove(usize::from(pick) % versions.len());
        assert_eq!(world.delete(name, Some(id)).await.marker, contents.is_none());
        return;
    }
    let (id, contents) = if kind == 1 {
        (world.delete(name, None).await.version.unwrap(), None)
    } else {
        (world.put(name, &[pick]).await.unwrap().version, Some(vec![pick]))
    };
    assert_eq!(id == VersionId::Null, !keep);
    if !keep {
        versions.retain(|(id, _)| *id != VersionId::Null);
    }
    versions.insert(0, (id, contents));
}

async fn compare(world: &World, model: &Model, size: usize) {
    for (name, versions) in model {
        let newest = versions.first().and_then(|(_, contents)| contents.clone());
        assert_eq!(world.read(name).await.ok(), newest, "{name:?}");
        for (id, contents) in versions {
            assert_eq!(world.read_version(name, *id).await.ok(), *contents, "{name:?} {id}");
        }
    }
    let listed = world.objects.list(&bucket(), ListQuery { max_keys: 1000, ..ListQuery::default() }).await.unwrap();
    let there = model.iter().filter(|(_, versions)| versions.first().is_some_and(|(_, contents)| contents.is_some()));
    let there: Vec<&str> = there.map(|(name, _)| *name).collect();
    assert_eq!(listed.objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), there);
    for delimiter in [None, Some("/".to_owned())] {
        let mut wanted = Vec::new();
        for (name, versions) in model {
            for (at, (id, contents)) in versions.iter().enumerate() {
                match name.split_once('/').filter(|_| delimiter.is_some()) {
                    Some((folder, _)) => wanted.push((format!("{folder}/"), None)),
                    None => wanted.push(((*name).to_owned(), Some((*id, at == 0, contents.is_some())))),
                }
            }
        }
        wanted.dedup_by(|second, first| second == first && second.1.is_none());
        let mut query = VersionQuery { delimiter, max_keys: size, ..VersionQuery::default() };
        let mut found = Vec::new();
        loop {
            let page = world.versions(query.clone()).await;
            assert!(page.versions.len() + page.common_prefixes.len() <= size);
            let mut entries: Vec<_> = page.common_prefixes.into_iter().map(|prefix| (prefix, None)).collect();
            entries.extend(
                page.versions
                    .into_iter()
                    .map(|version| (version.key, Some((version.version, version.latest, version.object.is_some())))),
            );
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            found.extend(entries);
            let Some((key, version)) = page.next else { break };
            (query.after_key, query.after_version) = (Some(key), version);
        }
        assert_eq!(found, wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_mixture_holds_what_a_list_of_versions_would(
        steps in proptest::collection::vec((any::<bool>(), (0u8..3, 0u8..5, any::<u8>())), 1..40), size in 1usize..6
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let mut model = Model::new();
            for (keep, step) in steps {
                world.keep_versions(keep).await;
                do_step(&world, &mut model, keep, step).await;
            }
            compare(&world, &model, size).await;
            world.collect_garbage().await;
            compare(&world, &model, size).await;
        });
    }
}

#[tokio::test]
async fn versions_acknowledged_survive_a_power_cut_at_every_step() {
    async fn run(world: &World, told: &mut Vec<(VersionId, Vec<u8>)>) -> Result<(), ObjectError> {
        for seed in 0..3 {
            let sent = bytes(seed, 20_000);
            told.push((world.put("k", &sent).await?.version, sent));
        }
        world.objects.delete(&bucket(), &key("k"), Condition::Any).await?;
        world.collect_garbage().await;
        Ok(())
    }
    let world = World::new().await;
    world.keep_versions(true).await;
    let before = world.disk.operations();
    run(&world, &mut Vec::new()).await.unwrap();
    let steps = world.disk.operations() - before;
    assert!(steps > 5, "{steps}");
    for step in 1..=steps {
        let world = World::new().await;
        world.keep_versions(true).await;
        // The data folder itself is not this room's to make durable.
        world.disk.sync_dir(Path::new("/")).unwrap();
        world.disk.cut_power_at(step);
        let mut told = Vec::new();
        let _unanswered = run(&world, &mut told).await;
        let after = world.restarted(world.disk.crash(step));
        for (id, sent) in &told {
            assert_eq!(after.read_version("k", *id).await.unwrap(), *sent, "power cut at step {step}");
        }
        after.objects.sweep().unwrap();
        let versions = after.versions(all()).await.versions;
        assert!(versions.len() >= told.len() && versions.len() <= told.len() + 1, "power cut at step {step}");
        assert!(after.files().iter().all(|path| path.extension().is_none()));
    }
}
