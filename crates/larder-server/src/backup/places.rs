//! Addresses of places where backups are kept, as people write them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use larder::backup::{FolderPlace, Place};

use s3::S3Address;

pub mod s3;

/// Where backups are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceAddress {
    /// In a folder of this machine: `file:///var/backups/larder`, or the path alone.
    Folder(PathBuf),
    /// In a bucket of S3, or of what speaks its protocol: `s3://bucket/prefix?endpoint=https://host&region=eu-central-1`.
    Bucket(S3Address),
}

/// What an address looks like, for messages.
pub const PLACE_EXPECTED: &str = "a folder, as /var/backups/larder or file:///var/backups/larder, or a bucket, as s3://bucket/prefix?endpoint=https://host&region=eu-central-1";

impl PlaceAddress {
    /// The place behind it. Nothing is asked of it yet.
    ///
    /// # Errors
    /// What is missing to reach it.
    pub fn open(&self) -> Result<Arc<dyn Place>, String> {
        match self {
            PlaceAddress::Folder(folder) => Ok(Arc::new(FolderPlace::new(folder))),
            PlaceAddress::Bucket(address) => Ok(Arc::new(address.open()?)),
        }
    }
}

impl FromStr for PlaceAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected {PLACE_EXPECTED}");
        match text.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => Ok(PlaceAddress::Folder(path.into())),
            Some(("s3", rest)) => S3Address::parse(rest).map(PlaceAddress::Bucket).ok_or_else(expected),
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
            PlaceAddress::Bucket(address) => address.fmt(f),
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
        let bucket = "s3://b/larder/prod?endpoint=http://127.0.0.1:9000&region=eu".parse::<PlaceAddress>().expect("a bucket");
        assert_eq!(bucket.to_string(), "s3://b/larder/prod/ at http://127.0.0.1:9000/");
        let aws = "s3://b?region=eu-central-1".parse::<PlaceAddress>().expect("a bucket");
        assert_eq!(aws.to_string(), "s3://b/ at https://s3.eu-central-1.amazonaws.com/");
        let wrong_buckets = ["s3://", "s3://b?endpoint=x", "s3://b/../c", "s3://b?key=secret", "s3://b?endpoint=https://me:secret@host"];
        for wrong in ["", "file://a", "ftp://x/y"].into_iter().chain(wrong_buckets) {
            let told = wrong.parse::<PlaceAddress>().expect_err(wrong);
            assert!(told.contains("/var/backups/larder"), "{told}");
        }
    }
}
