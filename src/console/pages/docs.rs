//! `/docs`: the manual, from `web/manual`, and the reference of every setting.
//!
//! The chapters are Markdown, compiled in. Raw HTML in them is shown as text.

use std::fmt::Write as _;

use askama::Template;
use axum::extract::{Path, State};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use crate::console::{Answer, Console, Fault, Frame, Page, Section, page};

/// A chapter: its name in the address, and its Markdown, which begins with a heading.
#[derive(Clone, Copy, Debug)]
struct Chapter {
    name: &'static str,
    text: &'static str,
}

/// The chapters in their order; `settings` is made from the settings themselves.
const CHAPTERS: [Chapter; 16] = [
    Chapter { name: "start", text: include_str!("../../../web/manual/start.md") },
    Chapter { name: "clients", text: include_str!("../../../web/manual/clients.md") },
    Chapter { name: "memory", text: include_str!("../../../web/manual/memory.md") },
    Chapter { name: "remote", text: include_str!("../../../web/manual/remote.md") },
    Chapter { name: "edge", text: include_str!("../../../web/manual/edge.md") },
    Chapter { name: "certificates", text: include_str!("../../../web/manual/certificates.md") },
    Chapter { name: "analytics", text: include_str!("../../../web/manual/analytics.md") },
    Chapter { name: "mail", text: include_str!("../../../web/manual/mail.md") },
    Chapter { name: "errors", text: include_str!("../../../web/manual/errors.md") },
    Chapter { name: "backups", text: include_str!("../../../web/manual/backups.md") },
    Chapter { name: "keys", text: include_str!("../../../web/manual/keys.md") },
    Chapter { name: "running", text: include_str!("../../../web/manual/running.md") },
    Chapter { name: "security", text: include_str!("../../../web/manual/security.md") },
    Chapter { name: "moving", text: include_str!("../../../web/manual/moving.md") },
    Chapter { name: "trouble", text: include_str!("../../../web/manual/trouble.md") },
    Chapter { name: "limits", text: include_str!("../../../web/manual/limits.md") },
];

/// The name of the reference.
const SETTINGS: &str = "settings";

#[derive(Template)]
#[template(path = "docs.html", whitespace = "preserve")]
struct Docs {
    frame: Frame,
    /// The chapters: name, title, and whether it is this one.
    chapters: Vec<(&'static str, String, bool)>,
    /// The sections of this chapter: anchor and title.
    sections: Vec<(String, String)>,
    html: String,
}

/// `GET /docs`.
pub async fn start(state: State<Console>, page: Page) -> Answer {
    show(state, page, Path(String::from("start"))).await
}

/// `GET /docs/{chapter}`.
pub async fn show(State(console): State<Console>, page: Page, Path(name): Path<String>) -> Answer {
    let text = if name == SETTINGS {
        reference(&console.world().reference)
    } else {
        let chapter = CHAPTERS.iter().find(|chapter| chapter.name == name);
        chapter.ok_or_else(|| Fault::not_found("chapter"))?.text.to_owned()
    };
    let mut chapters: Vec<(&str, String, bool)> =
        CHAPTERS.iter().map(|chapter| (chapter.name, title(chapter.text), chapter.name == name)).collect();
    chapters.push((SETTINGS, String::from("Settings reference"), name == SETTINGS));
    let (sections, html) = render(&text);
    page::show(&Docs { frame: page.frame(title(&text), Section::Manual), chapters, sections, html })
}

/// The text of the first heading.
fn title(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches('#').trim().to_owned()
}

/// The settings file as a chapter: a section for each table.
fn reference(file: &str) -> String {
    let mut out = String::from("# Settings reference\n\n");
    let (about, tables) = file.split_at(file.find("\n\n").map_or(file.len(), |at| at + 1));
    for line in about.lines() {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{}", line.trim_start_matches('#').trim());
    }
    let mut block: Vec<&str> = Vec::new();
    let mut flush = |block: &mut Vec<&str>| {
        if let Some(name) = block.iter().find_map(|line| table_name(line)) {
            let _ = writeln!(out, "\n## {name}\n");
        }
        if !block.is_empty() {
            let _ = writeln!(out, "```toml\n{}\n```", block.join("\n").trim_matches('\n'));
            block.clear();
        }
    };
    // The comment above a table's header belongs to the table.
    let lines: Vec<&str> = tables.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let begins = line.is_empty()
            && lines.iter().skip(at + 1).take_while(|line| !line.is_empty()).any(|line| table_name(line).is_some());
        if begins {
            flush(&mut block);
        }
        block.push(line);
    }
    flush(&mut block);
    out
}

