//! The live table and the plain lines, as text. Where it is shown is somebody else's business.

use std::time::Duration;

/// Everything one frame shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) elapsed: Duration,
    pub(crate) rows: Vec<Row>,
    pub(crate) events: Vec<Event>,
    /// One line on what to do next.
    pub(crate) hint: String,
}

/// One service in the last second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) service: String,
    pub(crate) rate: f64,
    /// Share of the requests that were not limited and went well, 0 to 1; `None` without any.
    pub(crate) success: Option<f64>,
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    /// Requests limited per second.
    pub(crate) limited: f64,
    pub(crate) breaker: Option<Circuit>,
    /// Share of checkout's calls over the last ten seconds, and as written.
    pub(crate) share: Option<(f64, Option<f64>)>,
}

/// A breaker as the caller's sidecar shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Circuit {
    Closed,
    HalfOpen,
    Open,
}

/// Something that happened to a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Dim,
}

impl Tone {
    /// The SGR code, as every terminal understands it.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Dim => "2",
        }
    }
}

impl Circuit {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Closed => Tone::Good,
            Self::HalfOpen => Tone::Plain,
            Self::Open => Tone::Bad,
        }
    }
}

/// A piece of a line, cut to fit before it is coloured.
type Cell = (String, Tone);

const HEADINGS: [(&str, usize); 8] = [
    ("service", 14),
    ("req/s", 7),
    ("success", 9),
    ("p50", 9),
    ("p99", 9),
    ("limited/s", 11),
    ("breaker", 11),
    ("canary share", 22),
];

/// Columns before the text of an event.
const EVENT_INDENT: usize = 8;

/// The frame as lines of at most `width` columns; never more than `height`: the oldest events go first.
pub(crate) fn frame(view: &View, size: (u16, u16), colour: bool) -> Vec<String> {
    let (width, height) = (usize::from(size.0), usize::from(size.1));
    let mut lines: Vec<Vec<Cell>> = vec![vec![
        (String::from("tidegate demo"), Tone::Plain),
        (format!("   {} s, Ctrl-C ends it", view.elapsed.as_secs()), Tone::Dim),
    ]];
    lines.push(Vec::new());
    lines.push(HEADINGS.iter().map(|(name, width)| (pad(name, *width), Tone::Dim)).collect());
    lines.extend(view.rows.iter().map(cells));
    lines.push(Vec::new());
    let tail = vec![Vec::new(), vec![(view.hint.clone(), Tone::Plain)]];
    let room = height.saturating_sub(lines.len() + tail.len());
    let events: Vec<_> = view.events.iter().flat_map(|event| event_lines(event, width)).collect();
    lines.extend(events[events.len().saturating_sub(room)..].iter().cloned());
    lines.extend(tail);
    lines.truncate(height);
    lines.iter().map(|line| paint(line, width, colour)).collect()
}

/// One line for a log: the same numbers by name.
pub(crate) fn plain(view: &View, row: &Row) -> String {
    let mut line = format!("{:>4}s {:<12} rps={:.0}", view.elapsed.as_secs(), row.service, row.rate);
    if let Some(success) = row.success {
        line += &format!(" success={:.1}%", success * 100.0);
    }
    for (name, latency) in [("p50", row.p50), ("p99", row.p99)] {
        if let Some(latency) = latency {
            line += &format!(" {name}={}", millis(latency));
        }
    }
    line += &format!(" limited={:.0}/s", row.limited);
    if let Some(circuit) = row.breaker {
        line += &format!(" breaker={}", circuit.as_str());
    }
    if let Some((share, written)) = row.share {
        line += &format!(" share={:.1}%", share * 100.0);
        if let Some(written) = written {
            line += &format!(" written={:.1}%", written * 100.0);
        }
    }
    line
}

pub(crate) fn plain_event(event: &Event) -> String {
    format!("{:>4}s {}", event.at.as_secs(), event.text)
}

/// Text in a tone, if colour is wanted.
pub(crate) fn tint(text: &str, tone: Tone, colour: bool) -> String {
    match tone.code() {
        code if colour && !code.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
        _ => text.to_owned(),
    }
}

/// An event, wrapped: the end of an error says what to do.
fn event_lines(event: &Event, width: usize) -> Vec<Vec<Cell>> {
    let mut lines = vec![vec![(format!("{:>4} s  ", event.at.as_secs()), Tone::Dim)]];
    let room = width.saturating_sub(EVENT_INDENT).max(1);
    for (row, text) in wrap(&event.text, room).into_iter().enumerate() {
        if row > 0 {
            lines.push(vec![(pad("", EVENT_INDENT), Tone::Plain)]);
        }
        lines[row].push((text, event.tone));
    }
    lines
}

/// Breaks at spaces, and inside a word only if it is longer than a line.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            lines.push(String::new());
            used = 0;
        }
        let space = usize::from(used > 0);
        for letter in std::iter::repeat_n(' ', space).chain(word.chars()) {
            if used == room {
                lines.push(String::new());
                used = 0;
            }
            lines.last_mut().into_iter().for_each(|line| line.push(letter));
            used += 1;
        }
    }
    lines
}

