//! Forms that upload to a bucket: fields and policy are read or refused, the same however the body is cut up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::s3::form::read_for_fuzzing;
use mainstay::s3::form_policy::FormPolicy;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let whole = runtime.block_on(read_for_fuzzing(bytes, bytes.len()));
    let small = runtime.block_on(read_for_fuzzing(bytes, 3));
    assert_eq!(whole, small);
    // The document itself, which the fuzzer would hardly find beneath base64.
    let _ = FormPolicy::of_json(bytes);
});
