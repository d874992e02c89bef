//! Certificates for names that no setting has.

use super::acme::{Orders, is_signed, obtained, supervisor, until};
use super::authority::{Authority, Mood};
use super::*;

const SHOP: &str = "shop.customer.example";

/// An app that says yes to every name that begins with `shop` while `willing`, and the settings that ask it.
async fn app(tasks: &Supervisor, willing: &Arc<std::sync::atomic::AtomicBool>) -> (Origin, String, String) {
    let willing = Arc::clone(willing);
    let origin = Origin::start(tasks, move |request| {
        let wanted = request.starts_with("GET /wanted?domain=shop") && willing.load(Ordering::SeqCst);
        let status = if wanted { "200 OK" } else { "404 Not Found" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    let settings = format!("app = \"{}\"", origin.address);
    let on_demand = format!("[acme.on_demand]\nask = \"http://{}/wanted\"", origin.address);
    (origin, settings, on_demand)
}

fn asked_about(origin: &Origin, name: &str) -> usize {
    let question = format!("GET /wanted?domain={name} ");
    origin.requests().iter().filter(|request| request.starts_with(&question)).count()
}

#[tokio::test]
async fn a_handshake_waits_for_the_certificate_of_a_name_that_the_app_wants() {
    let (tasks, willing) = (supervisor(), Arc::new(true.into()));
    let authority = Authority::start(&tasks, Mood::default()).await;
    let (origin, settings, on_demand) = app(&tasks, &willing).await;
    let orders = Orders::new(&settings, &on_demand, &[(&authority, "")]);
    let edge = orders.start(&tasks).await;
    authority.reach(&edge);
    let both = tokio::join!(is_signed(&edge, SHOP), is_signed(&edge, SHOP));
    assert_eq!(both, (true, true), "the first handshakes have it already");
    assert!(is_signed(&edge, SHOP).await);
    assert_eq!(asked_about(&origin, SHOP), 1);
    until(&edge, SHOP, obtained).await;
    for refused in ["other.customer.example", "192-0-2-1", "shop.localhost"] {
        assert!(!is_signed(&edge, refused).await, "{refused}");
        assert!(!is_signed(&edge, refused).await, "{refused}");
    }
    assert_eq!(asked_about(&origin, "other.customer.example"), 1);
    assert_eq!(asked_about(&origin, "192-0-2-1") + asked_about(&origin, "shop.localhost"), 0);

    // After a restart it is there, and nobody is asked.
    tasks.shutdown().force();
    let tasks = supervisor();
    let edge = orders.start(&tasks).await;
    until(&edge, SHOP, obtained).await;
    assert!(is_signed(&edge, SHOP).await);
    assert_eq!(asked_about(&origin, SHOP), 1);
    tasks.shutdown().force();
}

#[tokio::test]
async fn a_renewal_asks_again_and_a_name_that_is_no_longer_wanted_is_let_go() {
    let (tasks, willing) = (supervisor(), Arc::new(std::sync::atomic::AtomicBool::new(true)));
    let authority = Authority::start(&tasks, Mood::default()).await;
    let (origin, settings, on_demand) = app(&tasks, &willing).await;
    let orders = Orders::new(&settings, &on_demand, &[(&authority, "")]);
    let edge = orders.start(&tasks).await;
    authority.reach(&edge);
    assert!(is_signed(&edge, SHOP).await);
    let first = until(&edge, SHOP, obtained).await;
    assert!(edge.keeper().renew(SHOP));
    until(&edge, SHOP, |view| view.last_attempt_ms > first.last_attempt_ms && !view.ordering).await;
    assert_eq!(asked_about(&origin, SHOP), 2);
    willing.store(false, Ordering::SeqCst);
    assert!(edge.keeper().renew(SHOP));
    let gone = async {
        while edge.keeper().view().iter().any(|view| view.name == SHOP) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    assert!(!is_signed(&edge, SHOP).await);
    tasks.shutdown().force();
}

#[tokio::test]
async fn without_a_word_from_the_app_a_certificate_stays_and_no_other_is_ordered() {
    let tasks = supervisor();
    let authority = Authority::start(&tasks, Mood::default()).await;
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let says = Arc::clone(&broken);
    let origin = Origin::start(&tasks, move |_| {
        let status = if says.load(Ordering::SeqCst) { "503 Service Unavailable" } else { "204 No Content" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    let settings = format!("app = \"{}\"", origin.address);
    let on_demand = format!("[acme.on_demand]\nask = \"http://{}/wanted\"\nnames = 1", origin.address);
    let orders = Orders::new(&settings, &on_demand, &[(&authority, "")]);
    let edge = orders.start(&tasks).await;
    authority.reach(&edge);
    assert!(is_signed(&edge, SHOP).await);
    assert!(!is_signed(&edge, "one-too-many.example").await);
    until(&edge, SHOP, obtained).await;
    broken.store(true, Ordering::SeqCst);
    assert!(edge.keeper().renew(SHOP));
    let view = until(&edge, SHOP, |view| view.failures > 0 && !view.ordering).await;
    assert!(obtained(&view) && view.error.unwrap().contains("503"));
    assert!(is_signed(&edge, SHOP).await);
    tasks.shutdown().force();
}
