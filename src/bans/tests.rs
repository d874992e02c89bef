use super::*;
use crate::testing::{TestClock, memory_store};

const TERM: Term = Term { first: Duration::from_mins(1), growth: 3, longest: Duration::from_secs(400) };

struct World {
    store: Store,
    clock: Arc<TestClock>,
    bans: Bans,
}

fn rules(most: u32) -> Rules {
    let exempt = vec!["10.0.0.0/8".parse().unwrap()];
    Rules { most, remember: Duration::from_hours(1), exempt, logins: Vec::new() }
}

fn open(store: &Store, clock: &Arc<TestClock>, most: u32) -> Bans {
    Bans::open(store.clone(), clock.clone(), &Metrics::new(), rules(most)).unwrap()
}

fn world(most: u32) -> World {
    let (store, clock) = (memory_store(), Arc::new(TestClock::default()));
    let bans = open(&store, &clock, most);
    World { store, clock, bans }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn by_hand(text: &str) -> Wanted {
    Wanted { network: Network::client(text).unwrap(), span: None, reason: "why".into(), force: false }
}

#[test]
fn repeat_offenders_are_banned_for_longer_each_time_up_to_the_longest() {
    let World { clock, bans, .. } = world(100);
    for seconds in [60, 180, 400, 400] {
        let until = bans.caught(ip("192.0.2.1"), "login", &TERM, "5 failures").unwrap();
        assert_eq!(until, clock.now().millis() + seconds * 1000);
        assert!(bans.is_banned(ip("192.0.2.1")) && !bans.is_banned(ip("192.0.2.2")));
        assert_eq!(bans.caught(ip("192.0.2.1"), "login", &TERM, ""), None, "it is banned already");
        clock.advance(Duration::from_secs(seconds));
        assert!(!bans.is_banned(ip("192.0.2.1")), "it has ended");
    }
    clock.advance(Duration::from_hours(1));
    bans.sweep();
    let until = bans.caught(ip("192.0.2.1"), "login", &TERM, "").unwrap();
    assert_eq!(until, clock.now().millis() + 60_000, "what was long ago is forgotten");
}

#[test]
fn ipv6_is_banned_by_its_64_and_ipv4_however_it_is_written() {
    let World { bans, .. } = world(100);
    bans.caught(ip("2001:db8:1:2::3"), "scan", &TERM, "").unwrap();
    assert!(bans.is_banned(ip("2001:db8:1:2:ffff::1")) && !bans.is_banned(ip("2001:db8:1:3::3")));
    bans.caught(ip("192.0.2.1"), "scan", &TERM, "").unwrap();
    assert!(bans.is_banned(ip("::ffff:192.0.2.1")));
}

#[tokio::test]
async fn bans_outlive_a_restart_and_so_does_their_end() {
    let World { store, clock, bans } = world(100);
    bans.caught(ip("192.0.2.1"), "login", &TERM, "5 failures").unwrap();
    bans.add(&by_hand("198.51.100.0/24")).await.unwrap();
    let again = open(&store, &clock, 100);
    assert!(again.is_banned(ip("192.0.2.1")) && again.is_banned(ip("198.51.100.77")));
    let listed = again.list_after(None, 10);
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].1.reason.as_str(), listed[1].1.until_ms), ("5 failures", u64::MAX));
    again.remove(Network::client("192.0.2.1").unwrap()).await.unwrap();
    clock.advance(Duration::from_secs(30));
    let third = open(&store, &clock, 100);
    assert!(!third.is_banned(ip("192.0.2.1")) && third.is_banned(ip("198.51.100.77")));
    assert_eq!(third.remove_all().await.unwrap(), 1);
    assert_eq!(open(&store, &clock, 100).count(), 0);
    let not = third.remove(Network::client("192.0.2.1").unwrap()).await;
    assert!(matches!(not, Err(BansError::NotBanned(_))));
}

