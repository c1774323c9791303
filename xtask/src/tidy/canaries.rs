//! A canary for every rule: a planted violation that it must find, at its line, and a clean neighbour that it must
//! leave alone. A rule without a canary fails the test, since nobody would notice when it stops to see.

use super::tree::{File, Tree};
use super::{RULES, violations};

/// A file of a planted tree: path and text.
type Planted = (&'static str, &'static str);

/// What a rule must and must not say.
struct Canary {
    rule: &'static str,
    /// The rule says nothing of this tree.
    clean: &'static [Planted],
    /// The rule finds exactly `at` in this one, each as `path:line`.
    broken: &'static [Planted],
    at: &'static [&'static str],
}

const KEY: &str = "crates/larder/src/key.rs";
const DISK: &str = "crates/larder/src/tier/disk.rs";
const MEMORY: &str = "crates/larder/src/tier/memory.rs";

const CANARIES: &[Canary] = &[
    Canary {
        rule: "purpose",
        clean: &[(KEY, "//! Keys.\n")],
        broken: &[(KEY, "use std::fmt;\n//! Too late.\n"), ("xtask/src/empty.rs", "//!\n")],
        at: &["crates/larder/src/key.rs:1", "xtask/src/empty.rs:1"],
    },
    Canary {
        rule: "no-mod-rs",
        clean: &[("crates/larder/src/tier.rs", "//! Tiers.\n")],
        broken: &[("crates/larder/src/tier/mod.rs", "//! Tiers.\n")],
        at: &["crates/larder/src/tier/mod.rs:1"],
    },
    Canary {
        rule: "white-space",
        clean: &[(KEY, "//! Keys.\n\nfn f() {}\n")],
        broken: &[(KEY, "//! Keys. \n\tfn f() {}\nfn g() {}\r\n"), ("A.md", "no newline"), ("B.md", "# B\n\n"), ("C.toml", "")],
        at: &["A.md:1", "B.md:2", "C.toml:1", "crates/larder/src/key.rs:1", "crates/larder/src/key.rs:2", "crates/larder/src/key.rs:3"],
    },
    Canary {
        rule: "unfinished",
        clean: &[(KEY, "//! Keys.\n// Whatever remains is done.\nconst A: &str = \"todo!() FIXME\";\nfn todo() {}\n")],
        broken: &[(KEY, "//! Keys.\n// FIXME later\nfn f() { todo!() }\nfn g() { dbg!(1); unimplemented!() } // XXX\n")],
        at: &[
            "crates/larder/src/key.rs:2",
            "crates/larder/src/key.rs:3",
            "crates/larder/src/key.rs:4",
            "crates/larder/src/key.rs:4",
            "crates/larder/src/key.rs:4",
        ],
    },
    Canary {
        rule: "no-unsafe",
        clean: &[(KEY, "//! No unsafe here.\n#![forbid(unsafe_code)]\nconst A: &str = \"unsafe\";\n")],
        broken: &[(KEY, "//! Keys.\nfn f() { unsafe { g() } }\n#[unsafe(no_mangle)]\nfn h() {}\n")],
        at: &["crates/larder/src/key.rs:2", "crates/larder/src/key.rs:3"],
    },
    Canary {
        rule: "no-sleep",
        clean: &[
            (KEY, "//! K.\nfn tick() { std::thread::sleep(TICK); }\n#[cfg(test)]\nmod tests {\n    // thread::sleep is not used\n}\n"),
            ("xtask/tests/a.rs", "fn f() { thread::sleep(A); }\n"),
        ],
        broken: &[
            (KEY, "//! K.\n#[cfg(test)]\nmod tests {\n    fn f() { std::thread::sleep(TICK); }\n}\n"),
            ("crates/larder/tests/reads.rs", "//! R.\nasync fn f() {\n    tokio::time::sleep(A).await;\n}\n"),
        ],
        at: &["crates/larder/src/key.rs:4", "crates/larder/tests/reads.rs:3"],
    },
    Canary {
        rule: "empty-names",
        clean: &[(KEY, "//! K.\nuse redis::ConnectionManager;\nstruct Position;\nstruct Managed(ConnectionManager);\nmod tests {}\n")],
        broken: &[
            (KEY, "//! K.\nstruct CacheManager;\npub(crate) trait Helper {}\nmod string_utils {}\n"),
            ("crates/larder/src/common.rs", "//! C.\n"),
        ],
        at: &["crates/larder/src/common.rs:1", "crates/larder/src/key.rs:2", "crates/larder/src/key.rs:3", "crates/larder/src/key.rs:4"],
    },
    Canary {
        rule: "layers",
        clean: &[
            (KEY, "//! K.\nuse crate::error::{Error, Result};\nuse crate::Position;\n"),
            (DISK, "//! D.\nmod queue;\nuse super::{Tier, Write};\nuse crate::record::Record;\n"),
            (MEMORY, "//! M.\nuse crate::tier::Tier;\n"),
            ("crates/larder/src/tier/disk/queue.rs", "//! Q.\nuse super::super::Tier;\nuse crate::tier::disk::Disk;\n"),
            ("crates/larder/src/read.rs", "//! R.\nuse crate::tier::{disk, memory};\n"),
            ("crates/larder/src/lib.rs", "//! L.\npub use cache::Larder;\npub use position::Position;\n"),
        ],
        broken: &[
            (KEY, "//! K.\nuse crate::{error::Error, tier::Tier};\nfn f() { super::log::append() }\nuse crate::Larder;\n"),
            ("crates/larder/src/freshness/table.rs", "//! T.\nuse crate::read;\n"),
            (DISK, "//! D.\nuse super::memory::Memory;\n"),
            (MEMORY, "//! M.\n"),
            ("crates/larder/src/tier/disk/queue.rs", "//! Q.\n\nuse crate::tier::{Tier, memory};\n"),
            ("crates/larder/src/lib.rs", "//! L.\npub use cache::Larder;\n"),
        ],
        at: &[
            "crates/larder/src/freshness/table.rs:2",
            "crates/larder/src/key.rs:2",
            "crates/larder/src/key.rs:3",
            "crates/larder/src/key.rs:4",
            "crates/larder/src/tier/disk.rs:2",
            "crates/larder/src/tier/disk/queue.rs:3",
        ],
    },
    Canary {
        rule: "pure-values",
        clean: &[
            (KEY, "//! K.\nuse std::time::Instant;\nfn f(now: Instant) {}\n#[cfg(test)]\nmod tests { fn g() { Instant::now(); } }\n"),
            ("crates/larder/src/clock.rs", "//! C.\nfn f() { Instant::now(); }\n"),
            ("crates/larder/src/read.rs", "//! R.\nfn f() { tokio::spawn(g()); }\n"),
        ],
        broken: &[(KEY, "//! K.\nuse std::fs;\nfn f() { let now = SystemTime::now(); std::thread::spawn(g); }\n")],
        at: &["crates/larder/src/key.rs:2", "crates/larder/src/key.rs:3", "crates/larder/src/key.rs:3"],
    },
    Canary {
        rule: "public-surface",
        clean: &[
            ("crates/larder-server/src/main.rs", "//! P.\nuse larder::Larder;\n"),
            ("crates/larder/benches/hit.rs", "//! B.\nuse larder::__bare;\n"),
        ],
        broken: &[("crates/larder-server/src/main.rs", "//! P.\nuse larder::__private::Index;\n")],
        at: &["crates/larder-server/src/main.rs:2"],
    },
    Canary {
        rule: "workspace-lints",
        clean: &[("a/Cargo.toml", "[package]\nname = \"a\"\n\n[lints]\nworkspace = true # all of them\n"), ("Cargo.toml", "[workspace]\n")],
        broken: &[
            ("a/Cargo.toml", "[package]\nname = \"a\"\n\n[dependencies]\nworkspace = true\n"),
            ("b/Cargo.toml", "[package]\n[lints]\n"),
        ],
        at: &["a/Cargo.toml:1", "b/Cargo.toml:1"],
    },
    Canary {
        rule: "bench-harness",
        clean: &[
            ("a/Cargo.toml", "[package]\n[[bench]]\nname = \"hit\"\nharness = false\n"),
            ("a/benches/hit.rs", "//! B.\n"),
            ("a/benches/hit/keys.rs", "//! A module of it.\n"),
        ],
        broken: &[
            ("a/Cargo.toml", "[package]\n[[bench]]\nname = \"hit\"\nharness = false\n[[bench]]\nname = \"put\"\n"),
            ("a/benches/hit.rs", "//! B.\n"),
            ("a/benches/put.rs", "//! B.\n"),
            ("a/benches/miss.rs", "//! B.\n"),
        ],
        at: &["a/Cargo.toml:1", "a/Cargo.toml:1"],
    },
    Canary {
        rule: "gated-tests",
        clean: &[
            (
                "crates/larder/Cargo.toml",
                "[package]\nname = \"larder\"\n[features]\ndefault = [\"disk\"]\n[[test]]\nname = \"faults\"\nrequired-features = [\"disk\"]\n",
            ),
            (
                KEY,
                "//! K.\n#[cfg(feature = \"rare\")]\nfn f() {}\n#[cfg(test)]\nmod tests {\n#[cfg(feature = \"shuttle\")]\nfn g() {}\n}\n",
            ),
            ("crates/larder/tests/reads.rs", "//! R.\n#[cfg(feature = \"disk\")]\nfn f() {}\n#[cfg(not(feature = \"rare\"))]\nfn g() {}\n"),
        ],
        broken: &[
            ("crates/larder/Cargo.toml", "[package]\nname = \"larder\"\n[[test]]\nname = \"other\"\nrequired-features = [\"shuttle\"]\n"),
            ("crates/larder/src/key/tests.rs", "//! T.\n#[cfg(feature = \"rare\")]\nfn f() {}\n"),
            ("crates/larder/tests/reads.rs", "//! R.\n#[cfg(feature = \"rare\")]\nfn f() {}\n"),
        ],
        at: &["crates/larder/Cargo.toml:3", "crates/larder/src/key/tests.rs:2", "crates/larder/tests/reads.rs:2"],
    },
    Canary {
        rule: "lock-sources",
        clean: &[("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n")],
        broken: &[("Cargo.lock", "version = 4\nsource = \"git+https://example.org/fjall\"\n")],
        at: &["Cargo.lock:2"],
    },
    Canary {
        rule: "duplicates",
        clean: &[
            ("Cargo.lock", "name = \"a\"\nversion = \"1.0.0\"\nname = \"a\"\nversion = \"2.0.0+x\"\n"),
            ("deny.toml", "skip = [\n    { crate = \"a@1.0.0\", reason = \"b\" },\n]\n"),
        ],
        broken: &[
            ("Cargo.lock", "name = \"a\"\nversion = \"1.0.0\"\nname = \"a\"\nversion = \"2.0.0+x\"\n"),
            ("deny.toml", "skip = [\n    { crate = \"a@2.0.0\", reason = \"b\" },\n]\n"),
        ],
        at: &["Cargo.lock:2", "deny.toml:2"],
    },
    Canary {
        rule: "links",
        clean: &[
            ("README.md", "[a](docs/a.md#x) [b](docs) [c](https://example.org/c.md) [d](#d)\n```\n[e](absent.md)\n```\n"),
            ("docs/a.md", "[up](../README.md)\n"),
        ],
        broken: &[("README.md", "Read [this](docs/absent.md).\n\n[that]: gone.md\n")],
        at: &["README.md:1", "README.md:3"],
    },
    Canary {
        rule: "commands",
        clean: &[("README.md", "`cargo xtask test`, or any `cargo xtask COMMAND`\n"), (".ci/run", "exec cargo xtask ci\n")],
        broken: &[("STYLE.md", "Run\n`cargo xtask tidi`.\n"), (".ci/run", "cargo xtask release\n")],
        at: &[".ci/run:1", "STYLE.md:2"],
    },
    Canary {
        rule: "changelog",
        clean: &[("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n")],
        broken: &[("CHANGELOG.md", "# Changelog\n\n## [0.1.0]\n")],
        at: &["CHANGELOG.md:1"],
    },
    Canary {
        rule: "machine-paths",
        clean: &[("README.md", "target/work/ and https://example.org/home/\n")],
        broken: &[("README.md", concat!("# R\ncd /wo", "rk/larder\n")), (".ci/run", concat!("export A=/ho", "me/me\n"))],
        at: &[".ci/run:1", "README.md:2"],
    },
];

