//! `mainstay buckets`: the buckets of a running server, what they hold, and what is set for them.

use std::fmt::Write as _;
use std::str::FromStr;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::backup_show::size;
use super::say;
use super::settings::Shell;
use crate::app::control_buckets::{BucketView, BucketsAsk, SHOWN, asked};
use crate::base::ByteSize;
use crate::objects::{BackendName, BucketSet, Extension, MediaRange, Versioning};

#[derive(Subcommand)]
pub(super) enum BucketsCommand {
    /// Every bucket, with what it holds and may hold (without a command)
    List,
    /// Set what a bucket may hold and which files it takes, at once; what is not named stays as it is
    Set(SetArguments),
    /// Give a bucket another key
    ///
    /// What is stored from now on hangs on it at once. What is stored already is put under it behind the scenes (`mainstay
    /// buckets` tells how far that is), then the key before is destroyed. Objects are not sealed again.
    RotateKey {
        /// The bucket
        bucket: String,
    },
}

#[derive(Args)]
pub(super) struct SetArguments {
    /// The bucket
    bucket: String,
    /// The most it may hold, older versions too, such as 10GiB; `none` for no limit
    #[arg(long, value_name = "SIZE")]
    quota_bytes: Option<Limit<ByteSize>>,
    /// The most objects it may hold, each version one; `none` for no limit
    #[arg(long, value_name = "COUNT")]
    quota_objects: Option<Limit<u64>>,
    /// The most bytes of one file, such as 10MiB; `none` for no limit of its own
    #[arg(long, value_name = "SIZE")]
    max_file: Option<Limit<ByteSize>>,
    /// The types of files it takes, such as `image/*,application/pdf`; `none` for all
    ///
    /// What an upload declares and what its bytes are must both be allowed and say the same.
    #[arg(long, value_name = "LIST")]
    types: Option<Listed<MediaRange>>,
    /// How keys end that it takes, such as `jpg,png`; `none` for all
    #[arg(long, value_name = "LIST")]
    extensions: Option<Listed<Extension>>,
    /// Whether browsers save its objects, whatever they are, and draw none as a page
    #[arg(long, value_name = "true|false")]
    serve_as_download: Option<bool>,
}

/// A list with commas in between, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed<T>(Vec<T>);

impl<T: FromStr> FromStr for Listed<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit<T>(Option<T>);

impl<T: FromStr> FromStr for Limit<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        Ok(Self(if text == "none" { None } else { Some(text.parse()?) }))
    }
}

impl SetArguments {
    fn wanted(&self) -> Vec<BucketSet> {
        let wanted = [
            self.quota_bytes.map(|limit| BucketSet::QuotaBytes(limit.0.map(|size| size.0))),
            self.quota_objects.map(|limit| BucketSet::QuotaObjects(limit.0)),
            self.max_file.map(|limit| BucketSet::MaxFile(limit.0.map(|size| size.0))),
            self.types.clone().map(|types| BucketSet::Types(types.0)),
            self.extensions.clone().map(|extensions| BucketSet::Extensions(extensions.0)),
            self.serve_as_download.map(BucketSet::Download),
        ];
        wanted.into_iter().flatten().collect()
    }
}

/// Runs the command.
pub(super) fn run(shell: &Shell, command: BucketsCommand, json: bool) -> anyhow::Result<()> {
    let data = shell.existing_data();
    let mut shown: Vec<BucketView> = Vec::new();
    match command {
        BucketsCommand::List => loop {
            let page = asked(&data, BucketsAsk::List { after: shown.last().map(|last| last.name.clone()) })?;
            let is_last = page.len() < SHOWN;
            shown.extend(page);
            if is_last {
                break;
            }
        },
        BucketsCommand::RotateKey { bucket } => shown = asked(&data, BucketsAsk::RotateKey { bucket })?,
        BucketsCommand::Set(arguments) => {
            let wanted = arguments.wanted();
            if wanted.is_empty() {
                bail!("nothing to set is named; see `mainstay buckets set --help`");
            }
            shown = asked(&data, BucketsAsk::Set { bucket: arguments.bucket, wanted })?;
        }
    }
    if json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
    }
    say(&shown.iter().map(line).collect::<String>())
}

fn line(view: &BucketView) -> String {
    let more = if view.counting { " and more (still counting)" } else { "" };
    let mut out = format!("{:<32} {} objects, {}{more}", view.name, view.objects, size(view.bytes));
    let bytes = view.quota_bytes.map(size);
    let limits: Vec<String> =
        bytes.into_iter().chain(view.quota_objects.map(|most| format!("{most} objects"))).collect();
    // Writing into a String cannot fail.
    if !limits.is_empty() {
        let _ = write!(out, ", quota {}", limits.join(" and "));
    }
    let files = &view.files;
    if let Some(most) = files.max_bytes {
        let _ = write!(out, ", files of at most {}", size(most));
    }
    for (what, list) in [("types", list(&files.types)), ("endings", list(&files.extensions))] {
        if !list.is_empty() {
            let _ = write!(out, ", {what} {list}");
        }
    }
    if files.download {
        out.push_str(", as downloads");
    }
    match view.versioning {
        Versioning::Off => {}
        Versioning::Enabled => out.push_str(", keeps versions"),
        Versioning::Suspended => out.push_str(", versions suspended"),
    }
    if view.backend != BackendName::LOCAL {
        let _ = write!(out, ", kept at {}", view.backend);
    }
    if let Some(moving) = view.moving.as_ref().filter(|moving| moving.ended.is_none()) {
        let _ = write!(out, ", being moved to {}", moving.to);
    }
    if let Some(change) = &view.key_change {
        let _ = write!(out, ", another key: {} % looked at, {} under it", change.percent, change.rewrapped);
        if change.damaged > 0 {
            let _ = write!(out, ", {} damaged", change.damaged);
        }
        if let Some(reason) = &change.waits_for {
            let _ = write!(out, " (waits for {reason})");
        }
    }
    out.push_str(if view.public { ", open to everybody in part\n" } else { "\n" });
    out
}

fn list(rules: &[impl ToString]) -> String {
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
