//! Settings of the S3 door.

use crate::base::Listen;

crate::settings! {
    /// S3 protocol listener.
    pub struct S3Config {
        /// Where it listens.
        pub listen: Listen = Listen::loopback(9000),
        /// Host names under which `<bucket>.<name>` addresses a bucket. `s3.<edge domain>` is always one of them. Under
        /// any other name the bucket is the first part of the path.
        pub domains: Vec<String> = vec!["s3.localhost".to_owned(), "localhost".to_owned()],
        /// The region clients sign for; what `GetBucketLocation` answers.
        pub region: String = "us-east-1".to_owned(),
        /// Web origins whose pages may use presigned addresses, such as `https://app.example.com`,
        /// `https://*.example.com`, or `*` for any. `https://<edge domain>` is always one of them.
        pub cors_origins: Vec<String> = Vec::new(),
        /// Most connections served at once; the next one is answered `503` and closed.
        pub max_connections: u32 = 2048,
    }
}