fn tree_of(files: &[Planted]) -> Tree {
    Tree::with_files(files.iter().map(|(path, text)| File::new(*path, *text)))
}

/// Where `rule` finds something in `tree`, as `path:line`.
fn found_by(rule: &str, tree: &Tree) -> Vec<String> {
    let found = violations(tree).into_iter().filter(|(name, _)| *name == rule);
    found.map(|(_, violation)| format!("{}:{}", violation.path, violation.line)).collect()
}

#[test]
fn every_rule_finds_what_is_planted_and_nothing_else() {
    for canary in CANARIES {
        assert_eq!(found_by(canary.rule, &tree_of(canary.clean)), [""; 0], "{}: the clean tree", canary.rule);
        assert_eq!(found_by(canary.rule, &tree_of(canary.broken)), canary.at, "{}: the broken tree", canary.rule);
    }
}

/// The rules whose canaries need more than a few lines of text; each has its own test below.
const TESTED_APART: [&str; 5] = ["file-length", "line-width", "dependencies", "licences", "test-features"];

#[test]
fn every_rule_has_a_canary_and_every_canary_a_rule() {
    let mut tested: Vec<&str> = CANARIES.iter().map(|canary| canary.rule).chain(TESTED_APART).collect();
    let mut rules: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    tested.sort_unstable();
    rules.sort_unstable();
    assert_eq!(tested, rules);
}

