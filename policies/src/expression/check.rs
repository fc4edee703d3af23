//! What can be known of an expression before it meets a request.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, SourceInfo};

use super::variables::Variable;
use super::{ExpressionError, Kind};

/// As far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Text,
    /// Texts by name.
    Fields,
    List,
    /// Known when it is evaluated.
    Any,
    Other,
}

/// What a function takes and gives. Of `target.name(args)` and `name(args)`.
struct Function {
    name: &'static str,
    member: Option<Type>,
    arguments: &'static [Type],
    gives: Type,
}

/// What expressions may call besides the operators. `Other` takes anything.
const FUNCTIONS: [Function; 7] = [
    Function { name: "contains", member: Some(Type::Text), arguments: &[Type::Text], gives: Type::Bool },
    Function { name: "startsWith", member: Some(Type::Text), arguments: &[Type::Text], gives: Type::Bool },
    Function { name: "endsWith", member: Some(Type::Text), arguments: &[Type::Text], gives: Type::Bool },
    Function { name: "size", member: Some(Type::Text), arguments: &[], gives: Type::Int },
    Function { name: "size", member: None, arguments: &[Type::Text], gives: Type::Int },
    Function { name: "int", member: None, arguments: &[Type::Other], gives: Type::Int },
    Function { name: "string", member: None, arguments: &[Type::Other], gives: Type::Text },
];

struct Checker<'a> {
    source: &'a SourceInfo,
    variables: &'static [Variable],
}

/// Before the parser recurses: brackets that are open at one time.
pub(super) fn depth(text: &str, most: usize) -> Result<(), ExpressionError> {
    let mut open = 0_usize;
    for (at, character) in text.chars().enumerate() {
        match character {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > most {
            return Err(ExpressionError { at, message: format!("more than {most} brackets in each other") });
        }
    }
    Ok(())
}

pub(super) fn types(
    expression: &IdedExpr,
    source: &SourceInfo,
    (variables, wanted): (&'static [Variable], Kind),
) -> Result<(), ExpressionError> {
    let checker = Checker { source, variables };
    let found = checker.of(expression)?;
    let fits = match wanted {
        Kind::Bool => found.may_be(Type::Bool),
        Kind::Int => found.may_be(Type::Int),
        Kind::Text => matches!(found, Type::Text | Type::Int | Type::Bool | Type::Any),
    };
    if fits {
        return Ok(());
    }
    let wanted = match wanted {
        Kind::Bool => "true or false",
        Kind::Int => "a whole number",
        Kind::Text => "a text, a number, or true or false",
    };
    Err(checker.error(expression, format!("the result is {}, and must be {wanted}", found.words())))
}

impl Checker<'_> {
    fn variable(&self, name: &str) -> Option<&'static Variable> {
        self.variables.iter().find(|variable| variable.name == name)
    }

    fn of(&self, expression: &IdedExpr) -> Result<Type, ExpressionError> {
        match &expression.expr {
            Expr::Literal(literal) => Ok(literal_type(literal)),
            Expr::Ident(name) => Err(self.unknown(expression, name)),
            Expr::Select(select) => self.select(expression, select),
            Expr::Call(call) => self.call(expression, call),
            Expr::List(list) => {
                list.elements.iter().try_for_each(|element| self.of(element).map(drop))?;
                Ok(Type::List)
            }
            Expr::Comprehension(_) => {
                Err(self.error(expression, "`all`, `exists`, `map` and `filter` are not to be had".into()))
            }
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err(self.error(expression, "maps and messages cannot be written here".into()))
            }
        }
    }

    /// `a.b.c`: a variable, or a field of one.
    fn select(&self, expression: &IdedExpr, select: &SelectExpr) -> Result<Type, ExpressionError> {
        let gives = |of: Type| if select.test { Type::Bool } else { of };
        let Some(name) = dotted(expression) else {
            return match self.of(&select.operand)? {
                Type::Any => Ok(gives(Type::Any)),
                _ => Err(self.error(expression, format!("there is no `{}` in it", select.field))),
            };
        };
        if let Some(variable) = self.variable(&name) {
            return Ok(gives(variable.r#type));
        }
        let fields = dotted(&select.operand).and_then(|name| self.variable(&name));
        if fields.is_some_and(|variable| variable.r#type == Type::Fields) {
            return Ok(gives(Type::Text));
        }
        let any = |variable: &&Variable| {
            let below = name.strip_prefix(variable.name).is_some_and(|rest| rest.starts_with('.'));
            below && variable.r#type == Type::Any
        };
        if self.variables.iter().any(|variable| any(&variable)) {
            return Ok(gives(Type::Any));
        }
        Err(self.unknown(expression, &name))
    }

    fn call(&self, expression: &IdedExpr, call: &CallExpr) -> Result<Type, ExpressionError> {
        let target = call.target.as_deref().map(|target| self.of(target)).transpose()?;
        let types = call.args.iter().map(|argument| self.of(argument)).collect::<Result<Vec<_>, _>>()?;
        let any = types.contains(&Type::Any);
        let gives = match (call.func_name.as_str(), &*types) {
            (name, types) if any => match dynamic(name, types) {
                Some(gives) => Some(gives),
                None => return self.function(expression, (name, target), types),
            },
            ("_&&_" | "_||_", [Type::Bool, Type::Bool]) | ("!_", [Type::Bool]) => Some(Type::Bool),
            ("_==_" | "_!=_", [a, b]) if a == b => Some(Type::Bool),
            ("_<_" | "_<=_" | "_>_" | "_>=_", [Type::Int, Type::Int] | [Type::Text, Type::Text]) => {
                Some(Type::Bool)
            }
            ("@in", [Type::Text | Type::Int, Type::List] | [Type::Text, Type::Fields]) => Some(Type::Bool),
            ("_+_", [Type::Text, Type::Text]) => Some(Type::Text),
            ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [Type::Int, Type::Int]) | ("-_", [Type::Int]) => {
                Some(Type::Int)
            }
            ("_?_:_", [Type::Bool, a, b]) if a == b => Some(*a),
            ("_[_]", [Type::Fields, Type::Text]) => Some(Type::Text),
            (name, types) => return self.function(expression, (name, target), types),
        };
        gives.ok_or_else(|| self.mismatch(expression, &call.func_name, target, &types))
    }

    fn function(
        &self,
        expression: &IdedExpr,
        (name, target): (&str, Option<Type>),
        types: &[Type],
    ) -> Result<Type, ExpressionError> {
        let takes = |function: &&Function| {
            let arguments = function.arguments;
            function.name == name
                && match (function.member, target) {
                    (Some(wanted), Some(found)) => found.may_be(wanted),
                    (wanted, found) => wanted == found,
                }
                && arguments.len() == types.len()
                && arguments
                    .iter()
                    .zip(types)
                    .all(|(wanted, found)| *wanted == Type::Other || found.may_be(*wanted))
        };
        if let Some(function) = FUNCTIONS.iter().find(takes) {
            return Ok(function.gives);
        }
        let known = FUNCTIONS.iter().any(|function| function.name == name);
        if known || !name.chars().all(|c| c.is_alphanumeric() || c == '_') || name.starts_with('_') {
            return Err(self.mismatch(expression, name, target, types));
        }
        let names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
        Err(self.error(expression, format!("there is no function `{name}`{}", nearest(name, &names))))
    }

    fn mismatch(&self, at: &IdedExpr, name: &str, target: Option<Type>, types: &[Type]) -> ExpressionError {
        let found: Vec<_> = target.iter().chain(types).map(|found| found.words()).collect();
        self.error(at, format!("`{}` does not go with {}", operator(name), found.join(" and ")))
    }

    fn unknown(&self, at: &IdedExpr, name: &str) -> ExpressionError {
        let names: Vec<_> = self.variables.iter().map(|variable| variable.name).collect();
        self.error(at, format!("there is no `{name}`{}", nearest(name, &names)))
    }

    fn error(&self, at: &IdedExpr, message: String) -> ExpressionError {
        let offset = self.source.offset_for(leftmost(at).id).map_or(0, |(start, _)| start);
        ExpressionError { at: usize::try_from(offset).unwrap_or(0), message }
    }
}

