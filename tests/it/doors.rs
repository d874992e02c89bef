//! The S3 and Redis doors of a whole server. Stock clients speak to them in `tests/clients`.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use crate::harness::{Server, get};

/// A Redis connection; its answers as they came, a line each.
struct Redis<S: Read + Write>(BufReader<S>);

impl<S: Read + Write> Redis<S> {
    /// Sends an inline command; the first line of the answer, or the second of a bulk answer.
    fn ask(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        if line.starts_with('$') && !line.starts_with("$-1") {
            line.clear();
            self.0.read_line(&mut line).unwrap();
        }
        line.trim_end().to_owned()
    }
}

/// A connection to the server's TCP door, logged in.
fn redis(server: &Server) -> Redis<TcpStream> {
    let url = server.env()["REDIS_URL"].clone();
    let (password, address) = url.strip_prefix("redis://:").unwrap().split_once('@').unwrap();
    let mut redis = Redis(BufReader::new(TcpStream::connect(address).unwrap()));
    assert_eq!(redis.ask(&format!("AUTH {password}")), "+OK");
    redis
}

#[test]
fn a_killed_server_has_lost_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &[]);
    let mut client = redis(&server);
    for number in 0..100 {
        assert_eq!(client.ask(&format!("SET key:{number} value:{number}")), "+OK");
    }
    server.kill();
    let server = Server::start_in(folder.path(), &[]);
    let mut client = redis(&server);
    assert_eq!(client.ask("DBSIZE"), ":100");
    assert_eq!(client.ask("GET key:99"), "value:99");
    assert_eq!(server.stop(), 0);
}

#[test]
fn the_unix_socket_is_the_same_keyspace_and_goes_with_the_server() {
    let server = Server::start();
    assert_eq!(redis(&server).ask("SET a 1"), "+OK");
    let url = server.env()["REDIS_SOCKET_URL"].clone();
    let (password, path) = url.strip_prefix("unix://:").unwrap().split_once('@').unwrap();
    let mut client = Redis(BufReader::new(UnixStream::connect(path).unwrap()));
    assert!(client.ask("GET a").starts_with("-NOAUTH"));
    assert_eq!(client.ask(&format!("AUTH {password}")), "+OK");
    assert_eq!(client.ask("GET a"), "1");
    assert_eq!(server.stop(), 0);
    assert!(!std::path::Path::new(path).exists());
}

#[test]
fn redis_without_a_password_has_a_bare_address() {
    let server = Server::start_with(&[("MAINSTAY_REDIS__REQUIRE_AUTH", "false")]);
    let url = server.env()["REDIS_URL"].clone();
    let address = url.strip_prefix("redis://").unwrap();
    let mut client = Redis(BufReader::new(TcpStream::connect(address).unwrap()));
    assert_eq!(client.ask("PING"), "+PONG");
}

#[test]
fn the_s3_door_is_alive_and_answers_nobody_unsigned() {
    let server = Server::start();
    let address = server.address("s3.listen");
    for path in ["/minio/health/live", "/minio/health/ready"] {
        assert_eq!(get(&address, path).0, 200, "{path}");
    }
    let (status, answer) = get(&address, "/some-bucket");
    assert_eq!(status, 403);
    assert!(answer.contains("<Code>AccessDenied</Code>"), "{answer}");
    let env = server.env();
    assert_eq!(format!("{}:{}", env["MINIO_ENDPOINT"], env["MINIO_PORT"]), address);
    assert_eq!((env["AWS_ACCESS_KEY_ID"].len(), env["AWS_SECRET_ACCESS_KEY"].len()), (20, 40));
}

#[test]
fn minio_root_variables_become_the_first_access_key() {
    let server = Server::start_with(&[("MINIO_ROOT_USER", "admin"), ("MINIO_ROOT_PASSWORD", "long-enough-secret")]);
    let env = server.env();
    assert_eq!((env["MINIO_ACCESS_KEY"].as_str(), env["MINIO_SECRET_KEY"].as_str()), ("admin", "long-enough-secret"));
}

#[test]
fn doors_can_be_turned_off() {
    let off = [("MAINSTAY_S3__LISTEN", ""), ("MAINSTAY_REDIS__LISTEN", ""), ("MAINSTAY_REDIS__SOCKET", "")];
    let server = Server::start_with(&off);
    let env = server.env();
    assert!(!env.keys().any(|name| name.starts_with("REDIS") || name.starts_with("MINIO")), "{env:?}");
    assert_eq!(server.status()["ready"], true);
}

#[test]
fn no_secret_stands_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(folder.path(), &[("MAINSTAY_LOG__LEVEL", "trace")]);
    let env = server.env();
    let mut client = redis(&server);
    assert_eq!(client.ask("SET a 1"), "+OK");
    get(&server.address("s3.listen"), "/b/k?X-Amz-Signature=deadbeefdeadbeef");
    let log = server.stop_and_read_log();
    assert!(log.lines().count() > 5, "{log}");
    for secret in [&env["AWS_SECRET_ACCESS_KEY"], env["REDIS_URL"].get(9..41).unwrap(), "deadbeefdeadbeef"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
