//! The plugins of one request, from its head to its log.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{request, response};
use parking_lot::Mutex;
use tidegate_policy::Reason;
use tidegate_policy::pipeline::LocalReply;
use tidegate_policy::plugin::{Failure, Plugged, Plugin as Wanted};
use tidegate_wasm::{Direction, Fault, Logged, Plugin, RequestHead, SharedVm, Step};
use tokio::time::timeout;

use super::world::Seen;
use super::{convert, driver};
use crate::clock::since_epoch;
use crate::http::{ConnectionContext, X_REQUEST_ID};
use crate::telemetry::PluginTime;

/// No plugin may hold a head for longer: nobody would ever know what the request waits for.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// See the module. What it holds ends with [`Exchange::finish`], or when it is dropped.
#[derive(Debug)]
pub(crate) struct Exchange {
    seen: Arc<tidegate_wasm::Exchange>,
    https: bool,
    stages: Mutex<Vec<Arc<Stage>>>,
    logged: Mutex<Logged>,
    /// Why a body was cut: what is answered in place of whatever followed from that.
    pub(super) cut: Mutex<Option<LocalReply>>,
}

/// One plugin on the way.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) vm: SharedVm,
    pub(super) id: u32,
    /// What it does is done to copies.
    pub(super) shadow: bool,
    /// So that its counts last as long as its streams.
    plugin: Arc<Plugin>,
}

impl Exchange {
    /// `recorded`: somebody is to be told what the plugins cost, in CPU time too.
    pub(crate) fn new(
        connection: &Arc<ConnectionContext>,
        head: &request::Parts,
        (route, backend): (Option<Arc<str>>, Option<Arc<str>>),
        recorded: bool,
    ) -> Self {
        let request_id = head.headers.get(X_REQUEST_ID).and_then(|id| Some(id.to_str().ok()?.to_owned()));
        let seen = Seen {
            connection: connection.clone(),
            route,
            backend,
            http2: head.version >= http::Version::HTTP_2,
            begun: since_epoch(),
            request_id,
        };
        Self {
            seen: Arc::new(tidegate_wasm::Exchange::new(seen).measured(recorded)),
            https: connection.tls.is_some(),
            stages: Mutex::default(),
            logged: Mutex::default(),
            cut: Mutex::default(),
        }
    }

    /// Has the next plugin look at the head.
    pub(crate) async fn request_headers(
        &self,
        connection: &Arc<ConnectionContext>,
        wanted: &Arc<Wanted>,
        head: &mut request::Parts,
        eos: bool,
    ) -> Plugged {
        let Some((plugin, seat)) = connection.proxy.plugins.seat(wanted).await else {
            let open = wanted.failure == Failure::Open && !wanted.shadow;
            return if open { Plugged::Skipped } else { Plugged::Failed };
        };
        if seat.is_new {
            driver::start(seat.vm.clone(), &connection.proxy, wanted.clone());
        }
        let opened = seat.vm.lock().open(self.seen.clone());
        let Ok(id) = opened else { return Plugged::Failed };
        let stage = Arc::new(Stage { vm: seat.vm, id, shadow: wanted.shadow, plugin });
        self.stages.lock().push(stage.clone());
        if wanted.shadow {
            let copy = copied(head, self.https);
            let step = stage.vm.lock().request_headers(id, copy, eos);
            return match step {
                Ok(Step::Respond | Step::Close) => Plugged::Answered(Reason::PluginAnswered.into()),
                Ok(_) => Plugged::Passed,
                Err(_) => Plugged::Failed,
            };
        }
        let lent = convert::lend_request(head, self.https);
        let step = stage.vm.lock().request_headers(id, lent, eos);
        let step = stage.settled(step, Direction::Request).await;
        let lent = stage.vm.lock().take_request(id);
        let kept = lent.is_some();
        if let Some(lent) = lent {
            convert::give_back_request(head, lent);
        }
        match step {
            Ok(Step::Go) if kept => Plugged::Passed,
            Ok(Step::Respond) => self.answered(&stage).map_or(Plugged::Failed, Plugged::Answered),
            Ok(Step::Close) => Plugged::Answered(convert::reset()),
            _ => Plugged::Failed,
        }
    }

