//! `larder config schema`: every setting with its default and what it is for, as a file to start from or as JSON Schema.

use serde_json::{Map, Value as Json, json};

use super::catalog::{FIXED, JOBS, LISTS, NAMESPACES, ON, PRINCIPAL, ROLE, SOURCE, Section, Setting, variable};
use super::value::Kind;

/// Lines of comments are no longer than this.
const WIDTH: usize = 100;

/// A configuration file with every setting at its default, commented out, and what each is for.
pub fn annotated() -> String {
    let mut lines = vec![
        "# larder.toml: every setting, at its default.".to_owned(),
        "# The environment overrides this file (memory is LARDER_MEMORY, http.listen is LARDER_HTTP_LISTEN), and flags".to_owned(),
        "# override both. Sizes are written \"256 MiB\", times \"500ms\", \"5m\" or \"1h 30m\".".to_owned(),
    ];
    for section in FIXED.into_iter().chain([&JOBS, &NAMESPACES]).chain(LISTS) {
        lines.push(String::new());
        lines.extend(wrapped(section.about));
        if section.name == NAMESPACES.name {
            lines.push(format!("# [{}.features]", section.name));
        } else if section.name == JOBS.name {
            lines.push(format!("# [{}.cleanup]", section.name));
        } else if is_list(section) {
            lines.push(format!("# [[{}]]", section.name));
        } else if !section.name.is_empty() {
            lines.push(format!("[{}]", section.name));
        }
        for setting in section.settings {
            lines.push(String::new());
            lines.extend(wrapped(&format!("{} It is {}.", setting.about, setting.kind.expected())));
            lines.push(format!("# {} = {}", setting.name, example(setting)));
        }
    }
    lines.join("\n")
}

fn is_list(section: &Section) -> bool {
    LISTS.iter().any(|list| list.name == section.name)
}

fn example(setting: &Setting) -> String {
    match setting.default {
        Some(default) => setting.kind.parse(default).expect("a test reads every default").to_string(),
        None => match setting.kind {
            Kind::Path => "\"/var/lib/larder\"  (not set)".to_owned(),
            Kind::File => "\"/etc/larder/file.pem\"  (not set)".to_owned(),
            Kind::Text(_) => "\"name\"  (not set)".to_owned(),
            Kind::Secret => "\"env:REDIS_PASSWORD\"  (not set)".to_owned(),
            Kind::RedisAddress => "\"redis://127.0.0.1:6379\"  (not set)".to_owned(),
            Kind::SourceAddress => "\"env:OUTBOX_URL\"  (not set)".to_owned(),
            Kind::Time => "\"5m\"  (not set)".to_owned(),
            Kind::Size { .. } => "\"64 MiB\"  (not set)".to_owned(),
            Kind::Choice(words) => format!("\"{}\"  (not set)", words[0]),
            Kind::Texts(one) => format!("[\"{one}\"]  (not set)"),
            Kind::Secrets => "[\"env:WEBHOOK_SECRET\"]  (not set)".to_owned(),
            Kind::Address | Kind::Flag | Kind::Share | Kind::Count { .. } => "..  (not set)".to_owned(),
        },
    }
}

/// A text as comments, broken between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec!["#".to_owned()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always one");
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("# {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}

/// The same as a JSON Schema, for editors.
pub fn json_schema() -> Json {
    let mut top = Map::new();
    for section in FIXED {
        let object = object(section);
        if section.name.is_empty() {
            top.extend(object["properties"].as_object().cloned().unwrap_or_default());
        } else {
            top.insert(section.name.to_owned(), object);
        }
    }
    let namespaces = json!({ "type": "object", "description": NAMESPACES.about, "additionalProperties": object(&NAMESPACES) });
    top.insert(NAMESPACES.name.to_owned(), namespaces);
    let jobs: Map<String, Json> = crate::jobs::NAMES.into_iter().map(|name| (name.to_owned(), object(&JOBS))).collect();
    top.insert(
        JOBS.name.to_owned(),
        json!({ "type": "object", "description": JOBS.about, "additionalProperties": false, "properties": jobs }),
    );
    let required = [(&ROLE, &["name", "grants"][..]), (&PRINCIPAL, &["name"]), (&ON, &["type", "invalidate"]), (&SOURCE, &["type", "url"])];
    for (list, required) in required {
        let mut item = object(list);
        item["required"] = json!(required);
        top.insert(list.name.to_owned(), json!({ "type": "array", "description": list.about, "items": item }));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "larder.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": top,
    })
}

fn object(section: &Section) -> Json {
    let mut properties = Map::new();
    for setting in section.settings {
        match setting.name.split_once('.') {
            None => {
                properties.insert(setting.name.to_owned(), property(section, setting));
            }
            Some((group, member)) => {
                let empty = || json!({ "type": "object", "additionalProperties": false, "properties": {} });
                let group = properties.entry(group).or_insert_with(empty);
                group["properties"][member] = property(section, setting);
            }
        }
    }
    json!({ "type": "object", "description": section.about, "additionalProperties": false, "properties": properties })
}

fn property(section: &Section, setting: &Setting) -> Json {
    let mut property = match setting.kind {
        Kind::Path | Kind::File | Kind::Text(_) | Kind::RedisAddress | Kind::SourceAddress => json!({ "type": "string", "minLength": 1 }),
        Kind::Secret => json!({ "type": "string", "pattern": "^(env|file):.+" }),
        Kind::Time | Kind::Address => json!({ "type": "string" }),
        Kind::Size { least } => json!({ "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": least }] }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Kind::Count { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Secrets => json!({ "type": "array", "items": { "type": "string", "pattern": "^(env|file):.+" } }),
        Kind::Texts(_) => json!({ "type": "array", "items": { "type": "string" } }),
    };
    property["description"] = format!("{} It is {}.", setting.about, setting.kind.expected()).into();
    if let Some(default) = setting.default {
        property["default"] = setting.kind.parse(default).expect("a test reads every default").json();
    }
    if ![NAMESPACES.name, JOBS.name].contains(&section.name) && !is_list(section) {
        property["x-environment"] = variable(&section.full_name(setting)).into();
    }
    property
}
