//! SMTP: every line gets an answer, and a message has no lone line end however its bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::smtp::data::{DataReceiver, Received};
use mainstay::smtp::session::{Rules, Session};

fuzz_target!(|bytes: &[u8]| {
    let rules = Rules { host: "mail.example.com".to_owned(), max_message: 10_000, max_recipients: 3 };
    let mut session = Session::new(rules);
    session.line(b"EHLO fuzz\r\n");
    session.logged_in(Some("key".to_owned()));
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        session.line(line);
    }

    let mut whole = DataReceiver::new(5_000);
    let outcome = whole.receive(bytes);
    let mut cut = DataReceiver::new(5_000);
    let last = bytes.iter().map(|byte| cut.receive(&[*byte])).find(|received| *received != Received::More);
    assert_eq!(last.is_some(), outcome != Received::More);
    if let (Received::End(_), Some(text)) = (outcome, whole.finish()) {
        assert!(!String::from_utf8_lossy(&text).replace("\r\n", "").contains(['\r', '\n']));
    }
});