#[tokio::test]
async fn nobody_exempt_is_banned_unless_forced() {
    let World { bans, .. } = world(100);
    for address in ["127.0.0.1", "::1", "10.1.2.3"] {
        assert_eq!(bans.caught(ip(address), "scan", &TERM, ""), None, "{address}");
    }
    for network in ["127.0.0.1", "0.0.0.0/0", "::/0", "10.1.0.0/16"] {
        assert!(matches!(bans.add(&by_hand(network)).await, Err(BansError::Exempt { .. })), "{network}");
    }
    bans.add(&Wanted { force: true, ..by_hand("10.1.2.3") }).await.unwrap();
    assert!(bans.is_banned(ip("10.1.2.3")));
    bans.caught(ip("192.0.2.1"), "scan", &TERM, "").unwrap();
    bans.set_rules(Rules { exempt: vec!["192.0.2.0/24".parse().unwrap()], ..rules(100) });
    assert!(!bans.is_banned(ip("192.0.2.1")), "who is exempt now is let go");
    assert!(bans.is_banned(ip("10.1.2.3")), "what was said by hand stays");
}

#[tokio::test]
async fn a_flood_stays_bounded_and_pushes_out_what_ends_first() {
    let World { store, clock, bans } = world(50);
    bans.add(&by_hand("203.0.113.9")).await.unwrap();
    for number in 0..2_000_u32 {
        let address = IpAddr::from((0xc000_0000 + number).to_be_bytes());
        assert!(bans.caught(address, "scan", &TERM, "").is_some());
        clock.advance(Duration::from_millis(1));
    }
    assert_eq!(bans.count(), 50);
    assert!(bans.is_banned(ip("203.0.113.9")) && bans.is_banned(IpAddr::from((0xc000_0000_u32 + 1_999).to_be_bytes())));
    bans.save().await.unwrap();
    assert_eq!(open(&store, &clock, 100).count(), 50);
}

#[tokio::test]
async fn when_every_row_is_by_hand_there_is_no_room() {
    let World { bans, .. } = world(1);
    bans.add(&by_hand("203.0.113.9")).await.unwrap();
    assert!(matches!(bans.add(&by_hand("203.0.113.8")).await, Err(BansError::Full { most: 1 })));
    assert_eq!(bans.caught(ip("192.0.2.1"), "scan", &TERM, ""), None);
    bans.add(&Wanted { span: Some(Duration::from_secs(5)), ..by_hand("203.0.113.9") }).await.unwrap();
    assert!(bans.caught(ip("192.0.2.1"), "scan", &TERM, "").is_some());
}

#[test]
fn the_narrowest_ban_is_the_one_shown() {
    let World { bans, clock, .. } = world(10);
    bans.caught(ip("192.0.2.1"), "scan", &TERM, "").unwrap();
    assert_eq!(bans.holding(ip("192.0.2.1")).unwrap().0.to_string(), "192.0.2.1");
    assert_eq!(bans.holding(ip("192.0.2.2")), None);
    clock.advance(Duration::from_secs(61));
    assert_eq!(bans.holding(ip("192.0.2.1")), None);
}

fn login_jail(name: &str, doors: &[Door], most: usize) -> LoginJail {
    LoginJail { name: name.to_owned(), doors: doors.to_vec(), most, within: Duration::from_mins(10), term: TERM }
}

#[test]
fn failed_log_ins_count_over_all_doors_and_the_ban_says_where_the_last_was() {
    let World { bans, clock, .. } = world(10);
    bans.set_rules(Rules { logins: vec![login_jail("logins", &[], 3)], ..rules(10) });
    assert!(!bans.failed_login(ip("192.0.2.1"), Door::Redis));
    assert!(!bans.failed_login(ip("192.0.2.2"), Door::Redis), "each address counts apart");
    assert!(!bans.failed_login(ip("192.0.2.1"), Door::Smtp));
    assert!(bans.failed_login(ip("192.0.2.1"), Door::S3));
    assert!(bans.shuts_out(ip("::ffff:192.0.2.1")) && !bans.shuts_out(ip("192.0.2.2")));
    let (_, ban) = bans.holding(ip("192.0.2.1")).unwrap();
    assert_eq!(ban.origin, Origin::Jail("logins".to_owned()));
    assert_eq!(ban.reason, "3 failed log-ins, the last at the door s3");
    clock.advance(Duration::from_mins(1));
    assert!(!bans.shuts_out(ip("192.0.2.1")), "it has ended");
    clock.advance(Duration::from_mins(10));
    assert!(!bans.failed_login(ip("192.0.2.2"), Door::Api) && !bans.failed_login(ip("192.0.2.2"), Door::Api));
}

