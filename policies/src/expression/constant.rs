//! What an expression says before it is asked of anything.

use cel::IdedExpr;
use cel::Value;
use cel::common::ast::Expr;
use cel::common::value::CowVal;
use cel::context::VariableResolver;

use super::Expression;

/// Nothing is known.
#[derive(Debug)]
struct Nothing;

impl VariableResolver for Nothing {
    fn resolve<'b>(&'b self, _name: &str) -> Option<CowVal<'b, 'b>> {
        None
    }
}

impl Expression {
    /// The result, as text, where it does not depend on what is asked; an error where the expression asks nothing and fails.
    pub(crate) fn constant(&self) -> Option<Result<String, ()>> {
        match self.evaluate(&Nothing) {
            Ok(Value::Bool(value)) => Some(Ok(value.to_string())),
            Ok(Value::Int(value)) => Some(Ok(value.to_string())),
            Ok(Value::UInt(value)) => Some(Ok(value.to_string())),
            Ok(Value::Float(value)) => Some(Ok(value.to_string())),
            Ok(Value::String(value)) => Some(Ok(format!("\"{value}\""))),
            Ok(_) => None,
            Err(_) => (!asks(&self.compiled)).then_some(Err(())),
        }
    }
}

/// Whether there is any variable in it.
fn asks(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Literal(_) => false,
        Expr::Call(call) => call.target.as_deref().is_some_and(asks) || call.args.iter().any(asks),
        Expr::List(list) => list.elements.iter().any(asks),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use crate::expression::{Expression, Kind};

    #[test]
    fn what_asks_nothing_or_does_not_depend_on_it_is_constant_and_all_else_is_not() {
        let of = |text: &str| Expression::compile(text, Kind::Bool).unwrap().constant();
        let is = |value: &str| Some(Ok(value.to_owned()));
        assert_eq!(of("1 == 2"), is("false"));
        assert_eq!(of("'a' in ['a', 'b']"), is("true"));
        assert_eq!(of("true || request.method == 'GET'"), is("true"));
        assert_eq!(of("request.method == 'GET' && false"), is("false"));
        assert_eq!(of("1 / 0 == 1"), Some(Err(())));
        for asks in [
            "request.method == 'GET'",
            "has(request.headers.a)",
            "request.method == 'GET' || false",
            "has(jwt.claims.a)",
        ] {
            assert_eq!(of(asks), None, "{asks}");
        }
    }
}
