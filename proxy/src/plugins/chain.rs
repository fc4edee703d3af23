//! The plugins of one connection that is carried as a whole, from its beginning to its end.
//!
//! What a client sends meets them first to last, what its backend sends the other way round, as in Envoy. Bytes are pulled from
//! the end: a plugin that holds back is told more as it comes, until its budget is used up. One in Shadow sees copies; one that
//! has failed, where connections may pass without it, is left out from then on.

mod lane;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidegate_policy::Decisions;
use tidegate_policy::pipeline::{Cut, Filter};
use tidegate_policy::plugin::{Carried, Failure, Plugin as Wanted};
use tidegate_wasm::{ClosedBy, Direction, Logged, Plugin, SharedVm, Step};
use tokio::time::timeout;

use super::driver;
use super::exchange::LONGEST_PAUSE;
use super::world::{SeenConnection, Upstream};
use crate::state::ProxyState;
use lane::Lane;

/// See the module. Plugins are told of the end by [`Chain::finish`], or when it is dropped.
#[derive(Debug)]
pub(crate) struct Chain {
    seen: Arc<tidegate_wasm::Exchange>,
    upstream: Arc<Upstream>,
    links: Vec<Link>,
    /// Said by the policies whose plugins would end it.
    said: Decisions,
}

/// One plugin on the way.
#[derive(Debug)]
struct Link {
    filter: Arc<dyn Filter>,
    wanted: Arc<Wanted>,
    vm: SharedVm,
    id: u32,
    /// By [`Direction`].
    lanes: [Lane; 2],
    /// It is asked nothing any more: it has failed, or has said in Shadow what it would have done.
    out: bool,
    upstream_ended: bool,
    /// So that its counts last as long as its connections.
    _plugin: Arc<Plugin>,
}

/// Why nothing more comes of a direction.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The source broke.
    Source(io::Error),
    /// A plugin, or its failure, ends the connection.
    Cut(Cut),
}

/// What comes of a source, or of the plugins: bytes, or in order the end.
pub(crate) type Polled = Poll<Result<Option<Bytes>, Stop>>;

impl Chain {
    /// The plugins that these filters ask, each told that the connection begins and waited for as long as it pauses. `None`
    /// where none of them has a word on connections.
    ///
    /// # Errors
    /// It is to be closed; `decisions` says why.
    pub(crate) async fn begin(
        proxy: &Arc<ProxyState>,
        filters: &[Arc<dyn Filter>],
        seen: SeenConnection,
        decisions: &mut Decisions,
    ) -> Result<Option<Box<Self>>, Cut> {
        let mut chain = Self::of(seen);
        for filter in filters {
            let Some(wanted) = filter.plugin() else { continue };
            if let Some(word) = chain.ask(proxy, filter, wanted).await {
                filter.on_carried(word, decisions)?;
            }
        }
        Ok((!chain.links.is_empty()).then(|| Box::new(chain)))
    }

    /// Without a plugin yet.
    fn of(seen: SeenConnection) -> Self {
        let upstream = seen.upstream.clone();
        let seen = Arc::new(tidegate_wasm::Exchange::new(seen));
        Self { seen, upstream, links: Vec::new(), said: Decisions::new() }
    }

    #[cfg(test)]
    pub(crate) fn of_nobody() -> Self {
        let seen = SeenConnection::new(
            (
                tidegate_policy::model::Peer { address: ([127, 0, 0, 1], 1).into(), identity: None },
                ([127, 0, 0, 1], 2).into(),
            ),
            None,
            (None, None),
        );
        Self::of(seen)
    }

