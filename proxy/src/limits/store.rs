//! Exact limits, counted in Redis by one script: the questions of [`super::exact`], carried over one connection, or one to
//! each node of a cluster.
//!
//! Questions that are open at one time are pipelined on it. A question that found no answer in time may still have been
//! counted: so a limit is never exceeded, and may let a few less through while its store is slow. Nothing is asked twice.

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, Script};

use super::NoAnswer;
use super::counts::Counted;
use super::exact::{self, Told, Wanted};
use super::gate::{Asked, Gate};
use super::link::{Link, Linked};
use super::server::Client;

/// See the module.
#[derive(Debug)]
pub struct ExactStore {
    link: Link,
    script: Arc<Script>,
    gate: Gate,
}

/// The address of the store cannot be one.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address} is no address of a Redis (redis://HOST:PORT/DB, redis-cluster://HOST:PORT,HOST:PORT): {cause}"
)]
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
            gate: Gate::new(),
        })
    }

    /// Spends all of `wanted`, or none. The keys must be those of one policy.
    ///
    /// # Errors
    /// If there is no answer within `timeout`, or nobody was asked.
    pub async fn spend(&self, wanted: &[Wanted], timeout: Duration) -> Result<Told, NoAnswer> {
        let mut used = None;
        let Asked { result, given_up } = self.gate.ask(timeout, self.invoke(wanted, &mut used)).await;
        // What is slow once is kept, for a new connection costs more than a late answer.
        if let Some(linked) = used.filter(|_| given_up || matches!(result, Err(NoAnswer::Failed))) {
            self.link.drop(&linked);
        }
        result
    }

    pub fn counted(&self) -> Counted {
        self.gate.counted()
    }

    /// Whether nobody is asked at the moment.
    pub fn is_open(&self) -> bool {
        self.gate.is_open()
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
        assert!(ExactStore::new("redis-cluster://user:secret@127.0.0.1:7000,127.0.0.1:7001").is_ok());
        let error = ExactStore::new("redis-cluster://user:secret@store:none").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
