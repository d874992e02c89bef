//! Tests of the whole door: a server on a free loopback port over a disk that fails on command.

use std::io::{Read, Write};
use std::net::{Shutdown as Side, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Doors, Parts, RedisConfig, RespError, UnixDoor, start};
use crate::bans::{Bans, LoginJail, Rules, Term};
use crate::base::{Clock, Disk, Listen, Secret, Shutdown, Supervisor, SystemClock};
use crate::crypto::Key;
use crate::kv::persist::{OnDamage, Pace, Persistence, Place, SyncMode};
use crate::kv::{Handle, Keyspace, KvConfig};
use crate::telemetry::metrics::Metrics;
use crate::testing::{Fault, FaultyDisk, TestRandom, memory_store};

/// A running server; stopped and joined when dropped.
struct TestServer {
    address: std::net::SocketAddr,
    disk: FaultyDisk,
    supervisor: Supervisor,
    handle: Handle,
    metrics: Metrics,
}

/// What a test sets up differently.
struct Setup {
    disk: FaultyDisk,
    password: Option<&'static str>,
    sync: SyncMode,
    config: RedisConfig,
    address: &'static str,
    unix: Option<UnixDoor>,
    tls: Option<TcpListener>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            disk: FaultyDisk::new(),
            password: None,
            sync: SyncMode::EverySec,
            config: RedisConfig::default(),
            address: "127.0.0.1:0",
            unix: None,
            tls: None,
        }
    }
}

impl Setup {
    fn start(self) -> Result<TestServer, RespError> {
        let supervisor = Supervisor::new(Shutdown::new());
        let clock = Arc::new(SystemClock::new());
        let random = Arc::new(TestRandom::new(7));
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let _ = self.disk.create_dir(Path::new("data"));
        let mut keyspace = Keyspace::new(KvConfig::default(), random.clone());
        let place = Place {
            disk: Arc::clone(&disk),
            random,
            folder: PathBuf::from("data/kv"),
            key: Key::from_bytes([3; 32]),
            segment_bytes: 1 << 20,
            on_damage: OnDamage::Refuse,
        };
        let pace = Pace { sync: self.sync, checkpoint_after: 1 << 20 };
        let (persistence, loaded) = Persistence::open(&place, pace, &mut keyspace, clock.clone(), &supervisor).unwrap();
        let listener = TcpListener::bind(self.address).unwrap();
        let address = listener.local_addr().unwrap();
        let parts = Parts {
            keyspace,
            persistence,
            config: self.config,
            users: std::collections::BTreeMap::new(),
            user_store: None,
            bans: bans(clock.clone()),
            password: self.password.map(|password| Secret::new(password.to_owned())),
            clock,
            disk,
            shutdown: supervisor.shutdown().clone(),
            loaded,
        };
        let metrics = Metrics::new();
        let doors = Doors { tcp: vec![listener], unix: self.unix, tls: self.tls };
        let handle = start(doors, parts, &supervisor, &metrics)?.handle;
        Ok(TestServer { address, disk: self.disk, supervisor, handle, metrics })
    }
}

/// A jail that takes the second wrong password, as it would.
fn bans(clock: Arc<dyn Clock>) -> Bans {
    let term = Term { first: Duration::from_mins(1), growth: 1, longest: Duration::from_mins(1) };
    let jail = LoginJail { name: "logins".into(), doors: Vec::new(), most: 2, within: Duration::from_mins(1), term };
    let rules = Rules { logins: vec![jail], ..Rules::default() };
    Bans::open(memory_store(), clock, &Metrics::new(), rules).unwrap()
}

impl TestServer {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// What the server says to `request` until it closes; the request ends the client's side.
    fn say(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.write_all(b"QUIT\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.replace("\r\n", "|")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.supervisor.shutdown().drain();
        self.supervisor.join_threads();
    }
}

/// Reads exactly `text`.
fn expect(stream: &mut TcpStream, text: &str) {
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), text);
}

fn send(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).unwrap();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Setup::default().start().unwrap();
    assert_eq!(
        server.say("SET a 1\r\nINCR a\r\nGET a\r\nNOSUCH x\r\n"),
        "+OK|:2|$1|2|-ERR unknown command 'NOSUCH', with args beginning with: 'x' |+OK|"
    );
}