fn cells(row: &Row) -> Vec<Cell> {
    let dash = || String::from("-");
    let success = row.success.map_or_else(dash, |s| format!("{:.1} %", s * 100.0));
    let success_tone = match row.success {
        Some(share) if share < 0.9 => Tone::Bad,
        _ => Tone::Plain,
    };
    let share = row.share.map_or_else(dash, |(seen, written)| match written {
        Some(written) => format!("{:.1} % ({:.1} % written)", seen * 100.0, written * 100.0),
        None => format!("{:.1} %", seen * 100.0),
    });
    let values = [
        (row.service.clone(), Tone::Plain),
        (format!("{:.0}", row.rate), Tone::Plain),
        (success, success_tone),
        (row.p50.map_or_else(dash, millis), Tone::Plain),
        (row.p99.map_or_else(dash, millis), Tone::Plain),
        (format!("{:.0}", row.limited), Tone::Plain),
        (
            row.breaker.map_or_else(dash, |c| c.as_str().to_owned()),
            row.breaker.map_or(Tone::Plain, Circuit::tone),
        ),
        (share, Tone::Plain),
    ];
    values.into_iter().zip(HEADINGS).map(|((text, tone), (_, width))| (pad(&text, width), tone)).collect()
}

fn millis(latency: Duration) -> String {
    let ms = latency.as_secs_f64() * 1000.0;
    if ms < 100.0 { format!("{ms:.1}ms") } else { format!("{ms:.0}ms") }
}

fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

fn paint(line: &[Cell], width: usize, colour: bool) -> String {
    let mut room = width;
    let mut painted = String::new();
    for (text, tone) in line {
        let cut: String = text.chars().take(room).collect();
        room -= cut.chars().count();
        painted += &tint(&cut, *tone, colour);
    }
    painted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let storefront = Row {
            service: "storefront".into(),
            rate: 150.2,
            success: Some(0.987),
            p50: Some(Duration::from_micros(3_240)),
            p99: Some(Duration::from_millis(140)),
            limited: 40.0,
            breaker: None,
            share: None,
        };
        let canary = Row {
            service: "checkout-v2".into(),
            rate: 11.0,
            success: Some(0.0),
            breaker: Some(Circuit::Open),
            share: Some((0.098, Some(0.1))),
            ..Row::default()
        };
        let event = |at: u64, text: &str| Event {
            at: Duration::from_secs(at),
            tone: Tone::Bad,
            text: text.to_owned(),
        };
        View {
            elapsed: Duration::from_secs(7),
            rows: vec![storefront, canary],
            events: vec![event(1, "first"), event(5, "checkout-v2: circuit open")],
            hint: "edit limits.yaml and watch".into(),
        }
    }

    #[test]
    fn a_frame_shows_every_number_under_its_heading() {
        let frame = frame(&view(), (120, 30), false);
        let heading = &frame[2];
        let column = |name: &str| heading.find(name).unwrap();
        assert!(frame[3][column("req/s")..].starts_with("150 "), "{frame:#?}");
        assert!(frame[3][column("success")..].starts_with("98.7 %"));
        assert!(frame[3][column("p50")..].starts_with("3.2ms"));
        assert!(frame[3][column("p99")..].starts_with("140ms"));
        assert!(frame[3][column("limited/s")..].starts_with("40 "));
        assert!(frame[4][column("breaker")..].starts_with("open"));
        assert!(frame[4][column("canary")..].starts_with("9.8 % (10.0 % written)"));
        assert!(frame.iter().any(|l| l.ends_with("checkout-v2: circuit open")));
        assert_eq!(frame.last().unwrap(), "edit limits.yaml and watch");
    }

    #[test]
    fn a_frame_fits_any_terminal() {
        for size in [(0, 0), (1, 1), (20, 5), (40, 8), (200, 50)] {
            let frame = frame(&view(), size, false);
            assert!(frame.len() <= usize::from(size.1), "{size:?}");
            assert!(frame.iter().all(|l| l.chars().count() <= usize::from(size.0)), "{size:?}");
        }
    }

    #[test]
    fn the_oldest_events_go_first_when_room_is_short() {
        let frame = frame(&view(), (80, 9), false);
        assert!(frame.iter().any(|l| l.contains("circuit open")));
        assert!(!frame.iter().any(|l| l.contains("first")));
    }

    #[test]
    fn a_long_event_is_wrapped_and_loses_nothing() {
        let mut view = view();
        view.events[1].text = "refused: limits.yaml:23:7: unknown field (did you mean `requests`?)".into();
        let lines: Vec<String> = frame(&view, (40, 30), false);
        let at = lines.iter().position(|line| line.contains("refused")).unwrap();
        assert_eq!(lines[at], "   5 s  refused: limits.yaml:23:7:");
        assert_eq!(lines[at + 1], "        unknown field (did you mean");
        assert_eq!(lines[at + 2], "        `requests`?)");
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
    }

    #[test]
    fn colour_is_there_only_when_asked_for() {
        assert!(!frame(&view(), (120, 30), false).concat().contains('\x1b'));
        assert!(frame(&view(), (120, 30), true).concat().contains("\x1b[31mopen"));
    }

    #[test]
    fn a_plain_line_names_its_numbers_and_leaves_out_what_is_unknown() {
        let view = view();
        assert_eq!(
            plain(&view, &view.rows[0]),
            "   7s storefront   rps=150 success=98.7% p50=3.2ms p99=140ms limited=40/s"
        );
        assert_eq!(
            plain(&view, &view.rows[1]),
            "   7s checkout-v2  rps=11 success=0.0% limited=0/s breaker=open share=9.8% written=10.0%"
        );
    }
}
