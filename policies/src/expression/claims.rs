//! Claims of a token as values of expressions: what is not asked for is not turned into anything.

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::{Map, Value};

use super::by_name::{ByName, Lookup};

/// An object by name; `None`: there is no token, and nothing by any name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimed<'a>(pub(super) Option<&'a Map<String, Value>>);

/// JSON as CEL has it (cel-spec, "JSON Data Conversion"), but whole numbers stay whole.
fn value<'v, 'a: 'v>(json: &'a Value) -> Box<dyn Val + 'v> {
    match json {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Box::new(CelInt::from(whole)),
            (None, Some(whole)) => Box::new(CelUInt::from(whole)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(list) => Box::new(CelList::from(list.iter().map(value).collect::<Vec<_>>())),
        Value::Object(map) => Box::new(ByName(Claimed(Some(map)))),
    }
}

impl Lookup for Claimed<'_> {
    fn find<'v>(&self, name: &str) -> Option<Box<dyn Val + 'v>>
    where
        Self: 'v,
    {
        self.0?.get(name).map(value)
    }
}
