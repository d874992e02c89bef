//! From nothing to ready: every room constructed, in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle as Runtime;
use tokio::sync::mpsc;

use super::console::Shown;
use super::doors::{self, Doors};
use super::handover::arrivals;
use super::handover::launch::Program;
use super::handover::learned::Hearing;
use super::handover::predecessor::{BACK_DOOR, Predecessor};
use super::handover::request::{Counts, Upgrades, Wanted};
use super::handover::successor::Successor;
use super::inherited::Inherited;
use super::master_change::MasterChange;
use super::notify::Notifier;
use super::rebuild::refuse_without_index;
use super::reload::{Reloader, Source};
use super::status::Facts;
use super::{Folder, StartError, admin, backups, console, control, mail, master, redis};
use crate::accounts::{AccessKeys, FirstCredentials, Users};
use crate::analytics::Analytics;
use crate::api::Api;
use crate::api::v1::{self, V1};
use crate::bans::Bans;
use crate::base::supervise::Role;
use crate::base::{Clock, Disk, Random, Supervisor};
use crate::config::{Config, Environment};
use crate::crypto::Keyring;
use crate::edge;
use crate::http::{Handler, RouterHandler, ServeConfig};
use crate::ingest::Ingest;
use crate::issues::{self, Issues};
use crate::jobs::Jobs;
use crate::kv::Handle;
use crate::limits::Limits;
use crate::monitor::{Certificates, Check, Checks, SettingViews, SitesSeen, Upstreams};
use crate::objects::Objects;
use crate::s3::S3Door;
use crate::store::{ISSUES, OBJECTS, Opening, STATE, Store, StoreError};
use crate::telemetry::Metrics;
use crate::upstash::Upstash;

/// What a server is made from.
#[derive(Debug)]
pub struct Plan {
    /// Where the data folder is, or will be.
    pub data: PathBuf,
    /// The settings, checked.
    pub config: Config,
    /// The settings as people see them.
    pub settings: SettingViews,
    /// Where other settings come from while it runs.
    pub source: Source,
    /// Secrets from the environment.
    pub environment: Environment,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// The registry.
    pub metrics: Metrics,
    /// Starts tasks and threads; its stop signal is the server's.
    pub supervisor: Supervisor,
    /// Starts the edge's workers and connections, which need no store: they outlive a change of the process that has the
    /// data folder.
    pub connections: Supervisor,
    /// What this process runs, for starting it or another in its place.
    pub program: Program,
}

/// A server that serves.
#[derive(Debug)]
pub struct Running {
    /// What it tells about itself.
    pub facts: Arc<Facts>,
    /// Whether the data folder was empty before this start.
    pub first_start: bool,
    pub(super) folder: Folder,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) supervisor: Supervisor,
    pub(super) connections: Supervisor,
    /// Whether another process served before this one.
    pub(super) took_over: bool,
    /// What that one still tells.
    pub(super) before: Option<Hearing>,
    /// What it takes to hand over.
    pub(super) predecessor: Predecessor,
    /// Who wants it to.
    pub(super) wanted: mpsc::Receiver<Wanted>,
    /// Closed in this order, after everything that uses them has ended.
    pub(super) stores: Vec<Store>,
    /// Written for the last time before they are.
    pub(super) analytics: Analytics,
    /// Waits to hear that every door answers.
    pub(super) notifier: Notifier,
    /// Unix sockets to remove at the end.
    pub(super) socket_files: Vec<PathBuf>,
}

/// What stands under every service: the data folder, its keys, and the credentials.
#[derive(Debug)]
pub struct Ground {
    /// The data folder, locked.
    pub folder: Folder,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// `state.redb`.
    pub state: Store,
    /// The credentials.
    pub keys: Arc<AccessKeys>,
    /// People's accounts.
    pub users: Users,
}

