//! Which ends of an attempt are worth another one, and whether that is safe whatever the method.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::retry::Ended;
use crate::decision::CallResult;
use crate::reason::{Reason, Silence};

/// Kinds of ends; single statuses and gRPC codes are listed beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Condition {
    /// No connection to the endpoint, or none by TLS: no byte of the request was sent.
    ConnectFailure,
    /// The endpoint has said that it did nothing about the request (a refused stream, a GOAWAY), or the connection ended
    /// before a byte of it was sent.
    Refused,
    /// The connection or stream ended before the answer's head, or what came is no HTTP.
    Reset,
    /// The attempt took longer than it may.
    Timeout,
    /// 502, 503 or 504.
    GatewayError,
    /// 500 to 599.
    #[serde(rename = "5xx")]
    ServerError,
    /// An error that says when to come again: by `Retry-After`, or by `grpc-retry-pushback-ms`.
    RetryAfter,
}

/// What a rule asks to be tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// A bit for each [`Condition`].
    conditions: u8,
    statuses: Box<[u16]>,
    /// A bit for each code.
    grpc: u32,
}

impl RetryOn {
    /// gRPC codes above 31 do not exist and are left out.
    pub fn new(conditions: &[Condition], statuses: Box<[u16]>, grpc: &[u8]) -> Self {
        let bits = grpc.iter().filter_map(|code| 1_u32.checked_shl(u32::from(*code)));
        let mut on = Self { conditions: 0, statuses, grpc: bits.fold(0, |all, bit| all | bit) };
        conditions.iter().for_each(|condition| on.add(*condition));
        on
    }

    pub(super) fn add(&mut self, condition: Condition) {
        self.conditions |= 1 << condition as u8;
    }

    /// These statuses, and no others.
    pub(super) fn only_statuses(&mut self, statuses: Box<[u16]>) {
        self.statuses = statuses;
        self.conditions &= !(1 << Condition::GatewayError as u8 | 1 << Condition::ServerError as u8);
    }

    pub fn has(&self, condition: Condition) -> bool {
        self.conditions & 1 << condition as u8 != 0
    }

    pub fn statuses(&self) -> &[u16] {
        &self.statuses
    }

    /// `None`: nobody asks for another attempt. Else whether one is safe whatever the method: nobody has seen the request,
    /// or the very answer is listed, and whoever lists it says that such an answer may be asked for again.
    pub(super) fn wants(&self, ended: &Ended) -> Option<bool> {
        let told_when = self.has(Condition::RetryAfter) && ended.asked.is_some();
        match ended.result {
            CallResult::Status(status) if self.statuses.contains(&status) => Some(true),
            CallResult::Status(status) => {
                let class = self.has(Condition::GatewayError) && (502..=504).contains(&status)
                    || self.has(Condition::ServerError) && (500..=599).contains(&status);
                (class || told_when && status >= 400).then_some(false)
            }
            CallResult::Grpc(code) if self.grpc.checked_shr(u32::from(code)).unwrap_or(0) & 1 == 1 => {
                Some(true)
            }
            CallResult::Grpc(code) => (told_when && code != 0).then_some(false),
            CallResult::Connected => None,
            CallResult::Failed(reason) => {
                let wanted = self.has(condition(reason)?) || ended.unsent && self.has(Condition::Refused);
                wanted.then_some(ended.unsent || reason.answer().retry_safe)
            }
        }
    }
}

/// Failures of the way to the endpoint or of the endpoint itself. What the mesh refused is not retried: the caps and
/// breakers that said no guard every endpoint of the backend. Nor is what took all the time there was.
pub(super) fn condition(reason: Reason) -> Option<Condition> {
    let silence = reason.silence().filter(|_| reason != Reason::DeadlineExceeded)?;
    Some(match silence {
        Silence::Connect => Condition::ConnectFailure,
        Silence::Timeout => Condition::Timeout,
        Silence::Reset => Condition::Reset,
    })
}