#[test]
fn before_the_password_a_client_can_only_introduce_itself() {
    let server = Setup { password: Some("sesame"), ..Setup::default() }.start().unwrap();
    assert_eq!(
        server.say("GET a\r\nPING\r\n"),
        "-NOAUTH Authentication required.|-NOAUTH Authentication required.|+OK|"
    );
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.|";
    assert_eq!(server.say("AUTH wrong\r\nAUTH other sesame\r\n"), format!("{wrong}{wrong}+OK|"));
    assert_eq!(server.say("AUTH default sesame\r\nPING\r\n"), "+OK|+PONG|+OK|");
    assert_eq!(server.say("*3\r\n$4\r\nAUTH\r\n$0\r\n\r\n$6\r\nsesame\r\nPING\r\n"), "+OK|+PONG|+OK|");
    assert!(server.say("HELLO 3 AUTH default sesame\r\nPING\r\n").starts_with("%7|"));
    assert!(server.say("HELLO 3\r\n").starts_with("-NOAUTH HELLO must be called"));
}

#[test]
fn a_user_may_do_what_its_rules_say_from_the_next_command_on() {
    let server = Setup { password: Some("sesame"), ..Setup::default() }.start().unwrap();
    let admin = |line: &str| server.say(&format!("AUTH sesame\r\n{line}\r\n")).replacen("+OK|", "", 1);
    assert_eq!(admin("ACL SETUSER app on >secret ~app:* +@all -@dangerous db=3"), "+OK|+OK|");
    let mut app = server.connect();
    send(&mut app, "AUTH app wrong\r\nAUTH app secret\r\nACL WHOAMI\r\nSET app:1 x\r\nGET other\r\nKEYS *\r\n");
    expect(&mut app, "-WRONGPASS invalid username-password pair or user is disabled.\r\n+OK\r\n$3\r\napp\r\n+OK\r\n");
    expect(&mut app, "-NOPERM No permissions to access a key\r\n");
    expect(&mut app, "-NOPERM User app has no permissions to run the 'keys' command\r\n");
    send(&mut app, "SELECT 0\r\nMULTI\r\nGET app:1\r\nGET other\r\nEXEC\r\n");
    expect(&mut app, "-NOPERM No permissions to access database 0\r\n+OK\r\n+QUEUED\r\n-NOPERM No permissions");
    expect(&mut app, " to access a key\r\n-EXECABORT Transaction discarded because of previous errors.\r\n");
    send(&mut app, "MULTI\r\nGET app:1\r\n");
    expect(&mut app, "+OK\r\n+QUEUED\r\n");
    assert_eq!(admin("ACL SETUSER app -get"), "+OK|+OK|");
    send(&mut app, "EXEC\r\n");
    expect(&mut app, "*1\r\n-NOPERM User app has no permissions to run the 'get' command\r\n");
    assert_eq!(admin("SELECT 3\r\nGET app:1"), "+OK|$1|x|+OK|", "bound to its own database from the start");
    assert!(admin("ACL LOG").contains("|$8|database|"));
    assert_eq!(admin("ACL DELUSER app default"), "-ERR The 'default' user cannot be removed|+OK|");
    assert_eq!(admin("ACL DELUSER app nobody"), ":1|+OK|");
    let mut rest = String::new();
    app.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "a removed user's connections end");
    assert!(server.say("AUTH app secret\r\n").starts_with("-WRONGPASS"));
}

#[test]
fn wrong_passwords_from_loopback_ban_nobody() {
    let server = Setup { password: Some("sesame"), ..Setup::default() }.start().unwrap();
    for _ in 0..3 {
        assert!(server.say("AUTH wrong\r\nHELLO 3 AUTH default wrong\r\n").ends_with("|+OK|"));
    }
    assert_eq!(server.say("AUTH sesame\r\n"), "+OK|+OK|");
    assert_eq!(server.metrics.sum("mainstay_redis_rejected_total", &[]), Some(0.0));
}

#[test]
fn what_took_long_is_logged_and_what_is_sent_is_shown_to_who_watches() {
    let server = Setup { password: Some("sesame"), ..Setup::default() }.start().unwrap();
    let mut watcher = server.connect();
    send(&mut watcher, "AUTH sesame\r\nMONITOR\r\n");
    expect(&mut watcher, "+OK\r\n+OK\r\n");
    let said = server
        .say("AUTH sesame\r\nCONFIG SET slowlog-log-slower-than 0\r\nSET k v\r\nSLOWLOG LEN\r\nSLOWLOG GET 1\r\n");
    assert!(said.starts_with("+OK|+OK|+OK|:2|*1|*6|:2|"), "{said}");
    assert!(said.contains("|*2|$7|SLOWLOG|$3|LEN|"), "{said}");
    assert_eq!(server.say("AUTH sesame\r\nSLOWLOG RESET\r\nLATENCY RESET\r\nLATENCY LATEST\r\n"), "+OK|+OK|:0|*0|+OK|");
    let mut shown = String::new();
    while !shown.contains("\"QUIT\"") {
        let mut some = [0; 512];
        let count = watcher.read(&mut some).unwrap();
        shown.push_str(std::str::from_utf8(&some[..count]).unwrap());
    }
    assert!(shown.contains("] \"SET\" \"k\" \"v\"\r\n") && !shown.contains("sesame"), "{shown}");
}