/// Starts everything, as `successor` of another process if there is one. Blocks; call it on a thread that may, inside the
/// general runtime. When it returns, every door that is on answers.
///
/// # Errors
/// [`StartError`]: nothing answers then.
pub fn start(plan: &Plan, mut inherited: Inherited, successor: Option<&Successor>) -> Result<Running, StartError> {
    let started = plan.clock.monotonic();
    let control_before = inherited.unix(control::KEY, "");
    let back_door = inherited.unix(BACK_DOOR, "");
    let (folder, mut doors) = match successor {
        None => {
            let folder = Folder::create(plan.disk.as_ref(), &plan.data)?;
            let doors = Doors::bind(&plan.config, folder.path(), &mut inherited)?;
            (folder, doors)
        }
        // The other way round: what is wrong with the sockets is told while the process before has the folder.
        Some(successor) => {
            let doors = Doors::bind(&plan.config, &Folder::place(&plan.data)?, &mut inherited)?;
            successor.wait_for_turn()?;
            (Folder::create(plan.disk.as_ref(), &plan.data)?, doors)
        }
    };
    let kept = doors.kept();
    let first_start = !folder.has_data;
    let ground = open_ground(plan, folder)?;
    admin::claim(plan, &ground.users)?;
    let services = open_services(plan, &ground)?;
    let bans =
        Bans::open(ground.state.clone(), Arc::clone(&plan.clock), &plan.metrics, edge::ban_rules(&plan.config.edge))?;
    plan.supervisor.task("bans", Role::Ordinary, bans.clone().run(plan.supervisor.shutdown().clone()));
    let (keyspace, live, redis_tls) = match redis::start(plan, &ground, doors.take_redis(), bans.clone())? {
        Some(served) => {
            if let Some((made, path)) = served.made.zip(doors.connect().redis_socket) {
                let kept = kept.keep(doors::REDIS_SOCKET, true, Some(path.display().to_string()), &made);
                kept.map_err(|source| StartError::Thread { what: doors::REDIS_SOCKET, source })?;
            }
            (Some(served.handle), Some(served.live), served.tls)
        }
        None => (None, None, None),
    };
    let backups = backups::new(plan, &ground, &services, live, Runtime::current())?;
    let connect = doors.connect();
    let checks = Checks::new(parts(&ground, &services, keyspace.clone()), plan.supervisor.shutdown().clone());

    let (certificates, upstreams, sites) = (Certificates::default(), Upstreams::default(), SitesSeen::default());

    let (ses, outbox) = mail::start(plan, &ground, &mut doors, &bans)?;
    let api = Api::new(checks.clone(), ground.state.clone(), plan.metrics.clone(), Arc::clone(&plan.clock));
    let ingest = Ingest::new(services.issues.clone(), Arc::clone(&ground.keys));
    let limits = Limits::open(ground.state.clone(), Arc::clone(&plan.clock), &plan.metrics, &plan.config.limits)?;
    plan.supervisor.task("limits", Role::Ordinary, limits.clone().run(plan.supervisor.shutdown().clone()));
    let analytics = start_analytics(plan, &ground);
    let v1 = V1::new(v1::World {
        users: ground.users.clone(),
        objects: services.objects.clone(),
        mail: outbox.clone(),
        issues: services.issues.clone(),
        limits: limits.clone(),
        bans: bans.clone(),
        analytics: analytics.clone(),
        backups: backups.clone(),
        checks: checks.clone(),
        certificates: certificates.clone(),
        upstreams: upstreams.clone(),
        sites: sites.clone(),
        settings: plan.settings.clone(),
        s3_endpoint: connect.s3_url(),
        region: connect.region.clone(),
        clock: Arc::clone(&plan.clock),
    });
    let shown = Shown {
        keyspace: keyspace.clone(),
        limits: limits.clone(),
        bans: bans.clone(),
        analytics: analytics.clone(),
        objects: services.objects.clone(),
        outbox: outbox.clone(),
        issues: services.issues.clone(),
        backups: backups.clone(),
        checks: checks.clone(),
        certificates: certificates.clone(),
        upstreams: upstreams.clone(),
        sites: sites.clone(),
    };
    let pages = console::open(plan, &ground, &connect, shown, started)?;
    let mut router = api.router().merge(v1.router()).merge(ses).merge(ingest.router());
    if let Some(keyspace) = &keyspace {
        router = router.merge(Upstash::new(keyspace.clone(), ground.keys.redis_password(), bans.clone()).router());
    }
    let router = pages.around(router.merge(pages.router()));
    let console: Arc<dyn Handler> = Arc::new(RouterHandler::new(router));
    doors.serve(plan, doors::CONSOLE, &console, ServeConfig::default(), &bans)?;
    let s3: Arc<dyn Handler> = Arc::new(s3_door(plan, &ground, &services, connect.edge_https, bans.clone()));
    let limits = ServeConfig { max_connections: plan.config.s3.max_connections, ..ServeConfig::default() };
    doors.serve(plan, doors::S3, &s3, limits, &bans)?;
    let on_edge = vec![doors::console_on_edge(console), doors::s3_on_edge(s3)];
    if let Some(listener) = back_door {
        arrivals::serve(listener, on_edge.clone(), plan, &kept)
            .map_err(|source| StartError::Thread { what: BACK_DOOR, source })?;
    }
    let seen = doors::Seen { bans: bans.clone(), analytics: analytics.clone() };
    let mut before = successor.map(|successor| Hearing::new(successor.channel(), bans.clone(), analytics.clone()));
    if let Some(before) = &mut before {
        // Before anybody is accepted: who was banned meanwhile is not to get in.
        before.listen();
    }
    let edge = doors.start_edge(plan, &ground, on_edge, seen.clone(), &Runtime::current())?;
    if let Some(before) = &mut before {
        before.serves(edge.as_ref().map(|edge| edge.cache()));
    }
    let keeper = match &edge {
        Some(edge) => Some(Arc::clone(edge.keeper())),
        None if redis_tls.is_some() => Some(doors::keep_certificates(plan, &ground, seen, &Runtime::current())?),
        None => None,
    };
    if let Some((gate, keeper)) = redis_tls.zip(keeper.as_ref()) {
        let tls = edge::tls_elsewhere(keeper, &plan.config.edge.domain)?;
        let prepare = Arc::new(edge::prepare_elsewhere(keeper, &plan.config.edge.domain));
        gate.open(tls, prepare, &plan.supervisor, &plan.metrics)?;
    }
    if let Some(keeper) = keeper {
        let renewer = Arc::clone(&keeper);
        let authority = Arc::clone(&keeper);
        certificates.kept_by(
            move || keeper.view(),
            move |name| renewer.renew(name),
            move || authority.internal().map(|internal| internal.root()),
        );
    }
    if let Some(edge) = edge.clone() {
        let told = (Arc::clone(&edge), Arc::clone(&edge), Arc::clone(edge.cache()), Arc::clone(&edge));
        sites.told_by(
            move || told.0.sites(),
            move || told.1.passed(),
            move || told.2.view(),
            move |which| told.3.purge_cache(which),
        );
        upstreams.told_by(move || edge.upstreams());
    }
    let reloader =
        Arc::new(Reloader::new(plan.source.clone(), edge.clone(), Some(bans.clone()), plan.settings.clone()));

    let (upgrades, wanted) = Upgrades::new();
    let past = successor.map(|successor| successor.past).unwrap_or_default();
    let predecessor = Predecessor {
        program: plan.program.clone(),
        kept: kept.clone(),
        counts: Counts::new(&plan.metrics, past),
        data: ground.folder.path().to_owned(),
        disk: Arc::clone(&plan.disk),
        clock: Arc::clone(&plan.clock),
    };
    let master = MasterChange::new(Arc::clone(&ground.keyring), services.objects.clone(), backups.clone());
    let facts = Arc::new(Facts {
        data: ground.folder.path().to_owned(),
        doors: doors::table(&connect),
        connect,
        keys: ground.keys,
        users: ground.users,
        checks,
        issues: services.issues.clone(),
        backups: backups.clone(),
        objects: services.objects.clone(),
        master: master.clone(),
        bans,
        analytics: analytics.clone(),
        edge,
        reloader,
        upgrades,
        outbox,
        clock: Arc::clone(&plan.clock),
        started,
    });
    services.start(plan)?;
    backups.start().map_err(|source| StartError::Thread { what: "backup", source })?;
    master.start(&plan.supervisor).map_err(|source| StartError::Thread { what: "master-key", source })?;
    let (disk, supervisor) = (plan.disk.as_ref(), &plan.supervisor);
    control::start(disk, ground.folder.path(), Arc::clone(&facts), supervisor, control_before, &kept)?;
    let mut socket_files = vec![control::socket(ground.folder.path()), predecessor.back_door()];
    if kept.all().iter().any(|kept| kept.key == doors::REDIS_SOCKET && kept.bound.is_some()) {
        socket_files.extend(facts.connect.redis_socket.clone());
    }
    Ok(Running {
        first_start,
        socket_files,
        took_over: successor.is_some(),
        before,
        predecessor,
        wanted,
        connections: plan.connections.clone(),
        notifier: Notifier::new(plan.environment.notify_socket.clone()),
        folder: ground.folder,
        disk: Arc::clone(&plan.disk),
        supervisor: plan.supervisor.clone(),
        stores: vec![services.index, services.captured, ground.state],
        analytics,
        facts,
    })
}

