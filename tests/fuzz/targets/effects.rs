//! Effects of a journal: replaying any bytes never panics, and what they build can be walked.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mainstay::base::SystemRandom;
use mainstay::kv::effect;
use mainstay::kv::keyspace::Keyspace;
use mainstay::kv::KvConfig;

fuzz_target!(|bytes: &[u8]| {
    let mut keyspace = Keyspace::new(KvConfig::default(), Arc::new(SystemRandom));
    for effect in effect::read(bytes) {
        match effect {
            Ok(effect) if keyspace.apply(&effect).is_ok() => {}
            _ => return,
        }
    }
});
