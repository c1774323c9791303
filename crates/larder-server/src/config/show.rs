//! `larder config show`: what is in effect, and where each value comes from.

use std::fmt::Write;

use serde_json::{Map, json};

use super::catalog::{FIXED, JOBS, LISTS, NAMESPACES, Section};
use super::document::{Given, Givens};
use super::fault::Place;
use super::value::quoted;
use super::{Config, catalog::Setting};

/// A section as it is shown: its heading in the file, and its settings.
type Shown<'a> = (String, &'static Section, &'a Givens);

fn sections(config: &Config) -> impl Iterator<Item = Shown<'_>> {
    let fixed = FIXED.into_iter().map(|section| (section.name.to_owned(), section, &config.effective.fixed[section.name]));
    let named = config.effective.namespaces.iter().map(|(name, givens)| {
        let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let name = if bare { name.clone() } else { quoted(name) };
        (format!("{}.{name}", NAMESPACES.name), &NAMESPACES, givens)
    });
    let lists = LISTS.into_iter().flat_map(|list| config.effective.list(list).iter().map(move |(_, givens)| (list, givens)));
    let jobs = config.effective.jobs.iter().map(|(name, givens)| (format!("{}.{name}", JOBS.name), &JOBS, givens));
    fixed.chain(jobs).chain(named).chain(lists.map(|(list, givens)| (format!("[{}]", list.name), list, givens)))
}

/// As TOML that can be used as a configuration, each value followed by where it comes from.
pub fn show(config: &Config) -> String {
    let mut out = String::new();
    for (heading, section, givens) in sections(config) {
        if !heading.is_empty() {
            push(&mut out, format_args!("\n[{heading}]\n"));
        }
        let lines: Vec<(String, String)> = section.settings.iter().map(|setting| line(setting, in_effect(setting, givens))).collect();
        let width = lines.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
        for (left, from) in lines {
            push(&mut out, format_args!("{left:width$}  # {from}\n"));
        }
    }
    out
}

/// What is given for a setting, where it has an effect: a limit of compression has none without compression.
fn in_effect<'a>(setting: &Setting, givens: &'a Givens) -> Option<&'a Given> {
    let alone = setting.name == "compression.above" && !givens.contains_key("compression.codec");
    givens.get(setting.name).filter(|_| !alone)
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes all text");
}

fn line(setting: &Setting, given: Option<&Given>) -> (String, String) {
    match given {
        Some(given) => (format!("{} = {}", setting.name, given.value), given.place.to_string()),
        None => (format!("# {} = ..", setting.name), "not set".to_owned()),
    }
}

/// As one object: each setting by its whole name, with its value and where it comes from.
pub fn show_json(config: &Config) -> serde_json::Value {
    let mut all = Map::new();
    let mut numbers = std::collections::BTreeMap::new();
    for (mut heading, section, givens) in sections(config) {
        if heading.starts_with('[') {
            let number = numbers.entry(section.name).or_insert(0);
            *number += 1;
            heading = format!("{}.{number}", section.name);
        }
        for setting in section.settings {
            let name = if heading.is_empty() { setting.name.to_owned() } else { format!("{heading}.{}", setting.name) };
            let given = in_effect(setting, givens);
            let from = given.map_or_else(|| Place::Default.to_string(), |given| given.place.to_string());
            all.insert(name, json!({ "value": given.map(|given| given.value.json()), "from": from }));
        }
    }
    all.into()
}
