//! Settings of backups.

use crate::base::Span;

crate::settings! {
    /// Backups: encrypted, deduplicated snapshots of the server's own data and of folders, made while it serves.
    ///
    /// The master key opens them (`mainstay key export`); keep it somewhere else than the backups.
    pub struct BackupConfig {
        /// Where backups go: a folder (better on another disk), or `s3://bucket/prefix`. Empty: none are made by
        /// themselves, and `mainstay backup now --target …` still works.
        pub target: String = String::new(),
        /// How often a backup is made.
        pub every: Span = Span::days(1),
        /// Further folders of this machine to back up, each with everything in it.
        pub folders: Vec<String> = Vec::new(),
        /// What to leave out of the folders: names, or paths below them; `*` stands for any letters of a part.
        pub exclude: Vec<String> = Vec::new(),
        /// Snapshots younger than this stay, all of them.
        pub keep_all: Span = Span::hours(48),
        /// Days of which the last snapshot stays.
        pub keep_daily: u32 = 14,
        /// Weeks of which the last snapshot stays.
        pub keep_weekly: u32 = 8,
        /// Months of which the last snapshot stays.
        pub keep_monthly: u32 = 12,
        /// Years of which the last snapshot stays.
        pub keep_yearly: u32 = 0,
        /// URL of the S3 service of an `s3://` target; empty for Amazon's own in `s3_region`.
        pub s3_endpoint: String = String::new(),
        /// Region of that service.
        pub s3_region: String = String::from("us-east-1"),
        /// Id of the access key for it.
        pub s3_access_key_id: String = String::new(),
        /// File whose first line is the secret of that access key.
        pub s3_secret_access_key_file: String = String::new(),
    }
}
