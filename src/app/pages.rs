//! What the console's pages know about the rest of the server: where its doors are, as browsers see them.

use std::sync::Arc;

use super::connect::{Connect, https_port, reachable};
use super::start::{Ground, Plan};
use crate::console::Share;
use crate::mail::Brand;

/// How objects are opened and shared by address.
pub fn share(plan: &Plan, ground: &Ground, connect: &Connect) -> Share {
    let domain = &plan.config.edge.domain;
    Share {
        keys: Some(Arc::clone(&ground.keys)),
        region: connect.region.clone(),
        direct: connect.s3.map(|address| reachable(address).to_string()),
        edge: connect.edge_https.map(|edge| format!("s3.{domain}{}", https_port(edge))),
    }
}

/// Who the letters to accounts come from, and where the console is.
pub fn brand(plan: &Plan, connect: &Connect) -> Brand {
    Brand { name: plan.config.mail.brand.clone(), url: connect.console_for_people() }
}
