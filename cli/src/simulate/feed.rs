//! From lines, or a profile, to requests, and these into the replay. Lines are read by a thread of its own.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http::HeaderValue;
use tidegate_policy::simulate::log::{Format, Line, Missing, Reader};
use tidegate_policy::simulate::profile::Traffic;
use tidegate_policy::simulate::{Comparison, Plan, Reorder, Request, Simulator, Tally};

use super::batches::{self, Inlet};
use super::input::{Input, Next};
use super::progress::Progress;
use super::{FormatArg, SimulateArgs};

/// One replay, or two beside each other.
pub(super) enum Runs<'p> {
    One(Box<Simulator<'p>>),
    Two(Box<Comparison<'p>>),
}

/// What was replayed, and what was wrong with it.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) source: String,
    pub(super) format: &'static str,
    pub(super) lines: u64,
    pub(super) garbage: u64,
    /// The first of these: number, what is wrong, the beginning of the line.
    pub(super) first: Vec<(u64, &'static str, String)>,
    pub(super) missing: Vec<(Missing, u64)>,
    /// Of another side of a proxy.
    pub(super) others: u64,
    /// Beyond the window in which lines are put in order.
    pub(super) late: u64,
    /// Why it was not read to its end.
    pub(super) broken: Option<String>,
    pub(super) took: Duration,
}

/// So many lines tell the format.
const FIRST_LINES: usize = 64;
/// So many requests wait for one that came earlier.
const WINDOW: usize = 16_384;
const SHOWN: usize = 5;
const SHOWN_CHARS: usize = 100;

impl Runs<'_> {
    fn push(&mut self, request: &mut Request) {
        match self {
            Self::One(simulator) => simulator.push(request),
            Self::Two(comparison) => comparison.push(request),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::One(simulator) => simulator.finish(),
            Self::Two(comparison) => comparison.finish(),
        }
    }

    /// Of the policies that are asked about.
    pub(super) fn tally(&self) -> &Tally {
        match self {
            Self::One(simulator) => simulator.tally(),
            Self::Two(comparison) => comparison.after(),
        }
    }

    pub(super) fn comparison(&self) -> Option<&Comparison<'_>> {
        match self {
            Self::One(_) => None,
            Self::Two(comparison) => Some(comparison),
        }
    }
}

impl Replay {
    /// Whether hardly anything of it was a log.
    pub(super) fn is_garbage(&self) -> bool {
        self.garbage * 2 > self.lines
    }

    fn refuse(&mut self, why: &'static str, line: &[u8]) {
        self.garbage += 1;
        if self.first.len() < SHOWN {
            let text = String::from_utf8_lossy(&line[..line.len().min(4 * SHOWN_CHARS)]);
            let text = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
            self.first.push((self.lines, why, text));
        }
    }
}

/// Replays the requests of a profile.
pub(super) fn profile(traffic: &mut Traffic, runs: &mut Runs<'_>) -> Replay {
    let (begun, mut request) = (Instant::now(), Request::default());
    let mut progress = Progress::new(None);
    let mut lines = 0;
    while traffic.next(&mut request) {
        runs.push(&mut request);
        lines += 1;
        progress.tell(lines, 0);
    }
    runs.finish();
    Replay {
        source: String::from("profile"),
        format: "profile",
        lines,
        took: begun.elapsed(),
        ..Replay::default()
    }
}

