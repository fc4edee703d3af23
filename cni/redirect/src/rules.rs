//! What is led to the sidecar, as a value: written as flags, and as JSON in a pod's annotation.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// More is in no annotation that injection has written.
pub const MAX_WRITTEN_BYTES: usize = 64 * 1024;

/// The ports that are led to the sidecar from outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Inbound {
    All,
    Ports(Vec<NonZeroU16>),
}

/// As JSON: what injection writes into annotation `tidegate.io/redirect` for the CNI plugin.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", try_from = "Written", into = "Written")]
pub struct Rules {
    /// The user whose connections are led nowhere: the sidecar's.
    pub uid: u32,
    /// Where the sidecar takes its application's calls.
    pub outbound: Option<NonZeroU16>,
    /// Where it takes what is for its application, and for which ports.
    pub inbound: Option<(NonZeroU16, Inbound)>,
    pub not_inbound: Vec<NonZeroU16>,
    pub not_outbound: Vec<NonZeroU16>,
    pub not_cidrs: Vec<IpNet>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    uid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outbound_port: Option<NonZeroU16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inbound_port: Option<NonZeroU16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inbound: Option<Inbound>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exclude_inbound: Vec<NonZeroU16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exclude_outbound: Vec<NonZeroU16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "excludeCIDRs")]
    exclude_cidrs: Vec<IpNet>,
}

impl TryFrom<Written> for Rules {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        if written.inbound_port.is_some() != written.inbound.is_some() {
            return Err("inboundPort and inbound: one of them says nothing without the other");
        }
        if written.outbound_port.is_none() && written.inbound_port.is_none() {
            return Err("neither outboundPort nor inboundPort: nothing would be led anywhere");
        }
        Ok(Self {
            uid: written.uid,
            outbound: written.outbound_port,
            inbound: written.inbound_port.zip(written.inbound),
            not_inbound: written.exclude_inbound,
            not_outbound: written.exclude_outbound,
            not_cidrs: written.exclude_cidrs,
        })
    }
}

impl From<Rules> for Written {
    fn from(rules: Rules) -> Self {
        let (inbound_port, inbound) = rules.inbound.unzip();
        Self {
            uid: rules.uid,
            outbound_port: rules.outbound,
            inbound_port,
            inbound,
            exclude_inbound: rules.not_inbound,
            exclude_outbound: rules.not_outbound,
            exclude_cidrs: rules.not_cidrs,
        }
    }
}

impl Rules {
    /// What `tidegate redirect` is given to do the same.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec![format!("--uid={}", self.uid)];
        flags.extend(self.outbound.map(|port| format!("--outbound-port={port}")));
        if let Some((port, inbound)) = &self.inbound {
            flags.push(format!("--inbound-port={port}"));
            flags.push(format!("--inbound={inbound}"));
        }
        let mut list = |name: &str, items: String| {
            flags.extend((!items.is_empty()).then(|| format!("--{name}={items}")));
        };
        list("exclude-inbound", joined(&self.not_inbound));
        list("exclude-outbound", joined(&self.not_outbound));
        list("exclude-cidr", joined(&self.not_cidrs));
        flags
    }
}

impl FromStr for Inbound {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::All);
        }
        let ports: Result<Vec<_>, _> = text.split(',').map(|port| port.trim().parse()).collect();
        ports.map(Self::Ports).map_err(|_| "write ports with commas between, such as 80,8080, or *")
    }
}

impl TryFrom<String> for Inbound {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Inbound> for String {
    fn from(inbound: Inbound) -> Self {
        inbound.to_string()
    }
}

impl fmt::Display for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Ports(ports) => f.write_str(&joined(ports)),
        }
    }
}

fn joined(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_into_an_annotation_is_read_as_what_was_meant() {
        let text = r#"{"uid":7,"outboundPort":15001,"inboundPort":15006,"inbound":"80,81","excludeInbound":[15020],"excludeOutbound":[5432],"excludeCIDRs":["10.0.0.0/8","fd00::/8"]}"#;
        let rules: Rules = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&rules).unwrap(), text);
        let expected = [
            "--uid=7",
            "--outbound-port=15001",
            "--inbound-port=15006",
            "--inbound=80,81",
            "--exclude-inbound=15020",
            "--exclude-outbound=5432",
            "--exclude-cidr=10.0.0.0/8,fd00::/8",
        ];
        assert_eq!(rules.flags(), expected);
    }

    #[test]
    fn half_of_a_side_nothing_at_all_and_words_that_nobody_knows_are_refused() {
        for (text, why) in [
            (r#"{"uid":7,"outboundPort":1,"inboundPort":2}"#, "inboundPort and inbound"),
            (r#"{"uid":7}"#, "nothing would be led anywhere"),
            (r#"{"uid":7,"outboundPort":1,"outbound":2}"#, "unknown field `outbound`"),
            (r#"{"outboundPort":1}"#, "missing field `uid`"),
            (r#"{"uid":-1,"outboundPort":1}"#, "invalid value"),
            (r#"{"uid":7,"outboundPort":0}"#, "nonzero"),
            (r#"{"uid":7,"inboundPort":1,"inbound":"80 -j ACCEPT"}"#, "write ports with commas between"),
            (r#"{"uid":7,"outboundPort":1,"excludeCIDRs":["10.0.0.0/8\n-F OUTPUT"]}"#, "invalid IP address"),
        ] {
            let told = serde_json::from_str::<Rules>(text).unwrap_err().to_string();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn ports_are_a_list_or_all_of_them() {
        let port = |number| NonZeroU16::new(number).unwrap();
        assert_eq!("*".parse(), Ok(Inbound::All));
        assert_eq!("80, 81".parse(), Ok(Inbound::Ports(vec![port(80), port(81)])));
        assert!("80,x".parse::<Inbound>().is_err() && "0".parse::<Inbound>().is_err());
    }
}
