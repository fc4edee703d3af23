//! Limits that somebody else counts: the questions to a store or a service, and what to do when no answer comes.
//!
//! A limit must never be worse than the thing it protects from. So every question has a timeout in milliseconds, a
//! [`breaker`] that stops asking who does not answer, and a bound on questions that are open at one time; whoever asks
//! gets an answer or a [`NoAnswer`] and falls back to what its policy says. What is counted where, the core says: it asks the
//! [`store`] that a proxy is started with, or the [`services`] that policies name. Of what is lent, requests ask nobody: [`mesh`] carries reports and
//! shares beside them.

pub mod breaker;
pub mod counts;
pub(crate) mod crowd;
pub mod exact;
mod gate;
mod link;
pub(crate) mod mesh;
mod perform;
mod server;
pub mod service;
mod services;
pub mod store;

pub(crate) use perform::perform;
pub(crate) use services::Services;

/// Why there is no answer; the request is then judged by what the policy says for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoAnswer {
    /// It was not asked: too many of the last questions found no answer.
    #[error("not asked, because the last questions found no answer")]
    Open,
    /// It was not asked: too many questions are open already.
    #[error("not asked, because too many questions wait for an answer")]
    Busy,
    /// There is nobody to ask.
    #[error("nobody there")]
    Unreachable,
    #[error("no answer in time")]
    TimedOut,
    /// Refused, broken off, or an answer that is none.
    #[error("no valid answer")]
    Failed,
}
