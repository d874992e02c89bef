//! `allow` and `deny`: in nginx the first that fits counts, and who fits none gets in. Here who is denied never gets in, and
//! where some are allowed nobody else does.

use super::Context;
use super::draft::{Draft, EVERYBODY};
use crate::edge::nginx_parse::Directive;

/// Whether `directive` alone keeps everybody out.
pub(super) fn shuts_out_all(directive: &Directive) -> bool {
    (directive.name() == "deny" && directive.arg(0) == "all")
        || (directive.name() == "return" && directive.args().len() == 1 && directive.arg(0).starts_with('4'))
}

/// Puts the rules among `level`, the directives of one block, into `draft`, in place of those around it; nothing when there
/// are none.
pub(super) fn apply(level: &[&Directive], draft: &mut Draft, context: &mut Context<'_>) {
    let rules: Vec<&&Directive> = level.iter().filter(|one| ["allow", "deny"].contains(&one.name())).collect();
    if rules.is_empty() {
        return;
    }
    draft.lists.remove("allow");
    draft.lists.remove("deny");
    let (mut allow, mut deny, mut rest) = (Vec::new(), Vec::new(), true);
    for rule in rules {
        let who = rule.arg(0);
        match (rule.name(), who) {
            (_, "unix:") => context.leave(rule, "addresses only"),
            (name, "all") => {
                rest = name == "allow";
                break;
            }
            ("allow", who) => allow.push(who.to_owned()),
            (_, who) => {
                if !allow.is_empty() {
                    context.leave(rule, "of the addresses allowed before it, those in it are denied too");
                }
                deny.push(who.to_owned());
            }
        }
    }
    if !rest {
        if allow.is_empty() {
            deny = EVERYBODY.map(str::to_owned).to_vec();
        } else {
            draft.lists.insert("allow", allow);
        }
    }
    if !deny.is_empty() {
        draft.lists.insert("deny", deny);
    }
}
