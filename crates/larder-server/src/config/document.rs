//! The configuration file: from TOML with its places to settings, with everything that is wrong on the way. What settings
//! mean together is not known here.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::catalog::{FIXED, JOBS, LISTS, NAMESPACES, Section, TOP};
use super::fault::{Fault, Place, did_you_mean};
use super::value::{Value, describe};

impl Document {
    /// The sections of a list.
    pub fn list(&self, section: &Section) -> &[(Place, Givens)] {
        self.lists.get(section.name).map_or(&[], Vec::as_slice)
    }
}

/// A value, and where it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// The value.
    pub value: Value,
    /// Where it comes from.
    pub place: Place,
}

/// The settings of one section, by name.
pub type Givens = BTreeMap<&'static str, Given>;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The settings of the fixed sections, by the section's name.
    pub fixed: BTreeMap<&'static str, Givens>,
    /// The namespaces that have a section.
    pub namespaces: BTreeMap<String, Givens>,
    /// The jobs that have a section; once all is read, all there are.
    pub jobs: BTreeMap<String, Givens>,
    /// The sections of which there may be any number, by name: in their order, each with its place.
    pub lists: BTreeMap<&'static str, Vec<(Place, Givens)>>,
}

/// Reads a file's text. What can be read is, whatever else is wrong.
pub fn read(path: &str, text: &str) -> (Document, Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reading = Reading { path, text, document: Document::default(), faults: Vec::new() };
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        reading.fault(at, format!("this is not TOML: {}", error.message().trim()));
    }
    reading.top(table.get_ref());
    (reading.document, reading.faults)
}

struct Reading<'a> {
    path: &'a str,
    text: &'a str,
    document: Document,
    faults: Vec<Fault>,
}

/// A key or value with its place in the text.
type Key<'i> = Spanned<DeString<'i>>;
type Found<'i> = Spanned<DeValue<'i>>;

