//! Whether what was let in under an earlier configuration may go on under this one.

use super::{Gate, Rule, Scope, Snapshot};
use crate::matching::authority;
use crate::model::BackendName;
use crate::pipeline::{Cut, Ongoing, may_go_on};

impl Snapshot {
    /// Judges again what came in at `scope` and goes to `backend`, by the rule that would take it now. Where there is none
    /// any more, by what is written for its listener: that a route goes away ends nothing that goes on.
    ///
    /// # Errors
    /// It is to be closed.
    pub fn judge_again(
        &self,
        scope: Scope,
        backend: Option<&BackendName>,
        cx: &mut Ongoing<'_>,
    ) -> Result<(), Cut> {
        match cx.opened_by {
            Some(opened) => match self.find(scope, opened.head) {
                Ok(rule) => {
                    let target = rule.leading_again_to(backend);
                    target.map_or(Ok(()), |target| may_go_on(&target.filters, cx))
                }
                Err(_) => {
                    let host = authority(opened.head).map(|asked| asked.host).unwrap_or_default();
                    may_go_on(&self.of_listener(scope, &host), cx)
                }
            },
            None => {
                let name = cx.server_name.unwrap_or_default().to_ascii_lowercase();
                let rule = self.carrying(scope, &name);
                let gate = rule.and_then(|rule| rule.leading_again_to(backend)).map(|target| &target.gate);
                may_go_on(gate.unwrap_or(&self.of_listener(scope, &name)), cx)
            }
        }
    }

    /// The rule of a connection that is carried.
    fn carrying(&self, scope: Scope, server_name: &str) -> Option<&Rule> {
        match scope {
            Scope::Gateway(bind) => {
                let listener = self.sockets.get(&bind)?.listener(server_name)?;
                Some(&**listener.routes.of_connections()?.candidates(server_name).next()?)
            }
            Scope::Inbound | Scope::InboundAt(_) => self.inbound(scope).map(|rule| &**rule),
            Scope::Outbound | Scope::OutboundTo(_) => None,
        }
    }

    fn of_listener(&self, scope: Scope, host: &str) -> Gate {
        let Scope::Gateway(bind) = scope else { return Gate::default() };
        let listener = self.sockets.get(&bind).and_then(|socket| socket.listener(host));
        listener.map(|listener| listener.own.clone()).unwrap_or_default()
    }
}

impl Rule {
    /// The target with this backend, or the first: what is written above backends holds for all of them.
    fn leading_again_to(&self, backend: Option<&BackendName>) -> Option<&super::Target> {
        let same =
            |target: &&super::Target| target.backend.as_ref().ok().map(|backend| &backend.name) == backend;
        self.targets.iter().find(same).or(self.targets.first())
    }
}
