//! Certificates from an authority, with everything that goes wrong on the way.

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::authority::{Authority, Mood};
use super::*;
use crate::base::Timestamp;
use crate::monitor::certificates::{CertificateView, Origin};
use crate::testing::TestClock;

/// Longer than an order takes on a machine under load; only a failing test waits for it.
const LONG: Duration = Duration::from_mins(2);

/// An edge that orders certificates from authorities of its own.
pub(super) struct Orders {
    folder: tempfile::TempDir,
    store: Store,
    settings: String,
}

impl Orders {
    /// `settings` (TOML) stand before the tables of `edge.acme`, `acme` in it; `authorities` in their order.
    pub(super) fn new(settings: &str, acme: &str, authorities: &[(&Authority, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = format!("domain = \"example.com\"\n{settings}\n[acme]\nagree_terms = true\n{acme}\n");
        for (number, (authority, further)) in authorities.iter().enumerate() {
            let trust = folder.path().join(format!("root{number}.pem"));
            write(&trust, &authority.root);
            let directory = &authority.directory;
            writeln!(text, "[[acme.authorities]]\ndirectory = \"{directory}\"\ntrust_file = {trust:?}\n{further}")
                .unwrap();
        }
        Self { folder, store: memory_store(), settings: text }
    }

    pub(super) async fn start(&self, supervisor: &Supervisor) -> Edge {
        self.start_by(supervisor, Arc::new(SystemClock::new())).await
    }

    /// As `start`, with the time that `clock` shows.
    async fn start_by(&self, supervisor: &Supervisor, clock: Arc<dyn Clock>) -> Edge {
        let mut config: EdgeConfig = toml::from_str(&self.settings).unwrap();
        config.workers = 1;
        for listen in [&mut config.http, &mut config.https] {
            if listen.address().is_some() {
                *listen = crate::base::Listen::loopback(0);
            }
        }
        let world =
            World { store: self.store.clone(), clock, ..world(self.folder.path(), supervisor, &Metrics::new()) };
        let listeners = Listeners::bind(&config).unwrap();
        Edge::start(&config, listeners, Vec::new(), world).await.unwrap()
    }
}

fn write(path: &std::path::Path, text: &str) {
    crate::base::disk::replace_file(&LocalDisk, path, text.as_bytes()).unwrap();
}

pub(super) fn supervisor() -> Supervisor {
    Supervisor::new(Shutdown::new())
}

/// Waits until `name` stands as `wanted` says.
pub(super) async fn until(edge: &Edge, name: &str, wanted: impl Fn(&CertificateView) -> bool) -> CertificateView {
    let seen = async {
        loop {
            if let Some(view) = edge.keeper().view().into_iter().find(|view| view.name == name && wanted(view)) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, seen).await.unwrap_or_else(|_| panic!("{:?}", edge.keeper().view()))
}

pub(super) fn obtained(view: &CertificateView) -> bool {
    view.origin == Origin::Authority
}

fn failed(view: &CertificateView) -> bool {
    view.failures > 0 && !view.ordering
}

/// Whether the certificate shown for `name` was signed by somebody else.
pub(super) async fn is_signed(edge: &Edge, name: &str) -> bool {
    let shown = tls::handshake(edge.https().unwrap(), name, b"h2").await.unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&shown).unwrap();
    let own = CertificateDer::from_pem_file(edge.certificate()).unwrap();
    assert!(parsed.validity().is_valid());
    shown != own
}

#[tokio::test]
async fn names_get_certificates_by_http_01_and_a_blocked_one_holds_up_nobody() {
    let tasks = supervisor();
    let authority =
        Authority::start(&tasks, Mood { refused_nonces: Some(3), first_refused: 7, ..Mood::default() }).await;
    let acme = "names = [\"blocked.example.com\", \"www.example.com\"]";
    let orders = Orders::new("", acme, &[(&authority, "")]);
    let edge = orders.start(&tasks).await;
    authority.reach(&edge);
    for name in ["example.com", "www.example.com"] {
        let view = until(&edge, name, obtained).await;
        assert!(view.renew_at_ms < view.expires_ms && view.error.is_none(), "{view:?}");
        assert!(is_signed(&edge, name).await);
    }
    let blocked = until(&edge, "blocked.example.com", failed).await;
    assert_eq!(blocked.error.as_deref(), Some("policy forbids this name (rejectedIdentifier)"));
    assert_eq!(blocked.origin, Origin::SelfSigned);
    assert!(!is_signed(&edge, "blocked.example.com").await);
    assert_eq!(authority.asked(), (1, 2), "one account, an order for each name that may be had");
    tasks.shutdown().force();
}

#[tokio::test]
async fn tls_alpn_01_needs_no_port_80_and_an_account_can_be_bound() {
    let tasks = supervisor();
    let authority = Authority::start(&tasks, Mood { binding: true, ..Mood::default() }).await;
    let key = tempfile::NamedTempFile::new().unwrap();
    write(key.path(), "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n");
    let bound = format!("eab_key_id = \"kid-1\"\neab_key_file = {:?}", key.path());
    let orders = Orders::new("http = \"\"", "", &[(&authority, &bound)]);
    let edge = orders.start(&tasks).await;
    authority.reach(&edge);
    until(&edge, "example.com", obtained).await;
    assert!(is_signed(&edge, "example.com").await);
    let strange = tls::handshake(edge.https().unwrap(), "example.com", b"acme-tls/1").await;
    assert!(strange.is_err(), "no challenge is under way any more");
    tasks.shutdown().force();
}

#[tokio::test]
async fn an_authority_that_limits_is_left_alone_for_as_long_as_it_says() {
    let tasks = supervisor();
    let authority = Authority::start(&tasks, Mood { limited: Some(86_400), ..Mood::default() }).await;
    let orders = Orders::new("", "", &[(&authority, "")]);
    let edge = orders.start(&tasks).await;
    authority.reach(&edge);
    let view = until(&edge, "example.com", failed).await;
    assert_eq!(view.error.as_deref(), Some("too many certificates already issued (rateLimited)"));
    assert!(view.next_attempt_ms.unwrap() >= view.last_attempt_ms.unwrap() + 86_400_000);
    tasks.shutdown().force();
}

#[tokio::test]
async fn the_next_authority_is_asked_when_the_first_is_down() {
    let tasks = supervisor();
    let down = Authority::start(&tasks, Mood { down: true, ..Mood::default() }).await;
    let up = Authority::start(&tasks, Mood::default()).await;
    let orders = Orders::new("", "", &[(&down, ""), (&up, "")]);
    let edge = orders.start(&tasks).await;
    up.reach(&edge);
    let view = until(&edge, "example.com", obtained).await;
    assert_eq!(view.authority.as_deref(), Some(up.directory.as_str()));
    tasks.shutdown().force();
}

#[tokio::test]
async fn a_failed_renewal_leaves_the_certificate_and_a_restart_finds_it() {
    let tasks = supervisor();
    let authority = Authority::start(&tasks, Mood::default()).await;
    let orders = Orders::new("", "", &[(&authority, "")]);
    let first = supervisor();
    let edge = orders.start(&first).await;
    authority.reach(&edge);
    until(&edge, "example.com", obtained).await;
    let before = tls::handshake(edge.https().unwrap(), "example.com", b"h2").await.unwrap();
    authority.set(Mood { down: true, ..Mood::default() });
    assert!(edge.keeper().renew("Example.com") && !edge.keeper().renew("other.example"));
    let view = until(&edge, "example.com", failed).await;
    assert!(obtained(&view) && view.error.unwrap().contains("502 Bad Gateway"));
    assert_eq!(tls::handshake(edge.https().unwrap(), "example.com", b"h2").await.unwrap(), before);
    first.shutdown().force();
    let edge = orders.start(&tasks).await;
    assert_eq!(tls::handshake(edge.https().unwrap(), "example.com", b"h2").await.unwrap(), before);
    let view = until(&edge, "example.com", failed).await;
    assert!(obtained(&view) && view.next_attempt_ms > view.last_attempt_ms);
    tasks.shutdown().force();
}

#[tokio::test]
async fn an_order_under_way_is_gone_on_with_after_a_restart() {
    let tasks = supervisor();
    let authority = Authority::start(&tasks, Mood { slow: true, ..Mood::default() }).await;
    let orders = Orders::new("", "", &[(&authority, "")]);
    let first = supervisor();
    let edge = orders.start(&first).await;
    let table = crate::store::Table::new("edge.acme.names");
    let kept = async {
        loop {
            let row = orders.store.read::<_, crate::store::StoreError>(move |tx| tx.get(table, b"example.com")).await;
            if row.unwrap().is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, kept).await.unwrap();
    first.shutdown().force();
    drop(edge);
    authority.set(Mood::default());
    let edge = orders.start(&tasks).await;
    authority.reach(&edge);
    until(&edge, "example.com", obtained).await;
    assert_eq!(authority.asked(), (1, 1), "the same account, the same order");
    tasks.shutdown().force();
}

#[tokio::test]
async fn a_reload_brings_names_and_keeps_the_certificates_there_are() {
    let tasks = supervisor();
    let authority = Authority::start(&tasks, Mood::default()).await;
    let orders = Orders::new("", "", &[(&authority, "")]);
    let edge = orders.start(&tasks).await;
    authority.reach(&edge);
    until(&edge, "example.com", obtained).await;
    let shown = async |name| tls::handshake(edge.https().unwrap(), name, b"h2").await.unwrap();
    let before = shown("example.com").await;
    let mut config: EdgeConfig = toml::from_str(&orders.settings).unwrap();
    config.acme.names = vec![String::from("www.example.com")];
    edge.reload(&config).await.unwrap();
    until(&edge, "www.example.com", obtained).await;
    assert_eq!(shown("example.com").await, before);
    assert_eq!(authority.asked(), (1, 2));

    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec![String::from("example.com")]).unwrap().self_signed(&key).unwrap();
    let (chain, secret) = (orders.folder.path().join("chain.pem"), orders.folder.path().join("key.pem"));
    write(&chain, &made.pem());
    write(&secret, &key.serialize_pem());
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    config.certificates = vec![config::CertificateConfig { certificate: path(&chain), key: path(&secret) }];
    edge.reload(&config).await.unwrap();
    assert_eq!(&shown("example.com").await, made.der());
    config.certificates.clear();
    edge.reload(&config).await.unwrap();
    assert_eq!(shown("example.com").await, before);
    assert_eq!(authority.asked(), (1, 2), "nothing was ordered again");
    tasks.shutdown().force();
}

#[tokio::test]
async fn an_authority_that_wants_a_renewal_at_once_gets_one_but_no_more_than_one_an_hour() {
    let tasks = supervisor();
    let authority = Authority::start(&tasks, Mood { overdue_days: Some(1), ..Mood::default() }).await;
    let orders = Orders::new("", "names = [\"old.example.com\"]", &[(&authority, "")]);
    let clock = Arc::new(TestClock::at(SystemClock::new().now()));
    let edge = orders.start_by(&tasks, Arc::clone(&clock) as Arc<dyn Clock>).await;
    authority.reach(&edge);
    let hour = Duration::from_hours(1);
    let soon = |view: &CertificateView| {
        let last = Timestamp(view.last_attempt_ms.unwrap_or(0));
        view.origin == Origin::Authority && view.renew_at_ms == Some(last.after(hour).millis())
    };
    let first = until(&edge, "example.com", soon).await.last_attempt_ms;
    let first_old = until(&edge, "old.example.com", soon).await.last_attempt_ms;
    clock.advance(hour);
    // Wakes who looks for what is due.
    edge.reload(&toml::from_str(&orders.settings).unwrap()).await.unwrap();
    until(&edge, "example.com", |view| view.last_attempt_ms > first && soon(view)).await;
    until(&edge, "old.example.com", |view| view.last_attempt_ms > first_old && soon(view)).await;
    let told = |name: &str| -> Vec<bool> {
        authority.orders().iter().filter(|order| order.name == name).map(|order| order.replaces.is_some()).collect()
    };
    assert_eq!(told("example.com"), [false, true], "the second order names what it replaces");
    assert_eq!(told("old.example.com"), [false, true, false], "what is not repeated is ordered without");
    tasks.shutdown().force();
}

#[tokio::test]
async fn the_profile_is_named_in_the_order_and_one_that_is_not_offered_is_told() {
    let tasks = supervisor();
    let authority = Authority::start(&tasks, Mood::default()).await;
    let orders = Orders::new("", "", &[(&authority, "profile = \"shortlived\"\n")]);
    let edge = orders.start(&tasks).await;
    authority.reach(&edge);
    until(&edge, "example.com", obtained).await;
    assert_eq!(authority.orders()[0].profile.as_deref(), Some("shortlived"));

    let orders = Orders::new("", "", &[(&authority, "profile = \"eternal\"\n")]);
    let edge = orders.start(&tasks).await;
    let view = until(&edge, "example.com", failed).await;
    assert_eq!(view.error.as_deref(), Some("there is no such profile (invalidProfile)"));
    tasks.shutdown().force();
}

#[tokio::test]
async fn the_next_authority_is_asked_while_the_first_limits_and_the_first_again_when_its_wait_is_over() {
    let tasks = supervisor();
    let limiting = Authority::start(&tasks, Mood { limited: Some(86_400), ..Mood::default() }).await;
    let other = Authority::start(&tasks, Mood::default()).await;
    let orders = Orders::new("", "", &[(&limiting, ""), (&other, "")]);
    let clock = Arc::new(TestClock::at(SystemClock::new().now()));
    let edge = orders.start_by(&tasks, Arc::clone(&clock) as Arc<dyn Clock>).await;
    limiting.reach(&edge);
    other.reach(&edge);
    let from = |authority: &Authority| {
        let directory = authority.directory.clone();
        move |view: &CertificateView| !view.ordering && view.authority.as_deref() == Some(directory.as_str())
    };
    let first = until(&edge, "example.com", from(&other)).await;
    limiting.set(Mood::default());
    clock.advance(Duration::from_hours(1));
    assert!(edge.keeper().renew("example.com"));
    let again = |view: &CertificateView| view.last_attempt_ms > first.last_attempt_ms;
    until(&edge, "example.com", |view| again(view) && from(&other)(view)).await;
    assert_eq!(limiting.asked().1, 0, "it is left alone for the day it asked for");
    clock.advance(Duration::from_hours(24));
    assert!(edge.keeper().renew("example.com"));
    until(&edge, "example.com", from(&limiting)).await;
    tasks.shutdown().force();
}
