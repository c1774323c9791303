//! A report for a wiki, a chat or an issue.

use std::fmt::{Error, Write};

use super::Report;
use super::layout::{self, Sheet};

/// The report.
pub fn render(report: &Report) -> Result<String, Error> {
    let mut text = String::new();
    writeln!(text, "# {}\n\n{}\n", escaped(&layout::title(report)), escaped(&layout::subtitle(report)))?;
    writeln!(text, "{}", escaped(&layout::summary(report).join(" ")))?;
    if !report.has_data() {
        return Ok(text);
    }
    for sheet in layout::sheets(report) {
        table(&mut text, &sheet)?;
    }
    if !report.findings.is_empty() {
        text += "\n## Findings\n";
    }
    for (n, finding) in report.findings.iter().enumerate() {
        let of = finding.namespace.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        writeln!(text, "\n{}. **{}**", n + 1, escaped(&format!("{of}{}", finding.title)))?;
        for (what, words) in [("Evidence", &finding.evidence), ("Effect", &finding.effect), ("Do", &finding.advice)] {
            writeln!(text, "   - {what}: {}", escaped(words))?;
        }
    }
    Ok(text)
}

fn table(text: &mut String, sheet: &Sheet) -> Result<(), Error> {
    writeln!(text, "\n## {}\n", sheet.title)?;
    let row = |cells: &mut dyn Iterator<Item = String>| format!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    writeln!(text, "{}", row(&mut sheet.head.iter().map(|head| (*head).to_owned())))?;
    writeln!(text, "{}", row(&mut (0..sheet.head.len()).map(|column| if column == 0 { ":--" } else { "--:" }.to_owned())))?;
    for cells in sheet.rows.iter().map(|row| &row.cells) {
        writeln!(text, "{}", row(&mut cells.iter().map(|cell| escaped(cell))))?;
    }
    Ok(())
}

/// Keys may hold anything: what would be markup is written so that it is not.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => escaped += "&lt;",
            '&' => escaped += "&amp;",
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '#' | '~' => escaped.extend(['\\', char]),
            char if char.is_control() => escaped.push(' '),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_no_markup() {
        assert_eq!(escaped("a|b*c_<i>\n"), "a\\|b\\*c\\_&lt;i> ");
    }
}
