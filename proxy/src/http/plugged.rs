//! The story of a request where it meets plugins. Heads are theirs while they look at them; bodies pass through them.
//!
//! What a plugin does to a body must not contradict the head. So a body whose length the head tells is waited for until the first
//! of it may go on: a plugin that holds back all of it has then said how long it is, and one that has begun to change it has
//! the length taken out of the head. What is changed later than that, and in its length, is cut short.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, request, response};
use tidegate_policy::Reason;
use tidegate_policy::pipeline::{self, LocalReply, Phase};
use tidegate_policy::plugin::{Plugged, Plugin};
use tidegate_wasm::Direction;
use tokio::time::timeout;

use super::body::{Ahead, RequestBody};
use super::handler::{NoAnswer, Story};
use super::headers;
use super::names::Names;
use super::record::Record;
use super::reply;
use super::response_body::{BodyError, ResponseBody};
use crate::plugins::{Exchange, Through};

/// For the first of an answer's body that may go on.
const PATIENCE: Duration = Duration::from_secs(60);

impl Story<'_> {
    pub(super) async fn ask_plugin(&mut self, wanted: &Arc<Plugin>, head: &mut request::Parts) -> Plugged {
        let plugins = match &self.record.plugins {
            Some(plugins) => plugins.clone(),
            None => {
                let selected = self.selected.as_ref();
                let route = selected.and_then(|selected| selected.rule.route.clone());
                let backend = selected.and_then(|selected| selected.target().backend.as_ref().ok());
                let names = (route, backend.map(|backend| backend.label.clone()));
                let recorded = self.record.exchange().is_some_and(|exchange| exchange.is_recorded());
                let new = Arc::new(Exchange::new(self.connection, head, names, recorded));
                self.record.plugins.insert(new).clone()
            }
        };
        let before = head.headers.get(CONTENT_LENGTH).cloned();
        let said = plugins.request_headers(self.connection, wanted, head, !self.has_body).await;
        frame_as_before(&mut head.headers, before, self.has_body && plugins.reads(Direction::Request));
        let names = Names::of(&head.headers);
        headers::strip_hop_by_hop(&mut head.headers, names);
        said
    }

    /// Shows the plugins the head of a backend's answer.
    ///
    /// # Errors
    /// What is to be answered instead.
    pub(super) async fn show_plugins(
        &mut self,
        plugins: &Arc<Exchange>,
        head: &mut response::Parts,
        eos: bool,
    ) -> Result<(), LocalReply> {
        let filters = self.selected.as_ref().map_or(&[][..], |selected| &selected.target().filters);
        pipeline::on_response_beyond(filters, &mut self.progress, Phase::Plugin, head);
        let before = head.headers.get(CONTENT_LENGTH).cloned();
        plugins.response_headers(head, eos).await?;
        // Also of an answer to HEAD: it tells of the body that a GET would get, and which the plugin may change.
        frame_as_before(&mut head.headers, before, plugins.reads(Direction::Response));
        let names = Names::of(&head.headers);
        headers::strip_hop_by_hop(&mut head.headers, names);
        plugins.keep_response(head);
        Ok(())
    }

    /// Our own refusal, or a plugin's answer, as the plugins leave it that have seen the request.
    pub(super) async fn reply_through_plugins(mut self, refusal: &LocalReply) -> Response<ResponseBody> {
        let Some(plugins) = self.record.plugins.clone().filter(|_| !refusal.is_reset()) else {
            return self.reply(refusal);
        };
        let (mut head, body) = reply::response(refusal, self.dialect);
        if !body.is_empty() {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        if self.show_plugins(&plugins, &mut head, body.is_empty()).await.is_err() {
            return self.reply(refusal);
        }
        self.record.reason = Some(refusal.reason);
        self.record.grpc_status = self.dialect.wants_grpc_status().then(|| refusal.grpc());
        self.conclude(&mut head);
        let record = std::mem::replace(&mut self.record, Record::spent());
        let body = ResponseBody::local(body, record);
        Box::pin(self.pass_through_plugins(plugins, head, body)).await
    }

    /// An answer whose head is ready: its body passes through the plugins.
    pub(super) async fn pass_through_plugins(
        mut self,
        plugins: Arc<Exchange>,
        mut head: response::Parts,
        body: ResponseBody,
    ) -> Response<ResponseBody> {
        let mut body = body.plugged(Through::new(&plugins, Direction::Response));
        let Some(length) = length(&head.headers) else { return Response::from_parts(head, body) };
        let ahead = timeout(PATIENCE, body.ahead()).await;
        match ahead {
            Ok(Ok(ahead)) => {
                if let Some(length) = framed(&mut head.headers, ahead, length) {
                    body.promise(length);
                }
                Response::from_parts(head, body)
            }
            failed => {
                let reason = match failed {
                    Ok(Err(BodyError::Plugin(_))) => Reason::PluginFailed,
                    Ok(_) => Reason::UpstreamReset,
                    Err(_) => Reason::RequestTimeout,
                };
                self.record = body.into_record();
                let reply = plugins.take_cut().unwrap_or_else(|| reason.into());
                let mut response = self.reply(&reply);
                if reply.is_reset() {
                    response.extensions_mut().insert(NoAnswer);
                }
                response
            }
        }
    }
}

/// A request's body on its way through the plugins; its head says what is known of the length.
///
/// # Errors
/// What is to be answered, because it went no further.
pub(super) async fn request(
    plugins: Arc<Exchange>,
    head: &mut request::Parts,
    body: RequestBody,
    stall_timeout: Option<Duration>,
) -> Result<RequestBody, LocalReply> {
    plugins.keep_request(head);
    if body.is_empty() {
        return Ok(body);
    }
    let Some(through) = Through::new(&plugins, Direction::Request) else { return Ok(body) };
    let mut body = body.plugged(through);
    let Some(length) = length(&head.headers) else { return Ok(body) };
    let upload = body.upload().cloned().unwrap_or_default();
    let ahead = tokio::select! {
        ahead = body.ahead() => ahead,
        Err(reason) = upload.ended(stall_timeout) => return Err(reason.into()),
    };
    match ahead {
        Ok(ahead) => {
            if let Some(length) = framed(&mut head.headers, ahead, length) {
                body.promise(length);
            }
            Ok(body)
        }
        Err(_) => Err(plugins.take_cut().unwrap_or_else(|| upload.failure().into())),
    }
}

/// Makes the head say what is known; what it goes on to say must come true.
fn framed(headers: &mut HeaderMap, ahead: Option<Ahead>, length: u64) -> Option<u64> {
    match ahead {
        None => None,
        Some(Ahead::Whole(whole)) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(whole));
            None
        }
        Some(Ahead::Changed) => {
            headers.remove(CONTENT_LENGTH);
            None
        }
        Some(Ahead::Begun) => Some(length),
    }
}

/// How a message is framed is not for plugins to say: its length stays what it was, unless they may change the body too; then
/// they may leave it out.
fn frame_as_before(headers: &mut HeaderMap, before: Option<HeaderValue>, may_change: bool) {
    headers.remove(TRANSFER_ENCODING);
    match before {
        Some(_) if may_change && !headers.contains_key(CONTENT_LENGTH) => {}
        Some(before) => drop(headers.insert(CONTENT_LENGTH, before)),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
