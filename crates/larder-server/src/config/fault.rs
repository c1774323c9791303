//! What is wrong with a configuration, and where: one readable line for each fault.

use std::fmt;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere: it is built in.
    Default,
    /// In the configuration file.
    File {
        /// Its path, as it was given.
        path: String,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// With this flag.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What was found, and what was expected.
    pub message: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(place: &Place, message: impl Into<String>) -> Self {
        Self { place: place.clone(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything that is wrong, in the order of the file; the environment and the flags come after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Sorted as they are read.
    pub fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|a, b| a.place.cmp(&b.place));
        Self(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            let newline = if number > 0 { "\n" } else { "" };
            write!(f, "{newline}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The name among `known` that was probably meant: one or two slips away, counted in letters that are missing, added,
/// changed or swapped with their neighbour.
pub fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_ascii_lowercase().replace('-', "_");
    let allowed = if found.chars().count() < 4 { 1 } else { 2 };
    let nearest = known.into_iter().map(|name| (distance(&found, name), name)).min()?;
    (nearest.0 <= allowed).then_some(nearest.1)
}

/// The optimal string alignment distance, in three rows.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let changed = last[j] + usize::from(a[i] != b[j]);
            let mut least = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["memory", "ttl", "stale_if_error", "data", "disk"];
        let meant = ["memroy", "Memory", "tll", "stale-if-eror", "dta", "dsk"].map(|found| did_you_mean(found, known));
        assert_eq!(meant, ["memory", "memory", "ttl", "stale_if_error", "data", "disk"].map(Some));
        assert_eq!(did_you_mean("colour", known), None);
        assert_eq!(did_you_mean("", known), None);
        assert_eq!(did_you_mean("abc", known), None);
    }

    #[test]
    fn a_swap_is_one_slip() {
        assert_eq!([distance("ab", "ba"), distance("kitten", "sitting"), distance("", "abc")], [1, 3, 3]);
    }

    #[test]
    fn faults_come_in_the_order_of_the_file() {
        let at = |line| Fault::new(&Place::File { path: "a.toml".into(), line, column: 1 }, format!("line {line}"));
        let flag = Fault::new(&Place::Flag("--memory"), "flag");
        let faults = Faults::new(vec![flag, at(10), at(9)]);
        assert_eq!(faults.to_string(), "a.toml:9:1: line 9\na.toml:10:1: line 10\nflag --memory: flag");
    }
}
