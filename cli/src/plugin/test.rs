//! `tidegate plugin test`: one exchange through a plugin, told step by step. Side calls are answered as the flags say.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use tidegate_proxy::wasm::{
    Answer, Asked, CallOut, Code, Direction, Exchange, Fault, GrpcAnswer, Logged, Outside as _, Plugin,
    RequestHead, ResponseHead, Settings, SharedVm, Step, Work,
};

use super::world::{Here, Nobody};
use crate::exit::Done;
use crate::say;

/// For ticks and side calls that a stream waits for.
const PATIENCE: Duration = Duration::from_secs(5);

const OF_REQUESTS: [&str; 8] =
    ["method", "path", "host", "headers", "body", "status", "response_headers", "response_body"];

#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// A module in WebAssembly's binary form
    file: PathBuf,
    /// What it is configured with
    #[arg(long, value_name = "TEXT", conflicts_with = "config_file")]
    config: Option<String>,
    /// The same, in a file
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Which of the plugins in the module
    #[arg(long, value_name = "NAME", default_value = "")]
    plugin_name: String,
    /// Of the request
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Of the request, with its query
    #[arg(long, default_value = "/")]
    path: String,
    /// Of the request
    #[arg(long, default_value = "example.test")]
    host: String,
    /// Of the request: `name: value`; may be repeated
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Of the request
    #[arg(long, value_name = "TEXT", default_value = "")]
    body: String,
    /// What the backend answers
    #[arg(long, value_name = "CODE", default_value = "200")]
    status: StatusCode,
    /// Of the backend's answer; may be repeated
    #[arg(long = "response-header", value_name = "HEADER", value_parser = header)]
    response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Of the backend's answer
    #[arg(long, value_name = "TEXT", default_value = "")]
    response_body: String,
    /// A connection in the place of a request: what its client says; may be repeated, in turns with --server
    #[arg(long, value_name = "TEXT", conflicts_with_all = OF_REQUESTS)]
    pub(super) client: Vec<String>,
    /// What the backend of the connection says; may be repeated
    #[arg(long, value_name = "TEXT", conflicts_with_all = OF_REQUESTS)]
    pub(super) server: Vec<String>,
    /// Whom it may call; may be repeated
    #[arg(long = "upstream", value_name = "NAME")]
    upstreams: Vec<String>,
    /// What its calls are answered
    #[arg(long, value_name = "CODE", default_value = "200")]
    call_status: StatusCode,
    /// The same request so many times
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    times: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl TestArgs {
    fn is_connection(&self) -> bool {
        !(self.client.is_empty() && self.server.is_empty())
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is not the name of a header"))?;
    let value = value.trim().parse().map_err(|_| format!("no header has the value `{value}`"))?;
    Ok((name, value))
}

/// What became of an exchange.
#[derive(Debug, Default)]
pub(super) struct Told {
    outcome: String,
    request: Option<Value>,
    request_body: Option<String>,
    response: Option<Value>,
    response_body: Option<String>,
    /// Of a connection.
    pub(super) carried: Vec<Value>,
    calls: Vec<Value>,
}

pub(super) fn command(args: &TestArgs) -> Result<Done> {
    let bytes = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    let (here, world) = Here::new();
    let code = match Code::load(&bytes, None) {
        Ok(code) => code,
        Err(fault) => return Ok(refused(args, &fault.to_string(), &here)),
    };
    let plugin = match Plugin::new(code, settings(args)?, world, 1) {
        Ok(plugin) => plugin,
        Err(fault) => return Ok(refused(args, &fault.to_string(), &here)),
    };
    if args.is_connection() && !plugin.code().hears().connections {
        return Ok(refused(args, "it has no word on connections: leave out --client and --server", &here));
    }
    here.lines();
    let mut last = Told::default();
    let begun = Instant::now();
    for _ in 0..args.times {
        last = once(args, &plugin, &here)?;
    }
    let took = begun.elapsed() / args.times;
    let failed = plugin.standing().last;
    show(args, &last, (&here, took), &plugin);
    Ok(if failed.is_some() { Done::ChecksFailed } else { Done::Well })
}

fn settings(args: &TestArgs) -> Result<Settings> {
    let mut settings = Settings::named("test");
    settings.root_id.clone_from(&args.plugin_name);
    settings.capabilities.upstreams.clone_from(&args.upstreams);
    settings.budgets.log_lines = u32::MAX;
    settings.configuration = match (&args.config, &args.config_file) {
        (Some(text), _) => Bytes::from(text.clone()),
        (None, Some(file)) => std::fs::read(file).with_context(|| file.display().to_string())?.into(),
        (None, None) => Bytes::new(),
    };
    Ok(settings)
}

fn once(args: &TestArgs, plugin: &Plugin, here: &Here) -> Result<Told> {
    let vm = match plugin.seat() {
        Ok(seat) => seat.vm,
        Err(why) => bail!("{why}"),
    };
    let mut told = Told::default();
    let exchange = Arc::new(Exchange::new(Nobody));
    let opened = match args.is_connection() {
        true => vm.lock().open_connection(exchange),
        false => vm.lock().open(exchange),
    };
    let Ok(id) = opened else { bail!("the plugin failed as it began") };
    let mut run = Run { args, vm: &vm, here, id, told: &mut told, logged: Logged::default() };
    let outcome = if args.is_connection() { run.connection() } else { run.exchange() };
    let logged = std::mem::take(&mut run.logged);
    told.outcome = match outcome {
        Ok(outcome) => outcome,
        Err(fault) => fault.to_string(),
    };
    vm.lock().close(id, logged);
    Ok(told)
}

pub(super) struct Run<'a> {
    pub(super) args: &'a TestArgs,
    pub(super) vm: &'a SharedVm,
    here: &'a Here,
    pub(super) id: u32,
    pub(super) told: &'a mut Told,
    logged: Logged,
}

