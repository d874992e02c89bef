//! The tree: which rooms have settings, under which name, and what shape they have.

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::ServerConfig;
use crate::base::settings::{Field, Settings};
use crate::edge::config as edge;

/// The fields of a section or of a table inside one, and their manual.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The lines of its doc comment, each with its leading space.
    pub doc: &'static [&'static str],
    /// Its fields in order.
    pub fields: &'static [Field],
}

impl Shape {
    const fn of<T: Settings>() -> Self {
        Self { doc: T::DOC, fields: T::FIELDS }
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// One value.
    Value,
    /// A table of further fields.
    Table(Shape),
    /// A list of tables.
    List(Shape),
}

/// A room's part of the tree.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name in the file.
    pub name: &'static str,
    /// Its fields.
    pub shape: Shape,
    /// Its defaults as TOML.
    pub defaults: fn() -> Result<toml::Table, toml::ser::Error>,
    /// Reads a part of the section; the rest takes its defaults.
    pub check: for<'i> fn(DeTable<'i>) -> Result<(), toml::de::Error>,
}

fn defaults<T: Settings>() -> Result<toml::Table, toml::ser::Error> {
    toml::Table::try_from(T::default())
}

fn read<T: Settings>(table: DeTable<'_>) -> Result<T, toml::de::Error> {
    T::deserialize(Deserializer::from(Spanned::new(0..0, table)))
}

macro_rules! tree {
    ( $( $name:ident : $type:ty ),+ $(,)? ) => {
        /// Every room's settings.
        #[derive(Clone, Debug, Default, Serialize)]
        pub struct Config {
            $( #[doc = concat!("Section `[", stringify!($name), "]`.")] pub $name: $type ),+
        }

        /// The sections in the order of the reference.
        pub const SECTIONS: &[Section] = &[
            $( Section {
                name: stringify!($name),
                shape: Shape::of::<$type>(),
                defaults: defaults::<$type>,
                check: |table| read::<$type>(table).map(|_| ()),
            } ),+
        ];

        impl Config {
            /// Builds the tree from what was set; `take` gives each section's table.
            ///
            /// # Errors
            /// What the first wrong section says; none when every value was checked before.
            pub(super) fn build<'i>(mut take: impl FnMut(&str) -> DeTable<'i>) -> Result<Self, toml::de::Error> {
                Ok(Self { $( $name: read::<$type>(take(stringify!($name)))? ),+ })
            }
        }
    };
}

tree! {
    edge: crate::edge::EdgeConfig,
    console: crate::api::ConsoleConfig,
    s3: crate::s3::S3Config,
    redis: crate::resp::RedisConfig,
    smtp: crate::smtp::SmtpConfig,
    mail: crate::mail::MailConfig,
    objects: crate::objects::ObjectsConfig,
    kv: crate::kv::KvConfig,
    issues: crate::issues::IssuesConfig,
    limits: crate::limits::RateLimitsConfig,
    analytics: crate::analytics::AnalyticsConfig,
    backup: crate::backup::config::BackupConfig,
    accounts: crate::accounts::AccountsConfig,
    store: crate::store::StoreConfig,
    server: ServerConfig,
    log: crate::telemetry::LogConfig,
}

/// Tables inside sections, by the name of their type.
const TABLES: &[(&str, Shape)] = &[
    ("SiteConfig", Shape::of::<edge::SiteConfig>()),
    ("BansConfig", Shape::of::<edge::BansConfig>()),
    ("JailConfig", Shape::of::<edge::JailConfig>()),
    ("ZoneConfig", Shape::of::<edge::ZoneConfig>()),
    ("CertificateConfig", Shape::of::<edge::CertificateConfig>()),
    ("AcmeConfig", Shape::of::<edge::AcmeConfig>()),
    ("AuthorityConfig", Shape::of::<edge::AuthorityConfig>()),
    ("DnsConfig", Shape::of::<edge::DnsConfig>()),
    ("OnDemandConfig", Shape::of::<edge::OnDemandConfig>()),
    ("InternalCaConfig", Shape::of::<edge::InternalCaConfig>()),
    ("SecurityConfig", Shape::of::<edge::SecurityConfig>()),
    ("LimitsConfig", Shape::of::<edge::LimitsConfig>()),
    ("TimeoutsConfig", Shape::of::<edge::TimeoutsConfig>()),
    ("PolicyConfig", Shape::of::<crate::limits::PolicyConfig>()),
    ("BackendConfig", Shape::of::<crate::objects::BackendConfig>()),
];

/// What `field` holds. Types are told by name, since a macro cannot ask whether a type is a settings struct.
pub fn kind(field: &Field) -> Kind {
    let name = |wanted: &str| TABLES.iter().find(|(name, _)| *name == wanted).map(|(_, shape)| *shape);
    let inner = field.type_name.strip_prefix("Vec<").and_then(|rest| rest.strip_suffix('>'));
    name(field.type_name).map(Kind::Table).or_else(|| inner.and_then(name).map(Kind::List)).unwrap_or(Kind::Value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_table_is_known(path: &str, shape: Shape, defaults: &toml::Table) {
        for field in shape.fields {
            let path = format!("{path}.{}", field.name);
            assert!(!field.doc.is_empty(), "{path} has no manual");
            match (kind(field), defaults.get(field.name)) {
                (Kind::Table(inner), Some(toml::Value::Table(table))) => every_table_is_known(&path, inner, table),
                (Kind::Value, Some(toml::Value::Table(_))) => {
                    panic!("{path}: {} is missing in TABLES", field.type_name)
                }
                (Kind::Value, _) => assert!(!field.type_name.ends_with("Config>"), "{path} is missing in TABLES"),
                (Kind::List(_), _) => {}
                (Kind::Table(_), other) => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_tree_knows_the_shape_of_every_table() {
        for section in SECTIONS {
            every_table_is_known(section.name, section.shape, &(section.defaults)().unwrap());
        }
    }
}
