//! Who speaks on a stream, and how to answer there.

use std::hash::{BuildHasher, Hasher, RandomState};

use tidegate_quota::ClientId;
use tidegate_xds::quota::{self, RateLimitQuotaResponse, RateLimitQuotaUsageReports};
use tokio::sync::mpsc;
use tonic::Status;

/// The way to one stream.
pub(in crate::quotas) type Outbox = mpsc::Sender<Result<RateLimitQuotaResponse, Status>>;

/// A stream, among all that there ever were.
pub(in crate::quotas) type StreamId = u64;

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::quotas) struct Caller {
    /// A client says it in its first message, and it holds for all; a peer says it in each.
    pub(in crate::quotas) domain: String,
    pub(super) speaks: Speaks,
    pub(super) stream: StreamId,
    pub(super) outbox: Outbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::quotas) enum Speaks {
    /// Of its leases.
    ForItself,
    /// It knows nothing of leases.
    Plainly,
    /// It is a replica, and passes on what its clients say.
    ForMany,
}

impl Caller {
    /// Who it is says `first`, of all messages that report something.
    pub(in crate::quotas) fn client(
        domain: String,
        first: &RateLimitQuotaUsageReports,
        (stream, outbox): (StreamId, Outbox),
    ) -> (Self, ClientId) {
        let (client, speaks) = match quota::client(first) {
            Some(client) => (client, Speaks::ForItself),
            None => (RandomState::new().build_hasher().finish(), Speaks::Plainly),
        };
        (Self { domain, speaks, stream, outbox }, client)
    }

    pub(in crate::quotas) fn peer((stream, outbox): (StreamId, Outbox)) -> Self {
        Self { domain: String::new(), speaks: Speaks::ForMany, stream, outbox }
    }

    pub(super) fn is_peer(&self) -> bool {
        self.speaks == Speaks::ForMany
    }

    pub(super) fn is_gone(&self) -> bool {
        self.outbox.is_closed()
    }
}
