//! A body on its way through plugins: each gets what the one before lets pass.
//!
//! Pulled from its end: a plugin that holds back is asked again when it says so, or when there is more for it. What is held is
//! bounded by each plugin's budget.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tidegate_policy::Reason;
use tidegate_policy::pipeline::LocalReply;
use tidegate_wasm::{Direction, Step};

use super::convert;
use super::exchange::{Exchange, Stage};

/// See the module.
#[derive(Debug)]
pub(crate) struct Through {
    exchange: Arc<Exchange>,
    direction: Direction,
    layers: Vec<Layer>,
    /// A plugin has written to it.
    changed: bool,
    /// So many bytes must come in all, as the head that is out already says.
    promised: Option<u64>,
    passed: u64,
}

/// One plugin.
#[derive(Debug)]
struct Layer {
    stage: Arc<Stage>,
    out: VecDeque<Piece>,
    /// It holds back, and is waited for.
    paused: bool,
    /// It was told of the end.
    told_end: bool,
}

/// What comes of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    Data {
        data: Bytes,
        /// It is known to be the last.
        last: bool,
    },
    Trailers(HeaderMap),
}

impl Piece {
    /// `last`: nothing will follow it.
    pub(crate) fn of(frame: Frame<Bytes>, last: bool) -> Self {
        match frame.into_data() {
            Ok(data) => Self::Data { data, last },
            Err(frame) => Self::Trailers(frame.into_trailers().unwrap_or_default()),
        }
    }

    pub(crate) fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data { data, .. } => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

/// Why a body ends early. What is to be answered for it, if that is still possible, is kept by the [`Exchange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a plugin has cut the body short")]
pub(crate) struct Cut;

/// What comes of a source, or of a layer.
type Polled<E> = Poll<Option<Result<Piece, E>>>;

impl Through {
    /// `None` where no plugin has a word on it.
    pub(crate) fn new(exchange: &Arc<Exchange>, direction: Direction) -> Option<Self> {
        let mut stages = exchange.stages();
        stages.retain(|stage| !stage.shadow && stage.vm.lock().reads(direction));
        if direction == Direction::Response {
            stages.reverse();
        }
        let layer = |stage| Layer { stage, out: VecDeque::new(), paused: false, told_end: false };
        let layers: Vec<_> = stages.into_iter().map(layer).collect();
        let exchange = exchange.clone();
        let all = Self { exchange, direction, layers, changed: false, promised: None, passed: 0 };
        (!all.layers.is_empty()).then_some(all)
    }

    /// What comes next, of what `source` has.
    pub(crate) fn poll<E: From<Cut>>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn FnMut(&mut Context<'_>) -> Polled<E>,
    ) -> Polled<E> {
        let polled = ready!(self.poll_layer(self.layers.len(), cx, source));
        if let Some(Ok(Piece::Data { data, .. })) = &polled {
            self.passed += data.len() as u64;
        }
        if self.promised.is_some_and(|promised| match &polled {
            Some(Ok(Piece::Data { .. })) => self.passed > promised,
            None => self.passed != promised,
            Some(_) => false,
        }) {
            // Rather than bytes that the other side would take for the next message.
            tracing::warn!("a plugin changed the length of a body whose head was out already; cut short");
            return Poll::Ready(Some(Err(self.cut(Reason::PluginFailed.into()).into())));
        }
        Poll::Ready(polled)
    }

    /// The first `upto` layers.
    fn poll_layer<E: From<Cut>>(
        &mut self,
        upto: usize,
        cx: &mut Context<'_>,
        source: &mut dyn FnMut(&mut Context<'_>) -> Polled<E>,
    ) -> Polled<E> {
        let Some(index) = upto.checked_sub(1) else { return source(cx) };
        loop {
            if let Some(piece) = self.layers[index].out.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            let layer = &self.layers[index];
            if layer.paused {
                let step = layer.stage.vm.lock().poll(layer.stage.id, self.direction, cx.waker());
                match step {
                    Ok(Step::Pause) if layer.told_end => return Poll::Pending,
                    Ok(Step::Pause) => {}
                    step => {
                        if let Err(cut) = self.settle(index, &step) {
                            return Poll::Ready(Some(Err(cut.into())));
                        }
                        continue;
                    }
                }
            } else if layer.told_end {
                return Poll::Ready(None);
            }
            let next = match ready!(self.poll_layer(index, cx, source)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(piece)) => piece,
                None => Piece::Data { data: Bytes::new(), last: true },
            };
            if let Err(cut) = self.tell(index, next) {
                return Poll::Ready(Some(Err(cut.into())));
            }
        }
    }

    /// Tells a plugin what has come.
    fn tell(&mut self, index: usize, piece: Piece) -> Result<(), Cut> {
        let layer = &mut self.layers[index];
        let mut vm = layer.stage.vm.lock();
        let step = match piece {
            Piece::Data { data, last } => {
                layer.told_end |= last;
                vm.body(layer.stage.id, self.direction, data, last)
            }
            Piece::Trailers(trailers) => {
                layer.told_end = true;
                vm.trailers(layer.stage.id, self.direction, trailers)
            }
        };
        drop(vm);
        self.settle(index, &step)
    }

    /// Does what a plugin wants done now.
    fn settle(&mut self, index: usize, step: &Result<Step, tidegate_wasm::Fault>) -> Result<(), Cut> {
        let layer = &mut self.layers[index];
        layer.paused = matches!(step, Ok(Step::Pause));
        let reply = match step {
            Ok(Step::Pause) => return Ok(()),
            Ok(Step::Go) => {
                let mut vm = layer.stage.vm.lock();
                let (data, changed) = vm.take_body(layer.stage.id, self.direction);
                let trailers = vm.take_trailers(layer.stage.id, self.direction);
                self.changed |= changed;
                if !data.is_empty() {
                    let last = layer.told_end && trailers.is_none();
                    layer.out.push_back(Piece::Data { data, last });
                }
                layer.out.extend(trailers.map(Piece::Trailers));
                return Ok(());
            }
            Ok(Step::Respond) => {
                let stage = layer.stage.clone();
                self.exchange.answered(&stage).unwrap_or_else(|| Reason::PluginFailed.into())
            }
            Ok(Step::Close) => convert::reset(),
            Ok(Step::TooLarge) if self.direction == Direction::Request => Reason::PluginBodyTooLarge.into(),
            Ok(Step::TooLarge) => convert::too_large(),
            Err(_) => Reason::PluginFailed.into(),
        };
        Err(self.cut(reply))
    }

    fn cut(&self, reply: LocalReply) -> Cut {
        self.exchange.cut.lock().get_or_insert(reply);
        Cut
    }

    /// All of it is through.
    pub(crate) fn is_over(&self) -> bool {
        self.layers.iter().all(|layer| layer.told_end && !layer.paused && layer.out.is_empty())
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// The head that goes out says so.
    pub(crate) fn promise(&mut self, length: u64) {
        self.promised = Some(length);
    }
}
