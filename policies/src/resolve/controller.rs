use crate::objects::{Gateway, GatewayClass};

/// Which Gateways are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// As GatewayClasses name it, and as status entries say who wrote them.
    pub name: String,
    /// The class that needs no GatewayClass object.
    pub gateway_class: String,
    /// Each Gateway has proxies of its own: the same port of two of them is no conflict.
    pub apart: bool,
}

impl Controller {
    pub const DEFAULT_NAME: &str = "tidegate.io/gateway-controller";
    pub const DEFAULT_CLASS: &str = "tidegate";

    /// A class is ours by its name or by the controller that its object names; `class` is that object.
    pub(super) fn has_class(&self, name: &str, class: Option<&GatewayClass>) -> bool {
        name == self.gateway_class || class.is_some_and(|class| class.spec.controller_name == self.name)
    }

    /// Why a Gateway is not ours.
    pub(super) fn stranger(&self, gateway: &Gateway, class: Option<&GatewayClass>) -> String {
        let wanted = &gateway.spec.gateway_class_name;
        match class {
            Some(class) => format!(
                "gatewayClassName `{wanted}` belongs to the controller {}; ours is {}",
                class.spec.controller_name, self.name
            ),
            None => format!(
                "gatewayClassName `{wanted}` is not ours, which is `{}`, and there is no GatewayClass `{wanted}`",
                self.gateway_class
            ),
        }
    }
}

impl Default for Controller {
    fn default() -> Self {
        let (name, gateway_class) = (Self::DEFAULT_NAME.to_owned(), Self::DEFAULT_CLASS.to_owned());
        Self { name, gateway_class, apart: false }
    }
}