/// Replays a log.
pub(super) fn log(args: &SimulateArgs, path: &Path, plan: &Plan, runs: &mut Runs<'_>) -> Result<Replay> {
    let input = Input::open(path)?;
    let source =
        if path == Path::new("-") { String::from("standard input") } else { path.display().to_string() };
    let mut feed =
        Feed { input, replay: Replay { source, ..Replay::default() }, order: Reorder::new(WINDOW) };
    let begun = Instant::now();
    let first = feed.first();
    let host = args.host.clone().or_else(|| plan.usual_host());
    let format = match args.format {
        Some(FormatArg::Tidegate) => Format::Tidegate,
        Some(FormatArg::Envoy) => Format::Envoy,
        Some(FormatArg::Common | FormatArg::Combined) => Format::Combined,
        None => feed.detect(&first)?,
    };
    let host = host.unwrap_or(HeaderValue::from_static("localhost"));
    let mut reader = Reader::new(format, host, plan.direction(), args.seed);
    args.header.iter().for_each(|(name, field)| reader.header(name.clone(), field.clone()));
    feed.replay.format = format.as_str();
    let size = feed.input.size;
    let (inlet, outlet) = batches::pipe();
    let mut replay = thread::scope(|scope| {
        let reading = scope.spawn(move || feed.run(&first, reader, inlet));
        let mut progress = Progress::new(size);
        while let Some(mut batch) = outlet.next() {
            let (lines, bytes) = (batch.lines, batch.bytes);
            for request in batch.requests() {
                runs.push(request);
                progress.tell(lines, bytes);
            }
            outlet.give_back(batch);
        }
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    runs.finish();
    replay.took = begun.elapsed();
    Ok(replay)
}

struct Feed {
    input: Input,
    replay: Replay,
    order: Reorder,
}

impl Feed {
    /// Lines by which the format is known.
    fn first(&mut self) -> Vec<(Next, Vec<u8>)> {
        let mut first = Vec::new();
        while first.len() < FIRST_LINES {
            let mut line = Vec::new();
            match self.next(&mut line) {
                Next::End => break,
                next => first.push((next, line)),
            }
        }
        first
    }

    fn detect(&mut self, first: &[(Next, Vec<u8>)]) -> Result<Format> {
        let source = &self.replay.source;
        let lines: Vec<_> = first.iter().map(|(_, line)| line.as_slice()).collect();
        if let Some(format) = Format::detect(&lines) {
            return Ok(format);
        }
        if let Some(broken) = &self.replay.broken {
            bail!("{source}: {broken}");
        }
        let Some((_, line)) = first.iter().find(|(_, line)| !line.trim_ascii().is_empty()) else {
            bail!("{source}: there is nothing in it");
        };
        let shown: String =
            String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
        bail!(
            "{source}: its first lines are those of no access log, as `{shown}`; --format says which it is"
        );
    }

    /// What cannot be read any further ends there: what came before is worth something.
    fn next(&mut self, line: &mut Vec<u8>) -> Next {
        match self.input.next(line) {
            Ok(next) => next,
            Err(error) => {
                let what = match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => {
                        String::from("ends in the middle of its gzip stream")
                    }
                    _ => format!("cannot be read any further: {error}"),
                };
                self.replay.broken = Some(what);
                Next::End
            }
        }
    }

    /// Reads everything. What it was is told at the end.
    fn run(mut self, first: &[(Next, Vec<u8>)], mut reader: Reader, mut inlet: Inlet) -> Replay {
        let (mut request, mut line) = (Request::default(), Vec::new());
        let mut wanted = true;
        for (next, line) in first {
            wanted &= self.line(*next, line, (&mut reader, &mut request), &mut inlet);
        }
        while wanted {
            let next = self.next(&mut line);
            if next == Next::End {
                break;
            }
            wanted = self.line(next, &line, (&mut reader, &mut request), &mut inlet);
        }
        if wanted && self.pass(true, &mut inlet) {
            inlet.send(self.replay.lines, self.input.read());
        }
        self.replay.missing = reader.missing().collect();
        (self.replay.others, self.replay.late) = (reader.others(), self.order.late());
        self.replay
    }

    /// `false`: nobody takes any more.
    fn line(
        &mut self,
        next: Next,
        line: &[u8],
        (reader, request): (&mut Reader, &mut Request),
        inlet: &mut Inlet,
    ) -> bool {
        self.replay.lines += 1;
        if next == Next::TooLong {
            self.replay.refuse("it is longer than a line of a log", line);
            return true;
        }
        match reader.read(line, request) {
            Line::Request => {
                self.order.push(request);
                return self.pass(false, inlet);
            }
            Line::Other => {}
            Line::Garbage(why) => self.replay.refuse(why, line),
        }
        true
    }

    /// Hands over what is in order. `false`: nobody takes any more.
    fn pass(&mut self, all: bool, inlet: &mut Inlet) -> bool {
        while let Some(request) = self.order.pop(all) {
            if inlet.push(request) && !inlet.send(self.replay.lines, self.input.read()) {
                return false;
            }
        }
        true
    }
}
