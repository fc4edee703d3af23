//! What a node may have of what its role is told: a gateway's proxies serve their own Gateway and nobody else's.
//!
//! Keys of certificates travel with listeners, so who is not to serve a Gateway is not told its listeners either. What
//! holds: an identity that was proved must be one that the Gateway goes by. Who proves none is believed, unless proof is
//! wanted: of all Gateways where the control plane signs certificates for a cluster, of one where its annotation
//! `tidegate.io/service-accounts` says who.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_identity::SpiffeId;
use tidegate_policy::model::ResourceName;
use tidegate_policy::objects::{Gateway, SERVICE_ACCOUNTS};
use tidegate_xds::Name;

use super::Role;

/// A name that a label can have, and a Service: longer ones are cut, and told apart by a hash.
const MAX_NAME: usize = 63;

/// Nodes of one scope are told the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    Gateway {
        /// The one that it says it serves; `None`: whichever it may.
        name: Option<ResourceName>,
        /// The service account that it has proved to be.
        account: Option<ResourceName>,
    },
    Sidecar {
        /// The one that it is in; `None`: it says what it serves itself.
        pod: Option<ResourceName>,
        /// `None`: it is told of all that can be called.
        interest: Option<Interest>,
    },
}

/// What a sidecar has to do with: what it serves, and what its application has called so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interest {
    /// Its own, where short names are looked up.
    pub namespace: Arc<str>,
    /// As it says itself; else what is known of its pod.
    pub served: BTreeSet<ResourceName>,
    /// Hosts without port, in lower case, and IP addresses.
    pub wants: BTreeSet<Name>,
}

impl Interest {
    /// More names of one sidecar are not heard.
    pub const MAX: usize = 4_096;
}

/// Which service accounts may serve which Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guests {
    gateways: BTreeMap<ResourceName, Guest>,
    /// Nobody is believed without proof.
    proof: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Guest {
    accounts: BTreeSet<ResourceName>,
    /// They are written, so that nobody else is meant.
    written: bool,
}

impl Scope {
    /// Whatever its role is told.
    pub const fn whole(role: Role) -> Self {
        match role {
            Role::Gateway => Self::Gateway { name: None, account: None },
            Role::Sidecar => Self::Sidecar { pod: None, interest: None },
        }
    }

    pub const fn role(&self) -> Role {
        match self {
            Self::Gateway { .. } => Role::Gateway,
            Self::Sidecar { .. } => Role::Sidecar,
        }
    }
}

impl Scope {
    /// The same node, when it asks by these names; `None` for one that does not ask.
    #[must_use]
    pub fn asking(&self, names: Vec<Name>) -> Option<Self> {
        let Self::Sidecar { pod, interest: Some(interest) } = self else { return None };
        let wants = names.into_iter().take(Interest::MAX).collect();
        let interest = Interest { wants, ..interest.clone() };
        Some(Self::Sidecar { pod: pod.clone(), interest: Some(interest) })
    }
}

impl Guests {
    pub fn new(proof: bool) -> Self {
        Self { gateways: BTreeMap::new(), proof }
    }

    pub fn add(&mut self, gateway: &Gateway) {
        let name = &gateway.meta.name;
        let written = gateway.annotations.get(SERVICE_ACCOUNTS);
        let account = |text: &str| match text.split_once('/') {
            Some((namespace, name)) => ResourceName::new(namespace, name),
            None => ResourceName::new(name.namespace.clone(), text),
        };
        let accounts = match written {
            Some(text) => {
                text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(account).collect()
            }
            None => {
                let own = own_name(&name.name, &gateway.spec.gateway_class_name);
                BTreeSet::from([account(&own), account(&name.name)])
            }
        };
        self.gateways.insert(name.clone(), Guest { accounts, written: written.is_some() });
    }

    /// Whether nodes of a scope are told what is this Gateway's.
    pub(super) fn admits(&self, gateway: &ResourceName, (name, account): Claim<'_>) -> bool {
        if name.is_some_and(|name| name != gateway) {
            return false;
        }
        let guest = self.gateways.get(gateway);
        match account {
            Some(account) => guest.is_some_and(|guest| guest.accounts.contains(account)),
            None => !self.proof && !guest.is_some_and(|guest| guest.written),
        }
    }

    /// Whether everybody is believed.
    pub(super) fn are_open(&self) -> bool {
        !self.proof && !self.gateways.values().any(|guest| guest.written)
    }
}

/// As a [`Scope::Gateway`] has it.
pub(super) type Claim<'a> = (Option<&'a ResourceName>, Option<&'a ResourceName>);

/// The service account of a SPIFFE id.
pub(crate) fn account(identity: &str) -> Option<ResourceName> {
    let id: SpiffeId = identity.parse().ok()?;
    Some(ResourceName::new(&*id.namespace, &*id.service_account))
}

/// The name of what a control plane makes for a Gateway, its proxies' service account too (Gateway API, GEP-1762).
pub fn own_name(gateway: &str, class: &str) -> String {
    label(&format!("{gateway}-{class}").replace('.', "-"))
}

/// As long as a label may be; what is longer is cut, and the cut made up for by a hash of the whole.
pub fn label(text: &str) -> String {
    if text.len() <= MAX_NAME {
        return text.to_owned();
    }
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}-{:08x}", text[..MAX_NAME - 9].trim_end_matches(['-', '.']), hash & 0xffff_ffff)
}
