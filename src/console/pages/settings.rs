//! `/settings`: every setting, to look at.

use askama::Template;
use axum::extract::State;

use crate::console::{Answer, Console, Frame, Page, Section, page};
use crate::monitor::SettingView;

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage<'p> {
    frame: Frame,
    sections: Vec<(&'p str, Vec<&'p SettingView>)>,
    only_set: bool,
    set: usize,
}

/// `GET /settings`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let all = console.world().settings.all();
    let only_set = page.query("show") == "set";
    let mut sections: Vec<(&str, Vec<&SettingView>)> = Vec::new();
    for setting in all.iter().filter(|setting| !only_set || setting.is_set()) {
        let name = setting.key.split('.').next().unwrap_or_default();
        match sections.last_mut().filter(|(last, _)| *last == name) {
            Some((_, settings)) => settings.push(setting),
            None => sections.push((name, vec![setting])),
        }
    }
    let set = all.iter().filter(|setting| setting.is_set()).count();
    page::show(&SettingsPage { frame: page.frame("Settings", Section::Settings), sections, only_set, set })
}

/// How a setting is written in the environment.
fn variable(key: &str) -> String {
    format!("MAINSTAY_{}", key.replace('.', "__").to_ascii_uppercase())
}
