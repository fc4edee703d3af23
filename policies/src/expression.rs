//! Expressions in the Common Expression Language over a request, as policies write them.
//!
//! Source: <https://github.com/google/cel-spec>. Whatever can be known when a policy is loaded is checked then: names,
//! functions and the type of the result, each error with its place. What is evaluated for a request is bounded by the
//! length of the expression: there are no loops, for the lists that they would walk are as long as clients like.
//!
//! What a token claims may be of any type (`jwt.claims.level > 3`), so that this part is checked when it is evaluated.
//!
//! Names that a request need not have (a header, an identity, a claim) make the expression fail for that request; what follows from
//! that is for the policy to say. `has(request.headers.name)` asks first.

mod by_name;
mod check;
mod claims;
mod constant;
mod facts;
mod variables;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::context::VariableResolver;
use cel::parser::Parser;
use cel::{Context, Env, IdedExpr, ParseErrors, Value};

pub(crate) use facts::{ConnectionFacts, Facts, ResponseFacts};
use variables::Variable;

/// Longer ones are programs.
const MOST_CHARACTERS: usize = 2_048;
/// Of the parser and of the evaluation; deep enough for whatever a person reads.
const MOST_DEPTH: u16 = 32;

/// What an expression must result in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    /// Text, a number or a truth value, as text.
    Text,
    Int,
}

/// An expression that has passed all checks.
pub(crate) struct Expression {
    text: Arc<str>,
    compiled: IdedExpr,
}

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at character {} of the expression)", .at + 1)]
pub(crate) struct ExpressionError {
    /// In characters from its beginning.
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// Why there is no result for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoResult;

static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

impl Expression {
    /// Over a request.
    ///
    /// # Errors
    /// It is too long or too deep, is no CEL, names what there is not, or does not result in `wanted`.
    pub(crate) fn compile(text: &str, wanted: Kind) -> Result<Self, ExpressionError> {
        Self::compile_over(&variables::OF_REQUEST, text, wanted)
    }

    /// Over a response.
    ///
    /// # Errors
    /// As [`Expression::compile`].
    pub(crate) fn compile_for_response(text: &str, wanted: Kind) -> Result<Self, ExpressionError> {
        Self::compile_over(&variables::OF_RESPONSE, text, wanted)
    }

    fn compile_over(
        variables: &'static [Variable],
        text: &str,
        wanted: Kind,
    ) -> Result<Self, ExpressionError> {
        let length = text.chars().count();
        if length > MOST_CHARACTERS {
            let message = format!("{length} characters: write at most {MOST_CHARACTERS}");
            return Err(ExpressionError { at: MOST_CHARACTERS, message });
        }
        check::depth(text, usize::from(MOST_DEPTH))?;
        let parsed = Parser::default().max_recursion_depth(MOST_DEPTH).parse_with_source_info(text);
        let (compiled, source) = parsed.map_err(|errors| syntax(text, &errors))?;
        check::types(&compiled, &source, (variables, wanted))?;
        Ok(Self { text: text.into(), compiled })
    }

    /// # Errors
    /// It asks for what the request does not have, or its result is no truth value.
    pub(crate) fn holds(&self, facts: &impl VariableResolver) -> Result<bool, NoResult> {
        match self.evaluate(facts)? {
            Value::Bool(holds) => Ok(holds),
            _ => Err(NoResult),
        }
    }

    /// # Errors
    /// It asks for what the request does not have, or its result is no whole number.
    pub(crate) fn number(&self, facts: &impl VariableResolver) -> Result<i64, NoResult> {
        match self.evaluate(facts)? {
            Value::Int(number) => Ok(number),
            Value::UInt(number) => i64::try_from(number).map_err(|_| NoResult),
            _ => Err(NoResult),
        }
    }

    /// # Errors
    /// It asks for what the request does not have, or its result is a list or a map.
    pub(crate) fn value(&self, facts: &Facts<'_>) -> Result<Arc<String>, NoResult> {
        match self.evaluate(facts)? {
            Value::String(text) => Ok(text),
            Value::Int(number) => Ok(Arc::new(number.to_string())),
            Value::UInt(number) => Ok(Arc::new(number.to_string())),
            Value::Bool(holds) => Ok(Arc::new(holds.to_string())),
            Value::Float(number) => Ok(Arc::new(number.to_string())),
            _ => Err(NoResult),
        }
    }

    /// Whether it may ask for `jwt.claims`.
    pub(crate) fn asks_claims(&self) -> bool {
        self.text.contains("jwt")
    }

    fn evaluate(&self, facts: &impl VariableResolver) -> Result<Value, NoResult> {
        let mut context = Context::with_env(STANDARD.clone());
        context.set_variable_resolver(facts);
        Value::resolve(&self.compiled, &context).map_err(|_| NoResult)
    }
}

/// The first error of the parser, in its words. It counts lines and columns from 1, and beyond the end.
fn syntax(text: &str, errors: &ParseErrors) -> ExpressionError {
    let first = errors.errors.first();
    let (line, column) = first.map_or((1, 0), |error| error.pos);
    let lines = usize::try_from(line - 1).unwrap_or(0);
    let before: usize = text.split('\n').take(lines).map(|line| line.chars().count() + 1).sum();
    let message = first.map_or("not an expression", |error| error.msg.as_str());
    ExpressionError {
        at: (before + usize::try_from(column - 1).unwrap_or(0)).min(text.chars().count()),
        message: format!("not an expression: {}", message.trim()),
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests;
