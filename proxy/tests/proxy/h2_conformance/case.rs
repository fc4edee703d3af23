//! One case: what is sent, and what must come of it.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_testkit::frames::{
    self, ACK, END, END_HEADERS, END_STREAM, Frame, FrameConnection, GOAWAY, HEADERS, PING, PREFACE,
    RST_STREAM,
};

/// Error codes (RFC 9113, section 7).
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const COMPRESSION_ERROR: u32 = 9;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// Only a case that fails waits this long.
const PATIENCE: Duration = Duration::from_secs(10);
const PROBE: &[u8] = b"tidegate";

pub(super) struct Case {
    pub(super) section: &'static str,
    pub(super) what: &'static str,
    steps: Vec<Step>,
    pub(super) want: Want,
    /// For a backend that does not answer.
    pub(super) hangs: bool,
    /// The preface and SETTINGS come first.
    greets: bool,
}

pub(super) enum Step {
    Send(Vec<u8>),
    /// Waits for the end of the answer on this stream.
    Answered(u32),
}

/// What must come of a case.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    /// Nothing: a ping is answered and there is no error.
    Alive,
    /// The first answer has this status, and the connection lives.
    Status(u16),
    /// A stream error with one of these codes, and the connection lives (section 5.4.2).
    Stream(&'static [u32]),
    /// GOAWAY with one of these codes, then the end (section 5.4.1).
    Connection(&'static [u32]),
    /// The end, with or without a word.
    Closed,
}

/// What came of a case.
#[derive(Debug, Default)]
struct Seen {
    status: Option<u16>,
    resets: Vec<u32>,
    go_away: Option<u32>,
    alive: bool,
    closed: bool,
}

impl Case {
    pub(super) fn new(
        section: &'static str,
        what: &'static str,
        steps: impl Into<Vec<Step>>,
        want: Want,
    ) -> Self {
        Self { section, what, steps: steps.into(), want, hangs: false, greets: true }
    }

    /// These frames and nothing else.
    pub(super) fn frames(section: &'static str, what: &'static str, frames: &[Frame], want: Want) -> Self {
        Self::new(section, what, [send(frames)], want)
    }

    pub(super) fn hanging(self) -> Self {
        Self { hangs: true, ..self }
    }

    /// Nothing is sent but what the case says.
    pub(super) fn bare(self) -> Self {
        Self { greets: false, ..self }
    }

    /// # Errors
    /// What was seen instead.
    pub(super) async fn run(&self, address: SocketAddr) -> Result<(), String> {
        let mut seen = Seen::default();
        match tokio::time::timeout(PATIENCE, self.play(address, &mut seen)).await {
            Ok(()) if seen.is(self.want) => Ok(()),
            Ok(()) => Err(format!("{seen:?}")),
            Err(_) => Err(format!("{seen:?} and nothing more")),
        }
    }

    async fn play(&self, address: SocketAddr, seen: &mut Seen) {
        let mut client = FrameConnection::connect(address).await;
        if self.greets {
            client.write(PREFACE).await;
            client.send(&Frame::settings(&[])).await;
        }
        for step in &self.steps {
            match step {
                Step::Send(bytes) => {
                    client.write(bytes).await;
                }
                Step::Answered(stream) => {
                    client.until(|f| f.stream == *stream && f.flags & END_STREAM != 0).await;
                }
            }
        }
        client.send(&Frame::new(PING, 0, 0, PROBE)).await;
        while !seen.settles(self.want) {
            match client.next().await {
                Some(frame) => seen.frame(&frame),
                None => seen.closed = true,
            }
        }
    }
}

impl Seen {
    fn frame(&mut self, frame: &Frame) {
        match frame.kind {
            HEADERS if self.status.is_none() => self.status = frame.status(),
            RST_STREAM => self.resets.extend(frame.error_code()),
            GOAWAY => self.go_away = frame.error_code(),
            PING if frame.flags & ACK != 0 && frame.payload == PROBE => self.alive = true,
            _ => {}
        }
    }

    /// Whether nothing that is still to come could change what this is.
    fn settles(&self, want: Want) -> bool {
        match want {
            _ if self.closed => true,
            Want::Alive | Want::Connection(_) | Want::Closed => self.alive,
            Want::Status(_) => self.alive && (self.status.is_some() || !self.resets.is_empty()),
            Want::Stream(_) => self.alive && (self.status.is_some() || !self.resets.is_empty()),
        }
    }

    fn is(&self, want: Want) -> bool {
        let quiet = self.go_away.is_none() && !self.closed && self.alive;
        match want {
            Want::Alive => quiet && self.resets.is_empty(),
            Want::Status(status) => quiet && self.resets.is_empty() && self.status == Some(status),
            Want::Stream(codes) => {
                quiet && !self.resets.is_empty() && self.resets.iter().all(|code| codes.contains(code))
            }
            Want::Connection(codes) => self.closed && self.go_away.is_some_and(|code| codes.contains(&code)),
            Want::Closed => self.closed,
        }
    }
}

pub(super) fn send(frames: &[Frame]) -> Step {
    Step::Send(frames.iter().flat_map(Frame::bytes).collect())
}

/// A whole request.
pub(super) fn get(stream: u32) -> Frame {
    Frame::new(HEADERS, END, stream, frames::request("GET", "/", &[]))
}

/// The head of a request whose body follows.
pub(super) fn post(stream: u32) -> Frame {
    Frame::new(HEADERS, END_HEADERS, stream, frames::request("POST", "/", &[]))
}
