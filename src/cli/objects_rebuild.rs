//! `mainstay objects rebuild-index`: a new index where the old one is lost.

use std::fmt::Write as _;

use anyhow::bail;

use super::backup_show::size;
use super::objects::{Line, json};
use super::say;
use super::serve::plan;
use super::settings::Shell;
use crate::app::rebuild::{Outcome, rebuild_index};
use crate::app::{Folder, StartError};
use crate::base::LocalDisk;
use crate::objects::rebuild::Rebuilt;

/// Runs the command.
pub(super) fn run(shell: Shell, dry_run: bool, as_json: bool) -> anyhow::Result<()> {
    let config = shell.load(&[])?.config;
    let data = shell.existing_data();
    let folder = Folder::open(&LocalDisk, &data)?;
    if !folder.has_data {
        return Err(StartError::NoFolder { path: data }.into());
    }
    let plan = plan(data, config, shell.environment);
    let outcome = if dry_run { Outcome::ThrowAway } else { Outcome::Replace };
    let mut line = Line::new();
    let rebuilt = rebuild_index(&plan, &folder, outcome, &mut |what, done| match done {
        0 => line.show(&format!("reading: {what}")),
        done => line.show(&format!("reading: {what}, {done}")),
    });
    drop(line);
    let rebuilt = rebuilt?;
    say(&if as_json { json(&rebuilt)? } else { told(&rebuilt, outcome) })?;
    let missing = rebuilt.lost.len() as u64 + rebuilt.lost_more;
    let unreadable = rebuilt.unreadable.len() as u64 + rebuilt.unreadable_more;
    if unreadable > 0 {
        bail!("{unreadable} stored files do not read, {missing} objects are left out; a backup may still have them");
    }
    Ok(())
}

/// `rebuilt` in words.
fn told(rebuilt: &Rebuilt, outcome: Outcome) -> String {
    let mut out = String::new();
    let list = |out: &mut String, what: &str, names: &[String], more: u64| {
        if names.is_empty() {
            return;
        }
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{what}");
        for name in names {
            let _ = writeln!(out, "  {}", name.escape_debug());
        }
        if more > 0 {
            let _ = writeln!(out, "  and {more} more");
        }
    };
    list(&mut out, "exports that are damaged:", &rebuilt.damaged_exports, 0);
    let _ = match &rebuilt.export {
        Some(export) if export.whole => writeln!(
            out,
            "from export {} of {}, and what was stored since: small objects (up to 8 KiB) stored since that moment are lost, \
             and what was deleted since may be back",
            export.number, export.taken
        ),
        Some(export) => writeln!(
            out,
            "from what reads of export {} of {}: small objects (up to 8 KiB) that are in the rest of it or were stored since are \
             lost, and what was deleted may be back",
            export.number, export.taken
        ),
        None => writeln!(
            out,
            "no export of the index could be read: all small objects (up to 8 KiB) are lost, with tags set later, delete \
             markers, and the ids of versions"
        ),
    };
    let lost = "left out, since their bytes are not there (deleted or replaced since the export, or lost):";
    list(&mut out, lost, &rebuilt.lost, rebuilt.lost_more);
    list(&mut out, "stored files that do not read:", &rebuilt.unreadable, rebuilt.unreadable_more);
    list(&mut out, "also:", &rebuilt.notes, 0);
    if rebuilt.left > 0 {
        let _ = writeln!(out, "stored files that nothing refers to, which a sweep will put aside: {}", rebuilt.left);
    }
    if rebuilt.without_key > 0 {
        let _ = writeln!(out, "stored files of buckets that have no key (any more): {}", rebuilt.without_key);
    }
    let (buckets, objects, uploads) = (rebuilt.buckets, rebuilt.objects, rebuilt.uploads);
    let _ = writeln!(
        out,
        "buckets: {buckets}, objects: {objects} ({} of them from stored files alone), uploads in progress: {uploads}, {}",
        rebuilt.from_blobs,
        size(rebuilt.bytes)
    );
    out.push_str(match outcome {
        Outcome::Replace => {
            "the new index is in place; the old one, if there was any, is objects.redb.before-rebuild-…\n"
        }
        Outcome::ThrowAway => "nothing was changed: leave out --dry-run to have it so\n",
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::objects::rebuild::UsedExport;

    #[test]
    fn what_a_lost_export_costs_is_said() {
        let text = told(&Rebuilt::default(), Outcome::Replace);
        assert!(text.contains("no export") && text.contains("all small objects (up to 8 KiB) are lost"), "{text}");
        let export = Some(UsedExport { number: 7, taken: Timestamp(0), whole: true });
        let lost = vec!["photos/a\nb".to_owned()];
        let text = told(&Rebuilt { export, lost, lost_more: 2, ..Rebuilt::default() }, Outcome::ThrowAway);
        assert!(text.contains("from export 7 of 1970-01-01T00:00:00.000Z"), "{text}");
        assert!(text.contains("  photos/a\\nb\n  and 2 more\n") && text.contains("nothing was changed"), "{text}");
    }
}
