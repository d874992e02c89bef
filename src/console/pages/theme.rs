//! `/theme`: dark, light, or as the device says.

use crate::console::cookies::Cookie;
use crate::console::frame::Theme;
use crate::console::page::local;
use crate::console::{Answer, OpenForm, entry};

/// How long the choice is kept, in seconds: a year.
const KEPT_SECONDS: u64 = 31_536_000;

/// `POST /theme`.
pub async fn choose(form: OpenForm) -> Answer {
    let theme = Theme::from_name(form.fields.text("theme"));
    let secure = form.visitor.entry().is_secure();
    let mut response = form.visitor.redirect(local(form.fields.text("back")))?;
    let cookie = match theme {
        Theme::Auto => Cookie::Theme.clear(secure),
        chosen => Cookie::Theme.set(chosen.name(), Some(KEPT_SECONDS), secure),
    };
    entry::set(&mut response, cookie);
    Ok(response)
}
