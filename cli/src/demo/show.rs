//! Where the demo is shown: a live table on a terminal, plain lines anywhere else.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use super::screen::Screen;
use super::table::{self, View};
use crate::{logging, say};

#[derive(Debug)]
pub(crate) enum Show {
    Plain {
        /// Events up to here have been told.
        told: Option<Duration>,
    },
    /// The screen is taken with the first frame: until then, what goes wrong is better read on the usual one.
    Live { screen: Option<Screen>, colour: bool },
}

impl Show {
    pub(crate) fn new(no_tty: bool) -> Self {
        if no_tty || !io::stdout().is_terminal() {
            return Self::Plain { told: None };
        }
        Self::Live { screen: None, colour: logging::colour(&io::stdout()) }
    }

    /// # Errors
    /// When the terminal cannot be written.
    pub(crate) fn view(&mut self, view: &View) -> io::Result<()> {
        match self {
            Self::Plain { told } => {
                for event in view.events.iter().filter(|event| told.is_none_or(|told| event.at > told)) {
                    say::line(&table::plain_event(event));
                }
                *told = view.events.last().map(|event| event.at).or(*told);
                for row in &view.rows {
                    say::line(&table::plain(view, row));
                }
                Ok(())
            }
            Self::Live { screen, colour } => {
                let screen = match screen {
                    Some(screen) => screen,
                    None => screen.insert(Screen::open()?),
                };
                screen.draw(&table::frame(view, Screen::size(), *colour))
            }
        }
    }
}
