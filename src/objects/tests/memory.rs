//! Memory per request does not depend on the size of the body.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::base::{DiskFile, Entry, LocalDisk, OpenMode, Space};

/// Sixteen times what may be in flight. Sealing is slow in unoptimised tests; more would show nothing more.
const TOTAL: u64 = 10 << 20;
const CHUNK: u64 = 64 << 10;
/// Two batches, and what framing adds to them.
const IN_FLIGHT: u64 = 2 * (256 << 10) + CHUNK + 4096;

/// The machine's disk, counting bytes of contents.
#[derive(Debug, Default, Clone)]
struct CountingDisk {
    written: Arc<AtomicU64>,
    read: Arc<AtomicU64>,
}

#[derive(Debug)]
struct CountingFile(Box<dyn DiskFile>, CountingDisk);

impl DiskFile for CountingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, offset: u64, target: &mut [u8]) -> io::Result<usize> {
        self.1.read.fetch_add(target.len() as u64, Ordering::SeqCst);
        self.0.read_at(offset, target)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)?;
        self.1.written.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Disk for CountingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(CountingFile(LocalDisk.open(path, mode)?, self.clone())))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove_file(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        LocalDisk.list(path)
    }
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        LocalDisk.entry(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        LocalDisk.space(path)
    }
}

#[tokio::test]
async fn a_large_body_is_never_more_than_two_batches_ahead_either_way() {
    let folder = tempfile::tempdir().unwrap();
    let disk = CountingDisk::default();
    let clock = Arc::new(TestClock::default());
    let config = ObjectsConfig::default();
    let objects = open(Arc::new(disk.clone()), folder.path(), memory_store(), clock, &Metrics::new(), config);
    objects.create_bucket(&bucket()).await.unwrap();

    let chunk = Bytes::from(bytes(1, CHUNK as usize));
    let before = disk.written.load(Ordering::SeqCst);
    let written = disk.written.clone();
    let sent = chunk.clone();
    let body = stream::iter(0..TOTAL / CHUNK).map(move |at| {
        let ahead = (at * CHUNK).saturating_sub(written.load(Ordering::SeqCst) - before);
        assert!(ahead <= IN_FLIGHT, "{ahead} bytes taken and not written");
        Ok(sent.clone())
    });
    let info = objects.put(&bucket(), &key("k"), Metadata::default(), PutExpect::default(), body).await.unwrap();
    assert_eq!(info.size, TOTAL);

    let before = disk.read.load(Ordering::SeqCst);
    let mut body = objects.get(&bucket(), &key("k"), None).await.unwrap().body;
    let mut given = 0;
    while let Some(got) = body.next().await {
        let got = got.unwrap();
        assert!(got == chunk);
        given += got.len() as u64;
        let ahead = (disk.read.load(Ordering::SeqCst) - before).saturating_sub(given);
        // What is read carries 16 bytes a segment more than what is given.
        assert!(ahead <= IN_FLIGHT + given / 1024, "{ahead} bytes read and not given");
    }
    assert_eq!(given, TOTAL);
}
