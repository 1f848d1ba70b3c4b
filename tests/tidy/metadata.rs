//! What cargo knows about the packages of the workspace and those they need.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::root;

pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) licence: Option<String>,
    /// For a package of the workspace its folder, from the workspace's root.
    pub(crate) room: Option<String>,
    /// Of any kind: to run, to build, to test.
    pub(crate) dependencies: Vec<Dependency>,
}

pub(crate) struct Dependency {
    pub(crate) name: String,
    /// As for [`Package::room`].
    pub(crate) room: Option<String>,
    pub(crate) features: Vec<String>,
    pub(crate) has_default_features: bool,
}

/// The packages of the workspace.
pub(crate) fn workspace() -> Vec<Package> {
    packages(&["--no-deps"])
}

/// The packages of the workspace and all that they need on this platform. Those of other platforms need not have been
/// downloaded, and then cargo could say nothing at all.
pub(crate) fn workspace_and_dependencies() -> Vec<Package> {
    let version = cargo(&["-vV"]);
    let version = String::from_utf8(version).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    packages(&["--filter-platform", host])
}

fn packages(arguments: &[&str]) -> Vec<Package> {
    let fixed = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let metadata: Value = serde_json::from_slice(&cargo(&[&fixed, arguments].concat())).unwrap();
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

fn cargo(arguments: &[&str]) -> Vec<u8> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn package(value: &Value) -> Package {
    let manifest = Path::new(value["manifest_path"].as_str().unwrap());
    // What is downloaded has a source.
    let room = value["source"].is_null().then(|| room(manifest.parent().unwrap()));
    Package {
        name: value["name"].as_str().unwrap().to_owned(),
        licence: value["license"].as_str().map(str::to_owned),
        room,
        dependencies: value["dependencies"].as_array().unwrap().iter().map(dependency).collect(),
    }
}

fn dependency(value: &Value) -> Dependency {
    let features = value["features"].as_array().unwrap();
    Dependency {
        name: value["name"].as_str().unwrap().to_owned(),
        room: value["path"].as_str().map(|path| room(Path::new(path))),
        features: features.iter().map(|feature| feature.as_str().unwrap().to_owned()).collect(),
        has_default_features: value["uses_default_features"].as_bool().unwrap(),
    }
}

fn room(folder: &Path) -> String {
    let inside = folder.strip_prefix(root());
    inside.unwrap_or_else(|_| panic!("{} is outside the workspace", folder.display())).display().to_string()
}
