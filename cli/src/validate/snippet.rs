//! The line that a problem is about, and the part of it to point to.

/// More of a line helps nobody, and breaks the picture.
const WIDTH: usize = 120;

/// A line made fit for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snippet {
    pub(super) text: String,
    /// Columns before what is pointed to.
    pub(super) before: usize,
    /// Columns of it; at least one.
    pub(super) length: usize,
}

impl Snippet {
    /// `line` and `column` from 1; `column` 0 for the whole line. `None` where there is no such line, or nothing in it.
    pub(super) fn of(text: &str, line: u32, column: u32) -> Option<Self> {
        let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
        let letters: Vec<char> = line.chars().map(printable).collect();
        let indent = letters.iter().take_while(|letter| **letter == ' ').count();
        let column = usize::try_from(column).ok()?;
        let before = if column == 0 { indent } else { column - 1 };
        let rest = letters.get(before..)?;
        if rest.is_empty() {
            return None;
        }
        let length = if column == 0 { whole(rest) } else { token(rest) };
        let from = if before + length.min(WIDTH) > WIDTH { before.saturating_sub(WIDTH / 4) } else { 0 };
        let shown: String = letters[from..].iter().take(WIDTH).collect();
        let cut = letters.len() > from + WIDTH;
        let start = if from > 0 { "…" } else { "" };
        Some(Self {
            text: format!("{start}{}{}", shown.trim_end(), if cut { "…" } else { "" }),
            before: before - from + start.chars().count(),
            length: length.min(from + WIDTH - before).max(1),
        })
    }
}

/// What comes from a file must not steer a terminal.
fn printable(letter: char) -> char {
    match letter {
        '\t' => ' ',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

/// Text for a terminal, on one line.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// All but a comment and blanks at its end.
fn whole(rest: &[char]) -> usize {
    let comment = rest.windows(2).position(|pair| pair[0] == ' ' && pair[1] == '#').unwrap_or(rest.len());
    rest[..comment].iter().rposition(|letter| *letter != ' ').map_or(1, |last| last + 1)
}

/// How long the key or value is that begins here, as far as one line shows it.
fn token(rest: &[char]) -> usize {
    let length = match rest[0] {
        quote @ ('"' | '\'') => rest[1..].iter().position(|letter| *letter == quote).map(|at| at + 2),
        '{' => closing(rest, '{', '}'),
        '[' => closing(rest, '[', ']'),
        _ => Some(plain(rest)),
    };
    length.unwrap_or_else(|| whole(rest)).max(1)
}

fn closing(rest: &[char], open: char, close: char) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, letter) in rest.iter().enumerate() {
        if *letter == open {
            depth += 1;
        } else if *letter == close {
            depth -= 1;
            if depth == 0 {
                return Some(at + 1);
            }
        }
    }
    None
}

/// A plain scalar or key: it ends before what YAML has as punctuation.
fn plain(rest: &[char]) -> usize {
    let ends = |at: &usize| {
        let next_is_blank = rest.get(at + 1).is_none_or(|next| *next == ' ');
        match rest[*at] {
            ':' => next_is_blank,
            ',' | '}' | ']' => next_is_blank || matches!(rest.get(at + 1), Some(',' | '}' | ']')),
            '#' => *at > 0 && rest[at - 1] == ' ',
            _ => false,
        }
    };
    let end = (0..rest.len()).find(ends).unwrap_or(rest.len());
    rest[..end].iter().rposition(|letter| *letter != ' ').map_or(1, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointed(line: &str, column: u32) -> String {
        let snippet = Snippet::of(line, 1, column).unwrap();
        snippet.text.chars().skip(snippet.before).take(snippet.length).collect()
    }

    #[test]
    fn the_key_or_value_that_begins_there_is_pointed_to() {
        assert_eq!(pointed("  requests: 10 # few", 3), "requests");
        assert_eq!(pointed("  requests: 10 # few", 13), "10");
        assert_eq!(pointed("a: {b: 1, c: [2, 3]}", 5), "b");
        assert_eq!(pointed("a: {b: 1, c: [2, 3]}", 8), "1");
        assert_eq!(pointed("a: {b: 1, c: [2, 3]}", 14), "[2, 3]");
        assert_eq!(pointed("a: {b: 1, c: [2, 3]}", 4), "{b: 1, c: [2, 3]}");
        assert_eq!(pointed("a: \"x: y\" # z", 4), "\"x: y\"");
        assert_eq!(pointed("a: two words", 4), "two words");
        assert_eq!(pointed("a: http://b:80/c", 4), "http://b:80/c");
        assert_eq!(pointed("a: [1, 2", 4), "[1, 2");
        assert_eq!(pointed("  - a: 1  # one", 0), "- a: 1");
    }

    #[test]
    fn a_line_that_is_not_there_is_none_and_what_would_steer_a_terminal_is_not_shown() {
        assert_eq!(Snippet::of("a: 1", 2, 1), None);
        assert_eq!(Snippet::of("a: 1", 0, 0), None);
        assert_eq!(Snippet::of("a: 1", 1, 9), None);
        assert_eq!(Snippet::of("a: \u{1b}[31mred", 1, 4).unwrap().text, "a: \u{fffd}[31mred");
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let line = format!("{}key: value{}", " ".repeat(300), "x".repeat(300));
        let snippet = Snippet::of(&line, 1, 301).unwrap();
        assert!(snippet.text.chars().count() <= WIDTH + 2, "{snippet:?}");
        assert_eq!(snippet.text.chars().skip(snippet.before).take(snippet.length).collect::<String>(), "key");
    }
}
