//! What surrounds a page's own content: navigation, message, theme. The layout template reads it as `frame`.

use std::fmt;
use std::sync::Arc;

use askama::filters::HtmlSafe;

use super::assets::Assets;
use super::entry::Entry;
use super::flash::Flash;

/// The parts of the console in the order of the navigation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Section {
    /// State of every part.
    Dashboard,
    /// Sites of the edge, the apps behind it, certificates, bans.
    Edge,
    /// Keys of the Redis door, its clients, rate limits.
    Redis,
    /// Buckets and objects.
    Buckets,
    /// Outbound mail.
    Mail,
    /// Captured errors.
    Issues,
    /// Backups.
    Backups,
    /// Keys, tokens, connection settings.
    Keys,
    /// Every setting.
    Settings,
    /// The manual.
    Manual,
    /// One's own account.
    Account,
    /// Pages outside the navigation.
    #[default]
    None,
}

impl Section {
    /// Those in the navigation.
    pub const ALL: [Self; 10] = [
        Self::Dashboard,
        Self::Edge,
        Self::Redis,
        Self::Buckets,
        Self::Mail,
        Self::Issues,
        Self::Backups,
        Self::Keys,
        Self::Settings,
        Self::Manual,
    ];

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dashboard => "Dashboard",
            Self::Edge => "Edge",
            Self::Redis => "Redis",
            Self::Buckets => "Buckets",
            Self::Mail => "Mail",
            Self::Issues => "Issues",
            Self::Backups => "Backups",
            Self::Keys => "Keys",
            Self::Settings => "Settings",
            Self::Manual => "Manual",
            Self::Account => "Account",
            Self::None => "",
        }
    }

    /// Its first page.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Dashboard | Self::None => "/dashboard",
            Self::Edge => "/sites",
            Self::Redis => "/kv",
            Self::Buckets => "/buckets",
            Self::Mail => "/mail",
            Self::Issues => "/issues",
            Self::Backups => "/backups",
            Self::Keys => "/keys",
            Self::Settings => "/settings",
            Self::Manual => "/docs",
            Self::Account => "/account",
        }
    }
}

/// Dark or light.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the device says.
    #[default]
    Auto,
    /// Dark.
    Dark,
    /// Light.
    Light,
}

impl Theme {
    /// The theme of that name, else [`Theme::Auto`].
    pub fn from_name(name: &str) -> Self {
        match name {
            "dark" => Self::Dark,
            "light" => Self::Light,
            _ => Self::Auto,
        }
    }

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    /// Its name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::Dark => "Dark",
            Self::Light => "Light",
        }
    }

    /// Its name in cookies, forms and the page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dark => "dark",
            Self::Light => "light",
        }
    }
}

/// Everything the layout template needs. Made by [`Page::frame`](super::Page::frame).
#[derive(Clone, Debug)]
pub struct Frame {
    /// The page's name: its heading and, with the server's, the window's title.
    pub title: String,
    /// Where in the navigation it stands.
    pub section: Section,
    /// Who is looking; empty for somebody who is not logged in.
    pub user: String,
    /// The message for this page.
    pub flash: Option<Flash>,
    /// How it looks.
    pub theme: Theme,
    /// This page's address, to come back to.
    pub target: String,
    csrf: String,
    assets: Arc<Assets>,
}

impl Frame {
    pub(super) fn new(entry: &Entry, assets: Arc<Assets>, title: impl Into<String>, section: Section) -> Self {
        Self {
            title: title.into(),
            section,
            user: entry.session().map(|session| session.user().to_owned()).unwrap_or_default(),
            flash: entry.flash().cloned(),
            theme: entry.theme(),
            target: if entry.reads() { entry.target().to_owned() } else { String::from("/") },
            csrf: entry.csrf().to_owned(),
            assets,
        }
    }

    /// The hidden field without which no form is taken: `{{ frame.csrf() }}` inside every `<form method="post">`.
    pub fn csrf(&self) -> CsrfField<'_> {
        CsrfField(&self.csrf)
    }

    /// The token by itself, for scripts that send it as `x-csrf-token`.
    pub fn csrf_token(&self) -> &str {
        &self.csrf
    }

    /// The address of a file of `web/static`.
    pub fn asset(&self, name: &str) -> String {
        self.assets.address(name)
    }

    /// Whether nobody is logged in: the page has no navigation then.
    pub fn is_outside(&self) -> bool {
        self.user.is_empty()
    }

    /// The themes to choose from.
    pub fn themes(&self) -> &'static [Theme] {
        &Theme::ALL
    }

    /// The sections of the navigation.
    pub fn sections(&self) -> &'static [Section] {
        &Section::ALL
    }

    /// `page` when this page belongs to `section`, for `aria-current`; else nothing.
    pub fn current(&self, section: &Section) -> &'static str {
        if self.section == *section { "page" } else { "false" }
    }
}

/// A form's hidden field. The token is letters, digits, `-` and `_`.
#[derive(Clone, Copy, Debug)]
pub struct CsrfField<'f>(&'f str);

impl fmt::Display for CsrfField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<input type=\"hidden\" name=\"csrf\" value=\"{}\">", self.0)
    }
}

impl HtmlSafe for CsrfField<'_> {}
