//! What the core asks for beside the request itself. Nothing here may delay or fail the request that it is done for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::request;
use http_body_util::BodyExt;
use tidegate_policy::snapshot::{Selected, Target};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::http::{NoCopy, Record, RequestBody, TeeEnd};
use crate::state::ProxyState;
use crate::telemetry::MirrorResult;
use crate::upstream::{Answered, Call, call, head_copy};

/// Requests that are being mirrored at one time: with their bodies, what bounds the memory of all copies (32 MiB).
const MAX_MIRRORED: usize = 512;
/// From the whole request to the end of the mirror's answer.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(15);
/// A longer answer is not worth reading to have its connection back.
const MAX_DRAINED: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Effects {
    places: Arc<Semaphore>,
}

/// One request on its way to its mirrors.
struct Mirrored {
    proxy: Arc<ProxyState>,
    copies: Vec<Selected>,
    head: request::Parts,
    grpc: bool,
    seed: u64,
    _place: OwnedSemaphorePermit,
}

/// Makes another generator of that of the request: its bits are those of nothing in particular.
const OF_COPIES: u64 = 0x6d69_7272_6f72_6564;

impl Default for Effects {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_MIRRORED)) }
    }
}

/// Copies a request to the mirrors of its target that are drawn for it, as it goes to the backend: `body` is copied while
/// it passes. A body that is larger than 64 KiB or breaks off is not mirrored; its copies are counted as lost.
pub(crate) fn mirror(
    proxy: &Arc<ProxyState>,
    target: &Target,
    (head, body): (&request::Parts, &mut RequestBody),
    grpc: bool,
    rng: &mut fastrand::Rng,
) {
    if target.mirrors.is_empty() || target.backend.is_err() {
        return;
    }
    let copies: Vec<_> = target.copies(rng).cloned().collect();
    if copies.is_empty() {
        return;
    }
    let Ok(place) = proxy.effects.places.clone().try_acquire_owned() else {
        return proxy.telemetry.mirrored(MirrorResult::Busy, copies.len());
    };
    let body = body.tee();
    // Drawn from nothing: whether there was a place for copies must not change what is drawn for the request itself.
    let (proxy, head, seed) = (proxy.clone(), head_copy(head), rng.get_seed() ^ OF_COPIES);
    tokio::spawn(Mirrored { proxy, copies, head, grpc, seed, _place: place }.send(body));
}

impl Mirrored {
    async fn send(self, body: Option<TeeEnd>) {
        let telemetry = &self.proxy.telemetry;
        let body = match body {
            None => None,
            Some(end) => match end.copy().await {
                Ok(copy) => Some(copy),
                Err(NoCopy::TooLarge) => {
                    return telemetry.mirrored(MirrorResult::TooLarge, self.copies.len());
                }
                Err(NoCopy::BrokenOff) => {
                    return telemetry.mirrored(MirrorResult::BrokenOff, self.copies.len());
                }
            },
        };
        let (this, mut seeds) = (&self, fastrand::Rng::with_seed(self.seed));
        let each = self.copies.iter().map(|copy| {
            let body = body.clone().map_or(RequestBody::EMPTY, RequestBody::copied);
            let rng = seeds.fork();
            async move {
                let sent = tokio::time::timeout(MIRROR_TIMEOUT, this.send_one(copy, body, rng)).await;
                let result = if sent == Ok(true) { MirrorResult::Answered } else { MirrorResult::Failed };
                telemetry.mirrored(result, 1);
            }
        });
        join_all(each).await;
    }

    /// Whether the mirror answered, whatever it said.
    async fn send_one(&self, copy: &Selected, body: RequestBody, mut rng: fastrand::Rng) -> bool {
        let config = &self.proxy.config;
        let cx = Call {
            pools: &self.proxy.pools,
            clock: self.proxy.clock,
            rng: &mut rng,
            selected: copy,
            grpc: self.grpc,
            connect_timeout: config.connect_timeout,
            request_timeout: None,
            stall_timeout: None,
            overtime: None,
            from_outside: false,
        };
        match call(cx, Box::new(head_copy(&self.head)), body, &mut Record::spent()).await {
            Ok(answered) => drain(answered).await,
            Err(_) => false,
        }
    }
}

/// Reads an answer to its end, so that its connection can be used again.
async fn drain(answered: Answered) -> bool {
    let Answered { mut body, call, .. } = answered;
    let mut left = MAX_DRAINED;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        match left.checked_sub(frame.data_ref().map_or(0, bytes::Bytes::len)) {
            Some(rest) => left = rest,
            None => return true,
        }
    }
    call.complete(Instant::now());
    true
}