impl Run<'_> {
    fn exchange(&mut self) -> Result<String, Fault> {
        let (args, id) = (self.args, self.id);
        let mut headers: HeaderMap = args.headers.iter().cloned().collect();
        if let Ok(host) = HeaderValue::try_from(&args.host) {
            headers.insert(http::header::HOST, host);
        }
        let uri = args.path.parse().unwrap_or_default();
        let head = RequestHead { method: args.method.clone(), uri, https: false, headers };
        let step = self.vm.lock().request_headers(id, head, args.body.is_empty())?;
        if let Some(ended) = self.settle(step, Direction::Request)? {
            return Ok(ended);
        }
        if let Some(head) = self.vm.lock().take_request(id) {
            self.told.request = Some(json!({
                "method": head.method.as_str(), "path": head.uri.to_string(), "headers": shown(&head.headers),
            }));
            self.logged.request = Some(Arc::new(head));
        }
        if !args.body.is_empty()
            && let Some(ended) = self.body(Direction::Request, &args.body)?
        {
            return Ok(ended);
        }
        self.answer(args.status, args.response_headers.iter().cloned().collect(), &args.response_body.clone())
    }

    fn answer(&mut self, status: StatusCode, headers: HeaderMap, body: &str) -> Result<String, Fault> {
        let head = ResponseHead { status, headers };
        let step = self.vm.lock().response_headers(self.id, head, body.is_empty())?;
        if let Some(ended) = self.settle(step, Direction::Response)? {
            return Ok(ended);
        }
        if let Some(head) = self.vm.lock().take_response(self.id) {
            let told = json!({ "status": head.status.as_u16(), "headers": shown(&head.headers) });
            self.told.response = Some(told);
            self.logged.response = Some(Arc::new(head));
        }
        if !body.is_empty()
            && let Some(ended) = self.body(Direction::Response, body)?
        {
            return Ok(ended);
        }
        Ok(String::from("passed"))
    }

    fn body(&mut self, direction: Direction, body: &str) -> Result<Option<String>, Fault> {
        let step = self.vm.lock().body(self.id, direction, Bytes::from(body.to_owned()), true)?;
        if let Some(ended) = self.settle(step, direction)? {
            return Ok(Some(ended));
        }
        let (left, _) = self.vm.lock().take_body(self.id, direction);
        let left = Some(String::from_utf8_lossy(&left).into_owned());
        match direction {
            Direction::Request => self.told.request_body = left,
            Direction::Response => self.told.response_body = left,
        }
        Ok(None)
    }

    /// Waits while the plugin pauses; says how the exchange ended, if it did.
    pub(super) fn settle(&mut self, mut step: Step, direction: Direction) -> Result<Option<String>, Fault> {
        let begun = Instant::now();
        loop {
            match step {
                Step::Go => return Ok(None),
                Step::Respond => return self.local().map(Some),
                Step::Close => return Ok(Some(String::from("the plugin closed the stream"))),
                Step::TooLarge => return Ok(Some(String::from("the plugin holds back too much of a body"))),
                Step::Pause if begun.elapsed() > PATIENCE => {
                    return Ok(Some(String::from("the plugin paused, and went on no more")));
                }
                Step::Pause => self.work()?,
            }
            step = self.vm.lock().poll(self.id, direction, Waker::noop())?;
        }
    }

    pub(super) fn work(&mut self) -> Result<(), Fault> {
        let now = self.here.clock().monotonic();
        let work = self.vm.lock().work(now, Waker::noop());
        match work {
            Work::Calls { send, .. } => {
                for call in send {
                    self.told.calls.push(asked(&call));
                    self.answered(
                        call.id,
                        matches!(call.request, Asked::Grpc { .. } | Asked::GrpcStream { .. }),
                    )?;
                }
            }
            Work::Wait(_) => std::thread::sleep(Duration::from_millis(1)),
            Work::Over => {}
        }
        Ok(())
    }

    fn answered(&self, call: u32, grpc: bool) -> Result<(), Fault> {
        let head = ResponseHead { status: self.args.call_status, headers: HeaderMap::new() };
        let mut vm = self.vm.lock();
        if !grpc {
            let answer = Answer { head, body: Bytes::new(), trailers: HeaderMap::new() };
            return vm.answered(call, Some(answer));
        }
        let status = if self.args.call_status == StatusCode::OK { 0 } else { 2 };
        let answer = GrpcAnswer { message: Some(Bytes::new()), status, status_message: String::new() };
        vm.grpc_answered(call, answer)
    }

    /// The plugin's own answer, which passes the plugin as others do.
    fn local(&mut self) -> Result<String, Fault> {
        let local = self.vm.lock().local_response(self.id);
        let Some(local) = local else { return Ok(String::from("answered")) };
        if self.told.response.is_none() {
            let body = String::from_utf8_lossy(&local.body).into_owned();
            let headers = local.headers.into_iter().collect();
            self.told.response_body = Some(body.clone());
            self.answer(local.status, headers, &body)?;
        }
        Ok(String::from("answered by the plugin"))
    }
}

