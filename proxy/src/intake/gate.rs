//! Whether a connection may come in: the policies that judge connections have their word before anything is called for
//! one, and before TLS. What is refused is closed as they say, and told like any other end of a connection.

use tidegate_policy::pipeline::Cut;
use tidegate_policy::snapshot::Gate;

use crate::http::ConnectionContext;
use crate::probes;
use crate::state::ProxyState;
use crate::tcp::Abort;
use crate::telemetry::StreamRecord;

/// A connection that is carried as a whole; its record is kept to its end.
///
/// # Errors
/// It is to be closed.
pub(crate) fn judge(proxy: &ProxyState, gate: &Gate, record: &mut StreamRecord) -> Result<(), Cut> {
    if gate.is_empty() { Ok(()) } else { record.judge(gate, true, proxy.clock.now()) }
}

/// One for requests, of which each has a record of its own. If it may not come in, it has been told of; what is left is to
/// drop it.
pub(crate) fn lets_in(context: &ConnectionContext, stream: &impl Abort, server_name: Option<&str>) -> bool {
    let proxy = &context.proxy;
    let gate = proxy.store.load().gate(context.scope, server_name);
    if gate.is_empty() {
        return true;
    }
    let mut record = proxy.telemetry.stream(context.peer.clone(), context.reached, context.direction);
    if let Some(server_name) = server_name.filter(|name| !name.is_empty()) {
        record.asked_for(server_name.into());
    }
    match record.judge(&gate, false, proxy.clock.now()) {
        Ok(()) => {
            record.forget();
            true
        }
        Err(cut) => {
            close(cut, stream, record);
            false
        }
    }
}

/// The same for our own application: where the kubelet probes it, each request is judged in its connection's place.
pub(crate) fn lets_in_to_app(context: &ConnectionContext, stream: &impl Abort) -> bool {
    probes::may_come(context, &context.proxy.store.load()) || lets_in(context, stream, None)
}

/// Closes what may not come in; the end in order is that of dropping it.
pub(crate) fn close(cut: Cut, stream: &impl Abort, record: StreamRecord) {
    if cut.reset {
        stream.abort();
    }
    record.ended(Some(cut.reason));
}
