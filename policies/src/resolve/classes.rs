//! GatewayClasses: which are ours, and what the Gateways of the others are told.

use super::objects::Objects;
use super::{Condition, Resolved};

pub(super) fn resolve(objects: &Objects<'_>, resolved: &mut Resolved) {
    for (name, class) in &objects.classes {
        let condition = if !objects.controller.has_class(name, Some(class)) {
            let message = format!("{}: it belongs to {}", class.meta.source, class.spec.controller_name);
            Condition::ignored("OtherController", message)
        } else if class.spec.parameters_ref.is_some() {
            let message = format!("{}: parametersRef: there are no parameters to set", class.meta.source);
            Condition::fails("Accepted", "InvalidParameters", message)
        } else {
            Condition::accepted()
        };
        resolved.tell("GatewayClass", &class.meta.name, condition);
    }
    for gateway in objects.strangers.values() {
        let why = objects.controller.stranger(gateway, objects.class(gateway));
        let condition = Condition::ignored("OtherGatewayClass", format!("{}: {why}", gateway.meta.source));
        resolved.tell("Gateway", &gateway.meta.name, condition);
    }
}
