//! The downstream side: HTTP in, and the answer out.

mod body;
mod detect;
mod grpc_web;
mod handler;
mod headers;
mod names;
mod on_call;
mod overtime;
mod pace;
mod plugged;
mod record;
mod replay;
mod reply;
mod resets;
mod response_body;
mod rest;
mod server;
mod tee;
mod trailers;
mod tunnel;
mod websocket;
mod wire;

pub(crate) use body::{RequestBody, Upload};
pub(crate) use detect::{Hello, Version, hello, told};
pub(crate) use handler::{NoAnswer, handle};
pub(crate) use headers::X_REQUEST_ID;
pub(crate) use names::Names;
pub(crate) use overtime::Overtime;
pub(crate) use record::Record;
pub(crate) use replay::Replay;
pub(crate) use reply::grpc_status;
pub(crate) use response_body::{BodyError, ResponseBody};
pub(crate) use rest::{HEADER_TIMEOUT, REST_AFTER};
pub(crate) use server::{CONNECTION_WINDOW, MAX_HEADER_BYTES, STREAM_WINDOW};
pub(crate) use server::{ConnectionContext, HttpServer, TlsSession, last_requests};
pub(crate) use tee::{NoCopy, TeeEnd};
