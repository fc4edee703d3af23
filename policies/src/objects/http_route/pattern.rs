use regex::{Regex, RegexBuilder};

/// A compiled pattern may take this many bytes; ordinary ones take a few thousand.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// Compiles a `RegularExpression` match: the whole value must match, as in Envoy.
///
/// # Errors
/// What is wrong with the pattern, in one line.
pub fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    // Alone first: `a)(b` must not become valid by being wrapped.
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}

fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED_BYTES).build().map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        last.strip_prefix("error: ").unwrap_or(last).to_owned()
    })
}
