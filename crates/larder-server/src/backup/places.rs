//! Addresses of places where backups are kept, as people write them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use larder::backup::{FolderPlace, Place};

/// Where backups are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceAddress {
    /// In a folder of this machine: `file:///var/backups/larder`, or the path alone.
    Folder(PathBuf),
}

/// What an address looks like, for messages.
pub const PLACE_EXPECTED: &str = "a folder, as /var/backups/larder or file:///var/backups/larder";

impl PlaceAddress {
    /// The place behind it. Nothing is asked of it yet.
    ///
    /// # Errors
    /// What is missing to reach it.
    pub fn open(&self) -> Result<Arc<dyn Place>, String> {
        match self {
            PlaceAddress::Folder(folder) => Ok(Arc::new(FolderPlace::new(folder))),
        }
    }
}

impl FromStr for PlaceAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected {PLACE_EXPECTED}");
        match text.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => Ok(PlaceAddress::Folder(path.into())),
            Some(_) => Err(expected()),
            None if text.is_empty() => Err(expected()),
            None => Ok(PlaceAddress::Folder(text.into())),
        }
    }
}

impl fmt::Display for PlaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceAddress::Folder(folder) => write!(f, "{}", folder.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_others_say_what_is_expected() {
        let folder = |path: &str| Ok(PlaceAddress::Folder(path.into()));
        assert_eq!("file:///a/b".parse(), folder("/a/b"));
        assert_eq!("/a/b".parse(), folder("/a/b"));
        assert_eq!("a".parse(), folder("a"));
        for wrong in ["", "file://a", "ftp://x/y"] {
            let told = wrong.parse::<PlaceAddress>().expect_err(wrong);
            assert!(told.contains("/var/backups/larder"), "{told}");
        }
    }
}