/// The name in a table's header.
fn table_name(line: &str) -> Option<&str> {
    let inner = line.trim_start_matches('#').strip_prefix('[')?.strip_suffix(']')?;
    let inner = inner.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(inner);
    inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte)).then_some(inner)
}

/// The sections and the HTML of a chapter, without its first heading, which is the page's own.
fn render(text: &str) -> (Vec<(String, String)>, String) {
    let body = text.split_once('\n').map_or("", |(_, body)| body);
    let mut sections: Vec<(String, String)> = Vec::new();
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut heading: Option<usize> = None;
    for event in Parser::new_ext(body, Options::ENABLE_TABLES) {
        match event {
            // Raw HTML stays text.
            Event::Html(raw) | Event::InlineHtml(raw) => events.push(Event::Text(raw)),
            Event::Start(Tag::Heading { level: HeadingLevel::H2, .. }) => {
                heading = Some(events.len());
                events.push(event);
            }
            Event::End(TagEnd::Heading(HeadingLevel::H2)) => {
                let Some(start) = heading.take() else { continue };
                let words: String = events.iter().skip(start + 1).filter_map(words).collect();
                let id = anchor(&words);
                if let Some(place) = events.get_mut(start) {
                    let id = Some(id.clone().into());
                    *place = Event::Start(Tag::Heading { level: HeadingLevel::H2, id, classes: vec![], attrs: vec![] });
                }
                sections.push((id, words));
                events.push(event);
            }
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let dest_url = address(&dest_url).into();
                events.push(Event::Start(Tag::Link { link_type, dest_url, title, id }));
            }
            event => events.push(event),
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    html::push_html(&mut out, events.into_iter());
    (sections, out)
}

fn words<'e>(event: &'e Event<'_>) -> Option<&'e str> {
    match event {
        Event::Text(text) | Event::Code(text) => Some(text),
        _ => None,
    }
}

fn anchor(words: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    words.chars().map(plain).collect()
}

/// Chapters link to each other as files, so that they can be read where they lie.
fn address(link: &str) -> String {
    match link.split_once(".md") {
        Some((name, anchor)) if !link.contains('/') => format!("/docs/{name}{anchor}"),
        _ => link.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_html_in_a_chapter_stays_text() {
        let (_, html) = render("# t\n\na <script>alert(1)</script> b\n\n<img src=x onerror=alert(1)>\n");
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }

    #[test]
    fn sections_have_anchors_and_links_between_chapters_work() {
        let (sections, html) =
            render("# t\n\n## A `b` c\n\nsee [mail](mail.md#relay) and [out](https://example.com/a.md)\n");
        assert_eq!(sections, [("a-b-c".to_owned(), "A b c".to_owned())]);
        assert!(html.contains("<h2 id=\"a-b-c\">") && html.contains("href=\"/docs/mail#relay\""), "{html}");
        assert!(html.contains("href=\"https://example.com/a.md\""), "{html}");
    }

    #[test]
    fn every_chapter_links_only_to_chapters_and_sections_that_are_there() {
        let mut known = vec![String::from("/docs/settings")];
        let mut links = Vec::new();
        for chapter in CHAPTERS {
            assert!(chapter.text.starts_with("# "), "{}", chapter.name);
            let (sections, html) = render(chapter.text);
            known.push(format!("/docs/{}", chapter.name));
            known.extend(sections.iter().map(|(id, _)| format!("/docs/{}#{id}", chapter.name)));
            links.extend(
                html.split("href=\"/docs/")
                    .skip(1)
                    .filter_map(|rest| rest.split_once('"'))
                    .map(|(link, _)| format!("/docs/{link}")),
            );
        }
        for link in links {
            assert!(known.contains(&link), "{link}");
        }
    }

    #[test]
    fn the_reference_becomes_a_section_for_each_table() {
        let file =
            "# About.\n# More.\n\n# Doors.\n[s3]\n\n# Where.\n#listen = 1\n\n# Sites.\n#[[edge.sites]]\n#  host =\n";
        let (sections, html) = render(&reference(file));
        let names: Vec<&str> = sections.iter().map(|(_, title)| title.as_str()).collect();
        assert_eq!(names, ["s3", "edge.sites"]);
        assert!(html.contains("# Doors.\n[s3]\n\n# Where.\n#listen = 1"), "{html}");
    }
}