/// The counts of pages; their task runs.
fn start_analytics(plan: &Plan, ground: &Ground) -> Analytics {
    let (clock, random) = (Arc::clone(&plan.clock), Arc::clone(&plan.random));
    let config = plan.config.analytics.clone();
    let analytics = Analytics::new(ground.state.clone(), clock, random, &plan.metrics, config);
    let shutdown = plan.supervisor.shutdown().clone();
    plan.supervisor.task("analytics", Role::Ordinary, analytics.clone().run(shutdown));
    analytics
}

/// What the doors serve.
#[derive(Debug)]
pub struct Services {
    /// `objects.redb`.
    pub index: Store,
    jobs: Jobs,
    /// Buckets and objects.
    pub objects: Objects,
    /// `issues.redb`.
    pub captured: Store,
    issues_jobs: Jobs,
    issues: Issues,
}

impl Services {
    /// Starts the work behind the scenes. Call it once every job is registered.
    fn start(&self, plan: &Plan) -> Result<(), StartError> {
        self.objects.start(&plan.supervisor).map_err(|source| StartError::Thread { what: "objects-sweep", source })?;
        self.jobs.start();
        self.issues_jobs.start();
        Ok(())
    }
}

/// Opens what the doors serve, without starting any work. Blocks.
///
/// # Errors
/// [`StartError`].
pub fn open_services(plan: &Plan, ground: &Ground) -> Result<Services, StartError> {
    let (clock, random) = (Arc::clone(&plan.clock), Arc::clone(&plan.random));
    refuse_without_index(plan.disk.as_ref(), ground.folder.path())?;
    let index = Store::open(&OBJECTS, opening(plan, ground.folder.path(), &ground.keyring, "store/objects")?);
    let index = index.map_err(|error| match error {
        StoreError::Corrupt { .. } | StoreError::Engine { .. } => StartError::Index(error),
        other => other.into(),
    })?;
    let jobs = Jobs::new(index.clone(), clock, random, plan.supervisor.clone(), &plan.metrics);
    let root = ground.folder.path().join("objects");
    let objects = Objects::open(
        Arc::clone(&plan.disk),
        root.clone(),
        index.clone(),
        Arc::clone(&ground.keyring),
        jobs.clone(),
        Arc::clone(&plan.clock),
        Arc::clone(&plan.random),
        &plan.metrics,
        plan.config.objects.clone(),
    )
    .map_err(|source| StartError::Objects { path: root, source })?;
    let (captured, issues_jobs, issues) = open_issues(plan, ground)?;
    Ok(Services { index, jobs, objects, captured, issues_jobs, issues })
}

