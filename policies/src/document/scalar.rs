//! Plain scalars by the YAML 1.2.2 core schema (section 10.3).

use super::yaml::Value;

/// What a scalar without quotes and without a tag means.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => int(text).or_else(|| float(text)).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

/// What a scalar means whose tag says its type; `None` if it cannot be that.
pub(super) fn tagged(text: &str, tag: &str) -> Option<Value> {
    match (tag, plain(text)) {
        ("str" | "!", _) => Some(Value::String(text.to_owned())),
        ("null", value @ Value::Null) => Some(value),
        ("bool", value @ Value::Bool(_)) => Some(value),
        ("int", value @ Value::Int(_)) | ("float", value @ Value::Float(_)) => Some(value),
        ("float", Value::Int(_)) => text.parse().ok().map(Value::Float),
        _ => None,
    }
}

fn int(text: &str) -> Option<Value> {
    let value = if let Some(digits) = text.strip_prefix("0o") {
        radix(digits, 8)
    } else if let Some(digits) = text.strip_prefix("0x") {
        radix(digits, 16)
    } else {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        decimal.then(|| text.parse().ok()).flatten()
    }?;
    // JSON carries no more than 64 bits; beyond that the number is read as a float.
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(Value::Int(value))
}

fn radix(digits: &str, radix: u32) -> Option<i128> {
    let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    valid.then(|| i128::from_str_radix(digits, radix).ok()).flatten()
}

fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(Value::Float(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }));
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Value::Float(f64::NAN));
    }
    let starts = unsigned.starts_with(|c: char| c.is_ascii_digit())
        || (unsigned.starts_with('.') && unsigned[1..].starts_with(|c: char| c.is_ascii_digit()));
    let numeric =
        unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    (starts && numeric).then(|| text.parse().ok().map(Value::Float)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_core_schema_and_not_yaml_1_1() {
        assert_eq!(plain("yes"), Value::String(String::from("yes")));
        assert_eq!(plain("on"), Value::String(String::from("on")));
        assert_eq!(plain("1_000"), Value::String(String::from("1_000")));
        assert_eq!(plain("12:30:45"), Value::String(String::from("12:30:45")));
        assert_eq!(plain("0o17"), Value::Int(15));
        assert_eq!(plain("0x1F"), Value::Int(31));
        assert_eq!(plain("010"), Value::Int(10));
        assert_eq!(plain("-3"), Value::Int(-3));
        assert_eq!(plain("+3"), Value::Int(3));
        assert_eq!(plain("1e3"), Value::Float(1000.0));
        assert_eq!(plain(".5"), Value::Float(0.5));
        assert_eq!(plain("5."), Value::Float(5.0));
        assert_eq!(plain("-.inf"), Value::Float(f64::NEG_INFINITY));
        assert_eq!(plain("~"), Value::Null);
        assert_eq!(plain("-"), Value::String(String::from("-")));
        assert_eq!(plain("."), Value::String(String::from(".")));
        assert_eq!(plain("1.2.3.4"), Value::String(String::from("1.2.3.4")));
    }

    #[test]
    fn a_tag_overrules_the_look_but_not_the_truth() {
        assert_eq!(tagged("12", "str"), Some(Value::String(String::from("12"))));
        assert_eq!(tagged("12", "float"), Some(Value::Float(12.0)));
        assert_eq!(tagged("twelve", "int"), None);
        assert_eq!(tagged("x", "binary"), None);
    }

    #[test]
    fn a_number_beyond_64_bits_becomes_a_float() {
        assert_eq!(plain("18446744073709551615"), Value::Int(i128::from(u64::MAX)));
        assert!(matches!(plain("18446744073709551616"), Value::Float(_)));
        assert!(matches!(plain("-9223372036854775809"), Value::Float(_)));
    }
}
