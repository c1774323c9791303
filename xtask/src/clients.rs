//! The Redis clients of other languages that tests run, from their own packages, in `target/clients`. They are the project's alone:
//! nothing outside of that folder is changed, so anybody may install them.

use std::fs;
use std::path::Path;
use std::process::Command as Process;

use crate::failure::Failure;
use crate::process;

/// Clients of one language.
struct Clients {
    /// Their folder, and what the language is called.
    language: &'static str,
    /// The programs that installing and running them takes.
    programs: [&'static str; 2],
    /// The packages, in versions that do not change under a test.
    packages: &'static [&'static str],
    /// What installs them into a folder.
    install: fn(&Path, &[&str]) -> Result<(), Failure>,
}

/// All of them.
const CLIENTS: [Clients; 3] = [
    Clients { language: "python", programs: ["python3", "python3"], packages: &["redis==8.1.0"], install: into_python },
    // No client but a server, that speaks the protocol of stores for backups.
    Clients { language: "s3", programs: ["python3", "python3"], packages: &["moto[server]==5.2.5"], install: into_python },
    Clients { language: "node", programs: ["node", "npm"], packages: &["ioredis@6.0.0", "redis@6.3.1"], install: into_node },
];

/// What says, in a folder, which packages are in it.
const MARK: &str = "installed";

/// Installs what is missing below this folder, or says in a line what is not to be had.
pub fn prepare(target: &Path) {
    for clients in &CLIENTS {
        let folder = target.join("clients").join(clients.language);
        let wanted = clients.packages.join(" ");
        if fs::read_to_string(folder.join(MARK)).is_ok_and(|there| there == wanted) {
            continue;
        }
        println!("setup: installing {wanted} into {}, needed by the tests of real Redis clients", folder.display());
        if let Err(reason) = install(clients, &folder, &wanted) {
            println!("setup: without {wanted} the tests that run these clients skip: {reason}");
        }
    }
}

fn install(clients: &Clients, folder: &Path, wanted: &str) -> Result<(), Failure> {
    if let Some(missing) = clients.programs.iter().find(|program| process::find_program(program).is_none()) {
        return Err(Failure::new(format!("there is no {missing}")));
    }
    let failed = |error: std::io::Error| Failure::new(format!("{} cannot be written: {error}", folder.display()));
    // What an interrupted run left behind is not built upon.
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(failed)?;
    }
    fs::create_dir_all(folder).map_err(failed)?;
    let installed = (clients.install)(folder, clients.packages).and_then(|()| fs::write(folder.join(MARK), wanted).map_err(failed));
    if installed.is_err() {
        // Half of it would be taken for all by the tests, which look for the folder. If even that fails, they fail and say so.
        fs::remove_dir_all(folder).ok();
    }
    installed
}

/// An environment of its own, since the system's is not ours.
fn into_python(folder: &Path, packages: &[&str]) -> Result<(), Failure> {
    process::run(Process::new("python3").args(["-m", "venv"]).arg(folder))?;
    let quietly = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1"];
    process::run(Process::new(folder.join("bin/python")).args(quietly).args(packages))
}

/// None of them has to build anything, and none is let.
fn into_node(folder: &Path, packages: &[&str]) -> Result<(), Failure> {
    let quietly = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"];
    process::run(Process::new("npm").args(quietly).arg("--prefix").arg(folder).args(packages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_fixed() {
        for clients in &CLIENTS {
            for package in clients.packages {
                let version = package.rsplit(['=', '@']).next().expect("something follows");
                assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{package}");
            }
        }
    }

    #[test]
    fn what_cannot_be_installed_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("larder-clients-{}", std::process::id()));
        let refuses = Clients {
            language: "none",
            programs: ["sh", "sh"],
            packages: &["none==1"],
            install: |folder, _| {
                fs::write(folder.join("half"), "").map_err(|error| Failure::new(error.to_string()))?;
                Err(Failure::new("no network"))
            },
        };
        assert_eq!(install(&refuses, &folder, "none==1").map_err(|failure| failure.to_string()), Err("no network".to_owned()));
        assert!(!folder.exists());
        let lacks = Clients { programs: ["sh", "no-such-program"], ..refuses };
        assert!(install(&lacks, &folder, "none==1").is_err_and(|failure| failure.to_string().contains("no-such-program")));
    }
}
