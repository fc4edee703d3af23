//! The status of what has listeners: Gateways and ListenerSets.

use serde_json::{Value as Json, json};
use tidegate_policy::model::ResourceName;
use tidegate_policy::resolve::ListenerStatus;

use super::{Subject, UNBOUND, programmed, truth};
use crate::status::transitions::{Said, Stamp, listener_part};

impl Subject<'_> {
    pub(super) fn gateway(&self, stamp: &mut Stamp<'_>) -> Json {
        let more = ["ResolvedRefs", "InsecureFrontendValidationMode"];
        let mut status = self.owner(stamp, &more, |_| "Invalid");
        let name = ResourceName::new(self.key.namespace.as_str(), self.key.name.as_str());
        status["attachedListenerSets"] =
            json!(self.world.listener_sets.get(&name).copied().unwrap_or_default());
        if self.condition("Accepted").is_none_or(|accepted| accepted.holds()) {
            status["addresses"] = self.addresses();
        }
        status
    }

    /// Why it is not accepted is why it is not programmed (GEP-1713).
    pub(super) fn listener_set(&self, stamp: &mut Stamp<'_>) -> Json {
        self.owner(stamp, &[], |reason| reason)
    }

    /// `refused` is the reason why it is not programmed, by the reason why it is not accepted; `more` are conditions to
    /// show beside these.
    fn owner(&self, stamp: &mut Stamp<'_>, more: &[&str], refused: fn(&str) -> &str) -> Json {
        let accepted = self.condition("Accepted");
        let (reason, message) = programmed(self.status.programmed.as_ref(), "gateway proxy");
        let refused = accepted.filter(|accepted| !accepted.holds()).map(|accepted| refused(&accepted.reason));
        let (reason, message) = match refused {
            Some(reason) => (reason, format!("the {} is not accepted", self.key.kind)),
            // A port that is taken counts as its address does (GatewayReasonAddressNotUsable); where none is named there
            // is none to blame.
            None if reason == UNBOUND && self.spec("addresses").is_some_and(|all| !all.is_empty()) => {
                ("AddressNotUsable", message)
            }
            None => (reason, message),
        };
        let more = more.iter().filter_map(|kind| self.condition(kind));
        let mut said: Vec<Said<'_>> = accepted.into_iter().chain(more).map(Said::from).collect();
        said.push(Said {
            kind: "Programmed",
            status: truth(reason == "Programmed"),
            reason,
            message: &message,
        });
        let conditions = self.said(stamp, "", &said);
        let listeners = self.world.listeners.get(&self.key).map_or(&[][..], Vec::as_slice);
        let listeners: Vec<Json> =
            listeners.iter().map(|listener| self.listener(stamp, listener, refused)).collect();
        json!({ "conditions": conditions, "listeners": listeners })
    }

    /// Where the Gateway is to be reached. One that names no address is on every one of its proxy's machine.
    fn addresses(&self) -> Json {
        let written: Vec<_> = self.spec("addresses").into_iter().flatten().collect();
        let value =
            |address: &&Json| address.get("value").and_then(Json::as_str).unwrap_or_default().to_owned();
        let mut values: Vec<String> = written.iter().map(value).filter(|value| !value.is_empty()).collect();
        if values.is_empty() {
            values.push(String::from("0.0.0.0"));
        }
        values.into_iter().map(|value| json!({ "type": "IPAddress", "value": value })).collect()
    }

    /// `refused`: why the owner is not accepted and no listener of it reaches a proxy, if so.
    fn listener(&self, stamp: &mut Stamp<'_>, listener: &ListenerStatus, refused: Option<&str>) -> Json {
        let of = |kind: &str| listener.conditions.iter().find(|c| c.kind == kind && c.holds);
        let usable = of("Accepted").is_some() && !listener.supported_kinds.is_empty();
        let (reason, message) = match of("Conflicted") {
            Some(conflict) => (conflict.reason, conflict.message.clone()),
            None if !usable => ("Invalid", String::from("the listener cannot be used")),
            None => match refused {
                Some(reason) => (reason, format!("the {} is not accepted", self.key.kind)),
                None => programmed(self.status.listeners.get(&*listener.name), "gateway proxy"),
            },
        };
        let mut said: Vec<Said<'_>> = listener.conditions.iter().map(Said::from).collect();
        said.push(Said {
            kind: "Programmed",
            status: truth(reason == "Programmed"),
            reason,
            message: &message,
        });
        let kinds = listener.supported_kinds.iter();
        let kinds: Vec<Json> = kinds.map(|kind| json!({ "group": kind.group, "kind": kind.kind })).collect();
        json!({
            "name": &*listener.name,
            "supportedKinds": kinds,
            "attachedRoutes": listener.attached_routes,
            "conditions": self.said(stamp, &listener_part(&listener.name), &said),
        })
    }
}
