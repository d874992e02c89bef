//! The keeper of all certificates: what is in use, and how each name stands. What is due is ordered in `attempt.rs`.

mod attempt;
mod strangers;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::base::{Disk, Timestamp};
use crate::edge::World;
use crate::edge::acme::authority::Authority;
use crate::edge::acme::challenges::Challenges;
use crate::edge::acme::config::{CertificateConfig, Proof};
use crate::edge::acme::dns::Dns;
use crate::edge::acme::failure::Failure;
use crate::edge::acme::files::Loaded;
use crate::edge::acme::internal::Internal;
use crate::edge::acme::names::Names;
use crate::edge::acme::on_demand::OnDemand;
use crate::edge::acme::rows::{self, Issued, NameRow};
use crate::edge::acme::x509::Certificate;
use crate::edge::certificate::{self, SelfSigned};
use crate::edge::config::EdgeConfig;
use crate::edge::error::EdgeError;
use crate::edge::tls::{Certificates, Set};
use crate::monitor::certificates::{CertificateView, Origin};
use crate::store::Store;
use crate::telemetry::Counter;

/// How often files, the self-signed certificate and what is due are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How often the self-signed certificate's age is looked at.
const OWN_LOOK: Duration = Duration::from_hours(12);

/// Keeps certificates; shared.
#[derive(Debug)]
pub struct Keeper {
    domain: String,
    /// Whether plain HTTP and HTTPS are listened for.
    listening: (bool, bool),
    settings: ArcSwap<Settings>,
    internal: ArcSwapOption<Internal>,
    world: World,
    challenges: Arc<Challenges>,
    certificates: Arc<Certificates>,
    state: Mutex<State>,
    wake: Notify,
    /// Notified whenever an order has ended, and a question about a stranger's name.
    changed: Notify,
    /// Held while an account is made, so that there is one at each authority.
    accounts: AsyncMutex<()>,
    obtained: Counter,
    failed: Counter,
}

/// What a reload replaces.
#[derive(Debug)]
struct Settings {
    proofs: Vec<Proof>,
    dns: Dns,
    authorities: Vec<Authority>,
    /// Who says which further names may have a certificate.
    on_demand: Option<OnDemand>,
    /// Names that are left out.
    skip: Vec<String>,
}

impl Settings {
    async fn read(config: &EdgeConfig, listening: (bool, bool), disk: &Arc<dyn Disk>) -> Result<Self, EdgeError> {
        let mut authorities = Vec::new();
        if config.acme.agree_terms {
            for authority in &config.acme.authorities {
                authorities.push(Authority::open(authority, &config.acme.email, disk).await?);
            }
        }
        let dns = Dns::open(&config.acme.dns, disk).await?;
        let proofs = config.acme.proofs(listening.0, listening.1);
        let on_demand = config.acme.on_demand.clone();
        let on_demand = if config.acme.agree_terms {
            tokio::task::spawn_blocking(move || OnDemand::of(&on_demand)).await.map_err(interrupted)??
        } else {
            None
        };
        Ok(Self { proofs, dns, authorities, on_demand, skip: config.acme.skip.clone() })
    }
}

#[derive(Debug)]
struct State {
    own: SelfSigned,
    own_looked: Timestamp,
    names: BTreeMap<String, Name>,
    /// Certificates for names that none is ordered for any more, used where nothing else is good for them.
    spare: Vec<(String, Certificate)>,
    /// Each pair of files of the settings, as it was read last.
    files: Vec<(CertificateConfig, Loaded)>,
    /// Until when an authority does not want to hear of a name.
    holds: HashMap<(String, String), Timestamp>,
}

impl State {
    /// What answers which name; the server's own answers the rest. A name that is found exactly is found before a wildcard, so none is put in for which a better
    /// certificate is good.
    fn set(&self, own: &Arc<CertifiedKey>, now_ms: u64) -> Set {
        let mut set = Set::new(Arc::clone(own));
        for certificate in self.in_files() {
            set = set.with(&certificate.names, &certificate.key);
        }
        let issued = || self.names.iter().filter_map(|(name, known)| Some((name, &known.used.as_ref()?.1)));
        let better = |name: &String, by: &dyn Fn(&Certificate) -> bool| {
            self.in_files().any(|one| one.covers(name)) || issued().any(|(_, one)| by(one))
        };
        for (name, certificate) in issued().filter(|(name, _)| !better(name, &|_| false)) {
            set = set.with(std::slice::from_ref(name), &certificate.key);
        }
        let spare = self.spare.iter().filter(|(_, one)| one.not_after_ms > now_ms);
        for (name, certificate) in spare.filter(|(name, _)| !better(name, &|one| one.covers(name))) {
            set = set.with(std::slice::from_ref(name), &certificate.key);
        }
        set
    }

