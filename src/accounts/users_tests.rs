//! The service as doors use it.

use std::sync::Arc;
use std::time::Duration;

use super::audit::action;
use super::rows::{self, SESSIONS};
use super::sessions::SESSIONS_MAX;
use super::*;
use crate::base::{Clock, Secret, SystemRandom};
use crate::store::Store;
use crate::testing::{TestClock, memory_store};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "analytical engine no 1";

struct World {
    users: Users,
    keys: Arc<AccessKeys>,
    clock: Arc<TestClock>,
    store: Store,
}

fn world() -> World {
    on(memory_store(), Arc::new(TestClock::default()))
}

fn on(store: Store, clock: Arc<TestClock>) -> World {
    let first = FirstCredentials::default();
    let keys = Arc::new(AccessKeys::open(&store, &SystemRandom, clock.as_ref(), first).unwrap());
    let (random, config) = (Arc::new(SystemRandom), AccountsConfig::default());
    let users = Users::open(store.clone(), keys.clone(), clock.clone(), random, config).unwrap();
    World { users, keys, clock, store }
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn client() -> Client {
    Client::new("192.0.2.1".parse().unwrap(), "Firefox")
}

fn elsewhere() -> Client {
    Client::new("198.51.100.7".parse().unwrap(), "curl")
}

impl World {
    async fn claim(&self) -> NewSession {
        let link = self.users.new_setup_link(&By::command_line()).await.unwrap();
        self.users.claim(&link, EMAIL, &secret(PASSWORD), &client()).await.unwrap()
    }

    async fn login(&self, password: &str) -> Result<Login, AccountsError> {
        self.users.login(EMAIL, &secret(password), &client()).await
    }

    async fn enter(&self) -> NewSession {
        match self.login(PASSWORD).await.unwrap() {
            Login::Done(session) => session,
            Login::Code(_) => panic!("a code is asked for"),
        }
    }

    async fn lives(&self, token: &Secret<String>) -> bool {
        self.users.session(token, &client()).await.unwrap().is_some()
    }

    async fn actions(&self) -> Vec<String> {
        self.users.audit(100).await.unwrap().into_iter().map(|entry| entry.action).collect()
    }
}

#[tokio::test]
async fn the_set_up_link_makes_one_administrator_once() {
    let world = world();
    assert!(!world.users.is_claimed());
    let (first, second) = (world.users.new_setup_link(&By::command_line()).await.unwrap(), world.claim().await);
    assert!(world.users.is_claimed());
    assert_eq!(second.session.user.email.as_str(), EMAIL);
    assert!(world.lives(&second.token).await);
    let again = world.users.claim(&first, "eve@example.com", &secret(PASSWORD), &client()).await;
    assert!(matches!(again, Err(AccountsError::AlreadyClaimed)));
    let link = world.users.new_setup_link(&By::command_line()).await;
    assert!(matches!(link, Err(AccountsError::AlreadyClaimed)));
    assert!(on(world.store, world.clock).users.is_claimed());
}

#[tokio::test]
async fn a_replaced_an_expired_and_an_invented_link_are_refused() {
    let world = world();
    let replaced = world.users.new_setup_link(&By::command_line()).await.unwrap();
    let link = world.users.new_setup_link(&By::command_line()).await.unwrap();
    let claim = async |token: &Secret<String>| world.users.claim(token, EMAIL, &secret(PASSWORD), &client()).await;
    for bad in [&replaced, &secret(""), &secret("AAAA"), &secret(&"A".repeat(54))] {
        assert!(matches!(claim(bad).await, Err(AccountsError::BadLink)));
    }
    world.clock.advance(links::LINK_LIFE);
    assert!(matches!(claim(&link).await, Err(AccountsError::BadLink)));
    assert!(!world.users.is_claimed());
}

#[tokio::test]
async fn a_weak_password_does_not_use_the_link_up() {
    let world = world();
    let link = world.users.new_setup_link(&By::command_line()).await.unwrap();
    let weak = world.users.claim(&link, EMAIL, &secret("password1"), &client()).await;
    assert!(matches!(weak, Err(AccountsError::Password(PasswordFault::Common))));
    world.users.claim(&link, EMAIL, &secret(PASSWORD), &client()).await.unwrap();
}

#[tokio::test]
async fn the_environment_claims_an_unclaimed_server_alone() {
    let world = world();
    world.users.claim_from_environment(EMAIL, &secret(PASSWORD)).await.unwrap();
    world.users.claim_from_environment("eve@example.com", &secret("another password")).await.unwrap();
    let users = world.users.users().await.unwrap();
    assert_eq!(users.iter().map(|user| user.email.as_str()).collect::<Vec<_>>(), [EMAIL]);
    world.enter().await;
}

#[tokio::test]
async fn a_wrong_password_an_unknown_address_and_an_invited_user_are_one_error() {
    let world = world();
    world.claim().await;
    world.users.invite("grace@example.com", &By::command_line()).await.unwrap();
    for (email, password) in
        [(EMAIL, "wrong"), ("nobody@example.com", PASSWORD), ("grace@example.com", ""), ("no address", "x")]
    {
        let refused = world.users.login(email, &secret(password), &client()).await;
        assert!(matches!(refused, Err(AccountsError::WrongCredentials)), "{email}");
    }
    let long = "x".repeat(password::BYTES_MAX + 1);
    assert!(matches!(world.login(&long).await, Err(AccountsError::WrongCredentials)));
}

#[tokio::test]
async fn addresses_are_one_in_any_case() {
    let world = world();
    world.claim().await;
    let login = world.users.login(" Ada@Example.COM ", &secret(PASSWORD), &client()).await;
    assert!(matches!(login, Ok(Login::Done(_))));
}

#[tokio::test]
async fn five_failures_make_their_address_wait_and_nobody_else() {
    let world = world();
    world.claim().await;
    for _ in 0..5 {
        assert!(matches!(world.login("wrong").await, Err(AccountsError::WrongCredentials)));
    }
    assert!(matches!(world.login(PASSWORD).await, Err(AccountsError::Throttled { .. })));
    assert!(world.users.login(EMAIL, &secret(PASSWORD), &elsewhere()).await.is_ok());
    world.clock.advance(Duration::from_mins(15));
    world.enter().await;
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_when_it_is_old() {
    let world = world();
    let session = world.claim().await;
    world.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert!(world.lives(&session.token).await);
    world.clock.advance(Duration::from_hours(24));
    assert!(!world.lives(&session.token).await);
    let session = world.enter().await;
    for _ in 0..59 {
        world.clock.advance(Duration::from_hours(12));
        assert!(world.lives(&session.token).await);
    }
    world.clock.advance(Duration::from_hours(12));
    assert!(!world.lives(&session.token).await, "thirty days old");
}

#[tokio::test]
async fn a_session_shows_where_it_was_last_used() {
    let world = world();
    let made = world.claim().await;
    world.clock.advance(Duration::from_secs(59));
    let found = world.users.session(&made.token, &client()).await.unwrap().unwrap();
    assert_eq!((found.last_used, found.csrf.expose()), (made.session.last_used, made.session.csrf.expose()));
    world.users.session(&made.token, &elsewhere()).await.unwrap().unwrap();
    let listed = world.users.sessions(made.session.user.id).await.unwrap();
    assert_eq!((listed[0].address.as_str(), listed[0].agent.as_str()), ("198.51.100.7", "curl"));
    assert!(listed[0].last_used > made.session.last_used);
}

#[tokio::test]
async fn forged_and_foreign_session_tokens_open_nothing() {
    let world = world();
    let made = world.claim().await;
    let mut forged = made.token.expose().clone().into_bytes();
    *forged.last_mut().unwrap() = if forged.last() == Some(&b'A') { b'E' } else { b'A' };
    for bad in [String::new(), "x".repeat(10_000), String::from_utf8(forged).unwrap()] {
        assert!(!world.lives(&secret(&bad)).await, "{bad}");
    }
    let other = self::world();
    other.claim().await;
    assert!(!other.lives(&made.token).await);
    assert!(world.lives(&made.token).await);
}

#[tokio::test]
async fn an_ended_session_opens_nothing() {
    let world = world();
    let (kept, ended) = (world.claim().await, world.enter().await);
    let (user, by) = (&kept.session.user, By::user(&kept.session.user, &client()));
    world.users.end_session(user.id, ended.session.id, &by).await.unwrap();
    assert!(!world.lives(&ended.token).await && world.lives(&kept.token).await);
    let again = world.users.end_session(user.id, ended.session.id, &by).await;
    assert!(matches!(again, Err(AccountsError::NoSuchSession)));
    let third = world.enter().await;
    assert_eq!(world.users.end_other_sessions(&kept.session, &client()).await.unwrap(), 1);
    assert!(!world.lives(&third.token).await && world.lives(&kept.token).await);
}

#[tokio::test]
async fn sessions_of_a_user_stay_within_the_cap() {
    let world = world();
    let first = world.claim().await;
    let account = world.users.account_of(&EMAIL.parse().unwrap()).await.unwrap().unwrap();
    for _ in 0..SESSIONS_MAX {
        world.clock.advance(Duration::from_secs(1));
        world.users.enter(account.clone(), &client(), action::LOGIN).await.unwrap();
    }
    assert!(!world.lives(&first.token).await);
    let rows = world.store.read_blocking(|tx| rows::rows(tx, SESSIONS, b"", 1000)).unwrap();
    assert_eq!(rows.len(), SESSIONS_MAX);
}

#[tokio::test]
async fn a_changed_password_ends_every_other_session_and_renews_this_one() {
    let world = world();
    let (mine, other) = (world.claim().await, world.enter().await);
    let (old, new) = (secret(PASSWORD), secret("difference engine no 2"));
    let wrong = world.users.change_password(&mine.session, &secret("wrong"), &new, &client()).await;
    assert!(matches!(wrong, Err(AccountsError::WrongCredentials)));
    let weak = world.users.change_password(&mine.session, &old, &secret("12345678"), &client()).await;
    assert!(matches!(weak, Err(AccountsError::Password(PasswordFault::Common))));
    let renewed = world.users.change_password(&mine.session, &old, &new, &client()).await.unwrap();
    assert!(world.lives(&renewed.token).await);
    assert!(!world.lives(&mine.token).await && !world.lives(&other.token).await);
    assert!(matches!(world.login(PASSWORD).await, Err(AccountsError::WrongCredentials)));
    assert!(world.login(new.expose()).await.is_ok());
}

#[tokio::test]
async fn a_confirmed_password_counts_for_a_quarter_of_an_hour() {
    let world = world();
    let mine = world.claim().await;
    world.clock.advance(Duration::from_secs(15 * 60 + 1));
    let session = world.users.session(&mine.token, &client()).await.unwrap().unwrap();
    assert!(!world.users.is_confirmed(&session));
    let confirmed = world.users.confirm(&session, &secret(PASSWORD), &client()).await.unwrap();
    assert!(world.users.is_confirmed(&confirmed.session));
    assert!(!world.lives(&mine.token).await && world.lives(&confirmed.token).await);
}

#[tokio::test]
async fn a_reset_link_sets_a_password_once_and_ends_all_sessions() {
    let world = world();
    let mine = world.claim().await;
    let link = world.users.new_reset_link(EMAIL, &By::command_line()).await.unwrap();
    let nobody = world.users.new_reset_link("nobody@example.com", &By::command_line()).await;
    assert!(matches!(nobody, Err(AccountsError::NoSuchUser)));
    let new = secret("difference engine no 2");
    world.users.check_link(&link, &client()).await.unwrap();
    world.users.reset_password(&link, &new, None, &client()).await.unwrap();
    assert!(!world.lives(&mine.token).await);
    let again = world.users.reset_password(&link, &new, None, &client()).await;
    assert!(matches!(again, Err(AccountsError::BadLink)));
    assert!(world.login(new.expose()).await.is_ok());
    // What sets a password is not what sets the server up.
    let claim = world.users.claim(&link, EMAIL, &new, &client()).await;
    assert!(matches!(claim, Err(AccountsError::AlreadyClaimed)));
}

#[tokio::test]
async fn an_invited_user_sets_a_password_and_comes_in() {
    let world = world();
    world.claim().await;
    let (user, link) = world.users.invite("grace@example.com", &By::command_line()).await.unwrap();
    let taken = world.users.invite("Grace@example.com", &By::command_line()).await;
    assert!(matches!(taken, Err(AccountsError::EmailTaken)));
    let set = world.users.reset_password(&link, &secret("compile the first one"), None, &client()).await.unwrap();
    assert!(set.first, "an invited account had no password");
    let entered = set.session;
    assert_eq!(entered.session.user.id, user.id);
    let stored = world.users.session(&entered.token, &client()).await.unwrap().unwrap();
    assert_eq!(entered.session.user.password_set, stored.user.password_set);
    let link = world.users.new_reset_link("grace@example.com", &By::command_line()).await.unwrap();
    let set = world.users.reset_password(&link, &secret("compile the other one"), None, &client()).await.unwrap();
    assert!(!set.first, "a further password is a change");
    let entered = set.session;
    world.users.remove(user.id, &By::command_line()).await.unwrap();
    assert!(!world.lives(&entered.token).await);
    let last = world.users.users().await.unwrap()[0].id;
    assert!(matches!(world.users.remove(last, &By::command_line()).await, Err(AccountsError::LastAdmin)));
}

#[tokio::test]
async fn a_second_factor_is_asked_for_once_it_is_confirmed() {
    let world = world();
    let mine = world.claim().await;
    let new = world.users.begin_second_factor(&mine.session).await.unwrap();
    world.enter().await;
    let code = || secret(&second_factor::code_of(&new.secret, world.clock.as_ref()));
    let wrong = world.users.finish_second_factor(&mine.session, &secret("000000"), &client()).await;
    assert!(matches!(wrong, Err(AccountsError::WrongCredentials)));
    let recovery = world.users.finish_second_factor(&mine.session, &code(), &client()).await.unwrap();

    let Login::Code(pending) = world.login(PASSWORD).await.unwrap() else { panic!("no code is asked for") };
    let replayed = world.users.login_with_code(&pending, &code(), &client()).await;
    assert!(matches!(replayed, Err(AccountsError::WrongCredentials)), "the code was used to confirm");
    world.clock.advance(Duration::from_secs(30));
    let entered = world.users.login_with_code(&pending, &code(), &client()).await.unwrap();
    assert!(entered.session.user.second_factor);
    let again = world.users.login_with_code(&pending, &code(), &client()).await;
    assert!(matches!(again, Err(AccountsError::WrongCredentials)), "a right password is used up");

    for (attempt, taken) in [(&recovery[3], true), (&recovery[3], false), (&recovery[4], true)] {
        let Login::Code(pending) = world.login(PASSWORD).await.unwrap() else { panic!("no code is asked for") };
        let entered = world.users.login_with_code(&pending, attempt, &client()).await;
        assert_eq!(entered.is_ok(), taken);
    }
    let link = world.users.new_reset_link(EMAIL, &By::command_line()).await.unwrap();
    let without = world.users.reset_password(&link, &secret("difference engine"), None, &client()).await;
    assert!(matches!(without, Err(AccountsError::WrongCredentials)), "a reset link alone is not enough");
    let session = world.users.session(&entered.token, &client()).await.unwrap().unwrap();
    world.users.remove_second_factor(&session, &client()).await.unwrap();
    world.enter().await;
}

#[tokio::test]
async fn a_password_that_waits_for_its_code_is_forgotten_after_five_wrong_ones() {
    let world = world();
    let mine = world.claim().await;
    let new = world.users.begin_second_factor(&mine.session).await.unwrap();
    let code = || secret(&second_factor::code_of(&new.secret, world.clock.as_ref()));
    world.users.finish_second_factor(&mine.session, &code(), &client()).await.unwrap();
    world.clock.advance(Duration::from_secs(30));
    let Login::Code(pending) = world.login(PASSWORD).await.unwrap() else { panic!("no code is asked for") };
    for last in 0..5_u8 {
        let from = Client::new(std::net::IpAddr::from([192, 0, 2, last]), "");
        let wrong = world.users.login_with_code(&pending, &secret("000000"), &from).await;
        assert!(matches!(wrong, Err(AccountsError::WrongCredentials)));
    }
    let late = world.users.login_with_code(&pending, &code(), &elsewhere()).await;
    assert!(matches!(late, Err(AccountsError::WrongCredentials)));
}

#[tokio::test]
async fn tokens_open_what_their_scopes_say_until_they_end() {
    let world = world();
    let by = By::command_line();
    let end = world.clock.now().after(Duration::from_mins(1));
    let (token, text) = world.users.create_token("ci", Scopes::READ, Some(end), &by).await.unwrap();
    let found = world.users.token(&text, &client()).await.unwrap();
    assert_eq!((found.id.as_str(), found.scopes), (token.id.as_str(), Scopes::READ));
    assert!(found.scopes.allow(Scopes::READ) && !found.scopes.allow(Scopes::WRITE));
    let listed = world.users.tokens().await.unwrap();
    assert!(listed.iter().any(|listed| listed.id == token.id && listed.last_used.is_some()));
    for bad in [format!("{}x", text.expose()), text.expose().replace("mst_", "mst_a"), String::from("mst__")] {
        let refused = world.users.token(&secret(&bad), &client()).await;
        assert!(matches!(refused, Err(AccountsError::WrongCredentials)), "{bad}");
    }
    world.clock.advance(Duration::from_mins(1));
    assert!(matches!(world.users.token(&text, &client()).await, Err(AccountsError::WrongCredentials)));
    let past = world.users.create_token("ci", Scopes::READ, Some(end), &by).await;
    assert!(matches!(past, Err(AccountsError::BadToken)));
    assert!(matches!(world.users.create_token(" ", Scopes::READ, None, &by).await, Err(AccountsError::BadLabel)));
}

#[tokio::test]
async fn the_first_token_is_printed_until_it_is_revoked_and_does_not_come_back() {
    let world = world();
    let text = world.users.first_token().unwrap();
    let again = on(world.store.clone(), world.clock.clone()).users;
    assert_eq!(again.first_token().unwrap().expose(), text.expose());
    let id = world.users.token(&text, &client()).await.unwrap().id;
    world.users.revoke_token(&id, &By::command_line()).await.unwrap();
    assert!(world.users.first_token().is_none());
    assert!(world.users.token(&text, &client()).await.is_err());
    assert!(on(world.store, world.clock).users.first_token().is_none());
    assert!(matches!(again.revoke_token(&id, &By::command_line()).await, Err(AccountsError::NoSuchToken)));
}

#[tokio::test]
async fn an_address_that_guesses_tokens_has_to_wait() {
    let world = world();
    let right = world.users.first_token().unwrap();
    for _ in 0..30 {
        assert!(matches!(world.users.token(&secret("mst_x"), &client()).await, Err(AccountsError::WrongCredentials)));
    }
    assert!(matches!(world.users.token(&right, &client()).await, Err(AccountsError::Throttled { .. })));
    assert!(world.users.token(&right, &elsewhere()).await.is_ok());
}

fn new_key(label: &str) -> NewKey {
    NewKey { label: label.to_owned(), ..NewKey::default() }
}

fn limited(grant: &str) -> KeyRights {
    KeyRights::Limited { grants: vec![grant.parse().unwrap()], mail: false }
}

#[tokio::test]
async fn a_key_keeps_its_rights_end_and_both_secrets_over_a_restart() {
    let world = world();
    let by = By::command_line();
    let day = Duration::from_hours(24);
    let expires = Some(world.clock.now().after(day));
    let wanted = NewKey { rights: limited("photos/app/:read"), expires, ..new_key("app") };
    let made = world.users.create_access_key(wanted, &by).await.unwrap();
    let rotated = world.users.rotate_access_key(&made.id, Duration::from_hours(1), &by).await.unwrap();
    assert_ne!(made.secret, rotated.secret);
    assert!(matches!(world.users.rotate_access_key(&made.id, day, &by).await, Err(AccountsError::TwoSecrets)));
    world.users.note_key_use(&rotated).await;
    let clock = world.clock.clone();
    let found = on(world.store, world.clock).users.access_key(&made.id).unwrap();
    assert_eq!((&found.rights, found.expires), (&limited("photos/app/:read"), expires));
    assert_eq!(found.last_used(), Some(clock.now()));
    assert_eq!(found.secrets(clock.now()).collect::<Vec<_>>(), [&rotated.secret, &made.secret]);
    clock.advance(Duration::from_hours(1));
    assert_eq!(found.secrets(clock.now()).collect::<Vec<_>>(), [&rotated.secret]);
    assert!(!found.has_expired(clock.now()));
    clock.advance(day);
    assert!(found.has_expired(clock.now()));
}

#[tokio::test]
async fn an_old_secret_is_retired_before_its_time() {
    let world = world();
    let by = By::command_line();
    let first = world.keys.primary().unwrap();
    world.users.rotate_access_key(&first.id, Duration::from_hours(1), &by).await.unwrap();
    let retired = world.users.retire_secret(&first.id, &by).await.unwrap();
    assert_eq!(retired.secrets(world.clock.now()).count(), 1);
    assert_ne!(retired.secret, first.secret);
    let at_once = world.users.rotate_access_key(&first.id, Duration::ZERO, &by).await.unwrap();
    assert_eq!(at_once.secrets(world.clock.now()).collect::<Vec<_>>(), [&at_once.secret]);
}

#[tokio::test]
async fn one_key_that_may_do_everything_for_ever_stays() {
    let world = world();
    let by = By::command_line();
    let first = world.keys.primary().unwrap();
    let less = KeyChange { rights: Some(limited("a:read")), ..KeyChange::default() };
    let ending = KeyChange { expires: Some(Some(world.clock.now().after(Duration::from_mins(1)))), ..less.clone() };
    for change in [less.clone(), ending] {
        let changed = world.users.change_access_key(&first.id, change, &by).await;
        assert!(matches!(changed, Err(AccountsError::LastKey)));
    }
    world.users.create_access_key(NewKey { rights: limited("a:read"), ..new_key("less") }, &by).await.unwrap();
    assert!(matches!(world.users.revoke_access_key(&first.id, &by).await, Err(AccountsError::LastKey)));
    let second = world.users.create_access_key(new_key("second"), &by).await.unwrap();
    world.users.change_access_key(&first.id, less, &by).await.unwrap();
    assert_eq!(world.keys.primary().unwrap().id, second.id);
    let past = KeyChange { expires: Some(Some(world.clock.now())), ..KeyChange::default() };
    assert!(matches!(world.users.change_access_key(&first.id, past, &by).await, Err(AccountsError::BadEnd)));
}

#[tokio::test]
async fn access_keys_are_changed_without_a_gap() {
    let world = world();
    let by = By::command_line();
    let first = world.keys.primary().unwrap();
    assert!(matches!(world.users.revoke_access_key(&first.id, &by).await, Err(AccountsError::LastKey)));
    world.clock.advance(Duration::from_secs(1));
    let second = world.users.create_access_key(new_key("backups"), &by).await.unwrap();
    assert!(world.keys.secret(&first.id).is_some() && world.keys.secret(&second.id).is_some());
    world.users.revoke_access_key(&first.id, &by).await.unwrap();
    assert!(world.keys.secret(&first.id).is_none());
    assert!(matches!(world.users.revoke_access_key(&first.id, &by).await, Err(AccountsError::NoSuchKey)));
    assert!(matches!(world.users.revoke_access_key(&second.id, &by).await, Err(AccountsError::LastKey)));
    let reopened = on(world.store, world.clock);
    let found = reopened.users.access_keys();
    assert_eq!(found.iter().map(|key| key.label.as_str()).collect::<Vec<_>>(), ["backups"]);
    assert_eq!(found[0].secret, second.secret);
}

#[tokio::test]
async fn a_storm_of_failures_pushes_no_change_out_of_the_audit_log() {
    let world = world();
    let by = By::command_line();
    world.users.create_access_key(new_key("kept"), &by).await.unwrap();
    let write = move |tx: &mut dyn crate::store::WriteTx| {
        for _ in 0..audit::FAILURES_KEPT + 10 {
            audit::write_failure(tx, crate::base::Timestamp(1), &By::command_line(), action::LOGIN_FAILED, "x")?;
        }
        Ok::<_, AccountsError>(())
    };
    world.store.write(write).await.unwrap();
    let mut all = Vec::new();
    let mut before = u64::MAX;
    loop {
        let page = world.users.audit_before(before, audit::PAGE_MAX).await.unwrap();
        let Some(last) = page.last() else { break };
        before = last.sequence;
        all.extend(page);
    }
    let failures = all.iter().filter(|entry| entry.action == action::LOGIN_FAILED).count() as u64;
    assert_eq!(failures, audit::FAILURES_KEPT);
    assert!(all.iter().any(|entry| entry.action == action::KEY_ADDED && entry.subject.ends_with("(kept)")));
    assert!(all.is_sorted_by(|left, right| left.sequence > right.sequence));
}

#[tokio::test]
async fn a_forgotten_password_is_set_through_a_link_of_its_own() {
    let world = world();
    world.claim().await;
    let printed = world.users.new_reset_link(EMAIL, &By::command_line()).await.unwrap();
    assert!(world.users.forgot("nobody@example.com", &client()).await.unwrap().is_none());
    let (link, _) = world.users.forgot(EMAIL, &client()).await.unwrap().unwrap();
    assert!(world.users.forgot(EMAIL, &elsewhere()).await.unwrap().is_none(), "not again within minutes");
    for link in [&printed, &link] {
        world.users.check_link(link, &client()).await.unwrap();
    }
    world.clock.advance(links::FORGOT_LIFE);
    assert!(matches!(world.users.check_link(&link, &client()).await, Err(AccountsError::BadLink)));
    let (link, _) = world.users.forgot(EMAIL, &client()).await.unwrap().unwrap();
    world.users.reset_password(&link, &secret("difference engine no 2"), None, &client()).await.unwrap();
    for link in [&printed, &link] {
        assert!(matches!(world.users.check_link(link, &client()).await, Err(AccountsError::BadLink)));
    }
}

#[tokio::test]
async fn the_audit_log_tells_what_happened_and_no_secret() {
    let world = world();
    world.claim().await;
    let _ = world.login("wrong horse").await;
    world.enter().await;
    let actions = world.actions().await;
    let expected =
        [action::LOGIN, action::LOGIN_FAILED, action::LOGIN, action::CLAIMED, action::LINK, action::TOKEN_ADDED];
    assert_eq!(actions, expected);
    let text = format!("{:?} {:?}", world.users.audit(100).await.unwrap(), world.users);
    assert!(!text.contains("horse") && !text.contains(PASSWORD) && text.contains("192.0.2.1"), "{text}");
}
