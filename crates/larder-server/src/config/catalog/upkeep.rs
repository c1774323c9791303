//! The settings of how a server looks after itself.

use super::{Kind, Section, optional, setting};

/// How the server looks after itself.
pub const UPKEEP: Section = Section {
    name: "upkeep",
    about: "How the server looks after itself: what a clean-up drops (larder cleanup), beside what expires, is stale, or is kept no longer by [history] and [audit].",
    settings: &[
        setting("dead_letters_keep", Kind::Time, "90d", "How long dead letters are kept that nobody looked at."),
        setting(
            "dead_letters_max",
            Kind::Count { least: 0, most: 1_000 },
            "1000",
            "How many dead letters a clean-up leaves; the oldest go first.",
        ),
    ],
};

/// How memory is filled at the start.
pub const WARM_UP: Section = Section {
    name: "warm_up",
    about: "Filling memory at the start with what was read most before. Its keys are written down, and asked of the backing tier as any reader would: nothing stale comes in.",
    settings: &[
        setting("enabled", Kind::Flag, "false", "Whether it is done. Needs data, or file."),
        optional("file", Kind::File, "Where the keys are written down. Without it, hot-keys in the data folder."),
        setting("time", Kind::Time, "30s", "How long filling may take."),
        optional("bytes", Kind::Size { least: 1 }, "How much memory it may fill. Without it, nine tenths."),
        setting("keys", Kind::Count { least: 1, most: 1_000_000 }, "100000", "How many keys are written down."),
        setting("every", Kind::Time, "5m", "How often, beside when the server ends. At least a second."),
        setting("ready_waits", Kind::Flag, "false", "Whether /readyz says no until it has ended."),
    ],
};

/// What the process may have.
pub const PROCESS: Section = Section {
    name: "process",
    about: "The memory that the process may have in all: pools, index, queues, connections, and what the allocator keeps. Near it pools are not used whole, and grow again later; their sizes (memory, own_memory) stay what is aimed at.",
    settings: &[
        optional("memory", Kind::Size { least: 16 << 20 }, "How much. Without it, what cgroup says."),
        setting(
            "cgroup",
            Kind::Flag,
            "true",
            "Whether nine tenths of what its control group may have (version 2: the least of memory.max and memory.high, there and above) are the most in any case.",
        ),
    ],
};