impl Type {
    fn may_be(self, wanted: Self) -> bool {
        self == wanted || self == Self::Any
    }

    fn words(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Text => "a text",
            Self::Fields => "fields by name",
            Self::List => "a list",
            Self::Any => "any claim",
            Self::Other => "something else",
        }
    }
}

/// What an operator gives if one of its operands may be anything; whether they go together is seen when it is evaluated.
/// `None`: not even then.
fn dynamic(name: &str, types: &[Type]) -> Option<Type> {
    let all = |wanted: &[Type]| {
        let may_be = |(found, wanted): (&Type, &Type)| found.may_be(*wanted);
        types.len() == wanted.len() && types.iter().zip(wanted).all(may_be)
    };
    let ordered = |found: &Type| matches!(found, Type::Any | Type::Int | Type::Text | Type::Other);
    match name {
        "_&&_" | "_||_" => all(&[Type::Bool, Type::Bool]).then_some(Type::Bool),
        "!_" => all(&[Type::Bool]).then_some(Type::Bool),
        "_==_" | "_!=_" => Some(Type::Bool),
        "_<_" | "_<=_" | "_>_" | "_>=_" => types.iter().all(ordered).then_some(Type::Bool),
        "@in" => match types {
            [_, Type::Any | Type::List] | [Type::Any, Type::Fields] => Some(Type::Bool),
            _ => None,
        },
        "_+_" => types.iter().all(ordered).then_some(Type::Any),
        "_-_" | "_*_" | "_/_" | "_%_" | "-_" => {
            let number = |found: &Type| matches!(found, Type::Any | Type::Int | Type::Other);
            types.iter().all(number).then_some(Type::Any)
        }
        "_?_:_" => match types {
            [Type::Bool, ..] => Some(Type::Any),
            [Type::Any, a, b] if a == b => Some(*a),
            [Type::Any, a, b] if *a == Type::Any || *b == Type::Any => Some(Type::Any),
            _ => None,
        },
        "_[_]" => match types {
            [Type::Any, Type::Any | Type::Text | Type::Int] => Some(Type::Any),
            [Type::Fields, Type::Any] => Some(Type::Text),
            _ => None,
        },
        _ => None,
    }
}

fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::String(_) => Type::Text,
        _ => Type::Other,
    }
}

/// `a.b.c` of names alone.
fn dotted(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", dotted(&select.operand)?, select.field)),
        _ => None,
    }
}

/// Where a name begins: a selection stands at its dot.
fn leftmost(expression: &IdedExpr) -> &IdedExpr {
    match &expression.expr {
        Expr::Select(select) => leftmost(&select.operand),
        _ => expression,
    }
}

/// As people write it.
fn operator(name: &str) -> &str {
    match name {
        "_[_]" => "[]",
        "@in" => "in",
        "_?_:_" => "? :",
        other => other.trim_matches(['_', '@']),
    }
}

fn nearest(name: &str, known: &[&str]) -> String {
    let close = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match close {
        Some((distance, known)) if distance <= 3 => format!("; did you mean `{known}`?"),
        _ => format!(": use one of {}", known.join(", ")),
    }
}