    /// Has the plugins that saw the request look at the answer's head, the last one first.
    ///
    /// # Errors
    /// What is to be answered instead.
    pub(crate) async fn response_headers(
        &self,
        head: &mut response::Parts,
        eos: bool,
    ) -> Result<(), LocalReply> {
        for stage in self.stages().iter().rev() {
            let copy = stage.shadow.then(|| head.headers.clone());
            let lent = convert::lend_response(head);
            if let Some(own) = copy {
                let _ = stage.vm.lock().response_headers(stage.id, lent, eos);
                head.headers = own;
                continue;
            }
            let step = stage.vm.lock().response_headers(stage.id, lent, eos);
            let step = stage.settled(step, Direction::Response).await;
            let lent = stage.vm.lock().take_response(stage.id);
            let kept = lent.is_some();
            if let Some(lent) = lent {
                convert::give_back_response(head, lent);
            }
            match step {
                Ok(Step::Go) if kept => {}
                Ok(Step::Respond) => {
                    return Err(self.answered(stage).unwrap_or_else(|| Reason::PluginFailed.into()));
                }
                Ok(Step::Close) => return Err(convert::reset()),
                _ => return Err(Reason::PluginFailed.into()),
            }
        }
        Ok(())
    }

    pub(super) fn answered(&self, stage: &Stage) -> Option<LocalReply> {
        let local = stage.vm.lock().local_response(stage.id)?;
        tracing::debug!(details = local.details, status = %local.status, "a plugin answered");
        Some(convert::reply(local))
    }

    /// In the order of requests.
    pub(super) fn stages(&self) -> Vec<Arc<Stage>> {
        self.stages.lock().clone()
    }

    /// Whether any plugin has a word on bodies in that direction.
    pub(crate) fn reads(&self, direction: Direction) -> bool {
        self.stages.lock().iter().any(|stage| !stage.shadow && stage.vm.lock().reads(direction))
    }

    /// Keeps the request's head for the log, where any plugin wants one.
    pub(crate) fn keep_request(&self, head: &request::Parts) {
        if self.logs() {
            self.logged.lock().request = Some(Arc::new(copied(head, self.https)));
        }
    }

    /// The same of the answer's.
    pub(crate) fn keep_response(&self, head: &response::Parts) {
        if self.logs() {
            let copy = tidegate_wasm::ResponseHead { status: head.status, headers: head.headers.clone() };
            self.logged.lock().response = Some(Arc::new(copy));
        }
    }

    fn logs(&self) -> bool {
        self.stages.lock().iter().any(|stage| stage.vm.lock().logs())
    }

    /// Why a body was cut, if one was.
    pub(crate) fn take_cut(&self) -> Option<LocalReply> {
        self.cut.lock().take()
    }

    /// All is over: plugins are told, first to last. Later calls do nothing. Says what each has cost.
    pub(crate) fn finish(&self) -> Vec<PluginTime> {
        let stages = std::mem::take(&mut *self.stages.lock());
        let logged = self.logged.lock().clone();
        let told = stages.iter().map(|stage| {
            let spent = stage.vm.lock().close(stage.id, logged.clone());
            let plugin = stage.plugin.settings().name.clone();
            PluginTime {
                plugin,
                callbacks: spent.callbacks,
                time: spent.time,
                cpu: spent.cpu,
                answered: spent.answered,
                failed: spent.failed,
            }
        });
        told.collect()
    }
}

impl Stage {
    /// Waits for as long as the plugin pauses.
    async fn settled(&self, step: Result<Step, Fault>, direction: Direction) -> Result<Step, Fault> {
        if !matches!(step, Ok(Step::Pause)) {
            return step;
        }
        let resumed = poll_fn(|cx| match self.vm.lock().poll(self.id, direction, cx.waker()) {
            Ok(Step::Pause) => Poll::Pending,
            settled => Poll::Ready(settled),
        });
        timeout(LONGEST_PAUSE, resumed).await.unwrap_or(Ok(Step::Pause))
    }
}

fn copied(head: &request::Parts, https: bool) -> RequestHead {
    RequestHead { method: head.method.clone(), uri: head.uri.clone(), https, headers: head.headers.clone() }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish();
    }
}
