//! What Yagura is built from: licences that it may carry, crates that it does without, and no features by default.
//! `deny.toml` says the same to cargo-deny.

use std::collections::{BTreeMap, BTreeSet};

use super::metadata::{Package, workspace, workspace_and_dependencies};
use super::{read, spdx};

/// Licences that ask for no more than to be named. Those of other kinds come in by a decision, not by an update.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// How a crate must not be needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ban {
    Anywhere,
    /// By a crate of the workspace; others may.
    Directly,
    InTwoVersions,
}

const NO_SYSTEM_TLS: &str = "TLS is rustls, so that the binary needs no library of the system";
const AWS_LC: &str = "large, and needs cmake and a C++ compiler to build; rustls can have ring";
const ONE_VERSION: &str =
    "its types are in the signatures between crates, and two versions do not fit together";
const ONE_COPY: &str = "a second copy in the binary would be for nothing";

const BANS: &[(&str, Ban, &str)] = &[
    ("aws-lc-rs", Ban::Anywhere, AWS_LC),
    ("aws-lc-sys", Ban::Anywhere, AWS_LC),
    ("chrono", Ban::Anywhere, "it reads the clock by itself, which is kernel::clock's to do"),
    ("native-tls", Ban::Anywhere, NO_SYSTEM_TLS),
    ("openssl", Ban::Anywhere, NO_SYSTEM_TLS),
    ("openssl-sys", Ban::Anywhere, NO_SYSTEM_TLS),
    ("lazy_static", Ban::Directly, "std::sync::LazyLock does it"),
    ("bytes", Ban::InTwoVersions, ONE_VERSION),
    ("hyper", Ban::InTwoVersions, ONE_COPY),
    ("kafka-protocol", Ban::InTwoVersions, ONE_VERSION),
    ("rusqlite", Ban::InTwoVersions, ONE_COPY),
    ("rustls", Ban::InTwoVersions, ONE_COPY),
    ("tokio", Ban::InTwoVersions, ONE_VERSION),
    ("uuid", Ban::InTwoVersions, ONE_VERSION),
];

/// Direct dependencies that have their default features.
const WITH_DEFAULT_FEATURES: &[(&str, &str)] = &[
    ("bytes", "only std, which all of it needs"),
    ("crc32c", "it has no features"),
    ("serde", "only std, which all of it needs"),
    ("serde_json", "only std, which all of it needs"),
    ("snap", "it has no features"),
];

fn holds(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn all_licences_are_allowed() {
    let fault = |package: &Package| match &package.licence {
        None => Some(format!("{} names no licence", package.name)),
        Some(licence) => match spdx::is_met(licence, LICENCES) {
            Ok(true) => None,
            Ok(false) => Some(format!("{} is under {licence}, which is not allowed", package.name)),
            Err(error) => Some(format!("{}: {error}", package.name)),
        },
    };
    let packages = workspace_and_dependencies();
    let others = packages.iter().filter(|package| package.room.is_none());
    holds(&others.filter_map(fault).collect::<Vec<_>>());
}

/// The versions of each crate, as `Cargo.lock` has them for all platforms.
fn locked(lock: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut locked: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let value = |key| package.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim_matches('"');
        locked.entry(value("name = ")).or_default().insert(value("version = "));
    }
    locked
}

#[test]
fn no_banned_crate_is_needed() {
    let lock = read("Cargo.lock");
    let locked = locked(&lock);
    assert!(locked.contains_key("tokio"), "Cargo.lock is not read as it is written");
    let packages = workspace();
    let direct: BTreeSet<_> =
        packages.iter().flat_map(|package| &package.dependencies).map(|need| &need.name[..]).collect();
    let broken = |(name, ban, _): &&(&str, Ban, &str)| match ban {
        Ban::Anywhere => locked.contains_key(name),
        Ban::Directly => direct.contains(name),
        Ban::InTwoVersions => locked.get(name).is_some_and(|versions| versions.len() > 1),
    };
    let fault = |(name, ban, reason): &(&str, Ban, &str)| format!("{name} is banned ({ban:?}): {reason}");
    holds(&BANS.iter().filter(broken).map(fault).collect::<Vec<_>>());
}

#[test]
fn dependencies_have_no_default_features() {
    let packages = workspace();
    let all = packages.iter().flat_map(|package| &package.dependencies);
    let others = all.filter(|need| need.room.is_none());
    let found: BTreeSet<_> =
        others.filter(|need| need.has_default_features).map(|need| &need.name[..]).collect();
    let listed: BTreeSet<_> = WITH_DEFAULT_FEATURES.iter().map(|(name, _)| *name).collect();
    let new =
        found.difference(&listed).map(|name| format!("{name} needs default-features = false, or a reason"));
    let gone = listed.difference(&found).map(|name| format!("{name}: take it out of WITH_DEFAULT_FEATURES"));
    holds(&new.chain(gone).collect::<Vec<_>>());
}

/// The lines of an array that stands one element a line.
fn lines_of_array<'a>(deny: &'a str, key: &str) -> Vec<&'a str> {
    let begin = format!("{key} = [");
    let lines = deny.lines().skip_while(|line| *line != begin).skip(1).take_while(|line| *line != "]");
    lines.map(str::trim).filter(|line| !line.starts_with('#')).collect()
}

/// What stands in quotes after `key`.
fn quoted<'a>(line: &'a str, key: &str) -> &'a str {
    let after = line.split_once(key).unwrap_or_else(|| panic!("deny.toml: no {key} in {line}")).1;
    after.split('"').nth(1).unwrap_or_else(|| panic!("deny.toml: nothing in quotes in {line}"))
}

fn ban(line: &str) -> (&str, Ban, &str) {
    let ban = if line.contains("wrappers = ") {
        Ban::Directly
    } else if line.contains("deny-multiple-versions = true") {
        Ban::InTwoVersions
    } else {
        Ban::Anywhere
    };
    (quoted(line, "crate = "), ban, quoted(line, "reason = "))
}

#[test]
fn cargo_deny_is_told_the_same() {
    let deny = read("deny.toml");
    let allowed: Vec<_> = lines_of_array(&deny, "allow").into_iter().map(|line| quoted(line, "")).collect();
    assert_eq!(allowed, LICENCES, "licenses.allow of deny.toml");
    let banned: Vec<_> = lines_of_array(&deny, "deny").into_iter().map(ban).collect();
    assert_eq!(banned, BANS, "bans.deny of deny.toml");
}
