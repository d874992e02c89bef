//! What the console's pages know about the rest of the server: where its doors are, as browsers see them.

use std::net::SocketAddr;
use std::sync::Arc;

use super::connect::{Connect, reachable};
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
        edge: connect.edge_https.map(|edge| format!("s3.{domain}{}", port(edge))),
    }
}

/// Who the letters to accounts come from, and where the console is.
pub fn brand(plan: &Plan, connect: &Connect) -> Brand {
    let domain = &plan.config.edge.domain;
    let on_edge = connect.edge_https.filter(|_| domain != "localhost");
    let url = match (on_edge, connect.console) {
        (Some(edge), _) => format!("https://console.{domain}{}", port(edge)),
        (None, Some(console)) => format!("http://{}", reachable(console)),
        (None, None) => format!("https://console.{domain}"),
    };
    Brand { name: plan.config.mail.brand.clone(), url }
}

/// The port as addresses name it: not at all when it is 443.
fn port(edge: SocketAddr) -> String {
    if edge.port() == 443 { String::new() } else { format!(":{}", edge.port()) }
}
