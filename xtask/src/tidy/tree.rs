//! The project as the rules see it: paths and texts, and what cargo says about dependencies. Everything that touches
//! the machine is here, so that a rule is a function of text and can be tested on a planted tree.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command as Process;

use super::source::Source;
use crate::failure::Failure;
use crate::{command, process, test, workspace};

/// One text file of the project.
pub struct File {
    /// Its path from the root, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// The text taken apart, if it is Rust.
    pub source: Option<Source>,
}

impl File {
    /// A file at `path` with `text` in it.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let source = path.ends_with(".rs").then(|| Source::new(&text));
        Self { path, text, source }
    }

    /// The lines with their numbers, counted from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// The file's name without folders.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether the whole file is test code, by its place.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/") || ["tests.rs", "schedules.rs"].contains(&self.name())
    }
}

/// All that the rules may look at.
pub struct Tree {
    /// The text files, sorted by path.
    pub files: Vec<File>,
    /// Every file, text or not.
    pub paths: BTreeSet<String>,
    /// The packages that the library needs as it ships, one line each.
    pub library_dependencies: String,
    /// The packages and features that the program is built with, one line each.
    pub program_features: String,
    /// The packages that anything here is built with on this machine, tests included, each with its licence behind a `|`.
    pub licences: String,
    /// The commands of this tool.
    pub commands: Vec<&'static str>,
    /// What the test passes beside the workspace's own select.
    pub extra_passes: Vec<&'static [&'static str]>,
}

impl Tree {
    /// Reads the project.
    ///
    /// # Errors
    /// When cargo fails, or a file cannot be read.
    pub fn read() -> Result<Self, Failure> {
        let root = workspace::root()?;
        let paths = list(&root)?;
        let mut files = Vec::new();
        for path in &paths {
            let bytes = std::fs::read(root.join(path)).map_err(|error| unreadable(path, &error))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File::new(path, text));
            }
        }
        let library = ["tree", "--package", "larder", "--edges", "normal", "--prefix", "none"];
        let program = ["tree", "--package", "larder-server", "--edges", "features,normal", "--prefix", "none"];
        let all = ["tree", "--workspace", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}|{l}"];
        Ok(Self {
            paths,
            licences: process::read(&mut process::cargo(&all)?)?,
            library_dependencies: process::read(&mut process::cargo(&library)?)?,
            program_features: process::read(&mut process::cargo(&program)?)?,
            ..Self::with_files(files)
        })
    }

    /// A tree of the given files, about which cargo says nothing.
    pub fn with_files(files: impl IntoIterator<Item = File>) -> Self {
        let files: Vec<File> = files.into_iter().collect();
        Self {
            paths: files.iter().map(|file| file.path.clone()).collect(),
            files,
            library_dependencies: String::new(),
            program_features: String::new(),
            licences: String::new(),
            commands: command::names().collect(),
            extra_passes: test::EXTRA_PASSES.iter().map(|pass| pass.selection).collect(),
        }
    }

    /// The Rust files, each with its text taken apart.
    pub fn rust(&self) -> impl Iterator<Item = (&File, &Source)> {
        self.files.iter().filter_map(|file| Some((file, file.source.as_ref()?)))
    }

    /// The files whose names end in `.EXTENSION`.
    pub fn with_extension(&self, extension: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| file.name().rsplit_once('.').is_some_and(|(_, end)| end == extension))
    }
}

/// The files of the project, from its root: what git knows or would add, and so nothing that is built or ignored. Where
/// there is no git, or no repository as in an unpacked release, it is all that lies there but for what cargo builds.
fn list(root: &Path) -> Result<BTreeSet<String>, Failure> {
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    match process::read(Process::new("git").args(listing).current_dir(root)) {
        // A file that is deleted but not yet committed is still listed.
        Ok(listing) => Ok(listing.split_terminator('\0').filter(|path| root.join(path).is_file()).map(str::to_owned).collect()),
        Err(_) => walk(root),
    }
}

fn walk(root: &Path) -> Result<BTreeSet<String>, Failure> {
    let mut paths = BTreeSet::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(root.join(&folder)).map_err(|error| unreadable(&folder, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&folder, &error))?;
            let kind = entry.file_type().map_err(|error| unreadable(&folder, &error))?;
            let path = format!("{folder}{}", entry.file_name().to_string_lossy());
            let is_built = matches!(path.as_str(), "target" | ".git");
            if kind.is_file() {
                paths.insert(path);
            } else if kind.is_dir() && !is_built {
                folders.push(path + "/");
            }
        }
    }
    Ok(paths)
}

fn unreadable(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("{path} cannot be read ({error}); tidy looks at every file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_list_the_project_find_this_file_and_nothing_built() {
        let root = workspace::root().expect("the tests run in the project");
        for paths in [list(&root), walk(&root)] {
            let paths = paths.expect("the project can be read");
            assert!(paths.contains("xtask/src/tidy/tree.rs"), "{paths:?}");
            assert!(!paths.iter().any(|path| path.starts_with("target/")), "what is built is no part of the project");
        }
    }
}
