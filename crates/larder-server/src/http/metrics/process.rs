//! The process: what the system says of it, by the names that Prometheus' own clients use. Linux only; elsewhere there is nothing.

use std::fs;

use super::encode::{Kind, Value};
use super::families::Families;

/// Ticks in which Linux tells times to programs: 100 to a second on every machine, whatever the kernel counts in.
const TICKS_A_SECOND: f64 = 100.0;

/// What can be read of it, as metrics.
pub fn tell(families: &mut Families) {
    let Some(process) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| Process::read(&stat)) else { return };
    let help = "User and system time that the process has spent.";
    families.begin("process_cpu_seconds", Kind::Counter, help).add(&[], Value::Real(process.cpu_seconds));
    families.size("process_threads", "Threads of the process.", process.threads);
    if let Some(booted) = fs::read_to_string("/proc/stat").ok().and_then(|stat| number_of(&stat, "btime")) {
        let help = "When the process began, in seconds since 1970.";
        families.measure("process_start_time_seconds", help, booted as f64 + process.began_seconds);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, help, line) in [
        ("process_resident_memory_bytes", "Memory of the process that is in the machine's.", "VmRSS:"),
        ("process_virtual_memory_bytes", "Memory that the process has asked for.", "VmSize:"),
    ] {
        if let Some(kib) = number_of(&status, line) {
            families.size(name, help, kib * 1024);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The folder itself is open while it is read.
        families.size("process_open_fds", "Files and connections that the process has open.", (open.count() as u64).saturating_sub(1));
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(most) = number_of(&limits, "Max open files") {
        families.size("process_max_fds", "Files and connections that the process may have open.", most);
    }
}

struct Process {
    cpu_seconds: f64,
    threads: u64,
    /// After the machine did.
    began_seconds: f64,
}

impl Process {
    /// Reads `/proc/self/stat`, of which the second field, the program's name in parentheses, may hold anything.
    fn read(stat: &str) -> Option<Process> {
        let behind_name: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
        // The first of these is the third field, in the words of proc(5).
        let field = |number: usize| behind_name.get(number - 3)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / TICKS_A_SECOND;
        Some(Process { cpu_seconds: seconds(field(14)? + field(15)?), threads: field(20)?, began_seconds: seconds(field(22)?) })
    }
}

/// The first number behind a line's beginning.
fn number_of(text: &str, beginning: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(beginning))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a ) 1 (b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 123456 1 1";
        let process = Process::read(stat).unwrap();
        assert_eq!((process.cpu_seconds, process.threads, process.began_seconds), (3.0, 9, 1234.56));
        assert!(Process::read("7 (a) S 1").is_none() && Process::read("").is_none());
    }

    #[test]
    fn this_process_can_be_read_where_there_is_a_proc() {
        let mut families = Families::default();
        tell(&mut families);
        let names: Vec<&str> = families.finish().iter().map(|family| family.name).collect();
        assert_eq!(names.contains(&"process_resident_memory_bytes"), std::path::Path::new("/proc/self/stat").exists(), "{names:?}");
    }
}
