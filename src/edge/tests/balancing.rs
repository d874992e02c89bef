//! Several copies of one app, and apps on Unix sockets.

use tokio::net::UnixListener;

use super::*;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

/// An edge in front of `count` copies and what else `more` names.
async fn copies(count: usize, more: &str) -> (Trial, Vec<Origin>) {
    let supervisor = Supervisor::new(Shutdown::new());
    let mut origins = Vec::new();
    for _ in 0..count {
        origins.push(Origin::start(&supervisor, ok).await);
    }
    let listed: Vec<String> = origins.iter().map(|origin| format!("\"{}\"", origin.address)).collect();
    let settings = format!("{PLAIN}[[sites]]\nupstreams = [{}{more}]\n", listed.join(", "));
    let trial = trial(&settings, ok).await;
    let stop = trial.supervisor.shutdown().clone();
    trial.supervisor.task("test stop", Role::Ordinary, async move {
        stop.forced().await;
        supervisor.shutdown().force();
    });
    (trial, origins)
}

#[tokio::test]
async fn requests_are_spread_over_the_copies() {
    let (trial, origins) = copies(3, "").await;
    for _ in 0..30 {
        assert_eq!(status(&trial.talk(get("/")).await), 200);
    }
    for origin in &origins {
        assert_eq!(origin.requests().len(), 10);
    }
}

#[tokio::test]
async fn a_busy_copy_is_spared() {
    let (trial, origins) = copies(2, "").await;
    // An upload that does not end keeps one copy busy.
    let mut upload = trial.connect().await;
    upload.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1").await.unwrap();
    let connected = async {
        while origins.iter().all(|origin| origin.connections.load(Ordering::SeqCst) == 0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, connected).await.unwrap();
    for _ in 0..10 {
        assert_eq!(status(&trial.talk(get("/")).await), 200);
    }
    let mut counts: Vec<usize> = origins.iter().map(|origin| origin.requests().len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 10]);
}

#[tokio::test]
async fn a_copy_that_is_gone_costs_no_request_and_is_left_out() {
    let (trial, origins) = copies(1, ", \"127.0.0.1:1\"").await;
    for _ in 0..20 {
        assert_eq!(
            status(&trial.talk("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi").await),
            200
        );
    }
    assert_eq!(origins[0].requests().len(), 20);
    trial.shows("mainstay_edge_upstream_ejections_total 1").await;
}

#[tokio::test]
async fn with_all_copies_gone_there_is_one_clean_502() {
    let (trial, _) = copies(0, "\"127.0.0.1:1\", \"127.0.0.1:2\"").await;
    for _ in 0..3 {
        assert_eq!(status(&trial.talk(get("/")).await), 502);
    }
}

#[tokio::test]
async fn clients_that_leave_say_nothing_about_the_app() {
    let (trial, _origins) = copies(2, "").await;
    for _ in 0..12 {
        let mut upload = trial.connect().await;
        upload.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await.unwrap();
        assert_ne!(status(&read_all(&mut upload).await), 200);
    }
    trial.shows("mainstay_edge_upstream_ejections_total 0").await;
}

#[tokio::test]
async fn an_app_may_listen_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let trial = trial(&format!("{PLAIN}[[sites]]\nupstream = \"unix:{}\"\n", path.display()), ok).await;
    let app = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let seen = read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(ok(&seen).as_bytes()).await.unwrap();
        seen
    };
    let (answer, seen) = tokio::join!(trial.talk(get("/x")), app);
    assert!(status(&answer) == 200 && answer.ends_with("ok"), "{answer}");
    assert!(seen.starts_with("GET /x HTTP/1.1\r\nhost: a\r\n") || seen.contains("host: a\r\n"), "{seen}");
}
