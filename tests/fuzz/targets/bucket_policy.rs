//! Policies of buckets: understood as a whole or refused; what is understood allows nothing beyond its openings, which is
//! what its author is held against. The first line is a key, the rest the policy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::objects::policy::Policy;
use mainstay::objects::public;

const ACTIONS: [&str; 5] = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:GetBucketLocation"];

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((key, text)) = text.split_once('\n') else { return };
    let bucket = "photos".parse().expect("a name");
    let Ok(policy) = Policy::parse(text, &bucket) else { return };
    let openings = policy.openings();
    for action in ACTIONS {
        let opened = openings.iter().any(|(name, begins)| *name == action && key.starts_with(begins.as_str()));
        assert!(opened || !policy.allows(action, key), "{action} on {key} is allowed and was not told of");
    }
    for statement in public::listed(text) {
        if let Some(Some(rest)) = public::close(text, &statement) {
            Policy::parse(&rest, &bucket).expect("a policy of fewer statements");
        }
    }
    if let Ok(wider) = public::open(Some(text), &bucket, "public/", public::Listing::Open) {
        let wider = Policy::parse(&wider, &bucket).expect("a policy of more statements");
        assert!(wider.allows("s3:GetObject", "public/a"));
        for action in ACTIONS {
            assert!(wider.allows(action, key) || !policy.allows(action, key), "{action} on {key} is not allowed any more");
        }
    }
});
