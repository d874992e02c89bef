//! Messages: what is taken in has only whole line ends, no blind recipients, and reads the same a second time;
//! any bytes are decoded within the caps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::base::Timestamp;
use mainstay::mail::{LineEnds, Message, content};

fuzz_target!(|bytes: &[u8]| {
    let decoded = content::read(bytes);
    for file in &decoded.files {
        assert!(content::file(bytes, file.index).is_some_and(|(_, _, content)| content.len() == file.size));
    }
    if let Ok(message) = Message::parse(bytes, LineEnds::Lenient, Timestamp(0), "id", "host") {
        assert!(message.header("bcc").is_none());
        assert!(message.header("message-id").is_some());
        let again = Message::parse(message.bytes(), LineEnds::Strict, Timestamp(0), "id", "host");
        assert_eq!(again.ok(), Some(message));
    }
});
