//! What a lint is about, for a terminal.

use std::fmt::Write as _;

use anyhow::Result;
use tidegate_policy::lint::LINTS;

const WIDTH: usize = 80;

/// # Errors
/// There is no such lint.
pub(super) fn text(name: &str) -> Result<String> {
    if name == "all" {
        let longest = LINTS.iter().map(|lint| lint.name.len()).max().unwrap_or(0);
        let mut out = String::new();
        for lint in LINTS {
            let _ = writeln!(out, "{:longest$}  {}", lint.name, lint.about);
        }
        return Ok(out);
    }
    let lint = super::known(name)?;
    let mut out = format!("{}: {}\n\n", lint.name, lint.about);
    for paragraph in lint.explanation.split("\n\n") {
        if paragraph.starts_with(' ') {
            out += paragraph;
            out.push('\n');
        } else {
            wrap(paragraph, &mut out);
        }
        out.push('\n');
    }
    let _ = writeln!(out, "To pass over it: tidegate validate --allow {}", lint.name);
    Ok(out)
}

fn wrap(paragraph: &str, out: &mut String) {
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}
