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
use crate::objects::{BucketSet, Versioning};

#[derive(Subcommand)]
pub(super) enum BucketsCommand {
    /// Every bucket, with what it holds and may hold (without a command)
    List,
    /// Set what a bucket may hold, at once; what is not named stays as it is
    Set(SetArguments),
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
        let bytes = self.quota_bytes.map(|limit| BucketSet::QuotaBytes(limit.0.map(|size| size.0)));
        let objects = self.quota_objects.map(|limit| BucketSet::QuotaObjects(limit.0));
        bytes.into_iter().chain(objects).collect()
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
    match view.versioning {
        Versioning::Off => {}
        Versioning::Enabled => out.push_str(", keeps versions"),
        Versioning::Suspended => out.push_str(", versions suspended"),
    }
    out.push_str(if view.public { ", open to everybody in part\n" } else { "\n" });
    out
}
