//! A description as text.

use std::fmt;

use super::{Described, Held, PlaceSaid};

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} ({})", self.kind, self.name, self.sources.join(", "))?;
        if self.attached.is_empty() {
            writeln!(f, "\nNo policy names it")?;
        } else {
            writeln!(f, "\nPolicies that name it")?;
        }
        self.attached.iter().try_for_each(|held| writeln!(f, "  {held}"))?;
        self.places.iter().try_for_each(|place| write!(f, "\n{place}"))
    }
}

impl fmt::Display for PlaceSaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        match &self.source {
            Some(source) => writeln!(f, " ({source})")?,
            None => writeln!(f)?,
        }
        self.leads_to.iter().try_for_each(|to| writeln!(f, "  -> {to}"))?;
        if self.effective.is_empty() {
            writeln!(f, "  no policy holds")?;
        }
        self.effective.iter().try_for_each(|held| writeln!(f, "  holds: {held}"))?;
        self.overridden.iter().try_for_each(|held| writeln!(f, "  overridden: {held}"))
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, policy, source, mode, through } = self;
        let whence = if through.is_empty() {
            String::from("named by the route")
        } else {
            format!("of {}", through.join(", "))
        };
        let shadow = if mode == "Shadow" { ", in Shadow" } else { "" };
        write!(f, "{kind} {policy} ({source}), {whence}{shadow}")
    }
}
