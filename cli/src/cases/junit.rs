//! The report as JUnit writes it, which every CI system reads: a suite for each file, a test case for each case.

use std::fmt::Write as _;

use tidegate_policy::cases::Ran;

use super::Outcome;

pub(super) fn render(outcomes: &[Outcome]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    outcomes.iter().for_each(|outcome| suite(outcome, &mut out));
    out.push_str("</testsuites>\n");
    out
}

fn suite(Outcome { path, ran, took }: &Outcome, out: &mut String) {
    let (path, seconds) = (escape(path), took.as_secs_f64());
    // Writing to a string does not fail.
    let _ = match ran {
        Ok(ran) => {
            let failed = ran.iter().filter(|case| !case.mismatches.is_empty()).count();
            let count = ran.len();
            let suite = format!("tests=\"{count}\" failures=\"{failed}\" errors=\"0\" time=\"{seconds:.3}\"");
            let _ = writeln!(out, "  <testsuite name=\"{path}\" {suite}>");
            ran.iter().for_each(|ran| case(&path, ran, out));
            writeln!(out, "  </testsuite>")
        }
        Err(faults) => {
            let text: Vec<_> = faults.iter().map(ToString::to_string).collect();
            let text = escape(&text.join("\n"));
            writeln!(
                out,
                "  <testsuite name=\"{path}\" tests=\"1\" failures=\"0\" errors=\"1\" time=\"{seconds:.3}\">\n    \
                 <testcase classname=\"{path}\" name=\"the file\"><error message=\"cannot be run\">{text}</error></testcase>\n  \
                 </testsuite>"
            )
        }
    };
}

fn case(path: &str, ran: &Ran, out: &mut String) {
    let head =
        format!("    <testcase classname=\"{path}\" name=\"{}\" line=\"{}\"", escape(&ran.name), ran.line);
    let _ = match ran.mismatches.first() {
        None => writeln!(out, "{head}/>"),
        Some(first) => {
            let text: Vec<_> = ran.mismatches.iter().map(ToString::to_string).collect();
            let (text, field) = (escape(&text.join("\n")), escape(&first.field));
            writeln!(out, "{head}><failure message=\"{field}\">{text}</failure></testcase>")
        }
    };
}

/// What may stand in text and attributes. What XML 1.0 has no way to write is left out.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn what_xml_cannot_hold_is_escaped_or_left_out() {
        assert_eq!(escape("a<b> & \"c\"\u{1}\n"), "a&lt;b&gt; &amp; &quot;c&quot;&#10;");
    }
}
