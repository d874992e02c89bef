use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};

use super::*;
use crate::base::LocalDisk;
use crate::testing::{TestClock, memory_store};

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

struct Home {
    store: Store,
    folder: tempfile::TempDir,
    clock: Arc<TestClock>,
}

impl Home {
    fn new() -> Self {
        let clock = Arc::new(TestClock::at(NOW));
        Self { store: memory_store(), folder: tempfile::tempdir().unwrap(), clock }
    }

    async fn open(&self, names: &[&str]) -> Option<Arc<Internal>> {
        let config = InternalCaConfig { names: names.iter().map(|name| (*name).to_owned()).collect() };
        config.validate().unwrap();
        let (disk, clock): (Arc<dyn Disk>, Arc<dyn Clock>) =
            (Arc::new(LocalDisk), Arc::<TestClock>::clone(&self.clock));
        Internal::open(&config, "home.arpa", &self.store, &disk, self.folder.path(), &clock).await.unwrap()
    }

    /// The certificate a handshake gets.
    async fn certificate(&self, internal: &Arc<Internal>, name: &str) -> Option<Arc<CertifiedKey>> {
        internal.prepare(name).await;
        internal.certificate(name)
    }

    /// Whether somebody who trusts the root takes `key` for `name` now.
    fn takes(&self, internal: &Internal, key: &CertifiedKey, name: &str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(internal.row.certificate.clone())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_millis(self.clock.now().millis()));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&key.cert[0], &key.cert[1..], &name, &[], now).is_ok()
    }
}

#[tokio::test]
async fn a_name_gets_a_certificate_that_verifies_and_another_before_it_ends() {
    let home = Home::new();
    let internal = home.open(&["*.home.arpa", "Box.internal"]).await.unwrap();
    assert!(internal.certificate("a.b.home.arpa").is_none());
    let first = home.certificate(&internal, "a.b.home.arpa").await.unwrap();
    first.keys_match().unwrap();
    assert!(home.takes(&internal, &first, "a.b.home.arpa"));
    assert!(!home.takes(&internal, &first, "b.home.arpa"));
    assert!(home.certificate(&internal, "box.internal").await.is_some());
    for other in ["home.arpa", "xhome.arpa", "a.box.internal", "example.com"] {
        assert!(home.certificate(&internal, other).await.is_none(), "{other}");
    }
    assert!(Arc::ptr_eq(&first, &home.certificate(&internal, "a.b.home.arpa").await.unwrap()));
    home.clock.advance(RENEWED_AFTER.duration());
    let second = home.certificate(&internal, "a.b.home.arpa").await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(home.takes(&internal, &first, "a.b.home.arpa") && home.takes(&internal, &second, "a.b.home.arpa"));
}

#[tokio::test]
async fn the_root_is_made_once_and_says_for_what() {
    let home = Home::new();
    assert!(home.open(&[]).await.is_none());
    let first = home.open(&["*.internal"]).await.unwrap();
    home.clock.advance(Span::days(3_600).duration());
    let second = home.open(&["*.lan"]).await.unwrap();
    assert_eq!(first.row.certificate, second.row.certificate);
    assert_eq!(std::fs::read_to_string(exported_path(home.folder.path())).unwrap(), second.root().pem);
    let leaf = home.certificate(&second, "a.lan").await.unwrap();
    assert!(home.takes(&second, &leaf, "a.lan"));
    home.clock.advance(Span::days(40).duration());
    assert_ne!(home.open(&["*.lan"]).await.unwrap().row.certificate, first.row.certificate);
    assert!(!format!("{first:?}").contains("key"));
}

#[tokio::test]
async fn its_root_is_good_for_no_public_name() {
    let home = Home::new();
    let internal = home.open(&["*.lan"]).await.unwrap();
    for public in ["www.example.com", "lan.example.com"] {
        let forged = internal.sign(public, NOW).unwrap();
        assert!(!home.takes(&internal, &forged, public), "{public}");
    }
    let forged = internal.sign("192.0.2.1", NOW).unwrap();
    assert!(!home.takes(&internal, &forged, "192.0.2.1"));
}

#[tokio::test]
async fn many_that_ask_for_one_name_at_once_get_one_certificate() {
    let home = Home::new();
    let internal = home.open(&["*.lan"]).await.unwrap();
    let asked = (0..20).map(|_| home.certificate(&internal, "a.lan"));
    let got = futures_util::future::join_all(asked).await;
    let first = got[0].as_ref().unwrap();
    assert!(got.iter().all(|one| Arc::ptr_eq(one.as_ref().unwrap(), first)));
    assert_eq!(internal.made().len(), 1);
}

#[tokio::test]
async fn no_more_certificates_are_kept_than_there_is_room_for() {
    let home = Home::new();
    let internal = home.open(&["*.lan"]).await.unwrap();
    let one = home.certificate(&internal, "a.lan").await.unwrap();
    for number in 0..MOST {
        let renew_at_ms = NOW.after(RENEWED_AFTER.duration()).millis() + number as u64 + 1;
        internal.made().insert(format!("{number}.lan"), Leaf { key: Arc::clone(&one), renew_at_ms });
    }
    internal.made().remove("999.lan");
    home.certificate(&internal, "b.lan").await.unwrap();
    assert_eq!(internal.made().len(), MOST);
    assert!(!internal.made().contains_key("a.lan"));
}

#[test]
fn only_names_of_private_use_are_taken() {
    for (name, taken) in [
        ("*.home.arpa", true),
        ("NAS.Internal", true),
        ("*.lan", true),
        ("example.com", false),
        ("*.example.com", false),
        ("nas", false),
        ("lan.example.com", false),
        ("xlan", false),
        ("a b.lan", false),
        ("", false),
    ] {
        let config = InternalCaConfig { names: vec![name.to_owned()] };
        assert_eq!(config.validate().is_ok(), taken, "{name}");
    }
}
