//! What may be at the address of the store: a Redis, or a cluster of them.

use std::fmt;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisFuture, RedisResult, Value};

use super::link::CONNECT_TIMEOUT;

/// Some of the nodes of a cluster; the others are found through them.
const CLUSTER: &str = "redis-cluster://";

#[derive(Debug)]
pub(super) enum Client {
    One(redis::Client),
    Cluster(Nodes),
}

pub(super) struct Nodes(Box<ClusterClient>);

#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Client {
    /// `redis://[USER:PASSWORD@]HOST:PORT[/DB]`, `redis+unix://PATH`, or
    /// `redis-cluster://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]`.
    ///
    /// # Errors
    /// If it is none of these.
    pub(super) fn open(address: &str) -> RedisResult<Self> {
        let Some(nodes) = address.strip_prefix(CLUSTER) else {
            return redis::Client::open(address).map(Self::One);
        };
        let (user, nodes) = match nodes.rsplit_once('@') {
            Some((user, nodes)) => (format!("{user}@"), nodes),
            None => (String::new(), nodes),
        };
        let nodes = nodes.split(',').map(|node| format!("redis://{user}{node}"));
        let client = ClusterClient::builder(nodes)
            .connection_timeout(CONNECT_TIMEOUT)
            // Questions have their own timeout.
            .overall_response_timeout(None)
            // Once: whoever has moved is asked where it is now. What broke off may have been counted.
            .retries(1)
            .build()?;
        Ok(Self::Cluster(Nodes(Box::new(client))))
    }

    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        match self {
            Self::One(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(None);
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
            }
            Self::Cluster(Nodes(client)) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cluster")
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(_) => "to one",
            Self::Cluster(_) => "to a cluster",
        })
    }
}
