//! Values in the query of a URL, as our own admin ports read them.

/// Percent-encoded UTF-8, with `+` for a space. `None` if it is anything else: who reads half of a question answers another one.
pub fn query_value(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                // Of digits only: the parser takes a sign too.
                let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            b'+' => b' ',
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::query_value;

    #[test]
    fn escapes_are_bytes_of_utf8_and_a_plus_is_a_space() {
        assert_eq!(query_value("shop%2Fcaf%C3%A9+1").as_deref(), Some("shop/café 1"));
        assert_eq!(query_value("").as_deref(), Some(""));
        for broken in ["%", "%4", "%zz", "%ff", "%+1"] {
            assert_eq!(query_value(broken), None, "{broken}");
        }
    }
}
