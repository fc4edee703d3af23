use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::Logged;
use super::profile::Models;
use crate::decision::CallResult;
use crate::story::{Answer, Backends, Call};
use crate::time::Timestamp;

/// What backends answer in a replay: what the log says of the request, the first time. A second attempt, or a request that
/// no backend has seen, is answered as one of those of late was, by chance.
#[derive(Debug)]
pub struct Answers {
    recent: Vec<Answer>,
    next: usize,
    /// In place of a log; with the time at which the traffic begins.
    models: Option<(Arc<Models>, Timestamp)>,
    pub(super) logged: Logged,
    pub(super) rng: fastrand::Rng,
}

/// So many answers are remembered.
const RECENT: usize = 1024;
/// As long as nothing is known.
const USUAL: Answer = Answer { result: CallResult::Status(200), latency: Duration::from_millis(10) };

impl Default for Answers {
    fn default() -> Self {
        Self {
            recent: Vec::new(),
            next: 0,
            models: None,
            logged: Logged::default(),
            rng: fastrand::Rng::with_seed(0),
        }
    }
}

impl Answers {
    /// As a profile says, of traffic that begins then.
    pub fn by(models: Arc<Models>, began: Timestamp) -> Self {
        Self { models: Some((models, began)), ..Self::default() }
    }

    pub(super) fn remember(&mut self, logged: Logged) {
        let Some(answer) = logged.answer else { return };
        if self.recent.len() < RECENT {
            self.recent.push(answer);
        } else {
            self.recent[self.next] = answer;
            self.next = (self.next + 1) % RECENT;
        }
    }
}

impl Backends for Answers {
    fn answer(&mut self, call: &Call<'_>, _headers: &mut HeaderMap) -> Answer {
        if let Some((models, began)) = &self.models {
            return models.answer(call, *began, &mut self.rng);
        }
        let answer = match self.logged.answer.filter(|_| call.attempt == 0) {
            Some(answer) => answer,
            None if self.recent.is_empty() => USUAL,
            None => self.recent[self.rng.usize(..self.recent.len())],
        };
        match answer.result {
            CallResult::Status(status) if call.grpc => {
                Answer { result: CallResult::Grpc(grpc_of(status)), ..answer }
            }
            CallResult::Grpc(code) if !call.grpc => {
                Answer { result: CallResult::Status(if code == 0 { 200 } else { 500 }), ..answer }
            }
            _ => answer,
        }
    }
}

/// The code that gRPC reads in a status, where nothing else is known ("HTTP to gRPC Status Code Mapping").
fn grpc_of(status: u16) -> u8 {
    match status {
        200..=299 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}
