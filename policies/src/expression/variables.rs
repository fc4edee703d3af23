//! The names that an expression may use, once for the check and for the evaluation.

use super::check::Type;

/// One of them.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) r#type: Type,
}

/// Those of a request. What is a [`Type::Fields`] is asked by a further name, `request.headers["x-tenant"]`.
pub(super) const OF_REQUEST: [Variable; 11] = [
    Variable::new("request.method", Type::Text),
    Variable::new("request.path", Type::Text),
    Variable::new("request.host", Type::Text),
    Variable::new("request.protocol", Type::Text),
    Variable::new("request.headers", Type::Fields),
    Variable::new("request.query", Type::Fields),
    Variable::new("source.address", Type::Text),
    Variable::new("source.port", Type::Int),
    Variable::new("source.identity", Type::Text),
    Variable::new("destination.route", Type::Text),
    // Of a token that was verified; without one, nothing by any name.
    Variable::new("jwt.claims", Type::Any),
];

/// Those of a response, when nothing is left of its request.
pub(super) const OF_RESPONSE: [Variable; 2] =
    [Variable::new("response.status", Type::Int), Variable::new("response.headers", Type::Fields)];

impl Variable {
    const fn new(name: &'static str, r#type: Type) -> Self {
        Self { name, r#type }
    }
}