fn open_issues(plan: &Plan, ground: &Ground) -> Result<(Store, Jobs, Issues), StartError> {
    let (clock, random) = (Arc::clone(&plan.clock), Arc::clone(&plan.random));
    let store = Store::open(&ISSUES, opening(plan, ground.folder.path(), &ground.keyring, "store/issues")?)?;
    let (supervisor, metrics) = (plan.supervisor.clone(), plan.metrics.clone());
    let jobs = Jobs::new(store.clone(), Arc::clone(&clock), Arc::clone(&random), supervisor, &metrics);
    let world = issues::World { store: store.clone(), jobs: jobs.clone(), clock, random, metrics };
    let issues = Issues::new(world, plan.config.issues.clone());
    Ok((store, jobs, issues))
}

/// The S3 door. It knows the edge's domain, so that buckets answer below it and pages of it may use presigned addresses.
fn s3_door(plan: &Plan, ground: &Ground, services: &Services, edge: Option<SocketAddr>, bans: Bans) -> S3Door {
    let mut config = plan.config.s3.clone();
    let domain = &plan.config.edge.domain;
    config.domains.push(format!("s3.{domain}"));
    config.cors_origins.push(format!("https://{domain}"));
    // Browsers name the port of an origin unless it is 443.
    config.cors_origins.extend(edge.map(|edge| format!("https://{domain}:{}", edge.port())));
    let shutdown = plan.supervisor.shutdown().clone();
    S3Door::new(
        services.objects.clone(),
        ground.users.clone(),
        bans,
        Arc::new(move || !shutdown.is_draining()),
        Arc::clone(&plan.clock),
        Arc::clone(&plan.random),
        &config,
    )
}

