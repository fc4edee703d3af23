//! The words of the Container Network Interface: what a runtime asks by its environment and on standard input, and what it
//! is answered. Pure.
//!
//! Semantics: CNI specification 1.1.0, sections 2 (execution protocol) and 5 (result types).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

/// What runtimes send: oldest first. Results of all of them are passed on as they are.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
pub const NEWEST: &str = "1.1.0";
/// A configuration with the results of every plugin before is some kilobytes.
pub const MAX_INPUT_BYTES: u64 = 1 << 20;

/// Error codes: below 100 the specification's, from there on our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    IncompatibleVersion = 1,
    InvalidEnvironment = 4,
    Io = 5,
    Decode = 6,
    InvalidConfig = 7,
    /// The runtime may try the same again later.
    TryAgainLater = 11,
    /// Of STATUS: no ADD can be served.
    NotAvailable = 50,
    /// The rules could not be set.
    NotRedirected = 100,
    /// Of CHECK: the rules are not there.
    Missing = 101,
    /// A pod asks for what cannot be done.
    Refused = 102,
}

/// Why a command failed: what a runtime is told on standard output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Section 5, "Error".
    pub fn to_json(&self, version: &str) -> Json {
        json!({ "cniVersion": version, "code": self.code as u32, "msg": format!("tidegate-cni: {}", self.message) })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Version,
    Status,
    Gc,
}

impl Command {
    /// The first version that has it; a version before is not asked for it.
    const fn since(self) -> &'static str {
        match self {
            Self::Add | Self::Del | Self::Version => "0.1.0",
            Self::Check => "0.4.0",
            Self::Status | Self::Gc => "1.1.0",
        }
    }

    fn read(word: &str) -> Option<Self> {
        Some(match word {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "VERSION" => Self::Version,
            "STATUS" => Self::Status,
            "GC" => Self::Gc,
            _ => return None,
        })
    }
}

/// The plugin's configuration, as the runtime hands it on: ours, and what it adds. Other fields are other people's.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct NetConf {
    pub cni_version: String,
    pub name: String,
    /// How the API server is asked: a file on the node.
    pub kubeconfig: Option<PathBuf>,
    /// Pods of these are never looked at.
    pub exclude_namespaces: Vec<String>,
    pub prev_result: Option<Json>,
}

/// Whose sandbox it is, as the kubelet's runtimes say by CNI_ARGS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
    /// Newer runtimes only.
    pub uid: Option<String>,
}

/// One call of a runtime's.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub command: Command,
    pub conf: NetConf,
    pub netns: Option<PathBuf>,
    /// Nothing for a sandbox that is no pod's.
    pub pod: Option<PodName>,
}

impl Request {
    /// Reads a call. The version to answer in is given with a fault as well.
    ///
    /// # Errors
    /// What the specification says of a version, an environment or a configuration that cannot be used.
    pub fn read(env: impl Fn(&str) -> Option<String>, stdin: &[u8]) -> Result<Self, (Failure, String)> {
        let word = env("CNI_COMMAND").unwrap_or_default();
        let newest = |failure| (failure, String::from(NEWEST));
        let Some(command) = Command::read(&word) else {
            let why = format!("CNI_COMMAND: `{word}` is none of ADD, DEL, CHECK, VERSION, STATUS, GC");
            return Err(newest(Failure::new(Code::InvalidEnvironment, why)));
        };
        let read = serde_json::from_slice::<Map<String, Json>>(stdin);
        let conf = match read.and_then(|object| serde_json::from_value::<NetConf>(object.into())) {
            Ok(conf) => conf,
            // Asked for versions, it answers whoever it is.
            Err(_) if command == Command::Version => NetConf::default(),
            Err(error) => {
                return Err(newest(Failure::new(Code::Decode, format!("standard input: {error}"))));
            }
        };
        let version = if is_known(&conf.cni_version) { conf.cni_version.clone() } else { NEWEST.to_owned() };
        Self::checked(command, conf, env).map_err(|failure| (failure, version))
    }

    fn checked(
        command: Command,
        conf: NetConf,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        if command == Command::Version {
            return Ok(Self { command, conf, netns: None, pod: None });
        }
        if !is_known(&conf.cni_version) {
            let why = format!("cniVersion: `{}` is none of {}", conf.cni_version, VERSIONS.join(", "));
            return Err(Failure::new(Code::IncompatibleVersion, why));
        }
        if place(&conf.cni_version) < place(command.since()) {
            let why = format!("cniVersion: {} has no {command:?}", conf.cni_version);
            return Err(Failure::new(Code::IncompatibleVersion, why));
        }
        let netns = env("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from);
        let mut lacking = Vec::new();
        if matches!(command, Command::Add | Command::Del | Command::Check) {
            lacking.extend(["CNI_CONTAINERID", "CNI_IFNAME"].into_iter().filter(|name| env(name).is_none()));
            lacking.extend((command != Command::Del && netns.is_none()).then_some("CNI_NETNS"));
        }
        if !lacking.is_empty() {
            return Err(Failure::new(Code::InvalidEnvironment, format!("{}: not set", lacking.join(", "))));
        }
        let is_chained = conf.prev_result.as_ref().is_some_and(Json::is_object);
        if matches!(command, Command::Add | Command::Check) && !is_chained {
            let why = "prevResult: missing: this plugin comes after one that makes the network, in a list of `plugins`";
            return Err(Failure::new(Code::InvalidConfig, why));
        }
        let pod = match pod_name(&env("CNI_ARGS").unwrap_or_default()) {
            // Whose it was matters little, and a runtime would try for ever to end it.
            Err(_) if command == Command::Del => None,
            pod => pod?,
        };
        Ok(Self { command, conf, netns, pod })
    }
}

/// What VERSION answers, in the version that was asked in.
pub fn versions(asked: &str) -> Json {
    let version = if is_known(asked) { asked } else { NEWEST };
    json!({ "cniVersion": version, "supportedVersions": VERSIONS })
}

fn is_known(version: &str) -> bool {
    VERSIONS.contains(&version)
}

/// Versions in their order.
fn place(version: &str) -> usize {
    VERSIONS.iter().position(|known| *known == version).map_or(0, |i| i + 1)
}

/// `K8S_POD_NAMESPACE=…;K8S_POD_NAME=…`, among words that are nobody's business here.
fn pod_name(args: &str) -> Result<Option<PodName>, Failure> {
    let of = |name: &str| {
        let pairs = args.split(';').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next_back()
    };
    let (Some(namespace), Some(name)) = (of("K8S_POD_NAMESPACE"), of("K8S_POD_NAME")) else {
        return Ok(None);
    };
    // They become the path of a request.
    for (what, value) in [("K8S_POD_NAMESPACE", &namespace), ("K8S_POD_NAME", &name)] {
        if !is_dns_name(value) {
            return Err(Failure::new(
                Code::InvalidEnvironment,
                format!("CNI_ARGS: {what}: {value:?} is no name"),
            ));
        }
    }
    Ok(Some(PodName { namespace, name, uid: of("K8S_POD_UID").filter(|uid| !uid.is_empty()) }))
}

/// RFC 1123, as Kubernetes takes it.
fn is_dns_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 253
        && text.chars().all(inner)
        && text.starts_with(ends)
        && text.ends_with(ends)
        && !text.contains("..")
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
