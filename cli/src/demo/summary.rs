//! The last word of a run: expected against seen, line by line.

use super::judge::{Line, Verdict};
use super::table::{Tone, tint};

/// Everything the summary tells beyond the lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// From where on the run is judged, when policies were edited meanwhile.
    pub(crate) note: Option<String>,
    /// Requests that this machine was too busy to send.
    pub(crate) given_up: u64,
}

/// The summary as text, ending in a line with the verdict.
pub(crate) fn render(lines: &[Line], facts: &Facts, colour: bool) -> String {
    let longest = |text: fn(&Line) -> &str| lines.iter().map(|l| text(l).chars().count()).max().unwrap_or(0);
    let (what, expected) = (longest(|l| &l.what), longest(|l| &l.expected));
    let mut out = String::from("\nAs written, as seen:\n");
    if let Some(note) = &facts.note {
        out += &format!("  {note}\n");
    }
    for line in lines {
        let (word, tone) = match line.verdict {
            Verdict::Pass => ("PASS", Tone::Good),
            Verdict::Fail => ("FAIL", Tone::Bad),
            Verdict::Unproven => ("????", Tone::Dim),
        };
        out +=
            &format!("  {}  {:<what$}  {:<expected$}  ", tint(word, tone, colour), line.what, line.expected);
        out += &format!("{}\n", line.seen);
    }
    if facts.given_up > 0 {
        out += &format!("  This machine was too busy to send {} of the requests.\n", facts.given_up);
    }
    let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    out += &match (count(Verdict::Fail), count(Verdict::Unproven)) {
        (0, 0) => tint("Limits, breaker and canary acted as written.\n", Tone::Good, colour),
        (0, open) => format!("{open} of {} checks could not be made in this run.\n", lines.len()),
        (failed, _) => tint(&format!("{failed} of {} checks failed.\n", lines.len()), Tone::Bad, colour),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(what: &str, verdict: Verdict) -> Line {
        Line { what: what.into(), expected: "10".into(), seen: "12".into(), verdict }
    }

    #[test]
    fn every_line_has_its_verdict_and_the_last_says_how_it_went() {
        let text =
            render(&[line("limit", Verdict::Pass), line("canary", Verdict::Fail)], &Facts::default(), false);
        assert!(text.contains("PASS  limit ") && text.contains("FAIL  canary"), "{text}");
        assert!(text.ends_with("1 of 2 checks failed.\n"));
        assert!(
            render(&[line("limit", Verdict::Pass)], &Facts::default(), false).contains("acted as written")
        );
    }

    #[test]
    fn what_could_not_be_judged_is_neither_passed_nor_failed() {
        let text = render(&[line("breaker", Verdict::Unproven)], &Facts::default(), false);
        assert!(
            text.contains("????  breaker")
                && text.ends_with("1 of 1 checks could not be made in this run.\n")
        );
    }

    #[test]
    fn an_edit_and_a_busy_machine_are_told() {
        let facts = Facts { note: Some("judged from second 9 on".into()), given_up: 3 };
        let text = render(&[line("limit", Verdict::Pass)], &facts, false);
        assert!(text.contains("judged from second 9 on") && text.contains("send 3 of the requests"));
    }
}