    /// The certificates in files that can be used.
    fn in_files(&self) -> impl Iterator<Item = &Certificate> {
        self.files.iter().filter_map(|(_, loaded)| loaded.certificate.as_ref())
    }
}

#[derive(Debug, Default)]
struct Name {
    row: NameRow,
    used: Option<(Issued, Certificate)>,
    ordering: bool,
    /// No setting has it: the app is asked whether it may have one.
    on_demand: bool,
}

impl Keeper {
    /// Loads what is kept and reads the files. `names` are ordered for once [`Self::run`] runs.
    ///
    /// # Errors
    /// [`EdgeError`]: the store, the self-signed certificate or an authority's files.
    pub async fn open(
        config: &EdgeConfig,
        names: Names,
        listening: (bool, bool),
        world: World,
    ) -> Result<Arc<Self>, EdgeError> {
        let now = world.clock.now();
        let own = certificate::ensure(&world.store, &world.disk, &world.data_dir, &config.domain, now).await?;
        let settings = Settings::read(config, listening, &world.disk).await?;
        let internal = internal(config, &world).await?;
        let (all, left) = standing(&world.store, names, settings.on_demand.is_some()).await?;
        let spare = spare(&left);
        for (name, row) in left {
            // No longer wanted. It stays as long as it is good: the settings may come back.
            if row.not_after_ms < now.millis() {
                rows::forget(&world.store, &name).await?;
            }
        }
        let attempts = |result| {
            let help = "Attempts to get a certificate from an authority, by result.";
            world.metrics.counter("mainstay_edge_certificate_orders_total", help, &[("result", result)])
        };
        let challenges = Arc::<Challenges>::default();
        let certificates = Certificates::new(Set::new(own.key()?), Arc::clone(&challenges));
        let keeper = Arc::new(Self {
            domain: config.domain.clone(),
            listening,
            settings: ArcSwap::from_pointee(settings),
            internal: ArcSwapOption::new(internal),
            obtained: attempts("obtained"),
            failed: attempts("failed"),
            challenges,
            certificates,
            state: Mutex::new(State {
                own,
                own_looked: now,
                names: all,
                spare,
                files: config.certificates.iter().map(|one| (one.clone(), Loaded::default())).collect(),
                holds: HashMap::new(),
            }),
            wake: Notify::new(),
            changed: Notify::new(),
            accounts: AsyncMutex::new(()),
            world,
        });
        keeper.look_at_files().await;
        keeper.publish();
        Ok(keeper)
    }

    /// Keeps the certificates of `config` and `names` from now on. What is in use for a name that stays, stays.
    ///
    /// # Errors
    /// [`EdgeError`]: an authority's files, a new pair of files that cannot be used, or the store; nothing has changed.
    pub async fn reload(&self, config: &EdgeConfig, names: Names) -> Result<(), EdgeError> {
        let settings = Settings::read(config, self.listening, &self.world.disk).await?;
        let known = self.state().files.clone();
        let (mut files, mut fresh) = (Vec::new(), Vec::new());
        for one in &config.certificates {
            match known.iter().find(|(other, _)| other.same(one)) {
                Some(pair) => files.push(pair.clone()),
                None => fresh.push((one.clone(), Loaded::default())),
            }
        }
        if !fresh.is_empty() {
            let (looked, _) = look(Arc::clone(&self.world.disk), fresh).await;
            if let Some((_, broken)) = looked.iter().find(|(_, loaded)| !loaded.error.is_empty()) {
                return Err(EdgeError::Files(broken.error.clone()));
            }
            files.extend(looked);
        }
        let internal = internal(config, &self.world).await?;
        let (kept, left) = standing(&self.world.store, names, settings.on_demand.is_some()).await?;
        {
            let mut state = self.state();
            let mut before = std::mem::take(&mut state.names);
            let with_what_is_in_use = kept.into_iter().map(|(name, row)| {
                let same = before.remove(&name).map(|same| Name { on_demand: row.on_demand, ..same });
                (name, same.unwrap_or(row))
            });
            state.names = with_what_is_in_use.collect();
            state.spare = spare(&left);
            state.files = files;
        }
        self.settings.store(Arc::new(settings));
        self.internal.store(internal);
        self.look_at_files().await;
        self.publish();
        self.wake.notify_one();
        Ok(())
    }

