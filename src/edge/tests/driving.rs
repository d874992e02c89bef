//! Who moves an app's connection on: the request's own task, which must not be missed when it does something else.

use tokio::io::copy;

use super::*;

/// An app that the test plays, and the settings of an edge before it.
async fn app() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = format!("{PLAIN}app = \"{}\"\n", listener.local_addr().unwrap());
    (listener, settings)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it does not go on")
}

#[tokio::test]
async fn an_upload_goes_on_while_nobody_reads_the_answer() {
    const UP: usize = 8 << 20;
    const DOWN: usize = 48 << 20;
    let (listener, settings) = app().await;
    let trial = trial(&settings, ok).await;
    let mut client = trial.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {UP}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut app, _) = soon(listener.accept()).await.unwrap();
    read_until(&mut app, "\r\n\r\n").await;
    let (read, mut write) = app.into_split();
    // More than lies on the way: it is under way until the client reads.
    trial.supervisor.task("test app", Role::Ordinary, async move {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {DOWN}\r\n\r\n");
        let _ = write.write_all(head.as_bytes()).await;
        let _ = write.write_all(&vec![b'x'; DOWN]).await;
    });
    read_until(&mut client, "\r\n\r\n").await;
    let body = vec![b'y'; UP];
    let mut taken = tokio::io::sink();
    let mut upload = read.take(UP as u64);
    let (sent, came) = soon(async { tokio::join!(client.write_all(&body), copy(&mut upload, &mut taken)) }).await;
    sent.unwrap();
    assert_eq!(came.unwrap(), UP as u64);
    let rest = soon(copy(&mut client, &mut taken)).await.unwrap();
    assert!(rest > (DOWN - (1 << 20)) as u64, "{rest}");
}

#[tokio::test]
async fn an_answer_before_the_uploads_end_reaches_the_client() {
    let (listener, settings) = app().await;
    let trial = trial(&settings, ok).await;
    let mut client = trial.connect().await;
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    let (mut app, _) = soon(listener.accept()).await.unwrap();
    read_until(&mut app, "half").await;
    app.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    assert_eq!(status(&read_until(&mut client, "\r\n\r\nno").await), 403);
    client.write_all(b"therst").await.unwrap();
    read_until(&mut app, "therst").await;
}

#[tokio::test]
async fn a_client_that_leaves_within_the_answer_ends_the_apps_connection() {
    let (listener, settings) = app().await;
    let trial = trial(&settings, ok).await;
    let mut client = trial.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (mut app, _) = soon(listener.accept()).await.unwrap();
    read_until(&mut app, "\r\n\r\n").await;
    app.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    read_until(&mut client, "half").await;
    drop(client);
    assert_eq!(soon(app.read(&mut [0; 8])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn what_came_before_an_answer_broke_reaches_the_client() {
    let (listener, settings) = app().await;
    let trial = trial(&settings, ok).await;
    for _ in 0..10 {
        let mut client = trial.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut app, _) = soon(listener.accept()).await.unwrap();
        read_until(&mut app, "\r\n\r\n").await;
        app.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
        drop(app);
        let answer = read_all(&mut client).await;
        assert!(status(&answer) == 200 && answer.ends_with("half"), "{answer}");
    }
}

#[tokio::test]
async fn an_apps_goodbye_between_two_requests_is_noticed() {
    let (listener, settings) = app().await;
    let trial = trial(&settings, ok).await;
    let mut client = trial.connect().await;
    // A POST would not be sent twice.
    for _ in 0..3 {
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        let (mut app, _) = soon(listener.accept()).await.unwrap();
        read_until(&mut app, "hi").await;
        app.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        read_until(&mut client, "\r\n\r\nok").await;
    }
    assert!(trial.metrics.exposition().contains("mainstay_edge_upstream_retries_total 0"));
}

#[tokio::test]
async fn bodies_of_any_framing_leave_the_connection_good() {
    let reply = |request: &str| {
        let body = format!("{}|", "x".repeat(299_999));
        match request.split(' ').nth(1).unwrap() {
            "/length" => format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{body}"),
            "/chunks" => {
                format!(
                    "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n493e0\r\n{body}\r\n0\r\nX-Sum: 7\r\n\r\n"
                )
            }
            _ => "HTTP/1.1 204 No\r\n\r\n".to_owned(),
        }
    };
    let trial = trial(PLAIN, reply).await;
    let mut client = trial.connect().await;
    let upload = "y".repeat(200_000);
    for _ in 0..2 {
        for (path, end) in [("/length", "x|"), ("/chunks", "x-sum: 7\r\n\r\n"), ("/none", "\r\n\r\n")] {
            let head = format!("PUT {path} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Length: 200000\r\n\r\n");
            client.write_all(head.as_bytes()).await.unwrap();
            client.write_all(upload.as_bytes()).await.unwrap();
            let mut seen = read_until(&mut client, "\r\n\r\n").await;
            while !seen.contains(end) || (path != "/none" && seen.len() < 300_000) {
                let mut chunk = [0; 4096];
                let count = soon(client.read(&mut chunk)).await.unwrap();
                assert!(count > 0, "the edge has closed after {path}");
                seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        }
    }
    assert_eq!(trial.origin.requests().len(), 6);
    assert_eq!(trial.origin.connections.load(Ordering::SeqCst), 1);
}
