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
        for (row, line) in (0_u16..).zip(lines) {
            queue!(out, cursor::MoveTo(0, row), style::Print(line), Clear(ClearType::UntilNewLine))?;
        }
        let end = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        queue!(out, cursor::MoveTo(0, end), Clear(ClearType::FromCursorDown))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), cursor::Show, LeaveAlternateScreen);
    }
}
