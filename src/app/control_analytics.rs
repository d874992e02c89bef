//! The counts of pages over `control.sock`, for `mainstay analytics`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::control::{Ask, ControlError, ask};
use super::status::Facts;
use crate::analytics::Report;

/// Which site, and how many days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalyticsAsk {
    /// The site's name, or its host; the sites that are counted when absent.
    pub site: Option<String>,
    /// How many days, today the last of them.
    pub days: u32,
}

/// Answers what is asked: a report for the site, or the sums of each that is counted.
///
/// # Errors
/// The site is not counted, or the store says why not, in words.
pub(super) async fn answer(asked: &AnalyticsAsk, facts: &Facts) -> Result<Vec<Report>, String> {
    let (analytics, (today, first)) = (&facts.analytics, facts.analytics.kept());
    let from = today.earlier(asked.days.max(1) - 1).max(first);
    if let Some(name) = &asked.site {
        let none = || format!("`{name}` is no site with `analytics = true` (edge.sites, or edge.analytics for `*`)");
        let site = analytics.site(name).ok_or_else(none)?;
        return Ok(vec![analytics.report(&site, from, today).await.map_err(|error| error.to_string())?]);
    }
    let mut sums = Vec::new();
    for site in analytics.watched().iter() {
        let whole = analytics.report(site, from, today).await.map_err(|error| error.to_string())?;
        let Report { site, views, visits, visitors, .. } = whole;
        sums.push(Report { site, views, visits, visitors, ..Report::default() });
    }
    Ok(sums)
}

/// Asks the server that runs on `folder`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn asked(folder: &Path, question: AnalyticsAsk) -> Result<Vec<Report>, ControlError> {
    ask(folder, Ask::Analytics(question))
}