#[test]
fn file_length_counts_to_seven_hundred() {
    let lines = |count| Tree::with_files([File::new(KEY, "//! Keys.\n".repeat(count))]);
    assert_eq!(found_by("file-length", &lines(700)), [""; 0]);
    assert_eq!(found_by("file-length", &lines(701)), ["crates/larder/src/key.rs:701"]);
}

#[test]
fn line_width_counts_what_can_be_broken() {
    let long = "x".repeat(130);
    let clean = [
        File::new(KEY, format!("//! Keys.\n// {long}\nconst A: &str = \"{long}\";\n/// | {long} | {long} |\n// https://{long}{long}\n")),
        File::new("README.md", format!("| {long} | {long} |\n[a](https://{long}{long})\n```\n{long}{long}\n```\n")),
    ];
    assert_eq!(found_by("line-width", &Tree::with_files(clean)), [""; 0]);
    let broken = [
        File::new(KEY, format!("//! Keys.\n// {long}{long}\nfn {long}(a: u8, b: u8) {{}}\n")),
        File::new("README.md", format!("# A\n{long} {long}\n")),
    ];
    let expected = ["README.md:2", "crates/larder/src/key.rs:2", "crates/larder/src/key.rs:3"];
    assert_eq!(found_by("line-width", &Tree::with_files(broken)), expected);
}

