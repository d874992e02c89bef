//! What can be asked of `mainstay backup`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(super) enum BackupCommand {
    /// Make a backup now, of the server's own data and the folders of the settings
    ///
    /// The running server makes it; without one, the command opens the data folder itself.
    Now {
        #[command(flatten)]
        target: TargetFlag,
        #[command(flatten)]
        output: Output,
    },
    /// How backups stand: the last, the next, the last proven restore
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// List the snapshots at a target, the newest first
    List {
        #[command(flatten)]
        target: TargetFlag,
        #[command(flatten)]
        key: KeyFlag,
        #[command(flatten)]
        output: Output,
    },
    /// Check that everything at a target is there and is what was written
    Verify {
        #[command(flatten)]
        target: TargetFlag,
        /// Read every byte, not only what holds it together
        #[arg(long)]
        read_data: bool,
        #[command(flatten)]
        key: KeyFlag,
        #[command(flatten)]
        output: Output,
    },
    /// Restore the server's own data into an empty folder, or one object, file or dump
    ///
    /// The whole: `mainstay backup restore --from DIR --data NEW --key-file FILE`, then `mainstay serve --data NEW`.
    Restore(Restore),
    /// Remove what the settings no longer keep
    Prune {
        #[command(flatten)]
        target: TargetFlag,
        /// Only tell what would go
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        key: KeyFlag,
        #[command(flatten)]
        output: Output,
    },
    /// Back up what is piped in, such as a database's dump
    ///
    /// For bash: `set -o pipefail; pg_dump app | mainstay backup add --stdin app.sql`. Empty input makes no snapshot.
    Add {
        /// Name it gets; later ones of the same name follow it
        #[arg(long, value_name = "NAME")]
        stdin: String,
        #[command(flatten)]
        target: TargetFlag,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(super) struct TargetFlag {
    /// Where the backups are: a folder, or `s3://bucket/prefix` [default: the setting backup.target]
    #[arg(long, visible_alias = "from", value_name = "DIR|s3://…")]
    pub target: Option<String>,
}

#[derive(Args)]
pub(super) struct KeyFlag {
    /// File with the master key [default: as the server finds it]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Output {
    /// JSON instead
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub(super) struct Restore {
    #[command(flatten)]
    pub from: TargetFlag,
    #[command(flatten)]
    pub key: KeyFlag,
    /// Which snapshot: a name that `list` prints
    #[arg(long, value_name = "NAME", default_value = "latest")]
    pub snapshot: String,
    /// Of a damaged backup, keep all that is not lost
    ///
    /// Without it nothing is served of a backup that lost more than the bytes of objects.
    #[arg(long, conflicts_with_all = ["object", "folder", "stdin_name"])]
    pub partial: bool,
    /// Only this object of the object storage, as bucket/key
    #[arg(long, value_name = "BUCKET/KEY", conflicts_with_all = ["folder", "stdin_name"], requires = "to")]
    pub object: Option<String>,
    /// Only this folder of the settings' backup.folders, by its path
    #[arg(long, value_name = "DIR", conflicts_with = "stdin_name", requires = "to")]
    pub folder: Option<String>,
    /// Only this file or folder in it
    #[arg(long, value_name = "PATH", requires = "folder")]
    pub path: Vec<String>,
    /// Only what was piped in under this name
    #[arg(long, value_name = "NAME", requires = "to")]
    pub stdin_name: Option<String>,
    /// Where to: a new file (- for standard output), or for a folder an empty folder
    #[arg(long, value_name = "FILE|DIR|-")]
    pub to: Option<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}
