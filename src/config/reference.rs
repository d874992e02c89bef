//! The reference: every setting with its manual and default, as a TOML file that changes nothing.

use std::fmt::Write as _;

use super::environment::PREFIX;
use super::tree::{Kind, SECTIONS, Shape, kind};

/// The commented file that `mainstay config reference` prints.
pub fn reference() -> String {
    let mut out = format!(
        "# Mainstay settings.\n\
         #\n\
         # Every line below is a default; remove the `#` in front to change it. Each setting may also come from the\n\
         # environment as {PREFIX}SECTION__KEY, which wins over this file. `mainstay config check` tells what is set,\n\
         # and from where.\n"
    );
    for section in SECTIONS {
        // A settings struct always becomes a table.
        let defaults = (section.defaults)().unwrap_or_default();
        table(&mut out, section.name, section.shape, &defaults);
    }
    out
}

fn table(out: &mut String, path: &str, shape: Shape, defaults: &toml::Table) {
    out.push('\n');
    comment(out, shape.doc);
    // Writing into a String cannot fail.
    let _ = writeln!(out, "[{path}]");
    // Values first: after a table's header they would belong to it.
    for field in shape.fields.iter().filter(|field| matches!(kind(field), Kind::Value)) {
        value(out, field.doc, field.name, defaults.get(field.name), "");
    }
    for field in shape.fields {
        let path = format!("{path}.{}", field.name);
        match (kind(field), defaults.get(field.name)) {
            (Kind::Table(inner), Some(toml::Value::Table(inner_defaults))) => table(out, &path, inner, inner_defaults),
            (Kind::List(inner), _) => {
                out.push('\n');
                comment(out, field.doc);
                let _ = writeln!(out, "#[[{path}]]");
                for field in inner.fields {
                    value(out, field.doc, field.name, None, "  ");
                }
            }
            _ => {}
        }
    }
}

fn value(out: &mut String, doc: &[&str], name: &str, default: Option<&toml::Value>, indent: &str) {
    if indent.is_empty() {
        out.push('\n');
        comment(out, doc);
        let _ = match default {
            Some(default) => writeln!(out, "#{name} = {default}"),
            None => writeln!(out, "#{name} ="),
        };
        return;
    }
    let _ = writeln!(out, "#{indent}{name} =");
    for line in doc {
        let _ = writeln!(out, "{}", format!("#{indent}  #{line}").trim_end());
    }
}

fn comment(out: &mut String, doc: &[&str]) {
    for line in doc {
        let _ = writeln!(out, "{}", format!("#{line}").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigFile, Environment, Inputs, load};
    use super::*;

    fn loads(text: String) -> Result<(), super::super::Problems> {
        let file = ConfigFile { path: "reference.toml".into(), text };
        load(Inputs { file: Some(&file), environment: &Environment::default(), flags: &[] }).map(|_| ())
    }

    #[test]
    fn the_reference_is_a_file_that_changes_nothing() {
        loads(reference()).unwrap();
    }

    #[test]
    fn the_reference_with_every_default_written_out_is_valid() {
        let set: Vec<String> = reference()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with([' ', '[']) && setting.contains(" = ") => setting.to_owned(),
                _ => line.to_owned(),
            })
            .collect();
        assert!(set.iter().any(|line| line.starts_with("listen = ")));
        loads(set.join("\n")).unwrap();
    }
}
