//! Shows frames on a terminal, in place, and leaves the terminal as it was found.

use std::io::{self, Write as _};

use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue, style};

/// What is shown when the terminal does not tell its size.
const USUAL: (u16, u16) = (100, 30);

/// Owns the terminal's alternate screen; dropping it, even in a panic, gives the terminal back.
#[derive(Debug)]
pub(crate) struct Screen(());

impl Screen {
    /// # Errors
    /// When the terminal cannot be written.
    pub(crate) fn open() -> io::Result<Self> {
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(Self(()))
    }

    /// Columns and rows, asked anew for every frame, so that a resized window is filled at the next.
    pub(crate) fn size() -> (u16, u16) {
        match terminal::size() {
            Ok((width, height)) if width > 0 && height > 0 => (width, height),
            _ => USUAL,
        }
    }

    /// Replaces what is shown. Lines are cleared one by one: no flicker.
    ///
    /// # Errors
    /// When the terminal cannot be written.
    pub(crate) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        paint(&mut out, lines)?;
        out.flush()
    }
}

/// Every line is cleared before it is written: behind a line as wide as the screen the cursor still stands on its last
/// letter. And what is below a frame is cleared from its last line: below the screen there is no line to go to.
fn paint(out: &mut impl io::Write, lines: &[String]) -> io::Result<()> {
    queue!(out, cursor::MoveTo(0, 0))?;
    for (row, line) in (0_u16..).zip(lines) {
        let last = usize::from(row) + 1 == lines.len();
        let clear = if last { ClearType::FromCursorDown } else { ClearType::UntilNewLine };
        queue!(out, cursor::MoveTo(0, row), Clear(clear), style::Print(line))?;
    }
    Ok(())
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), cursor::Show, LeaveAlternateScreen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_cleared_after_the_last_line_was_written() {
        let mut out = Vec::new();
        paint(&mut out, &["one".to_owned(), "two".to_owned()]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("two"), "{text:?}");
        assert!(text.contains("\x1b[J"), "what is below is cleared: {text:?}");
    }
}