fn shown(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
    };
    headers.iter().map(line).collect()
}

/// A side call, as the plugin wants it sent.
fn asked(call: &CallOut) -> Value {
    match &call.request {
        Asked::Http { head, body, .. } => json!({
            "upstream": call.upstream,
            "method": head.method.as_str(),
            "path": head.uri.to_string(),
            "headers": shown(&head.headers),
            "body": String::from_utf8_lossy(body),
        }),
        Asked::GrpcStream { service, method, .. } => json!({
            "upstream": call.upstream,
            "service": service,
            "method": method,
            "stream": true,
        }),
        Asked::Grpc { service, method, message, .. } => json!({
            "upstream": call.upstream,
            "service": service,
            "method": method,
            "messageBytes": message.len(),
        }),
    }
}

fn lines(here: &Here) -> Vec<String> {
    here.lines().into_iter().map(|(level, text)| format!("{level:?}: {text}").to_lowercase()).collect()
}

fn refused(args: &TestArgs, why: &str, here: &Here) -> Done {
    if args.json {
        say::line(&json!({ "outcome": "refused", "fault": why, "log": lines(here) }).to_string());
    } else {
        say::line(&format!("{}: {why}", args.file.display()));
        lines(here).iter().for_each(|line| say::line(&format!("  log      {line}")));
    }
    Done::ChecksFailed
}

fn show(args: &TestArgs, told: &Told, (here, took): (&Here, Duration), plugin: &Plugin) {
    let counts = plugin.counts();
    let json = json!({
        "outcome": told.outcome,
        "failure": plugin.standing().last,
        "request": told.request,
        "requestBody": told.request_body,
        "response": told.response,
        "responseBody": told.response_body,
        "carried": told.carried,
        "calls": told.calls,
        "log": lines(here),
        "microseconds": took.as_secs_f64() * 1e6,
        "memoryBytes": counts.memory,
        "callbacks": counts.callbacks,
    });
    if args.json {
        return say::line(&json.to_string());
    }
    say::line(&format!("{} in {took:?}, {} bytes of memory", told.outcome, counts.memory));
    let head = |title: &str, head: &Option<Value>, body: &Option<String>| {
        let Some(head) = head else { return };
        say::line(&format!("{title} {head}"));
        body.iter().for_each(|body| say::line(&format!("  body     {body}")));
    };
    head("request ", &told.request, &told.request_body);
    head("response", &told.response, &told.response_body);
    told.carried.iter().for_each(|said| say::line(&format!("carried  {said}")));
    told.calls.iter().for_each(|call| say::line(&format!("call     {call}")));
    for line in json["log"].as_array().into_iter().flatten() {
        say::line(&format!("log      {}", line.as_str().unwrap_or_default()));
    }
}