#[test]
fn dependencies_are_known_by_their_whole_name() {
    let with = |listing: &str| Tree { library_dependencies: listing.to_owned(), ..tree_of(&[]) };
    let clean = with("larder v0.1.0 (crates/larder)\ntoml_datetime v1.0.0\nredis-types v1.0.0\nserde v1.0.0 (*)\n");
    assert_eq!(found_by("dependencies", &clean), [""; 0]);
    let broken = with("larder v0.1.0 (crates/larder)\naxum v0.8.0\ntoml v1.2.1\naxum v0.8.0 (*)\n");
    assert_eq!(found_by("dependencies", &broken), ["crates/larder/Cargo.toml:1", "crates/larder/Cargo.toml:1"]);
}

#[test]
fn licences_are_those_that_are_listed() {
    let with = |listing: &str| Tree {
        licences: listing.to_owned(),
        ..tree_of(&[("deny.toml", "[licenses]\nallow = [\n    \"MIT\",\n    \"ISC\",\n]\n")])
    };
    let clean = with("larder v0.1.0 (crates/larder)|X\na v1.0.0|MIT OR X (*)\nb v1.0.0 (proc-macro)|MIT AND ISC\n\n[dev-dependencies]\n");
    assert_eq!(found_by("licences", &clean), [""; 0]);
    let broken = with("a v1.0.0|MIT AND X\na v1.0.0|MIT AND X (*)\nb v1.0.0 (proc-macro)|X\nc v1.0.0|\n");
    assert_eq!(found_by("licences", &broken), ["deny.toml:1", "deny.toml:1", "deny.toml:1"]);
}

#[test]
fn test_features_are_seen_in_what_cargo_builds() {
    let with = |listing: &str| Tree { program_features: listing.to_owned(), ..tree_of(&[]) };
    let clean = with("larder feature \"default\"\nquick_cache feature \"shuttle\"\nlarder v0.1.0 (crates/larder)\n");
    assert_eq!(found_by("test-features", &clean), [""; 0]);
    let broken = with("larder feature \"default\"\nlarder feature \"test-mutations\"\n");
    assert_eq!(found_by("test-features", &broken), ["crates/larder-server/Cargo.toml:1"]);
}
