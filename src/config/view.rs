//! Every setting with its value and where it comes from, for people who look at a running server.

use super::source::Origins;
use super::tree::{Config, Kind, SECTIONS, Shape, kind};
use crate::monitor::SettingView;

/// The settings in the order of the reference. A list of tables is one setting.
pub fn view(config: &Config, origins: &Origins) -> Vec<SettingView> {
    // A settings struct always becomes a table.
    let values = toml::Table::try_from(config).unwrap_or_default();
    let mut out = Vec::new();
    for section in SECTIONS {
        let defaults = (section.defaults)().unwrap_or_default();
        table(&mut out, section.name, section.shape, values.get(section.name), &toml::Value::Table(defaults), origins);
    }
    out
}

fn table(
    out: &mut Vec<SettingView>,
    path: &str,
    shape: Shape,
    values: Option<&toml::Value>,
    defaults: &toml::Value,
    origins: &Origins,
) {
    for field in shape.fields {
        let key = format!("{path}.{}", field.name);
        let (value, default) = (values.and_then(|values| values.get(field.name)), defaults.get(field.name));
        if let (Kind::Table(inner), Some(default)) = (kind(field), default) {
            table(out, &key, inner, value, default, origins);
            continue;
        }
        let text = |value: Option<&toml::Value>| value.map(ToString::to_string).unwrap_or_default();
        out.push(SettingView {
            value: text(value),
            default: text(default),
            source: origins.source(&key).to_string(),
            doc: paragraphs(field.doc),
            key,
        });
    }
}

/// The lines of a doc comment as one line a paragraph.
fn paragraphs(doc: &[&str]) -> String {
    let mut out = String::new();
    for line in doc.iter().map(|line| line.trim()) {
        if line.is_empty() {
            out.push('\n');
            continue;
        }
        if !out.is_empty() && !out.ends_with('\n') {
            out.push(' ');
        }
        out.push_str(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigFile, Environment, Inputs, load};
    use super::*;

    #[test]
    fn what_is_set_and_what_is_not_are_told_with_their_sources() {
        let text = String::from("[s3]\nregion = \"eu-west-1\"\n[edge.limits]\n");
        let file = ConfigFile { path: "mainstay.toml".into(), text };
        let pair = (String::from("MAINSTAY_CONSOLE__LISTEN"), String::from("127.0.0.1:1"));
        let environment = Environment::from_pairs([pair]);
        let loaded = load(Inputs { file: Some(&file), environment: &environment, flags: &[] }).unwrap();
        let all = view(&loaded.config, &loaded.origins);
        let find = |key: &str| all.iter().find(|setting| setting.key == key).unwrap();
        let region = find("s3.region");
        assert_eq!((region.value.as_str(), region.default.as_str()), ("\"eu-west-1\"", "\"us-east-1\""));
        assert_eq!(region.source, "mainstay.toml:2:1");
        assert_eq!(find("console.listen").source, "MAINSTAY_CONSOLE__LISTEN");
        assert!(!find("accounts.session_idle").is_set() && find("accounts.session_idle").value == "\"1d\"");
        assert!(all.iter().all(|setting| !setting.doc.is_empty()));
        assert!(all.iter().any(|setting| setting.key.starts_with("edge.limits.")));
    }
}