impl Reading<'_> {
    fn top(&mut self, table: &DeTable<'_>) {
        for (key, found) in table {
            if let Some(list) = LISTS.into_iter().find(|list| list.name == key.get_ref()) {
                match found.get_ref() {
                    DeValue::Array(items) => self.list(list, items),
                    other => self.no_section(list, found, other),
                }
                continue;
            }
            let fixed = sections().find(|section| section.name == key.get_ref());
            match (fixed, found.get_ref()) {
                (Some(section), DeValue::Table(inner)) => {
                    let mut givens = Givens::new();
                    self.section(section, section.name, inner, &mut givens);
                    self.document.fixed.insert(section.name, givens);
                }
                (None, DeValue::Table(inner)) if key.get_ref() == NAMESPACES.name => self.namespaces(inner),
                (None, DeValue::Table(inner)) if key.get_ref() == JOBS.name => self.jobs(inner),
                (None, _) if ![NAMESPACES.name, JOBS.name].contains(&key.get_ref().as_ref()) => {
                    let mut givens = self.document.fixed.remove(TOP.name).unwrap_or_default();
                    self.setting(&TOP, "", (key, found), &mut givens);
                    self.document.fixed.insert(TOP.name, givens);
                }
                (_, other) => {
                    let name = key.get_ref();
                    self.fault(found.span().start, format!("{name}: found {}, expected a section [{name}]", describe(other)));
                }
            }
        }
    }

    fn namespaces(&mut self, table: &DeTable<'_>) {
        for (name, found) in table {
            let shown = name.get_ref().escape_debug().to_string();
            if !is_namespace(name.get_ref()) {
                let rule = "expected 1 to 128 bytes of letters, digits, '_', '-' and '.'";
                self.fault(name.span().start, format!("namespaces: found the name \"{shown}\", {rule}"));
            }
            match found.get_ref() {
                DeValue::Table(inner) => {
                    let mut givens = Givens::new();
                    self.section(&NAMESPACES, &format!("namespaces.{shown}"), inner, &mut givens);
                    self.document.namespaces.insert(name.get_ref().clone().into_owned(), givens);
                }
                other => {
                    let message = format!("namespaces.{shown}: found {}, expected a section [namespaces.{shown}]", describe(other));
                    self.fault(found.span().start, message);
                }
            }
        }
    }

    fn jobs(&mut self, table: &DeTable<'_>) {
        for (name, found) in table {
            let shown = name.get_ref().escape_debug().to_string();
            if !crate::jobs::NAMES.contains(&name.get_ref().as_ref()) {
                let hint = match did_you_mean(name.get_ref(), crate::jobs::NAMES) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => format!("expected one of {}", crate::jobs::NAMES.join(", ")),
                };
                self.fault(name.span().start, format!("jobs.{shown}: there is no such job; {hint}"));
                continue;
            }
            match found.get_ref() {
                DeValue::Table(inner) => {
                    let mut givens = Givens::new();
                    self.section(&JOBS, &format!("jobs.{shown}"), inner, &mut givens);
                    self.document.jobs.insert(name.get_ref().clone().into_owned(), givens);
                }
                other => {
                    let message = format!("jobs.{shown}: found {}, expected a section [jobs.{shown}]", describe(other));
                    self.fault(found.span().start, message);
                }
            }
        }
    }

    fn list(&mut self, list: &'static Section, items: &[Found<'_>]) {
        for (number, found) in (1..).zip(items) {
            let DeValue::Table(inner) = found.get_ref() else {
                self.no_section(list, found, found.get_ref());
                continue;
            };
            let mut givens = Givens::new();
            self.section(list, &format!("{} {number}", list.name), inner, &mut givens);
            let place = self.place(found.span().start);
            self.document.lists.entry(list.name).or_default().push((place, givens));
        }
    }

    fn no_section(&mut self, list: &Section, found: &Found<'_>, value: &DeValue<'_>) {
        let name = list.name;
        self.fault(found.span().start, format!("{name}: found {}, expected a section [[{name}]] for each", describe(value)));
    }

    fn section(&mut self, section: &Section, shown: &str, table: &DeTable<'_>, givens: &mut Givens) {
        for one in table {
            self.setting(section, &format!("{shown}."), one, givens);
        }
    }

    fn setting(&mut self, section: &Section, prefix: &str, (key, found): (&Key<'_>, &Found<'_>), givens: &mut Givens) {
        let name = key.get_ref().as_ref();
        if let Some(setting) = section.setting(name) {
            match setting.kind.read(found.get_ref()) {
                Ok(value) => {
                    givens.insert(setting.name, Given { value, place: self.place(key.span().start) });
                }
                Err(what) => {
                    let message = format!("{prefix}{name}: found {what}, expected {}", setting.kind.expected());
                    self.fault(found.span().start, message);
                }
            }
            return;
        }
        let inner = format!("{name}.");
        let is_group = section.settings.iter().any(|setting| setting.name.starts_with(&inner));
        match found.get_ref() {
            DeValue::Table(table) if is_group => {
                for (inner_key, value) in table {
                    self.grouped(section, prefix, name, (inner_key, value), givens);
                }
            }
            other if is_group => {
                let members = members(section, &inner).map(|member| format!("{member} = ..")).collect::<Vec<_>>().join(", ");
                self.fault(found.span().start, format!("{prefix}{name}: found {}, expected {{ {members} }}", describe(other)));
            }
            _ => self.unknown(key.span().start, prefix, name, known(section)),
        }
    }

    /// A setting within a group, such as `compression = { codec = "zstd" }`.
    fn grouped(&mut self, section: &Section, prefix: &str, group: &str, (key, found): (&Key<'_>, &Found<'_>), givens: &mut Givens) {
        let dotted = format!("{group}.");
        let Some(setting) = section.setting(&format!("{dotted}{}", key.get_ref())) else {
            return self.unknown(key.span().start, &format!("{prefix}{dotted}"), key.get_ref(), members(section, &dotted));
        };
        match setting.kind.read(found.get_ref()) {
            Ok(value) => {
                givens.insert(setting.name, Given { value, place: self.place(key.span().start) });
            }
            Err(what) => {
                let message = format!("{prefix}{}: found {what}, expected {}", setting.name, setting.kind.expected());
                self.fault(found.span().start, message);
            }
        }
    }

    fn unknown<'k>(&mut self, at: usize, prefix: &str, name: &str, known: impl Iterator<Item = &'k str>) {
        let known: Vec<&str> = known.collect();
        let hint = match did_you_mean(name, known.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("expected one of {}", known.join(", ")),
        };
        self.fault(at, format!("{prefix}{}: there is no such setting; {hint}", name.escape_debug()));
    }

    fn fault(&mut self, at: usize, message: String) {
        let place = self.place(at);
        self.faults.push(Fault { place, message });
    }

    fn place(&self, at: usize) -> Place {
        // A place within a character, or behind the end, is that of what is before it.
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        Place::File { path: self.path.to_owned(), line, column: before[line_start..].chars().count() + 1 }
    }
}

/// The sections that have a heading of their own.
fn sections() -> impl Iterator<Item = &'static Section> {
    FIXED.into_iter().filter(|section| section.name != TOP.name)
}

/// What may be written in a section: settings and groups; at the top, sections too.
fn known(section: &Section) -> impl Iterator<Item = &'static str> {
    let sections = sections().chain([&NAMESPACES, &JOBS]).chain(LISTS).map(|section| section.name).filter(|_| section.name == TOP.name);
    let mut names: Vec<_> =
        section.settings.iter().map(|setting| setting.name.split_once('.').map_or(setting.name, |(group, _)| group)).collect();
    names.dedup();
    names.into_iter().chain(sections)
}

/// The names within a group.
fn members(section: &Section, dotted: &str) -> impl Iterator<Item = &'static str> {
    section.settings.iter().filter_map(|setting| setting.name.strip_prefix(dotted)).collect::<Vec<_>>().into_iter()
}

/// larder's rule for a namespace's name, here so that its line can be told.
fn is_namespace(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=larder::TAG_LEN_MAX).contains(&name.len()) && name.chars().all(plain)
}
