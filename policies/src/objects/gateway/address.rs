use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::objects::Faults;
use crate::objects::rules::check_hostname;

/// Where a Gateway is to be reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayAddress {
    #[serde(default, rename = "type")]
    #[schemars(
        with = "String",
        length(min = 1, max = 253),
        regex(
            pattern = r"^(Hostname|IPAddress|NamedAddress|[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9/._~%!$&'()*+,;=:-]+)$"
        )
    )]
    pub kind: AddressKind,
    /// Absent or empty: any address of that type. For a proxy that is all addresses of its machine.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub value: String,
}

/// Gateway API `AddressType`, an open set: a type that nobody here knows is no fault of the document, it makes the
/// Gateway unusable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum AddressKind {
    #[default]
    IPAddress,
    Hostname,
    NamedAddress,
    /// Another implementation's, such as `example.com/pool`.
    Other(String),
}

impl From<String> for AddressKind {
    fn from(text: String) -> Self {
        match text.as_str() {
            "IPAddress" => Self::IPAddress,
            "Hostname" => Self::Hostname,
            "NamedAddress" => Self::NamedAddress,
            _ => Self::Other(text),
        }
    }
}

impl AddressKind {
    /// As in `type:` of the document.
    pub fn as_str(&self) -> &str {
        match self {
            Self::IPAddress => "IPAddress",
            Self::Hostname => "Hostname",
            Self::NamedAddress => "NamedAddress",
            Self::Other(name) => name,
        }
    }
}

/// The rules that the CRD has in CEL.
pub(super) fn check(addresses: &[GatewayAddress], faults: &mut Faults) {
    for (i, address) in addresses.iter().enumerate() {
        let at = format!("/addresses/{i}/value");
        if address.value.is_empty() {
            continue;
        }
        if address.kind == AddressKind::IPAddress && address.value.parse::<IpAddr>().is_err() {
            faults.error(&at, format!("`{}` is not an IP address", address.value));
        }
        if address.kind == AddressKind::Hostname {
            check_hostname(&at, &address.value, faults);
        }
        let unique = matches!(address.kind, AddressKind::IPAddress | AddressKind::Hostname);
        if let Some(first) = addresses[..i].iter().position(|other| unique && other == address) {
            faults.error(&at, format!("addresses[{first}] is the same"));
        }
    }
}
