//! Other settings while requests are under way.

use super::*;

const ASK: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn answering(body: &'static str) -> impl Fn(&str) -> String + Send + Sync + 'static {
    move |_: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn settings(app: SocketAddr, more: &str) -> EdgeConfig {
    toml::from_str(&format!("{PLAIN}app = \"{app}\"\n{more}")).unwrap()
}

/// One request on a connection that stays open; the body of its answer.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(ASK.as_bytes()).await.unwrap();
    let answer = read_until(stream, "!").await;
    assert_eq!(status(&answer), 200, "{answer}");
    answer.rsplit("\r\n").next().unwrap().to_owned()
}

#[tokio::test]
async fn under_load_no_request_fails_and_no_connection_ends() {
    let trial = trial(PLAIN, answering("old!")).await;
    let other = Origin::start(&trial.supervisor, answering("new!")).await;
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (address, done) = (trial.edge.http().unwrap(), Arc::clone(&done));
            async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let mut answered = 0;
                while done.load(Ordering::SeqCst) < 50 {
                    let body = ask(&mut stream).await;
                    assert!(body == "old!" || body == "new!", "{body}");
                    answered += 1;
                }
                assert_eq!(ask(&mut stream).await, "new!");
                answered
            }
        })
        .collect();
    let reloads = async {
        let mut stream = trial.connect().await;
        for turn in 0..50 {
            let app = if turn % 2 == 0 { other.address } else { trial.origin.address };
            trial.edge.reload(&settings(app, "")).await.unwrap();
            // The first request after a reload goes by it.
            assert_eq!(ask(&mut stream).await, if turn % 2 == 0 { "new!" } else { "old!" });
            if turn == 49 {
                trial.edge.reload(&settings(other.address, "")).await.unwrap();
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
    };
    let (answered, ()) = tokio::join!(futures_util::future::join_all(clients), reloads);
    assert!(answered.iter().all(|count| *count > 0), "{answered:?}");
}

#[tokio::test]
async fn a_websocket_a_stream_and_a_kept_connection_to_an_app_outlive_a_reload() {
    let reply = |request: &str| match request {
        request if request.contains("/ws") => {
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_owned()
        }
        _ => ok(request),
    };
    let trial = trial(PLAIN, reply).await;
    let mut socket = trial.connect().await;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    socket.write_all(upgrade.as_bytes()).await.unwrap();
    read_until(&mut socket, "\r\n\r\n").await;
    let mut upload = trial.connect().await;
    upload.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await.unwrap();
    read_until(&mut upload, "100 Continue\r\n\r\n").await;
    let mut kept = trial.connect().await;
    kept.write_all(ASK.as_bytes()).await.unwrap();
    read_until(&mut kept, "ok").await;
    let connections = trial.origin.connections.load(Ordering::SeqCst);

    let limits = "[limits]\nconnections = 3\n[[sites]]\nhosts = [\"b.example\"]\nredirect = \"https://c.example/\"\n";
    trial.edge.reload(&settings(trial.origin.address, limits)).await.unwrap();
    socket.write_all(b"echo me").await.unwrap();
    assert!(read_until(&mut socket, "me").await.contains("echo me"));
    kept.write_all(ASK.as_bytes()).await.unwrap();
    assert!(read_until(&mut kept, "ok").await.contains("200 OK"));
    assert_eq!(trial.origin.connections.load(Ordering::SeqCst), connections, "the app is not connected to anew");
    upload.write_all(b"body").await.unwrap();
    assert!(read_until(&mut upload, "ok").await.contains("200 OK"));
    // Three are in, which is all that there is room for now.
    assert_eq!(trial.talk(ASK).await, "");
    drop((socket, kept, upload));
    trial.shows("mainstay_edge_upgraded 0").await;
}

#[tokio::test]
async fn settings_with_a_mistake_change_nothing() {
    let trial = trial(PLAIN, ok).await;
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.pem");
    let app = "127.0.0.1:1".parse().unwrap();
    for (more, said) in [
        ("[[sites]]\nhosts = [\"a b\"]\nupstream = \"127.0.0.1:1\"\n".to_owned(), "edge.sites.hosts"),
        ("[[sites]]\nupstream = \"127.0.0.1:1\"\nrates = [\"none\"]\n".to_owned(), "edge.sites.rates"),
        (format!("[[certificates]]\ncertificate = {missing:?}\nkey = {missing:?}\n"), "there is no such file"),
        (format!("[acme]\nagree_terms = true\n[[acme.authorities]]\ntrust_file = {missing:?}\n"), "no such file"),
    ] {
        let error = trial.edge.reload(&settings(app, &more)).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        let answer = trial.talk("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status(&answer), 200, "{answer}");
    }
}

#[tokio::test]
async fn what_a_rate_zone_has_counted_outlives_a_reload() {
    let trial = trial(PLAIN, ok).await;
    let zone = |name: &str| format!("[[zones]]\nname = \"{name}\"\nrequests = 1\nper = \"1h\"\nburst = 0\n");
    let site = format!("[[sites]]\nupstream = \"{}\"\nrates = [\"slow\"]\n", trial.origin.address);
    trial.edge.reload(&settings(trial.origin.address, &format!("{}{site}", zone("slow")))).await.unwrap();
    let ask = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&trial.talk(ask).await), 200);
    assert_eq!(status(&trial.talk(ask).await), 429);
    let more = format!("{}{}{site}", zone("first"), zone("slow"));
    trial.edge.reload(&settings(trial.origin.address, &more)).await.unwrap();
    assert_eq!(status(&trial.talk(ask).await), 429);
    trial.edge.reload(&settings(trial.origin.address, "")).await.unwrap();
    assert_eq!(status(&trial.talk(ask).await), 200);
}
