//! Running other programs in the project's folder, showing what is run, and turning their ends into failures.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use crate::failure::Failure;
use crate::{terminal, workspace};

/// The cargo that runs us, so that a `cargo +nightly xtask` stays on its toolchain.
fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// A cargo command in the project's folder, not yet started.
///
/// # Errors
/// When the project's folder cannot be found.
pub fn cargo(arguments: &[&str]) -> Result<Command, Failure> {
    let mut command = Command::new(cargo_program());
    command.args(arguments).current_dir(workspace::root()?);
    Ok(command)
}

/// Runs `command` with its output left on the terminal.
///
/// # Errors
/// When it cannot be started, or ends with a failure.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    announce(command);
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    demand_success(command, status)
}

/// Runs `command`, passes its standard output through line by line, and shows each line to `observe`.
///
/// # Errors
/// When it cannot be started, its output cannot be read or passed on, or it ends with a failure.
pub fn run_observed(command: &mut Command, observe: impl FnMut(&str)) -> Result<(), Failure> {
    announce(command);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| cannot_start(command, &error))?;
    let output = child.stdout.take().expect("standard output was piped on the line above");
    // The pipe is closed when this returns, and so before the wait: a child that still writes must not block on us.
    let copied = copy_lines(BufReader::new(output), io::stdout(), observe);
    let status = child.wait().map_err(|error| cannot_start(command, &error))?;
    copied.map_err(|error| Failure::new(format!("the output of `{}` was cut off: {error}", shown(command))))?;
    demand_success(command, status)
}

/// Copies `from` to `to` as it comes, byte for byte, and shows each line to `observe`.
fn copy_lines(mut from: impl BufRead, mut to: impl Write, mut observe: impl FnMut(&str)) -> io::Result<()> {
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        observe(&String::from_utf8_lossy(&line));
        to.write_all(&line)?;
        to.flush()?;
        line.clear();
    }
    Ok(())
}

/// Runs `command` quietly and returns what it wrote to standard output.
///
/// # Errors
/// When it cannot be started, or ends with a failure; then the message carries what it wrote to standard error.
pub fn read(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| cannot_start(command, &error))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("`{}` failed: {}", shown(command), complaint.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where on the `PATH` the program `name` is, if it is.
pub fn find_program(name: &str) -> Option<PathBuf> {
    // Debian keeps servers where an ordinary user's PATH does not look.
    let beside = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    // And those of PostgreSQL in a folder for each version.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    std::env::split_paths(&path).chain(beside).chain(versions).map(|folder| folder.join(name)).find(|program| program.is_file())
}

fn announce(command: &Command) {
    println!("{}", terminal::stdout().dim(&format!("$ {}", shown(command))));
}

/// The command as one could type it, with the variables it sets.
fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_stem().map_or_else(|| program.as_os_str().into(), |stem| stem.to_os_string());
    let variables =
        command.get_envs().filter_map(|(key, value)| Some(format!("{}={}", key.to_string_lossy(), quoted(&value?.to_string_lossy()))));
    let words = command.get_args().map(|word| quoted(&word.to_string_lossy()));
    variables.chain([name.to_string_lossy().into_owned()]).chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let needs_quotes = word.is_empty() || word.contains([' ', '*', '?', '$', '"', '\'', '(', '|', ';', '&']);
    if needs_quotes { format!("'{}'", word.replace('\'', r"'\''")) } else { word.to_owned() }
}

fn cannot_start(command: &Command, error: &io::Error) -> Failure {
    Failure::new(format!("`{}` cannot be run: {error}", shown(command)))
}

fn demand_success(command: &Command, status: ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("`{}` failed ({status}); its own output above says why", shown(command))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_types_it() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["bench", "--bench", "*"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(shown(&command), "RUSTDOCFLAGS='-D warnings' cargo bench --bench '*'");
    }

    #[test]
    fn output_is_copied_as_it_is_and_every_line_is_observed() {
        let output = b"one\n\xFF two\nhalf";
        let (mut copy, mut seen) = (Vec::new(), Vec::new());
        copy_lines(&output[..], &mut copy, |line| seen.push(line.to_owned())).expect("memory can be written");
        assert_eq!(copy, output);
        assert_eq!(seen, ["one\n", "\u{FFFD} two\n", "half"]);
    }

    #[test]
    fn a_failing_program_fails_the_command_and_is_named() {
        let failure = run(&mut Command::new("false")).expect_err("`false` fails");
        assert!(failure.to_string().contains("`false` failed"), "{failure}");
        let failure = run_observed(&mut Command::new("false"), |_| {}).expect_err("`false` fails");
        assert!(failure.to_string().contains("`false` failed"), "{failure}");
        let failure = read(Command::new("sh").args(["-c", "echo because >&2; exit 3"])).expect_err("it exits with 3");
        assert!(failure.to_string().ends_with("because"), "{failure}");
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("a-program-that-nobody-has-written"), None);
    }
}
