//! The control socket, asked.

use super::*;
use crate::accounts::{AccessKeys, AccountsConfig, FirstCredentials, Users};
use crate::app::master_change::MasterChange;
use crate::base::{LocalDisk, Shutdown, SystemRandom};
use crate::crypto::Keyring;
use crate::crypto::keyring::MasterSource;
use crate::monitor::Checks;
use crate::testing::{TestClock, memory_store};

fn facts(shutdown: &Shutdown) -> Arc<Facts> {
    let (disk, data) = (Arc::new(crate::testing::FaultyDisk::new()), Path::new("/data"));
    let keyring = Keyring::open(disk.clone(), Arc::new(SystemRandom), data, MasterSource::Folder, false).unwrap();
    let objects = crate::objects::tests::open(
        Arc::new(crate::testing::FaultyDisk::new()),
        data,
        memory_store(),
        Arc::new(TestClock::default()),
        &crate::telemetry::Metrics::new(),
        crate::objects::ObjectsConfig::default(),
    );
    let backups = crate::backup::server_tests::backups(shutdown);
    let first = FirstCredentials::default();
    let store = memory_store();
    let keys = Arc::new(AccessKeys::open(&store, &SystemRandom, &TestClock::default(), first).unwrap());
    let (clock, random) = (Arc::new(TestClock::default()), Arc::new(SystemRandom));
    let users = Users::open(store, Arc::clone(&keys), clock, random, AccountsConfig::default()).unwrap();
    Arc::new(Facts {
        data: PathBuf::from("/data"),
        doors: Vec::new(),
        connect: super::super::connect::Connect { console: "127.0.0.1:8000".parse().ok(), ..Default::default() },
        keys,
        users,
        checks: Checks::new(Vec::new(), shutdown.clone()),
        issues: crate::issues::tests::issues(&memory_store(), crate::issues::IssuesConfig::default()).issues,
        master: MasterChange::new(Arc::new(keyring), objects.clone(), backups.clone()),
        backups,
        objects,
        bans: crate::bans::Bans::open(
            memory_store(),
            Arc::new(TestClock::default()),
            &crate::telemetry::Metrics::new(),
            crate::bans::Rules::default(),
        )
        .unwrap(),
        analytics: crate::analytics::Analytics::new(
            memory_store(),
            Arc::new(TestClock::default()),
            Arc::new(SystemRandom),
            &crate::telemetry::Metrics::new(),
            crate::analytics::AnalyticsConfig::default(),
        ),
        edge: None,
        reloader: Arc::default(),
        upgrades: super::super::handover::request::Upgrades::new().0,
        outbox: crate::mail::Outbox::new(
            memory_store(),
            Arc::new(TestClock::default()),
            Arc::new(SystemRandom),
            &crate::telemetry::Metrics::new(),
            crate::mail::MailConfig::default(),
        ),
        clock: Arc::new(TestClock::default()),
        started: Duration::ZERO,
    })
}

/// Runs `op` against a listening server, on a thread that may block.
async fn with_server<T: Send + 'static>(op: impl FnOnce(&Path) -> T + Send + 'static) -> T {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(Shutdown::new());
    let facts = facts(supervisor.shutdown());
    start(&LocalDisk, folder.path(), facts, &supervisor, None, &Kept::default()).unwrap();
    let path = folder.path().to_owned();
    let answer = tokio::task::spawn_blocking(move || op(&path)).await.unwrap();
    supervisor.shutdown().drain();
    assert!(supervisor.tasks_ended(Duration::from_secs(5)).await);
    answer
}

fn raw(folder: &Path, line: &[u8]) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket(folder)).unwrap();
    // A server that has heard enough closes while we still write.
    let _ = stream.write_all(line);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[tokio::test]
async fn a_command_gets_status_and_env() {
    let (status, env) = with_server(|folder| (status(folder).unwrap(), env(folder).unwrap())).await;
    assert_eq!((status.pid, status.ready), (std::process::id(), true));
    assert!(env.contains(&(String::from("MAINSTAY_URL"), String::from("http://127.0.0.1:8000"))), "{env:?}");
}

#[tokio::test]
async fn the_command_line_sets_up_a_server_and_makes_tokens() {
    let (setup, again, token, users, refused) = with_server(|folder| {
        let token = control_people::create_token(folder, String::from("ci"), vec![String::from("read")]);
        (
            control_people::link(folder, LinkWanted::SetUp).unwrap(),
            control_people::link(folder, LinkWanted::Invite { email: String::from("ada@example.com") }).unwrap(),
            token.unwrap(),
            control_people::users(folder).unwrap(),
            control_people::link(folder, LinkWanted::SetUp).unwrap_err().to_string(),
        )
    })
    .await;
    assert!(setup.starts_with("http://127.0.0.1:8000/setup?token="), "{setup}");
    assert!(again.starts_with("http://127.0.0.1:8000/reset?token="), "{again}");
    assert!(token.starts_with("mst_") && users == ["   1  ada@example.com  admin"], "{users:?}");
    assert!(refused.contains("set up already"), "{refused}");
}

#[tokio::test]
async fn strange_questions_are_answered_with_an_error() {
    let answers = with_server(|folder| {
        [&b"{\"version\":2,\"ask\":\"fly\"}\n"[..], b"nonsense\n", b"{\"version\":1,\"ask\":\"fly\"}\n"]
            .map(|line| raw(folder, line))
    })
    .await;
    assert!(answers[0].contains("speaks version 1"), "{}", answers[0]);
    for answer in answers {
        assert!(answer.contains("\"error\""), "{answer}");
    }
}

#[tokio::test]
async fn an_endless_question_is_cut_off() {
    let answer = with_server(|folder| raw(folder, &vec![b'x'; 2 * ASK_LIMIT as usize])).await;
    assert!(answer.is_empty() || answer.contains("\"error\""), "{answer}");
}

#[tokio::test]
async fn the_socket_belongs_to_its_owner_alone() {
    let mode = with_server(|folder| socket(folder).metadata().unwrap().permissions().mode()).await;
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn without_a_server_the_command_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(status(folder.path()), Err(ControlError::NotRunning { .. })));
}

#[tokio::test]
async fn the_master_key_is_changed_and_the_one_before_told_once() {
    let (rotated, status) = with_server(|folder| {
        let before = control_master::status(folder).unwrap();
        let rotated = control_master::rotate(folder).unwrap();
        assert_eq!(rotated.previous, before.active);
        (rotated, control_master::status(folder).unwrap())
    })
    .await;
    assert_eq!((&status.active, &status.older), (&rotated.active, &vec![rotated.previous.clone()]));
    let previous = crate::crypto::MasterKey::parse(&rotated.previous_key).unwrap();
    assert_eq!(previous.id(), rotated.previous);
}