    /// What handshakes use.
    pub fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.certificates)
    }

    /// What challenges are answered with.
    pub fn challenges(&self) -> Arc<Challenges> {
        Arc::clone(&self.challenges)
    }

    /// The internal authority, when there is one.
    pub fn internal(&self) -> Option<Arc<Internal>> {
        self.internal.load_full()
    }

    /// How every name stands.
    pub fn view(&self) -> Vec<CertificateView> {
        let state = self.state();
        let blank = |name: &str, origin, expires| CertificateView {
            name: name.to_owned(),
            origin,
            authority: None,
            expires_ms: expires,
            renew_at_ms: None,
            ordering: false,
            can_renew: false,
            last_attempt_ms: None,
            failures: 0,
            next_attempt_ms: None,
            error: None,
        };
        let mut out = Vec::new();
        for (config, loaded) in &state.files {
            let expires = loaded.certificate.as_ref().map(|certificate| certificate.not_after_ms);
            let error = (!loaded.error.is_empty()).then(|| loaded.error.clone());
            out.push(CertificateView { error, ..blank(&config.certificate, Origin::File, expires) });
        }
        for (name, known) in &state.names {
            if let Some(file) = state.in_files().find(|one| one.covers(name)) {
                out.push(blank(name, Origin::File, Some(file.not_after_ms)));
                continue;
            }
            let issued = known.used.as_ref().map(|(issued, _)| issued);
            let origin = if issued.is_some() { Origin::Authority } else { Origin::SelfSigned };
            let expires = issued.map_or(state.own.expires_ms(), |issued| issued.not_after_ms);
            let when = |millis: u64| (millis > 0).then_some(millis);
            out.push(CertificateView {
                authority: issued.map(|issued| issued.directory.clone()),
                renew_at_ms: issued.map(|issued| issued.renew_at_ms),
                ordering: known.ordering,
                can_renew: true,
                last_attempt_ms: when(known.row.last_attempt_ms),
                failures: known.row.failures,
                next_attempt_ms: when(known.row.next_attempt_ms),
                error: (!known.row.error.is_empty()).then(|| known.row.error.clone()),
                ..blank(name, origin, Some(expires))
            });
        }
        if let Some(internal) = self.internal() {
            let (names, until) = internal.names();
            out.extend(names.iter().map(|name| blank(name, Origin::Internal, Some(until))));
        }
        if out.is_empty() {
            out.push(blank(&self.domain, Origin::SelfSigned, Some(state.own.expires_ms())));
        }
        out
    }

    /// Orders a certificate for `name` as soon as may be, whatever is due; false when it is no name of this server. What
    /// an authority asked to wait for is still waited for.
    pub fn renew(&self, name: &str) -> bool {
        let mut state = self.state();
        let Some(known) = state.names.get_mut(&name.to_ascii_lowercase()) else { return false };
        known.row.next_attempt_ms = 0;
        if let Some((issued, _)) = &mut known.used {
            issued.renew_at_ms = 0;
        }
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Looks after everything until the server drains. An order under way then is gone on with after the next start.
    pub async fn run(self: Arc<Self>) {
        let stop = self.world.supervisor.shutdown().clone();
        tokio::select! {
            () = stop.draining() => {}
            () = self.look_around() => {}
            () = self.order_around() => {}
        }
    }

    async fn look_around(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.look_at_files().await {
                self.publish();
            }
            let now = self.world.clock.now();
            if now.since(self.state().own_looked) >= OWN_LOOK {
                let World { store, disk, data_dir, .. } = &self.world;
                let made = certificate::ensure(store, disk, data_dir, &self.domain, now).await;
                self.state().own_looked = now;
                match made {
                    Ok(own) => {
                        self.state().own = own;
                        self.publish();
                    }
                    // 30 days are left.
                    Err(error) => tracing::warn!(%error, "the self-signed certificate cannot be renewed"),
                }
            }
        }
    }

    async fn look_at_files(&self) -> bool {
        let files = self.state().files.clone();
        if files.is_empty() {
            return false;
        }
        let (looked, changed) = look(Arc::clone(&self.world.disk), files).await;
        let mut state = self.state();
        for (config, loaded) in looked {
            // A reload may have come between.
            if let Some((_, known)) = state.files.iter_mut().find(|(other, _)| other.same(&config)) {
                *known = loaded;
            }
        }
        changed
    }

    /// Puts what is known into use.
    fn publish(&self) {
        let set = {
            let state = self.state();
            let Ok(key) = state.own.key() else { return };
            state.set(&key, self.world.clock.now().millis()).then(self.internal())
        };
        self.certificates.replace(set);
        self.changed.notify_waiters();
        self.measure();
    }

    fn measure(&self) {
        let help = "When the certificate in use for a name ends, in seconds since 1970.";
        for view in self.view() {
            let gauge =
                self.world.metrics.gauge("mainstay_edge_certificate_expires_seconds", help, &[("name", &view.name)]);
            gauge.set(i64::try_from(view.expires_ms.unwrap_or(0) / 1_000).unwrap_or(i64::MAX));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn interrupted(error: tokio::task::JoinError) -> EdgeError {
    EdgeError::System {
        what: "cannot read the machine's certificate authorities",
        source: std::io::Error::other(error),
    }
}

/// How each of `names` stands in the store, and those taken on `on_demand`; and the certificates there for other names.
async fn standing(
    store: &Store,
    names: Names,
    on_demand: bool,
) -> Result<(BTreeMap<String, Name>, HashMap<String, Issued>), EdgeError> {
    let (issued, mut known) = rows::load(store).await?;
    let strangers = if on_demand { rows::on_demand(store).await? } else { Vec::new() };
    let strangers: Vec<_> = strangers.into_iter().filter(|name| !names.has(name)).map(|name| (name, true)).collect();
    let mut issued: HashMap<String, Issued> = issued.into_iter().collect();
    let mut all = BTreeMap::new();
    for (name, on_demand) in names.into_set().into_iter().map(|name| (name, false)).chain(strangers) {
        let used = issued.remove(&name).and_then(|row| match assembled(&row) {
            Ok(certificate) => Some((row, certificate)),
            Err(error) => {
                tracing::error!(name, %error, "a kept certificate cannot be used; another one is ordered");
                None
            }
        });
        let place = known.iter().position(|(other, _)| *other == name);
        let row = place.map(|place| known.swap_remove(place).1).unwrap_or_default();
        all.insert(name, Name { row, used, ordering: false, on_demand });
    }
    Ok((all, issued))
}

/// The authority `config` asks for.
async fn internal(config: &EdgeConfig, world: &World) -> Result<Option<Arc<Internal>>, EdgeError> {
    let World { store, disk, data_dir, clock, .. } = world;
    Internal::open(&config.internal_ca, &config.domain, store, disk, data_dir, clock).await
}

/// Those of `left` that can be used.
fn spare(left: &HashMap<String, Issued>) -> Vec<(String, Certificate)> {
    left.iter().filter_map(|(name, row)| Some((name.clone(), assembled(row).ok()?))).collect()
}

/// Reads `files` again, on a thread that may block; tells whether something changed.
async fn look(
    disk: Arc<dyn Disk>,
    files: Vec<(CertificateConfig, Loaded)>,
) -> (Vec<(CertificateConfig, Loaded)>, bool) {
    let before = files.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let mut files = files;
        let mut changed = false;
        for (config, loaded) in &mut files {
            if loaded.look(config, disk.as_ref()) {
                changed = true;
                match loaded.error.as_str() {
                    "" => tracing::info!(certificate = config.certificate, "read a certificate"),
                    error => tracing::error!(error, "a certificate cannot be read; the one before stays in use"),
                }
            }
        }
        (files, changed)
    });
    looked.await.unwrap_or((before, false))
}

fn assembled(issued: &Issued) -> Result<Certificate, Failure> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.key.as_slice()));
    Certificate::new(issued.certificates(), &key)
}