#[test]
fn without_a_password_other_machines_are_not_let_in() {
    let refused = Setup { address: "0.0.0.0:0", ..Setup::default() }.start();
    assert!(matches!(refused, Err(RespError::Open { .. })));
    assert!(RedisConfig::default().listen.is_loopback() && Listen::OFF.is_loopback());
}

#[test]
fn a_malformed_request_is_told_and_ends_the_connection() {
    let server = Setup::default().start().unwrap();
    let mut stream = server.connect();
    send(&mut stream, "PING\r\n*1\r\n$x\r\nPING\r\n");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n");
    assert!(server.metrics.exposition().contains("mainstay_redis_protocol_errors_total 1"));
}

#[test]
fn a_blocked_client_is_served_by_another() {
    let server = Setup::default().start().unwrap();
    let mut waiting = server.connect();
    send(&mut waiting, "BLPOP list 0\r\nPING\r\n");
    assert_eq!(server.say("RPUSH list x\r\n"), ":1|+OK|");
    expect(&mut waiting, "*2\r\n$4\r\nlist\r\n$1\r\nx\r\n+PONG\r\n");
}

#[test]
fn a_subscriber_hears_what_another_publishes() {
    let server = Setup::default().start().unwrap();
    let mut subscriber = server.connect();
    send(&mut subscriber, "SUBSCRIBE news\r\n");
    expect(&mut subscriber, "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    assert_eq!(server.say("PUBLISH news hello\r\n"), ":1|+OK|");
    expect(&mut subscriber, "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
}

#[test]
fn one_client_too_many_is_told() {
    let config = RedisConfig { max_clients: 1, ..RedisConfig::default() };
    let server = Setup { config, ..Setup::default() }.start().unwrap();
    let mut first = server.connect();
    send(&mut first, "PING\r\n");
    expect(&mut first, "+PONG\r\n");
    let mut second = server.connect();
    let mut answer = String::new();
    second.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "-ERR max number of clients reached\r\n");
}

#[test]
fn a_client_that_does_not_read_is_closed_at_its_limit() {
    let config = RedisConfig { output_limit: crate::base::ByteSize::mib(1), ..RedisConfig::default() };
    let server = Setup { config, ..Setup::default() }.start().unwrap();
    let value = "x".repeat(1 << 20);
    let set = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$1048576\r\n{value}\r\n");
    assert_eq!(server.say(&set), "+OK|+OK|");
    let mut slow = server.connect();
    for _ in 0..64 {
        if slow.write_all(b"GET big\r\n").is_err() {
            break;
        }
    }
    let _ = slow.shutdown(Side::Write);
    let mut read = Vec::new();
    let _ = slow.read_to_end(&mut read);
    assert!(read.len() < 64 << 20, "{}", read.len());
    assert!(server.metrics.exposition().contains("mainstay_redis_slow_clients_total 1"));
}

#[test]
fn acknowledged_changes_survive_a_power_cut_when_every_write_is_synced() {
    let server = Setup { sync: SyncMode::Always, ..Setup::default() }.start().unwrap();
    let _ = server.disk.sync_dir(Path::new("."));
    let mut stream = server.connect();
    send(&mut stream, "SET a 1\r\nRPUSH l x y\r\n");
    expect(&mut stream, "+OK\r\n:2\r\n");
    let after = server.disk.crash(5);
    let again = Setup { disk: after, ..Setup::default() }.start().unwrap();
    assert_eq!(again.say("GET a\r\nLLEN l\r\n"), "$1|1|:2|+OK|");
}

#[test]
fn a_library_of_functions_survives_a_power_cut_in_every_mode() {
    let server = Setup { sync: SyncMode::No, ..Setup::default() }.start().unwrap();
    let _ = server.disk.sync_dir(Path::new("."));
    let mut stream = server.connect();
    send(&mut stream, "FUNCTION LOAD \"#!lua name=l\\nredis.register_function('f', function() return 7 end)\"\r\n");
    expect(&mut stream, "$1\r\nl\r\n");
    let after = server.disk.crash(5);
    let again = Setup { disk: after, ..Setup::default() }.start().unwrap();
    assert_eq!(again.say("FCALL f 0\r\nFUNCTION DELETE l\r\nFCALL f 0\r\n"), ":7|+OK|-ERR Function not found|+OK|");
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads_until_there_is_room() {
    let server = Setup::default().start().unwrap();
    assert_eq!(server.say("SET a 1\r\n"), "+OK|+OK|");
    server.disk.fail_from(1, Fault::NoSpace);
    let refused = "-MISCONF Errors writing to the AOF file: no space left on the device|";
    assert_eq!(server.say("GET a\r\nSET b 2\r\nGET a\r\n"), format!("$1|1|{refused}$1|1|+OK|"));
    assert_eq!(server.say("SET c 3\r\nGET a\r\n"), format!("{refused}$1|1|+OK|"));
    assert!(server.say("MULTI\r\nSET d 4\r\nEXEC\r\n").contains("EXECABORT"));
    server.disk.heal();
    // The door tries again once a second; until then each round trip is refused.
    let accepted = (0..1_000_000).any(|_| server.say("SET e 5\r\n").starts_with("+OK"));
    assert!(accepted);
    let again = Setup { disk: server.disk.kill(), ..Setup::default() }.start().unwrap();
    assert_eq!(again.say("GET a\r\nGET e\r\nGET c\r\n"), "$1|1|$1|5|$-1|+OK|");
}

#[test]
fn after_a_failed_sync_writes_are_refused_and_reads_served() {
    let server = Setup { sync: SyncMode::Always, ..Setup::default() }.start().unwrap();
    assert_eq!(server.say("SET a 1\r\n"), "+OK|+OK|");
    server.disk.fail_from(1, Fault::SyncError);
    assert!(server.say("SET a 2\r\n").starts_with("-MISCONF"));
    server.disk.heal();
    assert!(server.say("SET a 3\r\n").starts_with("-MISCONF"));
    assert_eq!(server.say("PING\r\n"), "+PONG|+OK|");
}

#[test]
fn a_checkpoint_under_load_loses_nothing() {
    let server = Setup::default().start().unwrap();
    let mut stream = server.connect();
    let sets =
        |keys: std::ops::Range<u32>| keys.fold(String::new(), |text, key| text + &format!("SET key:{key} {key}\r\n"));
    let request = sets(0..1_500) + "BGSAVE\r\n" + &sets(1_500..3_000);
    send(&mut stream, &request);
    send(&mut stream, "DEL key:7\r\nSAVE\r\nQUIT\r\n");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let again = Setup { disk: server.disk.kill(), ..Setup::default() }.start().unwrap();
    assert_eq!(again.say("DBSIZE\r\nGET key:2999\r\nGET key:7\r\n"), ":2999|$4|2999|$-1|+OK|");
}

#[tokio::test]
async fn the_handle_reaches_the_keyspace() {
    let server = Setup::default().start().unwrap();
    assert_eq!(server.say("SET a 1\r\n"), "+OK|+OK|");
    assert_eq!(server.handle.call(|keyspace| keyspace.database_info(0).keys).await, Ok(1));
}

#[test]
fn replies_can_be_turned_off() {
    let server = Setup::default().start().unwrap();
    assert_eq!(
        server.say("CLIENT REPLY OFF\r\nSET a 1\r\nCLIENT REPLY ON\r\nCLIENT REPLY SKIP\r\nSET a 2\r\nGET a\r\n"),
        "+OK|$1|2|+OK|"
    );
}

#[test]
fn the_doors_own_commands_run_where_they_stand_in_a_transaction() {
    let server = Setup::default().start().unwrap();
    let transaction =
        "MULTI\r\nSET a 1\r\nCLIENT SETNAME me\r\nINCR a\r\nCLIENT GETNAME\r\nWAITAOF 1 0 0\r\nEXEC\r\nGET a\r\n";
    assert_eq!(
        server.say(transaction),
        "+OK|+QUEUED|+QUEUED|+QUEUED|+QUEUED|+QUEUED|*5|+OK|+OK|:2|$2|me|*2|:0|:0|$1|2|+OK|"
    );
    // What may not be in one still breaks it, and a silent one keeps the array whole.
    assert!(server.say("MULTI\r\nSAVE\r\nEXEC\r\n").contains("-EXECABORT"));
    assert_eq!(
        server.say("MULTI\r\nCLIENT REPLY SKIP\r\nGET a\r\nEXEC\r\nPING\r\nGET a\r\n"),
        "+OK|+QUEUED|+QUEUED|*2|$-1|$1|2|$1|2|+OK|"
    );
    assert!(server.say("MULTI\r\nHELLO 3\r\nHGETALL none\r\nEXEC\r\n").ends_with("|*0|%0|+OK|"));
}

#[test]
fn a_transaction_with_door_commands_is_one_change() {
    let server = Setup::default().start().unwrap();
    let mut waiting = server.connect();
    send(&mut waiting, "BLPOP list 0\r\n");
    // The blocked client is served after the whole, not from its half.
    let transaction = "MULTI\r\nRPUSH list x\r\nCLIENT ID\r\nLPOP list\r\nEXEC\r\n";
    assert!(server.say(transaction).ends_with("|$1|x|+OK|"));
    assert_eq!(server.say("RPUSH list y\r\n"), ":1|+OK|");
    expect(&mut waiting, "*2\r\n$4\r\nlist\r\n$1\r\ny\r\n");
    let again = Setup { disk: server.disk.kill(), ..Setup::default() }.start().unwrap();
    assert_eq!(again.say("EXISTS list\r\n"), ":0|+OK|");
}

#[test]
fn a_unix_socket_that_was_handed_over_is_served_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let unix = Some(UnixDoor::Adopt(listener, path.clone()));
    let server = Setup { unix, ..Setup::default() }.start().unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.write_all(b"PING\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "+PONG\r\n+OK\r\n");
    drop(server);
    assert!(path.exists());
}

/// Until a script has begun, the others are answered as ever.
fn wait_until_told(idle: &mut TcpStream, busy: &str) {
    let told = (0..1_000_000).any(|_| {
        send(idle, "GET a\r\n");
        let mut first = [0];
        idle.read_exact(&mut first).unwrap();
        let rest = if first == *b"-" { &busy[1..] } else { "1\r\n1\r\n" };
        expect(idle, rest);
        first == *b"-"
    });
    assert!(told);
}

#[test]
fn a_function_that_runs_for_long_is_told_of_and_ended_as_a_function() {
    let server = Setup::default().start().unwrap();
    let library = "#!lua name=l\\nredis.register_function('f', function() while true do end end)";
    assert_eq!(
        server.say(&format!("CONFIG SET busy-reply-threshold 0\r\nSET a 1\r\nFUNCTION LOAD \"{library}\"\r\n")),
        "+OK|+OK|$1|l|+OK|"
    );
    let mut idle = server.connect();
    let mut running = server.connect();
    send(&mut running, "FCALL f 1 k argument\r\n");
    let busy = "-BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.\r\n";
    wait_until_told(&mut idle, busy);
    send(&mut idle, "FUNCTION LIST\r\nSCRIPT KILL\r\n");
    expect(&mut idle, busy);
    expect(&mut idle, busy);
    let stats = server.say("FUNCTION STATS\r\n");
    let start =
        "*4|$14|running_script|*6|$4|name|$1|f|$7|command|*5|$5|FCALL|$1|f|$1|1|$1|k|$8|argument|$11|duration_ms|:";
    assert!(stats.starts_with(start), "{stats}");
    assert!(stats.ends_with("|$15|libraries_count|:1|$15|functions_count|:1|+OK|"), "{stats}");
    assert_eq!(server.say("FUNCTION KILL\r\n"), "+OK|+OK|");
    let mut answer = [0; 45];
    running.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"-ERR Script killed by user with FUNCTION KILL");
    assert_eq!(server.say("GET a\r\nFUNCTION KILL\r\n"), "$1|1|-NOTBUSY No scripts in execution right now.|+OK|");
}

#[test]
fn while_a_script_runs_for_long_others_are_told_and_may_end_it() {
    let server = Setup::default().start().unwrap();
    assert_eq!(
        server.say("CONFIG SET busy-reply-threshold 0\r\nSCRIPT KILL\r\n"),
        "+OK|-NOTBUSY No scripts in execution right now.|+OK|"
    );
    let mut idle = server.connect();
    send(&mut idle, "SET a 1\r\n");
    expect(&mut idle, "+OK\r\n");
    let mut running = server.connect();
    send(&mut running, "EVAL \"while true do pcall(function() while true do end end) end\" 0\r\n");
    let busy = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n";
    wait_until_told(&mut idle, busy);
    send(&mut idle, "MULTI\r\nGET a\r\nEXEC\r\n");
    expect(&mut idle, "+OK\r\n");
    expect(&mut idle, busy);
    expect(&mut idle, &format!("-EXECABORT Transaction discarded because of: {}", &busy[1..]));
    assert_eq!(server.say("SCRIPT KILL\r\n"), "+OK|+OK|");
    let mut answer = [0; 43];
    running.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"-ERR Script killed by user with SCRIPT KILL");
    assert_eq!(server.say("GET a\r\n"), "$1|1|+OK|");
}
