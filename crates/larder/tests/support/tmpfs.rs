//! A small file system of its own, to be filled up.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted tmpfs; unmounted when dropped, also by a panic.
pub struct Tmpfs {
    dir: tempfile::TempDir,
}

impl Tmpfs {
    /// Mounts one, or says why the test is skipped: mounting needs to be root.
    pub fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "larder-test"]).arg(dir.path()).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Tmpfs { dir });
        }
        eprintln!("SKIPPED: mounting a tmpfs is not permitted here");
        None
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all the space that is left. Gives it back when dropped.
    #[allow(dead_code, reason = "not every test uses it")]
    pub fn fill(&self) -> Ballast {
        let path = self.path().join("ballast");
        let mut file = fs::File::create(&path).expect("a full file system still has names");
        let mut block = vec![0x5a; 1 << 20];
        while !block.is_empty() {
            // Ever smaller blocks, so that nothing is left.
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
        Ballast(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, so that a tier which a panic left open does not keep it mounted.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} could not be unmounted", self.path().display());
        }
    }
}

/// A file that fills the file system.
#[allow(dead_code, reason = "not every test uses it")]
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("the ballast is there");
    }
}