    /// Has the next plugin look at the connection that begins. `None`: it has no word on any.
    async fn ask(
        &mut self,
        proxy: &Arc<ProxyState>,
        filter: &Arc<dyn Filter>,
        wanted: &Arc<Wanted>,
    ) -> Option<Carried> {
        let Some((plugin, seat)) = proxy.plugins.seat(wanted).await else {
            let open = wanted.failure == Failure::Open && !wanted.shadow;
            return Some(if open { Carried::Skipped } else { Carried::Failed });
        };
        if seat.is_new {
            driver::start(seat.vm.clone(), proxy, wanted.clone());
        }
        if !plugin.code().hears().connections {
            return None;
        }
        let opened = seat.vm.lock().open_connection(self.seen.clone());
        let Ok(id) = opened else { return Some(Carried::Failed) };
        let carries = |direction| seat.vm.lock().carries(direction);
        let lanes = [Lane::new(carries(Direction::Request)), Lane::new(carries(Direction::Response))];
        let link = Link {
            filter: filter.clone(),
            wanted: wanted.clone(),
            vm: seat.vm,
            id,
            lanes,
            out: false,
            upstream_ended: false,
            _plugin: plugin,
        };
        self.links.push(link);
        let link = self.links.last_mut()?;
        let step = link.vm.lock().new_connection(id);
        let step = match step {
            Ok(Step::Pause) if !wanted.shadow => {
                let resumed = poll_fn(|cx| match link.vm.lock().poll(id, Direction::Request, cx.waker()) {
                    Ok(Step::Pause) => Poll::Pending,
                    settled => Poll::Ready(settled),
                });
                timeout(LONGEST_PAUSE, resumed).await.unwrap_or(Ok(Step::Pause))
            }
            step => step,
        };
        let word = match step {
            Ok(Step::Go) => Carried::Passed,
            Ok(Step::Pause) if wanted.shadow => Carried::Passed,
            Ok(Step::Close) => Carried::Closed,
            Ok(Step::Pause | Step::Respond | Step::TooLarge) | Err(_) => Carried::Failed,
        };
        link.out = word != Carried::Passed;
        Some(word)
    }

    /// It is carried to this endpoint.
    pub(crate) fn connected(&self, endpoint: Option<SocketAddr>) {
        if let Some(endpoint) = endpoint {
            let _ = self.upstream.set(endpoint);
        }
    }

    /// What comes next of a direction, of what `source` has.
    pub(crate) fn poll(
        &mut self,
        direction: Direction,
        cx: &mut Context<'_>,
        source: &mut dyn FnMut(&mut Context<'_>) -> Polled,
    ) -> Polled {
        self.poll_upto(self.links.len(), direction, cx, source)
    }

    /// Whether a plugin ends the connection by itself, in whatever callback. Whoever asks is woken when one does, or goes on.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Cut> {
        for index in 0..self.links.len() {
            let link = &self.links[index];
            if link.out {
                continue;
            }
            let watched = link.vm.lock().watch(link.id, cx.waker());
            let word = match watched {
                Ok(true) => Carried::Closed,
                Ok(false) => continue,
                Err(_) => Carried::Failed,
            };
            if let Err(cut) = self.ends(index, word) {
                return Poll::Ready(cut);
            }
        }
        Poll::Pending
    }

    /// Is told that a plugin would end it, or has come to an end.
    fn ends(&mut self, index: usize, word: Carried) -> Result<(), Cut> {
        let link = &mut self.links[index];
        link.out = true;
        if word == Carried::Failed && link.wanted.failure == Failure::Open && !link.wanted.shadow {
            tracing::warn!(plugin = %link.wanted.policy.name, "a connection goes on without a plugin that has failed");
            return Ok(());
        }
        link.filter.on_carried(word, &mut self.said)
    }

    /// The backend has sent its last. Only then is a plugin told that its side is closed, and never by whom, as in Envoy: of any
    /// other end it hears by that of the client's side, and by its own.
    fn upstream_ended(&mut self, index: usize) {
        let link = &mut self.links[index];
        if !std::mem::replace(&mut link.upstream_ended, true) {
            // What ends of it is noticed by whoever asks next.
            let _ = link.vm.lock().connection_closed(link.id, Direction::Response, ClosedBy::Unknown);
        }
    }

    /// What the policies have said since the connection began.
    pub(crate) fn take_said(&mut self) -> Decisions {
        std::mem::take(&mut self.said)
    }

    /// All is over, and the client's side was closed by this one: plugins are told, first to last. Later calls do nothing.
    pub(crate) fn finish(&mut self, client_closed: ClosedBy) {
        for link in &self.links {
            let mut vm = link.vm.lock();
            let _ = vm.connection_closed(link.id, Direction::Request, client_closed);
            vm.close(link.id, Logged::default());
        }
        self.links.clear();
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.finish(ClosedBy::Local);
    }
}
