//! Durations as people type them: `500ms`, `1s`, `2m`.

use std::time::Duration;

/// # Errors
/// What was expected, for the command line to print.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected(text))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3600))),
        "" if number == 0 => Ok(Duration::ZERO),
        _ => Err(expected(text)),
    }
}

fn expected(text: &str) -> String {
    format!("`{text}` is not a duration; write a whole number and a unit, such as 500ms, 10s or 2m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_with_their_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn refuses_a_bare_number_with_the_fix() {
        for bad in ["10", "", "s", "-1s", "1.5s", "10 s", "99999999999999999999s"] {
            assert!(parse(bad).is_err_and(|e| e.contains("500ms")), "{bad}");
        }
    }
}
