//! A connection to a gateway's socket: requests, or bytes that are carried as a whole, as its listeners say.
//!
//! Where listeners are told apart by server name, the first message of TLS decides whose a connection is; what is done
//! then is up to that listener: TLS passes through, or ends here and what was inside is carried, or requests are read.

mod again;
mod gate;

use std::io;
use std::task::Context;
use std::time::Duration;

use tidegate_policy::Reason;
use tidegate_policy::pipeline::Cut;
use tidegate_policy::snapshot::{Arrival, BindAddress, Intake, Selected};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::http::{ConnectionContext, HttpServer, last_requests};
use crate::listener::{Hello, NoHello, Rewound, handshake, read_hello};
use crate::tcp::{Abort, Carried, Raw, carry, meet_plugins, open};
use crate::telemetry::{ConnectionSide, StreamRecord};

pub(crate) use again::cut;
pub(crate) use gate::{close, judge, lets_in, lets_in_to_app};

/// From the accept to the end of the client's first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

/// A connection on its way.
struct Guest {
    context: ConnectionContext,
    bind: BindAddress,
    record: StreamRecord,
    stop: CancellationToken,
}

/// Serves `stream` until it ends or, after `stop`, is drained.
pub(crate) async fn serve(
    server: &HttpServer,
    mut stream: TcpStream,
    bind: BindAddress,
    context: ConnectionContext,
    stop: CancellationToken,
) {
    let proxy = context.proxy.clone();
    let intake = proxy.store.load().intake(bind);
    // A socket whose listeners are gone is about to be closed; until then it says that nothing is there.
    let Some(intake @ (Intake::ServerNames | Intake::Connections)) = intake else {
        if !lets_in(&context, &stream, None) {
            return;
        }
        return match proxy.store.tls(bind) {
            Some(tls) => Box::pin(server.serve_tls(stream, &tls, context, stop)).await,
            None => server.serve(stream, context, stop).await,
        };
    };
    let record = proxy.telemetry.stream(context.peer.clone(), context.reached, context.direction);
    let guest = Guest { context, bind, record, stop };
    if intake == Intake::Connections {
        return Box::pin(guest.connection(stream)).await;
    }
    let hello = tokio::select! {
        hello = timeout(FIRST_MESSAGE, read_hello(&mut stream)) => hello,
        () = last_requests(&guest.stop) => return guest.record.forget(),
    };
    match hello {
        Ok(Ok(hello)) => Box::pin(guest.named(server, stream, hello)).await,
        Ok(Err(NoHello::Silent)) => guest.record.forget(),
        Ok(Err(error)) => guest.refuse(&stream, &error.to_string()),
        Err(_late) => guest.refuse(&stream, "the client's first message did not come in time"),
    }
}

impl Guest {
    /// All connections of the socket are for one route.
    async fn connection(self, stream: TcpStream) {
        let selected = match self.arrival(None) {
            Ok(Arrival::Stream { selected, .. }) => Ok(selected),
            // A listener for requests has taken the place of the one that was here a moment ago.
            Ok(Arrival::Requests) => Err(Reason::NoRoute),
            Err(reason) => Err(reason),
        };
        self.enter(stream, selected).await;
    }

    /// The client has said whom it wants.
    async fn named(mut self, server: &HttpServer, stream: TcpStream, hello: Hello) {
        if let Some(name) = &hello.server_name {
            self.record.asked_for(name.clone());
        }
        let arrival = self.arrival(hello.server_name.as_deref());
        let server_name = hello.server_name.clone();
        let stream = hello.rewind(stream);
        match arrival {
            Ok(Arrival::Requests) => match self.context.proxy.store.tls(self.bind) {
                Some(tls) => {
                    self.record.forget();
                    if !lets_in(&self.context, &stream, Some(server_name.as_deref().unwrap_or_default())) {
                        return;
                    }
                    Box::pin(server.serve_tls(stream, &tls, self.context, self.stop)).await;
                }
                None => self.refuse(&stream, "the listener was just taken away"),
            },
            Ok(Arrival::Stream { selected, ends_tls: true }) => {
                Box::pin(self.end_tls(stream, selected)).await;
            }
            Ok(Arrival::Stream { selected, ends_tls: false }) => self.enter(stream, Ok(selected)).await,
            Err(reason) => self.enter(stream, Err(reason)).await,
        }
    }

