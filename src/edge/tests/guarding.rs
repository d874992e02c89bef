//! Rate zones, address lists and headers, as a client meets them.

use super::*;

fn get(path: &str, extra: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n{extra}Connection: close\r\n\r\n")
}

/// Settings with a site at `/` that goes to `{app}`, which the trial fills in.
async fn guarded(settings: &str) -> Trial {
    let supervisor = Supervisor::new(Shutdown::new());
    let origin = Origin::start(&supervisor, ok).await;
    let settings = settings.replace("{app}", &origin.address.to_string());
    let mut trial = trial(&format!("{PLAIN}{settings}"), ok).await;
    // The sites' origin; it stops with the trial's own supervisor.
    trial.origin = origin;
    let stop = trial.supervisor.shutdown().clone();
    trial.supervisor.task("test stop", Role::Ordinary, async move {
        stop.forced().await;
        supervisor.shutdown().force();
    });
    trial
}

#[tokio::test]
async fn past_a_zone_a_client_is_told_when_to_come_again() {
    let zone = "[[zones]]\nname = \"slow\"\nrequests = 1\nper = \"1h\"\nburst = 1\n";
    let trial = guarded(&format!("{zone}[[sites]]\nupstream = \"{{app}}\"\nrates = [\"slow\"]\n")).await;
    for _ in 0..2 {
        assert_eq!(status(&trial.talk(get("/", "")).await), 200);
    }
    let answer = trial.talk(get("/", "Accept: application/json\r\n")).await;
    assert_eq!(status(&answer), 429);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let wait = head.lines().find_map(|line| line.strip_prefix("retry-after: ")?.parse::<u64>().ok()).unwrap();
    assert!((3_500..=3_600).contains(&wait), "{head}");
    for line in ["ratelimit-limit: 2", "ratelimit-remaining: 0", "ratelimit-reset: 7"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["status"], 429);
    assert_eq!(trial.origin.requests().len(), 2);
    trial.shows("mainstay_edge_limited_total 1").await;
}

#[tokio::test]
async fn a_zone_counts_the_client_that_a_trusted_proxy_tells_and_no_other() {
    let zone = "trusted_proxies = [\"127.0.0.1\"]\n[[zones]]\nname = \"one\"\nrequests = 1\nper = \"1h\"\nburst = 0\n";
    let trial = guarded(&format!("{zone}[[sites]]\nupstream = \"{{app}}\"\nrates = [\"one\"]\n")).await;
    for (chain, wanted) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("6.6.6.6, 192.0.2.1", 429)] {
        let answer = trial.talk(get("/", &format!("X-Forwarded-For: {chain}\r\n"))).await;
        assert_eq!(status(&answer), wanted, "{chain}");
    }
}

#[tokio::test]
async fn addresses_are_denied_by_site_and_by_server() {
    let sites = "[[sites]]\nupstream = \"{app}\"\n[[sites]]\npath = \"/admin\"\nupstream = \"{app}\"\nallow = [\"192.0.2.0/24\"]\n";
    let trial = guarded(sites).await;
    assert_eq!(status(&trial.talk(get("/", "")).await), 200);
    for path in ["/admin", "/admin/users"] {
        assert_eq!(status(&trial.talk(get(path, "")).await), 403, "{path}");
    }
    assert_eq!(trial.origin.requests().len(), 1);
    let trial = guarded(&format!("deny = [\"127.0.0.0/8\"]\n{sites}")).await;
    assert_eq!(status(&trial.talk(get("/", "")).await), 403);
}

#[tokio::test]
async fn a_sites_headers_win_over_presets_and_app() {
    let site = "[[sites]]\nupstream = \"{app}\"\nsecurity = \"strict\"\n\
                headers = [\"X-Frame-Options:\", \"Content-Length2: 1\", \"Content-Security-Policy: default-src *\"]\n";
    let answer = guarded(site).await.talk(get("/", "")).await;
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("content-security-policy: default-src *\r\n"), "{answer}");
    assert!(answer.contains("cross-origin-opener-policy: same-origin\r\n"), "{answer}");
    assert!(!answer.contains("x-frame-options"), "{answer}");
}

#[tokio::test]
async fn hardened_caps_connections_of_one_address_and_their_rate() {
    let trial = guarded("hardened = true\n").await;
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut stream = trial.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(status(&read_until(&mut stream, "ok").await), 200);
        held.push(stream);
    }
    assert_eq!(trial.talk(get("/", "")).await, "", "the eleventh is closed at once");
    trial.shows("mainstay_edge_connections_refused_total 1").await;
}