#[test]
fn a_jail_of_some_doors_leaves_the_others_alone_and_none_counts_without_a_jail() {
    let World { bans, .. } = world(10);
    for _ in 0..50 {
        assert!(!bans.failed_login(ip("192.0.2.1"), Door::Console));
    }
    bans.set_rules(Rules { logins: vec![login_jail("mail", &[Door::Smtp, Door::Ses], 2)], ..rules(10) });
    for _ in 0..50 {
        assert!(!bans.failed_login(ip("192.0.2.1"), Door::Console));
    }
    assert!(!bans.failed_login(ip("192.0.2.1"), Door::Ses));
    assert!(bans.failed_login(ip("192.0.2.1"), Door::Smtp));
}

#[tokio::test]
async fn loopback_and_who_is_exempt_are_never_caught_and_loopback_is_never_shut_out() {
    let World { bans, .. } = world(10);
    bans.set_rules(Rules { logins: vec![login_jail("logins", &[], 1)], ..rules(10) });
    for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3"] {
        assert!(!bans.failed_login(ip(address), Door::Redis), "{address}");
    }
    bans.add(&Wanted { force: true, ..by_hand("127.0.0.0/8") }).await.unwrap();
    assert!(bans.is_banned(ip("127.0.0.1")) && !bans.shuts_out(ip("127.0.0.1")));
    bans.add(&by_hand("192.0.2.0/24")).await.unwrap();
    assert!(bans.shuts_out(ip("192.0.2.77")));
    assert!(bans.failed_login(ip("192.0.2.77"), Door::Redis), "its connection is to end");
}

#[test]
fn every_door_is_found_by_its_name() {
    for door in Door::ALL {
        assert_eq!(door.name().parse(), Ok(door));
        assert_eq!(Door::ALL.get(door as usize), Some(&door));
    }
    assert!("edge".parse::<Door>().is_err());
}

proptest::proptest! {
    /// Against a plain list of what is banned.
    #[test]
    fn the_table_says_what_a_plain_list_says(
        acts in proptest::collection::vec((proptest::bool::ANY, 0..40_u32, 96..=128_u32), 1..60),
        asked in proptest::collection::vec(0..40_u32, 1..20),
    ) {
        let fast = Fast::default();
        let mut plain: std::collections::BTreeMap<Network, u64> = std::collections::BTreeMap::new();
        let address = |number: u32| IpAddr::from((0xc0a8_0000 + number * 77).to_be_bytes());
        for (number, (is_set, at, bits)) in acts.into_iter().enumerate() {
            let network = Network::around(address(at), bits);
            if is_set {
                fast.set(network, number as u64);
                plain.insert(network, number as u64);
            } else {
                fast.remove(network);
                plain.remove(&network);
            }
        }
        proptest::prop_assert_eq!(fast.len(), plain.len());
        for number in asked {
            let wanted = plain.iter().filter(|(network, _)| network.contains(address(number))).map(|(_, until)| *until).max();
            proptest::prop_assert_eq!(fast.until(address(number)), wanted);
        }
    }
}

#[test]
fn bans_of_another_process_are_taken_over_unless_they_say_less() {
    let (other, World { clock, bans, .. }) = (world(100), world(100));
    other.bans.caught(ip("192.0.2.1"), "login", &TERM, "5 failures").unwrap();
    other.bans.caught(ip("192.0.2.2"), "login", &TERM, "").unwrap();
    let told = other.bans.take_unsaved(100);
    assert_eq!((told.len(), other.bans.take_unsaved(100).len()), (2, 0));
    bans.caught(ip("192.0.2.2"), "scan", &Term { first: TERM.longest, ..TERM }, "").unwrap();
    for (network, ban) in told.clone() {
        bans.learn(network, ban);
    }
    let jail = |address: &str| bans.holding(ip(address)).unwrap().1.origin;
    assert_eq!(jail("192.0.2.1"), Origin::Jail("login".to_owned()));
    assert_eq!(jail("192.0.2.2"), Origin::Jail("scan".to_owned()), "it ends later");
    // Who is exempt here, and what is over.
    let (_, ban) = told[0].clone();
    bans.learn("10.0.0.1".parse().unwrap(), ban.clone());
    clock.advance(TERM.longest);
    bans.learn("192.0.2.3".parse().unwrap(), ban);
    assert!(!bans.is_banned(ip("10.0.0.1")) && !bans.is_banned(ip("192.0.2.3")) && !bans.is_banned(ip("192.0.2.1")));
}
