//! Effects of a journal: replaying any bytes never panics, and what they build can be walked.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mainstay::base::{ByteSize, SystemRandom};
use mainstay::kv::effect;
use mainstay::kv::keyspace::Keyspace;
use mainstay::kv::KvConfig;

fuzz_target!(|bytes: &[u8]| {
    // A string of the usual most takes long to fill with zeros.
    let config = KvConfig { max_value: ByteSize(1 << 20), ..KvConfig::default() };
    let mut keyspace = Keyspace::new(config, Arc::new(SystemRandom));
    for effect in effect::read(bytes) {
        match effect {
            Ok(effect) if keyspace.apply(&effect).is_ok() => {}
            _ => return,
        }
    }
});
