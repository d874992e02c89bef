//! Jails and bans, as a client meets them.

use super::*;
use crate::bans::Wanted;
use crate::base::network::Network;

/// The client is whoever the proxy on loopback says.
const PROXIED: &str = "https = \"\"\ntrusted_proxies = [\"127.0.0.1\"]\n";

fn ask(request: &str, client: &str) -> String {
    format!(
        "{request} HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: {client}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

fn unauthorized(_: &str) -> String {
    "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned()
}

#[tokio::test]
async fn failed_log_ins_ban_the_client_behind_the_proxy_and_nobody_else() {
    let trial = trial(&format!("{PROXIED}[bans]\non = [\"login\"]\n"), unauthorized).await;
    for _ in 0..5 {
        assert_eq!(status(&trial.talk(ask("POST /login", "6.6.6.6, 203.0.113.7")).await), 401);
    }
    assert_eq!(trial.origin.requests().len(), 5);
    let answer = trial.talk(ask("GET /", "203.0.113.7")).await;
    assert_eq!(status(&answer), 403, "{answer}");
    assert!(answer.contains("banned for a while"), "{answer}");
    assert_eq!(trial.origin.requests().len(), 5, "the app is not asked");
    assert_eq!(status(&trial.talk(ask("GET /", "203.0.113.8")).await), 401);
    trial.shows("mainstay_edge_banned_total 1").await;
    trial.shows("mainstay_edge_jail_matches_total{jail=\"login\"} 5").await;
    trial.shows("mainstay_bans_total{jail=\"login\"} 1").await;
    let (network, ban) = trial.edge.bans.holding("203.0.113.7".parse().unwrap()).unwrap();
    assert_eq!(ban.reason, "5 failures, the last 401 POST of /login");
    trial.edge.bans.remove(network).await.unwrap();
    assert_eq!(status(&trial.talk(ask("GET /", "203.0.113.7")).await), 401, "who is let go is served at once");
}

#[tokio::test]
async fn one_ipv6_customer_is_one_and_scanners_are_caught_where_there_is_no_site() {
    let scan = format!(
        "{PROXIED}app = \"127.0.0.1:1\"\n[bans]\non = [\"scan\"]\n[[sites]]\nhosts = [\"a.example\"]\nredirect = \"/x\"\n"
    );
    let trial = trial(&scan.replace("app = \"127.0.0.1:1\"\n", ""), |_| {
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()
    })
    .await;
    for host in 1..=3 {
        assert_eq!(status(&trial.talk(ask("GET /.env", &format!("2001:db8:1:2::{host}"))).await), 404);
    }
    assert_eq!(status(&trial.talk(ask("GET /", "2001:db8:1:2:9:9:9:9")).await), 403);
    assert_eq!(status(&trial.talk(ask("GET /", "2001:db8:1:3::1")).await), 404);
}

#[tokio::test]
async fn neither_the_proxy_nor_loopback_is_banned() {
    let trial = trial(&format!("{PLAIN}[bans]\non = [\"login\"]\n"), unauthorized).await;
    for _ in 0..20 {
        assert_eq!(status(&trial.talk(ask("POST /login", "203.0.113.7")).await), 401);
    }
    assert_eq!(trial.edge.bans.count(), 0);
}

#[tokio::test]
async fn who_is_banned_gets_no_handshake_and_challenges_are_answered_all_the_same() {
    let trial = trial("", ok).await;
    let wanted =
        Wanted { network: Network::client("127.0.0.1").unwrap(), span: None, reason: String::new(), force: true };
    trial.edge.bans.add(&wanted).await.unwrap();
    let mut stream = TcpStream::connect(trial.edge.https().unwrap()).await.unwrap();
    assert_eq!(read_all(&mut stream).await, "", "closed before a word is said");
    let answer = trial.talk("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status(&answer), 403, "and the connection is closed: {answer}");
    let _answering = trial.edge.keeper.challenges().answer_file("token", "token.thumb");
    let challenge = "GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(trial.talk(challenge).await.ends_with("token.thumb"));
}

#[tokio::test]
async fn a_reload_starts_and_ends_jails_and_bans_stay() {
    let trial = trial(PROXIED, unauthorized).await;
    let fail = async |client: &str| {
        for _ in 0..5 {
            trial.talk(ask("POST /login", client)).await;
        }
    };
    fail("203.0.113.7").await;
    assert_eq!(trial.edge.bans.count(), 0);
    let mut config: EdgeConfig = toml::from_str(&format!("{PROXIED}[bans]\non = [\"login\"]\n")).unwrap();
    config.app = trial.origin.address.to_string();
    trial.edge.reload(&config).await.unwrap();
    fail("203.0.113.7").await;
    assert_eq!(trial.edge.bans.count(), 1);
    config.bans.on.clear();
    trial.edge.reload(&config).await.unwrap();
    fail("203.0.113.8").await;
    assert_eq!(trial.edge.bans.count(), 1);
    assert_eq!(status(&trial.talk(ask("GET /", "203.0.113.7")).await), 403);
}
