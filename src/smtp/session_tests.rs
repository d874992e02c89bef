//! The dialogue, line by line.

use proptest::prelude::*;

use super::*;

fn session() -> Session {
    Session::new(Rules { host: "mail.example.com".to_owned(), max_message: 1000, max_recipients: 2 })
}

fn answer(session: &mut Session, line: &str) -> String {
    match session.line(format!("{line}\r\n").as_bytes()) {
        Action::Answer(text) | Action::Refuse(text) => text.into_owned(),
        Action::Close(text) | Action::Data(text, _) => text.to_owned(),
        Action::Check(credentials) => format!("check {}", credentials.user()),
    }
}

fn logged_in() -> Session {
    let mut session = session();
    answer(&mut session, "EHLO client");
    session.logged_in(Some("key".to_owned()));
    session
}

#[test]
fn nobody_relays_without_credentials() {
    let mut session = session();
    assert!(answer(&mut session, "MAIL FROM:<a@example.com>").starts_with("503"));
    assert!(answer(&mut session, "EHLO client").contains("AUTH PLAIN LOGIN"));
    assert!(answer(&mut session, "MAIL FROM:<a@example.com>").starts_with("530"));
    assert!(answer(&mut session, "RCPT TO:<b@example.com>").starts_with("503"));
    assert!(answer(&mut session, "DATA").starts_with("503"));
    assert!(matches!(session.logged_in(None), Action::Refuse(text) if text.starts_with("535")));
    assert!(answer(&mut session, "MAIL FROM:<a@example.com>").starts_with("530"));
}

#[test]
fn both_mechanisms_lead_to_a_check() {
    // user `ada`, password `pw`
    let mut one = session();
    answer(&mut one, "ehlo client");
    assert_eq!(answer(&mut one, "AUTH PLAIN AGFkYQBwdw=="), "check ada");
    let mut two = session();
    answer(&mut two, "EHLO client");
    assert_eq!(answer(&mut two, "AUTH PLAIN"), "334 \r\n");
    assert_eq!(answer(&mut two, "AGFkYQBwdw=="), "check ada");
    let mut three = session();
    answer(&mut three, "EHLO client");
    assert_eq!(answer(&mut three, "AUTH LOGIN"), "334 VXNlcm5hbWU6\r\n");
    assert_eq!(answer(&mut three, "YWRh"), "334 UGFzc3dvcmQ6\r\n");
    let Action::Check(credentials) = three.line(b"cHc=\r\n") else { panic!("no check") };
    assert!(credentials.matches("pw") && !credentials.matches("px"));
    assert!(!format!("{credentials:?}").contains("pw"));
}

#[test]
fn a_login_can_be_cancelled_and_unknown_mechanisms_are_refused() {
    let mut session = session();
    answer(&mut session, "EHLO client");
    answer(&mut session, "AUTH LOGIN");
    assert!(answer(&mut session, "*").starts_with("501"));
    assert!(answer(&mut session, "AUTH CRAM-MD5").starts_with("504"));
    assert!(answer(&mut session, "NOOP").starts_with("250"));
}

#[test]
fn a_transaction_has_a_sender_recipients_and_then_data() {
    let mut session = logged_in();
    assert!(answer(&mut session, "mail from:<a@example.com> size=10 body=8bitmime").starts_with("250"));
    assert!(answer(&mut session, "RCPT TO:<b@example.com>").starts_with("250"));
    assert!(answer(&mut session, "RCPT TO:<b@example.com>").starts_with("250"));
    assert!(answer(&mut session, "RCPT TO:<c@example.com>").starts_with("250"));
    assert!(answer(&mut session, "RCPT TO:<d@example.com>").starts_with("452"));
    let Action::Data(text, envelope) = session.line(b"DATA\r\n") else { panic!("no data") };
    assert!(text.starts_with("354"));
    assert_eq!(envelope.to.len(), 2);
    assert!(answer(&mut session, "DATA").starts_with("503"), "the next message starts afresh");
}

#[test]
fn too_large_a_size_is_refused_before_the_data() {
    assert!(answer(&mut logged_in(), "MAIL FROM:<a@example.com> SIZE=1001").starts_with("552"));
}

#[test]
fn lines_without_carriage_return_and_odd_addresses_are_refused() {
    let mut session = logged_in();
    assert!(matches!(session.line(b"NOOP\n"), Action::Close(text) if text.starts_with("521")));
    for line in ["MAIL FROM:<>", "MAIL FROM:<a>", "MAIL FROM: a@example.com", "MAIL FROM:<a@example.com> X=1"] {
        let text = answer(&mut logged_in(), line);
        assert!(text.starts_with('5'), "{line}: {text}");
    }
}

#[test]
fn rset_and_ehlo_start_afresh_but_keep_the_login() {
    for again in ["RSET", "EHLO client"] {
        let mut session = logged_in();
        answer(&mut session, "MAIL FROM:<a@example.com>");
        answer(&mut session, again);
        assert!(answer(&mut session, "MAIL FROM:<b@example.com>").starts_with("250"));
    }
}

proptest! {
    #[test]
    fn any_line_gets_an_answer(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut session = logged_in();
        let line = [line.as_slice(), b"\r\n"].concat();
        session.line(&line);
    }
}

#[test]
fn a_lone_line_end_within_a_command_ends_the_dialogue() {
    for line in [&b"NOOP\n"[..], b"RCPT TO:<eve@example.com\r>\r\n", b"NOOP \0\r\n", b"\r\r\n"] {
        assert!(matches!(session().line(line), Action::Close(text) if text.starts_with("521")), "{line:?}");
    }
}
