//! The names that an expression may use, once for the check and for the evaluation.

use super::check::Type;

/// One of them.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) r#type: Type,
}

/// All of them. What is a [`Type::Fields`] is asked by a further name, `request.headers["x-tenant"]`.
pub(super) const VARIABLES: [Variable; 10] = [
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
];

impl Variable {
    const fn new(name: &'static str, r#type: Type) -> Self {
        Self { name, r#type }
    }

    pub(super) fn named(name: &str) -> Option<&'static Self> {
        VARIABLES.iter().find(|variable| variable.name == name)
    }
}
