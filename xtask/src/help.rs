//! `cargo xtask help [COMMAND]`: says what there is to type. It only reads the table of commands.

use std::fmt::Write;

use crate::command::{self, COMMANDS, Command};
use crate::failure::Failure;
use crate::terminal::{self, Paint};

/// The command.
pub const COMMAND: Command = Command {
    name: "help",
    arguments: "[COMMAND]",
    summary: "Show this list, or one command in detail.",
    details: "`cargo xtask COMMAND --help` is the same.",
    run,
};

/// Prints the overview, or the details of the command that is named.
///
/// # Errors
/// When the command named does not exist.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let paint = terminal::stdout();
    match arguments.first() {
        None => print!("{}", overview(paint)),
        Some(name) => print!("{}", details(command::find(name)?, paint)),
    }
    Ok(())
}

fn overview(paint: Paint) -> String {
    let width = COMMANDS.iter().map(|command| usage(command).len()).max().unwrap_or(0);
    let mut text = format!(
        "{}\n\n{} cargo xtask {}\n\n{}\n",
        "The project's own commands. CI runs the same ones: nothing is checked there that cannot be run here.",
        paint.bold("Usage:"),
        paint.cyan("COMMAND"),
        paint.bold("Commands:")
    );
    for command in COMMANDS {
        let usage = usage(command);
        let padding = " ".repeat(width - usage.len());
        writeln!(text, "  {}{padding}   {}", paint.cyan(&usage), command.summary).expect("writing to a String cannot fail");
    }
    text.push_str("\n`cargo xtask help COMMAND` says more about one of them.\n");
    text
}

fn details(command: &Command, paint: Paint) -> String {
    format!(
        "{}\n\n{} {}\n\n{}\n",
        command.summary,
        paint.bold("Usage:"),
        paint.cyan(&format!("cargo xtask {}", usage(command))),
        command.details
    )
}

fn usage(command: &Command) -> String {
    format!("{} {}", command.name, command.arguments).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_names_every_command_in_aligned_columns() {
        let text = overview(Paint::PLAIN);
        let rows = COMMANDS.map(|command| {
            let row = text.lines().find(|line| line.ends_with(command.summary));
            row.unwrap_or_else(|| panic!("{} is missing from:\n{text}", command.name)).to_owned()
        });
        for (row, command) in rows.iter().zip(COMMANDS) {
            assert!(row.trim_start().starts_with(command.name), "{row}");
            assert!(row.len() <= 100, "too wide for a terminal: {row}");
            assert_eq!(row.len() - command.summary.len(), rows[0].len() - COMMANDS[0].summary.len(), "{row}");
        }
    }

    #[test]
    fn every_command_has_something_to_say() {
        for command in COMMANDS {
            assert!(!command.details.is_empty(), "{}", command.name);
            assert!(command.details.lines().all(|line| line.len() <= 100), "{}", command.name);
            assert!(details(command, Paint::PLAIN).contains(&format!("cargo xtask {}", command.name)));
        }
    }
}