    fn arrival(&self, server_name: Option<&str>) -> Result<Arrival, Reason> {
        self.context.proxy.store.load().connection(self.bind, server_name, &mut self.context.rng())
    }

    /// Past the policies that judge connections.
    async fn enter<D>(mut self, downstream: D, selected: Result<Selected, Reason>)
    where
        D: AsyncRead + AsyncWrite + Abort + Raw + Unpin,
    {
        if let Ok(selected) = &selected
            && let Err(cut) = self.judge(selected)
        {
            return close(cut, &downstream, self.record);
        }
        self.forward(downstream, selected).await;
    }

    fn judge(&mut self, selected: &Selected) -> Result<(), Cut> {
        self.record.decided(selected);
        judge(&self.context.proxy, &selected.target().gate, &mut self.record)
    }

    async fn end_tls(mut self, stream: Rewound<TcpStream>, selected: Selected) {
        if let Err(cut) = self.judge(&selected) {
            return close(cut, &stream, self.record);
        }
        let Some(tls) = self.context.proxy.store.tls_of_streams(self.bind) else {
            return self.refuse(&stream, "the listener was just taken away");
        };
        let shaken = tokio::select! {
            shaken = handshake(&tls, stream) => shaken,
            () = last_requests(&self.stop) => return,
        };
        match shaken {
            Ok(stream) => self.forward(stream, Ok(selected)).await,
            // The client was told by an alert, where TLS has one for it.
            Err(error) => self.over(Reason::BadHandshake, &error.to_string()),
        }
    }

    /// Carries the connection to one of the endpoints; where that cannot be, the client is told by a reset.
    async fn forward<D>(mut self, downstream: D, selected: Result<Selected, Reason>)
    where
        D: AsyncRead + AsyncWrite + Abort + Raw + Unpin,
    {
        let proxy = self.context.proxy.clone();
        let _busy = self.context.presence.busy();
        let _counted = proxy.telemetry.connection(ConnectionSide::Downstream);
        let opened = match selected {
            Ok(selected) => {
                if let Err(cut) = meet_plugins(&proxy, &selected.target().filters, &mut self.record).await {
                    return close(cut, &downstream, self.record);
                }
                let tls = selected.target().tls.as_ref();
                open(&proxy, &selected, &mut self.context.rng(), &mut self.record, tls).await
            }
            Err(reason) => Err(reason),
        };
        match opened {
            Ok(upstream) => {
                let carried = Carried { upstream, scope: self.context.scope };
                carry(&proxy, downstream, carried, self.record, self.stop).await;
            }
            Err(reason) => {
                downstream.abort();
                self.over(reason, "it cannot be carried on");
            }
        }
    }

    fn refuse(self, stream: &impl Abort, why: &str) {
        stream.abort();
        self.over(Reason::BadHandshake, why);
    }

    fn over(self, reason: Reason, why: &str) {
        tracing::debug!(client = %self.context.peer.address, reason = reason.flag(), why, "connection closed");
        self.record.ended(Some(reason));
    }
}

impl<S: Abort> Abort for Rewound<S> {
    fn abort(&self) {
        self.get_ref().abort();
    }
}

impl<S: Raw> Raw for Rewound<S> {
    fn raw(&self) -> Option<&TcpStream> {
        self.is_read().then(|| self.get_ref().raw()).flatten()
    }

    fn passed_by(&mut self, cx: &mut Context<'_>, waits: bool) -> io::Result<()> {
        self.get_mut().passed_by(cx, waits)
    }
}

/// What passes is not what is on the wire.
impl<S> Raw for TlsStream<S> {}

impl<S: Abort> Abort for TlsStream<S> {
    fn abort(&self) {
        self.get_ref().0.abort();
    }
}

#[cfg(test)]
mod tests;
