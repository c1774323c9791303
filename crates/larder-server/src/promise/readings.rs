//! What the kernel says of this process and of the control group that it is in. Everything is read below a root, which is another in
//! tests; what is not there is not known, and no error.
//!
//! ```text
//!   /proc/self/status                    VmRSS: what is resident, in kB; /proc/self/statm has it in pages, of which nobody tells the size
//!   /proc/self/cgroup                    0::/where/it/is        (version 2; of version 1 nothing is read)
//!   /sys/fs/cgroup/where/it/is/memory.max, memory.high          the least of them, and of all groups above
//!   /sys/fs/cgroup/where/it/is/memory.pressure                  else /proc/pressure/memory
//! ```

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::decide::Pressure;

/// No file that is read here is longer.
const LEN_MAX: u64 = 64 << 10;

/// How many groups are looked at from its own upwards.
const DEPTH_MAX: usize = 64;

/// Where it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings {
    root: PathBuf,
}

impl Default for Readings {
    fn default() -> Self {
        Readings::system()
    }
}

impl Readings {
    /// Of this machine.
    pub fn system() -> Self {
        Readings::below("/")
    }

    /// Of another root.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Readings { root: root.into() }
    }

    /// Bytes of this process that are resident.
    pub fn resident(&self) -> Option<u64> {
        let status = self.text(&self.root.join("proc/self/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = resident.trim().strip_suffix(" kB")?.trim_end().parse().ok()?;
        kilobytes.checked_mul(1_024)
    }

    /// What its control group may have: the least of `memory.max` and `memory.high` of it and of all above.
    pub fn limit(&self) -> Option<u64> {
        let (mounted, own) = (self.mounted(), self.group()?);
        let groups = own.ancestors().take(DEPTH_MAX).map(|group| mounted.join(group));
        let limits = groups.flat_map(|group| ["memory.max", "memory.high"].map(|name| group.join(name)));
        // "max" is no number, and no limit.
        limits.filter_map(|path| self.text(&path)?.trim().parse().ok()).min()
    }

    /// How often somebody in its control group waits for memory, or on this machine where the group does not say.
    pub fn pressure(&self) -> Option<Pressure> {
        let of_group = self.group().map(|group| self.mounted().join(group).join("memory.pressure"));
        let text = of_group.and_then(|path| self.text(&path)).or_else(|| self.text(&self.root.join("proc/pressure/memory")))?;
        let of = |kind: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
            line.split(' ').find_map(|field| field.strip_prefix("avg10=")?.parse::<f64>().ok()).filter(|share| share.is_finite())
        };
        Some(Pressure { some: of("some")?, full: of("full").unwrap_or(0.0) })
    }

    fn mounted(&self) -> PathBuf {
        self.root.join("sys/fs/cgroup")
    }

    /// Its control group, below where they are mounted. In a container that shows its own group as the top it is empty.
    fn group(&self) -> Option<PathBuf> {
        let groups = self.text(&self.root.join("proc/self/cgroup"))?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        // A group outside of what is mounted here begins with a step up, and is told of nowhere.
        let is_below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        is_below.then(|| PathBuf::from(path))
    }

    fn text(&self, path: &Path) -> Option<String> {
        let mut text = String::new();
        File::open(path).ok()?.take(LEN_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Readings) {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("it is below the root")).expect("it is made");
            fs::write(path, text).expect("it is written");
        }
        let readings = Readings::below(folder.path());
        (folder, readings)
    }

    #[test]
    fn the_process_and_its_group_are_read_with_all_groups_above() {
        let (_folder, readings) = root(&[
            ("proc/self/status", "Name:\tlarder\nVmHWM:\t    9000 kB\nVmRSS:\t    4000 kB\n"),
            ("proc/self/cgroup", "1:name=systemd:/x\n0::/pod/larder\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "2000000\n"),
            ("sys/fs/cgroup/pod/larder/memory.max", "9000000\n"),
            ("sys/fs/cgroup/pod/larder/memory.high", "max\n"),
            (
                "sys/fs/cgroup/pod/larder/memory.pressure",
                "some avg10=12.50 avg60=1.00 avg300=0.00 total=1\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=0\n",
            ),
        ]);
        assert_eq!((readings.resident(), readings.limit()), (Some(4_096_000), Some(2_000_000)));
        assert_eq!(readings.pressure(), Some(Pressure { some: 12.5, full: 0.25 }));
    }

    #[test]
    fn in_a_container_its_group_is_the_top_and_high_counts() {
        let (_folder, readings) = root(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "4000\n"),
            ("sys/fs/cgroup/memory.high", "3000\n"),
            ("proc/pressure/memory", "some avg10=1.00 avg60=0 avg300=0 total=0\n"),
        ]);
        assert_eq!((readings.limit(), readings.resident()), (Some(3_000), None));
        assert_eq!(readings.pressure(), Some(Pressure { some: 1.0, full: 0.0 }));
    }

    #[test]
    fn what_is_not_there_or_makes_no_sense_is_not_known() {
        let (_folder, readings) = root(&[]);
        assert_eq!((readings.resident(), readings.limit(), readings.pressure()), (None, None, None));
        let (_folder, readings) = root(&[
            ("proc/self/status", "VmRSS: many\n"),
            ("proc/self/cgroup", "0::/../../etc\n"),
            ("sys/fs/cgroup/memory.max", "1\n"),
            ("proc/pressure/memory", "some avg10=NaN\n"),
        ]);
        assert_eq!((readings.resident(), readings.limit(), readings.pressure()), (None, None, None));
    }

    #[test]
    fn this_process_is_resident() {
        assert!(Readings::system().resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