/// The parts that can fail by themselves.
fn parts(ground: &Ground, services: &Services, keyspace: Option<Handle>) -> Vec<Check> {
    let objects = services.objects.clone();
    let disk = Check::new("objects", move || {
        let objects = objects.clone();
        Box::pin(async move { objects.health().await.map_err(|error| error.to_string()) })
    });
    let objects = services.objects.clone();
    let scrub = Check::new("scrub", move || {
        let objects = objects.clone();
        Box::pin(async move { objects.is_undamaged().await.map_err(|error| error.to_string()) })
    });
    let issues = services.issues.clone();
    let spool = Check::new("issues", move || {
        let issues = issues.clone();
        Box::pin(async move { issues.health().await.map_err(|error| error.to_string()) })
    });
    let objects = services.objects.clone();
    let backends = (!objects.backend_names().is_empty()).then(|| {
        Check::new("backends", move || {
            let objects = objects.clone();
            Box::pin(async move { objects.backends_are_well() })
        })
    });
    let told = [Some(scrub), backends].into_iter().flatten().map(Check::only_told);
    let stores = [&ground.state, &services.index, &services.captured].map(|store| Check::store(store.clone()));
    stores.into_iter().chain([disk]).chain(told).chain([spool]).chain(keyspace.map(redis::check)).collect()
}

/// Opens the ground in `folder`. Blocks.
///
/// # Errors
/// [`StartError`]; see [`Keyring::open`] and [`Store::open`] for what may have been made by then.
pub fn open_ground(plan: &Plan, folder: Folder) -> Result<Ground, StartError> {
    let source = master::source(plan.disk.as_ref(), &plan.environment)?;
    let (disk, random) = (Arc::clone(&plan.disk), Arc::clone(&plan.random));
    let keyring = Arc::new(Keyring::open(disk, random, folder.path(), source, folder.has_data)?);
    if let Some(changed) = keyring.settle()? {
        tracing::info!(active = changed.active, previous = changed.previous, "the master key is changed");
    }
    let state = Store::open(&STATE, opening(plan, folder.path(), &keyring, "store/state")?)?;
    let environment = &plan.environment;
    let first = FirstCredentials { id: environment.root_user.clone(), secret: environment.root_password.clone() };
    let keys = Arc::new(AccessKeys::open(&state, plan.random.as_ref(), plan.clock.as_ref(), first)?);
    let (clock, random) = (Arc::clone(&plan.clock), Arc::clone(&plan.random));
    let users = Users::open(state.clone(), Arc::clone(&keys), clock, random, plan.config.accounts.clone())?;
    Ok(Ground { folder, keyring, state, keys, users })
}

pub(super) fn opening<'a>(
    plan: &'a Plan,
    folder: &'a Path,
    keyring: &Keyring,
    key: &str,
) -> Result<Opening<'a>, StartError> {
    Ok(Opening {
        folder,
        key: keyring.key(key)?,
        config: &plan.config.store,
        disk: Arc::clone(&plan.disk),
        clock: Arc::clone(&plan.clock),
        random: plan.random.as_ref(),
        supervisor: &plan.supervisor,
        metrics: &plan.metrics,
    })
}
