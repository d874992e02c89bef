//! Forms with files: read or refused, the same however the body is cut up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mainstay::http::Body;
use mainstay::http::multipart::Multipart;

async fn read(bytes: &[u8], size: usize) -> Option<Vec<Vec<u8>>> {
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> = bytes.chunks(size).map(|chunk| Ok(chunk.to_vec())).collect();
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let mut form = Multipart::new("multipart/form-data; boundary=b", body).ok()?;
    let mut out = Vec::new();
    while form.next_part().await.ok()?.is_some() {
        let mut part = Vec::new();
        while let Some(chunk) = form.chunk().await.ok()? {
            part.extend_from_slice(&chunk);
        }
        out.push(part);
    }
    Some(out)
}

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let whole = runtime.block_on(read(bytes, bytes.len().max(1)));
    let small = runtime.block_on(read(bytes, 3));
    if let (Some(whole), Some(small)) = (whole, small) {
        assert_eq!(whole, small);
    }
});
