//! `cargo xtask setup`: brings the programs that tests run against. It may install packages, as root on Debian or
//! Ubuntu, and clients into `target`, and nothing else: it asks for no password, changes no configuration, and leaves no service
//! running.

use std::path::Path;
use std::process::Command as Process;

use crate::command::{Command, takes_none};
use crate::failure::Failure;
use crate::{clients, process, workspace};

/// The command.
pub const COMMAND: Command = Command {
    name: "setup",
    arguments: "",
    summary: "Install the programs that tests need, where that is allowed.",
    details: "As root on Debian or Ubuntu it installs what is missing with apt-get. Anywhere else it says in\n\
              one line what to install and goes on: a test whose program is missing skips and says so.\n\
              The Redis clients that tests run come from their own registries, into target/clients.",
    run,
};

/// A program that some tests run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Requirement {
    /// The package that brings it, as Debian calls it.
    package: &'static str,
    /// The program that must then be found.
    program: &'static str,
    /// The system service that the package starts when it is installed, if it starts one.
    service: Option<&'static str>,
    /// Who needs it, as the end of "needed by ...".
    needed_by: &'static str,
}

/// All of them. A new one is a new line.
const REQUIREMENTS: [Requirement; 8] = [
    Requirement { package: "redis-server", program: "redis-server", service: Some("redis-server"), needed_by: "the Redis tier's tests" },
    Requirement { package: "openssl", program: "openssl", service: None, needed_by: "the tests of Redis over TLS" },
    Requirement {
        package: "postgresql",
        program: "postgres",
        service: Some("postgresql"),
        needed_by: "the tests of events from PostgreSQL",
    },
    Requirement { package: "age", program: "age", service: None, needed_by: "the tests of encrypted backups by age's own program" },
    Requirement {
        package: "prometheus",
        program: "promtool",
        service: Some("prometheus"),
        needed_by: "the checks of metrics and alerts by Prometheus' own tool",
    },
    Requirement { package: "python3-venv", program: "python3", service: None, needed_by: "the tests of Python's Redis client" },
    Requirement { package: "nodejs", program: "node", service: None, needed_by: "the tests of Node's Redis clients" },
    Requirement { package: "npm", program: "npm", service: None, needed_by: "the installation of Node's Redis clients" },
];

/// Installs what is missing, or says what to install.
///
/// # Errors
/// For arguments, since it takes none, and when the project's folder cannot be found. A machine on which nothing can be installed is
/// no failure, since the tests that need the missing program skip and say so.
pub fn run(arguments: &[String]) -> Result<(), Failure> {
    takes_none(COMMAND.name, arguments)?;
    prepare()
}

/// The same, for the commands that begin with it.
///
/// # Errors
/// When the project's folder cannot be found.
pub fn prepare() -> Result<(), Failure> {
    programs();
    clients::prepare(&workspace::root()?.join("target"));
    Ok(())
}

fn programs() {
    let missing = missing(&REQUIREMENTS, |program| process::find_program(program).is_some());
    if missing.is_empty() {
        println!("setup: every program that the tests need is here");
        return;
    }
    if let Err(reason) = may_install() {
        println!("{}", advice(&missing, &reason));
        return;
    }
    for requirement in &missing {
        println!("setup: installing {}, needed by {}", requirement.package, requirement.needed_by);
    }
    if let Err(failure) = install(&missing) {
        println!("{}", advice(&missing, &failure.to_string()));
    }
}

fn missing(requirements: &[Requirement], is_here: impl Fn(&str) -> bool) -> Vec<Requirement> {
    requirements.iter().filter(|requirement| !is_here(requirement.program)).copied().collect()
}

/// One line: what to install, for what, and why it was not done here.
fn advice(missing: &[Requirement], reason: &str) -> String {
    let packages: Vec<&str> = missing.iter().map(|requirement| requirement.package).collect();
    let needed_by: Vec<&str> = missing.iter().map(|requirement| requirement.needed_by).collect();
    format!(
        "setup: please install {} (`apt-get install {}` on Debian), needed by {}, which skip until then; not done here: {reason}",
        packages.join(" and "),
        packages.join(" "),
        needed_by.join(" and ")
    )
}

/// Installing is for root on a machine with apt-get. There is no `sudo`: a test command must not ask for a password.
fn may_install() -> Result<(), String> {
    if process::find_program("apt-get").is_none() {
        return Err("this machine has no apt-get".to_owned());
    }
    match process::read(Process::new("id").arg("-u")) {
        Ok(user) if user.trim() == "0" => Ok(()),
        Ok(_) => Err("only root may install packages".to_owned()),
        Err(failure) => Err(failure.to_string()),
    }
}

fn install(missing: &[Requirement]) -> Result<(), Failure> {
    process::run(apt_get().arg("update"))?;
    let packages = missing.iter().map(|requirement| requirement.package);
    process::run(apt_get().args(["install", "-y", "--no-install-recommends"]).args(packages))?;
    keep_services_down(missing)?;
    match missing.iter().find(|requirement| process::find_program(requirement.program).is_none()) {
        None => Ok(()),
        Some(absent) => Err(Failure::new(format!("{} was installed, yet there is no program {}", absent.package, absent.program))),
    }
}

/// An `apt-get` that asks nothing, waits a while for another one's lock, and starts no service.
///
/// The tests start their own servers, on ports and folders of their own; a server that the package starts would be a
/// stranger on the default port for as long as the machine runs. Under SysV init (and in containers, which have none)
/// Debian's scripts ask for the run level before they start a service and take `RUNLEVEL` for the answer: in level 1,
/// single user, they start nothing. This holds for one command and leaves no trace. Refused: a temporary
/// `/usr/sbin/policy-rc.d`, which is the usual way, but silences every package on the machine if we are killed before
/// we take it away. Systemd does not ask for run levels: see [`keep_services_down`].
fn apt_get() -> Process {
    let mut command = Process::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command.args(["-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"]);
    command
}

/// Stops and disables, under systemd, the services of the packages that this very run installed. A service that was
/// there before belongs to somebody, and its package is not in `installed`, since its program was not missing.
fn keep_services_down(installed: &[Requirement]) -> Result<(), Failure> {
    // The documented test for a running systemd: sd_booted(3).
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    for service in installed.iter().filter_map(|requirement| requirement.service) {
        process::run(Process::new("systemctl").args(["disable", "--now", service]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_asked_for() {
        assert_eq!(missing(&REQUIREMENTS, |_| true), []);
        assert_eq!(missing(&REQUIREMENTS, |_| false), REQUIREMENTS);
        assert_eq!(missing(&REQUIREMENTS, |program| program != "redis-server"), REQUIREMENTS[..1]);
    }

    #[test]
    fn the_advice_is_one_line_that_names_package_purpose_and_reason() {
        let advice = advice(&REQUIREMENTS, "only root may install packages");
        assert_eq!(advice.lines().count(), 1);
        for part in ["apt-get install redis-server openssl postgresql", "the Redis tier's tests and ", "only root may install packages"] {
            assert!(advice.contains(part), "{part} is not in: {advice}");
        }
    }

    #[test]
    fn apt_get_is_told_to_start_nothing() {
        let command = apt_get();
        let level = command.get_envs().find(|(name, _)| *name == "RUNLEVEL").and_then(|(_, value)| value);
        assert_eq!(level, Some("1".as_ref()));
    }
}
