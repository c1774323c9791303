//! What a command is, and the table of all of them: help, dispatch and tidy read it, so it is written once.

use crate::failure::Failure;
use crate::{bench, chaos, ci, docs, fuzz, help, model, setup, suggest, test, tidy};

/// One `cargo xtask` command.
pub struct Command {
    /// What one types.
    pub name: &'static str,
    /// The arguments it takes, as the help shows them; empty when it takes none.
    pub arguments: &'static str,
    /// One line for the overview.
    pub summary: &'static str,
    /// The paragraph that `cargo xtask help NAME` adds.
    pub details: &'static str,
    /// Does it.
    pub run: fn(&[String]) -> Result<(), Failure>,
}

/// Every command, in the order in which a newcomer needs them.
pub const COMMANDS: [&Command; 10] = [
    &setup::COMMAND,
    &test::COMMAND,
    &ci::COMMAND,
    &tidy::COMMAND,
    &docs::COMMAND,
    &model::COMMAND,
    &chaos::COMMAND,
    &fuzz::COMMAND,
    &bench::COMMAND,
    &help::COMMAND,
];

/// The names of all commands.
pub fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name)
}

/// The command called `name`.
///
/// # Errors
/// When there is none; the message offers the nearest name, or the way to all of them.
pub fn find(name: &str) -> Result<&'static Command, Failure> {
    COMMANDS.iter().copied().find(|command| command.name == name).ok_or_else(|| {
        let advice = match suggest::nearest(name, names()) {
            Some(meant) => format!("did you mean `cargo xtask {meant}`?"),
            None => "`cargo xtask help` lists them all".to_owned(),
        };
        Failure::new(format!("there is no command `{name}`; {advice}"))
    })
}

/// Refuses arguments, for a command that takes none: better than ignoring what somebody meant.
///
/// # Errors
/// When there is an argument.
pub fn takes_none(name: &str, arguments: &[String]) -> Result<(), Failure> {
    match arguments.first() {
        None => Ok(()),
        Some(first) => Err(Failure::new(format!("`cargo xtask {name}` takes no arguments, and was given `{first}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_slips_get_advice() {
        assert_eq!(find("tidy").map(|command| command.name), Ok("tidy"));
        let message = |name| find(name).err().map(|failure| failure.to_string());
        assert_eq!(message("tets").as_deref(), Some("there is no command `tets`; did you mean `cargo xtask test`?"));
        assert_eq!(message("deploy").as_deref(), Some("there is no command `deploy`; `cargo xtask help` lists them all"));
    }

    #[test]
    fn names_are_unique() {
        for (position, name) in names().enumerate() {
            assert_eq!(names().position(|other| other == name), Some(position), "{name} stands twice in the table");
        }
    }

    #[test]
    fn an_argument_that_nothing_reads_is_refused() {
        assert_eq!(takes_none("ci", &[]), Ok(()));
        let failure = takes_none("ci", &["--fast".to_owned()]).expect_err("ci takes none");
        assert!(failure.to_string().contains("`--fast`"), "{failure}");
    }
}
