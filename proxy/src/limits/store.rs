//! Exact limits, counted in Redis by one script: the questions of [`super::exact`], carried over one connection.
//!
//! Questions that are open at one time are pipelined on it. A question that found no answer in time may still have been
//! counted: so a limit is never exceeded, and may let a few less through while its store is slow. Nothing is asked twice.

use std::sync::Arc;
use std::time::Duration;

use redis::{Client, RedisError, Script};
use tidegate_policy::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::NoAnswer;
use super::breaker::Breaker;
use super::counts::{Counted, Counts};
use super::exact::{self, Told, Wanted};
use super::link::{Link, Linked};

pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(5);
/// Questions that are open at one time.
const MOST_OPEN: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct ExactStore {
    link: Link,
    script: Arc<Script>,
    breaker: Breaker,
    places: Semaphore,
    counts: Counts,
    start: Instant,
}

/// The address of the store cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("{address} is no address of a Redis (redis://HOST:PORT/DB): {cause}")]
pub struct InvalidAddress {
    address: String,
    cause: RedisError,
}

impl ExactStore {
    /// Connects when something is first asked.
    ///
    /// # Errors
    /// If `address` is not a URL of a Redis without TLS.
    pub fn new(address: &str) -> Result<Self, InvalidAddress> {
        let client = Client::open(address)
            .map_err(|cause| InvalidAddress { address: without_password(address), cause })?;
        Ok(Self {
            link: Link::new(client),
            script: Arc::new(Script::new(include_str!("spend.lua"))),
            breaker: Breaker::default(),
            places: Semaphore::new(MOST_OPEN),
            counts: Counts::default(),
            start: Instant::now(),
        })
    }

    /// Spends all of `wanted`, or none. The keys must be those of one policy.
    ///
    /// # Errors
    /// If there is no answer within `timeout`, or nobody was asked.
    pub async fn spend(&self, wanted: &[Wanted], timeout: Duration) -> Result<Told, NoAnswer> {
        let result = self.ask(wanted, timeout).await;
        self.counts.told(&result);
        result
    }

    pub fn counted(&self) -> Counted {
        self.counts.now()
    }

    /// Whether nobody is asked at the moment.
    pub fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    async fn ask(&self, wanted: &[Wanted], timeout: Duration) -> Result<Told, NoAnswer> {
        let _place = self.places.try_acquire().map_err(|_| NoAnswer::Busy)?;
        let permit = self.breaker.admit(self.now()).ok_or(NoAnswer::Open)?;
        self.counts.asked();
        let mut used = None;
        let answer = tokio::time::timeout(timeout, self.invoke(wanted, &mut used)).await;
        let result = answer.unwrap_or(Err(NoAnswer::TimedOut));
        let Err(why) = &result else {
            permit.succeeded();
            return result;
        };
        let given_up = permit.failed(self.now());
        // What is slow once is kept, for a new connection costs more than a late answer.
        if let Some(linked) = used.filter(|_| given_up || *why == NoAnswer::Failed) {
            self.link.drop(&linked);
        }
        result
    }

    async fn invoke(&self, wanted: &[Wanted], used: &mut Option<Linked>) -> Result<Told, NoAnswer> {
        let linked = self.link.get().await.ok_or(NoAnswer::Failed)?;
        let mut connection = used.insert(linked).connection.clone();
        let mut call = self.script.prepare_invoke();
        for bucket in wanted {
            call.key(bucket.key());
            for argument in bucket.arguments() {
                call.arg(argument);
            }
        }
        let answer: Vec<i64> = call.invoke_async(&mut connection).await.map_err(|error| {
            tracing::debug!(%error, "the store of exact limits failed");
            NoAnswer::Failed
        })?;
        exact::read(&answer, wanted.len()).map_err(|_| NoAnswer::Failed)
    }

    fn now(&self) -> Timestamp {
        self.start.elapsed().into()
    }
}

/// What may be logged of an address.
fn without_password(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://…@{host}")
        }
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_told_without_its_password() {
        let error = ExactStore::new("http://user:secret@store:1").unwrap_err().to_string();
        assert!(error.starts_with("http://…@store:1 is no address of a Redis"), "{error}");
        assert!(ExactStore::new("redis://127.0.0.1:6379/0").is_ok());
    }
}
