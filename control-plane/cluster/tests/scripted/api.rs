//! The scripted API server's sockets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::state::{Key, Resource, Scope, Seen, State, failure};

/// Only ends a test that would never end by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

type Body = BoxBody<Bytes, Infallible>;

#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Moves with every change and request.
    moved: watch::Sender<u64>,
    /// Connections end with it; a new one begins when the server is back.
    era: Arc<Mutex<Option<CancellationToken>>>,
    _guard: Arc<DropGuard>,
}

/// What a path asks for.
struct Target {
    resource: Resource,
    scope: Scope,
    status: bool,
}

impl Api {
    pub(crate) async fn start(resources: Vec<Resource>) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_env("TIDEGATE_LOG");
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stop = CancellationToken::new();
        let api = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State { resources, version: 100, ..State::default() })),
            moved: watch::Sender::new(0),
            era: Arc::new(Mutex::new(Some(CancellationToken::new()))),
            _guard: Arc::new(stop.clone().drop_guard()),
        };
        // The server must not keep its own guard alive.
        let (state, moved, era) = (api.state.clone(), api.moved.clone(), api.era.clone());
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                let Some(era) = era.lock().clone() else { continue };
                let server = Server { state: state.clone(), moved: moved.clone(), era: era.clone() };
                let serve = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), serve);
                let stop = stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = connection => {}
                        () = era.cancelled() => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
        });
        api
    }

    pub(crate) fn client(&self) -> Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = Config::new(format!("http://{}", self.address).parse().unwrap());
        config.default_namespace = String::from("default");
        Client::try_from(config).unwrap()
    }

    /// Ends every connection and takes none until [`Self::come_back`].
    pub(crate) fn go_away(&self) {
        if let Some(era) = self.era.lock().take() {
            era.cancel();
        }
    }

    pub(crate) fn come_back(&self) {
        *self.era.lock() = Some(CancellationToken::new());
    }

    /// Ends every connection; new ones are taken.
    pub(crate) fn hang_up(&self) {
        self.go_away();
        self.come_back();
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let done = act(&mut self.state.lock());
        self.moved.send_modify(|count| *count += 1);
        done
    }

    /// Creates or replaces an object, as `kubectl apply` does.
    pub(crate) fn put(&self, object: Value) -> Value {
        self.with(|state| {
            let key = key_of(state, &object);
            let mut object = object;
            if let Some(status) = state.objects.get(&key).and_then(|before| before.get("status")) {
                object["status"] = status.clone();
            }
            state.put(key, object)
        })
    }

    /// As another controller writes it.
    pub(crate) fn put_status(&self, kind: &str, namespace: &str, name: &str, status: Value) {
        self.with(|state| {
            let (key, mut object) = find(state, kind, namespace, name).unwrap();
            object["status"] = status;
            state.put(key, object);
        });
    }

    pub(crate) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        find(&self.state.lock(), kind, namespace, name).map(|(_, object)| object)
    }

    pub(crate) fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.with(|state| {
            let (key, _) = find(state, kind, namespace, name).unwrap();
            state.delete(&key);
        });
    }

    pub(crate) fn requests(&self, wanted: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        self.state.lock().requests.iter().filter(|seen| wanted(seen)).cloned().collect()
    }

    /// Waits until `wanted` finds something.
    pub(crate) async fn until<T>(&self, what: &str, wanted: impl Fn(&State) -> Option<T>) -> T {
        let mut moved = self.moved.subscribe();
        let wait = async {
            loop {
                moved.mark_unchanged();
                if let Some(found) = wanted(&self.state.lock()) {
                    return found;
                }
                moved.changed().await.unwrap();
            }
        };
        let done = tokio::time::timeout(PATIENCE, wait).await;
        done.unwrap_or_else(|_| panic!("never came: {what}; {:#?}", self.state.lock().objects.keys()))
    }

    /// Waits for an object that is as wanted.
    pub(crate) async fn until_object(
        &self,
        (kind, namespace, name): (&str, &str, &str),
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let what = format!("{kind} {namespace}/{name}");
        self.until(&what, |state| {
            find(state, kind, namespace, name).map(|(_, object)| object).filter(|object| wanted(object))
        })
        .await
    }
}

fn key_of(state: &State, object: &Value) -> Key {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    let resource = state.resources.iter().find(|r| r.api_version == api_version && r.kind == kind);
    let plural = resource.unwrap_or_else(|| panic!("{api_version} {kind} is not served")).plural;
    (api_version, plural.to_owned(), text("/metadata/namespace"), text("/metadata/name"))
}

fn find(state: &State, kind: &str, namespace: &str, name: &str) -> Option<(Key, Value)> {
    let plurals: Vec<_> = state.resources.iter().filter(|r| r.kind == kind).map(|r| r.plural).collect();
    let found = state
        .objects
        .iter()
        .find(|(key, _)| plurals.contains(&&*key.1) && key.2 == namespace && key.3 == name);
    found.map(|(key, object)| (key.clone(), object.clone()))
}

#[derive(Clone)]
struct Server {
    state: Arc<Mutex<State>>,
    moved: watch::Sender<u64>,
    era: CancellationToken,
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let method = head.method.as_str().to_owned();
        let seen =
            Seen { method: method.clone(), path: path.clone(), query: query.clone(), body: body.clone() };
        self.state.lock().requests.push(seen);
        let kind =
            head.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let answer = self.handle((&method, &path, &kind), &parameters(&query), body);
        self.moved.send_modify(|count| *count += 1);
        answer
    }

    fn handle(
        &self,
        (method, path, content): (&str, &str, &str),
        query: &BTreeMap<String, String>,
        body: Value,
    ) -> Response<Body> {
        let mut state = self.state.lock();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (api_version, rest) = match parts.as_slice() {
            ["version"] => return reply(200, &version()),
            ["apis", "authentication.k8s.io", "v1", "tokenreviews"] => {
                let token = body["spec"]["token"].as_str().unwrap_or_default();
                let status = state.tokens.get(token).cloned().unwrap_or(json!({ "authenticated": false }));
                return reply(201, &json!({ "kind": "TokenReview", "status": status }));
            }
            ["apis", "authorization.k8s.io", "v1", "subjectaccessreviews"] => {
                let Some(may) = state.may else { return fail(403, "nobody may ask") };
                let allowed = may(&body["spec"]["resourceAttributes"]);
                return reply(
                    201,
                    &json!({ "kind": "SubjectAccessReview", "status": { "allowed": allowed } }),
                );
            }
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return fail(404, path),
        };
        if rest.is_empty() {
            return discovery(&state, &api_version);
        }
        let Some(target) = target(&state, &api_version, rest, query) else { return fail(404, path) };
        let key = |name: &str| {
            let namespace = target.scope.namespace.clone().unwrap_or_default();
            (api_version.clone(), target.resource.plural.to_owned(), namespace, name.to_owned())
        };
        let named = target.scope.name.clone().filter(|_| !query.contains_key("fieldSelector"));
        let written = match (method, named) {
            ("GET", Some(name)) => state.objects.get(&key(&name)).cloned().ok_or(404),
            ("GET", None) if state.forbidden.contains(target.resource.plural) => Err(403),
            ("GET", None) if query.contains_key("watch") => {
                drop(state);
                return self.watch(target, query);
            }
            ("GET", None) => return reply(200, &list(&state, &target, query)),
            ("POST", None) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                match state.objects.contains_key(&key(&name)) {
                    true => Err(409),
                    false => Ok(state.put(key(&name), body)),
                }
            }
            ("PUT", Some(name)) => {
                let version = &body["metadata"]["resourceVersion"];
                match state.objects.get(&key(&name)) {
                    None => Err(404),
                    Some(b) if !version.is_null() && b["metadata"]["resourceVersion"] != *version => Err(409),
                    Some(_) => Ok(state.put(key(&name), body)),
                }
            }
            ("PATCH", Some(name)) if content.contains("json-patch") => state.patch(key(&name), &body),
            ("PATCH", Some(name)) => state.apply(key(&name), target.status, &body),
            ("DELETE", Some(name)) => state.delete(&key(&name)).ok_or(404),
            _ => Err(405),
        };
        match written {
            Ok(object) => reply(200, &object),
            Err(500) => {
                let field = state.undeclared.unwrap_or_default();
                let message = format!(
                    "failed to create typed patch object (x): .status.{field}: field not declared in schema"
                );
                reply(500, &failure(500, &message))
            }
            Err(code) => fail(code, path),
        }
    }

    fn watch(&self, target: Target, query: &BTreeMap<String, String>) -> Response<Body> {
        let mut from: u64 = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
        let (sender, receiver) = mpsc::channel::<Bytes>(16);
        let (state, mut moved) = (self.state.clone(), self.moved.subscribe());
        let era = self.era.clone();
        tokio::spawn(async move {
            loop {
                moved.mark_unchanged();
                let (lines, gone) = news(&state.lock(), &target, &mut from);
                for line in lines {
                    if sender.send(Bytes::from(format!("{line}\n"))).await.is_err() {
                        return;
                    }
                }
                if gone {
                    return;
                }
                tokio::select! {
                    changed = moved.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                    () = era.cancelled() => return,
                }
            }
        });
        let frames = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|line| (Ok::<_, Infallible>(Frame::data(line)), receiver))
        });
        Response::new(BodyExt::boxed(StreamBody::new(Sync(Box::pin(frames)))))
    }
}

/// A body must be shareable between threads; this one never is.
struct Sync<S>(std::pin::Pin<Box<S>>);

// A stream is only ever polled by who owns it.
impl<S: futures_util::Stream> futures_util::Stream for Sync<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// What happened since `from`, and whether the watch is over.
fn news(state: &State, target: &Target, from: &mut u64) -> (Vec<Value>, bool) {
    if *from < state.oldest {
        return (vec![json!({ "type": "ERROR", "object": failure(410, "too old resource version") })], true);
    }
    let is_told = |key: &Key| {
        key.0 == target.resource.api_version && key.1 == target.resource.plural && target.scope.has(key)
    };
    let changes = state.changes.iter().filter(|change| change.version > *from);
    let lines = changes.filter(|change| is_told(&change.key));
    let lines = lines.map(|change| json!({ "type": change.kind, "object": change.object })).collect();
    *from = state.version.max(*from);
    (lines, false)
}

fn target(
    state: &State,
    api_version: &str,
    rest: &[&str],
    query: &BTreeMap<String, String>,
) -> Option<Target> {
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let resource = state.resource(api_version, rest.first()?)?;
    let selected = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    let name = rest.get(1).copied().or(selected).map(str::to_owned);
    Some(Target { resource, scope: Scope { namespace, name }, status: rest.get(2) == Some(&"status") })
}

fn list(state: &State, target: &Target, query: &BTreeMap<String, String>) -> Value {
    let number = |name: &str| query.get(name).and_then(|n| n.parse::<usize>().ok());
    let all = state.listed(target.resource.api_version, target.resource.plural, &target.scope);
    let (skip, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
    let items: Vec<_> = all.iter().skip(skip).take(limit).cloned().collect();
    let more = (skip + items.len() < all.len()).then(|| (skip + items.len()).to_string());
    json!({
        "apiVersion": target.resource.api_version,
        "kind": format!("{}List", target.resource.kind),
        "metadata": { "resourceVersion": state.version.to_string(), "continue": more.unwrap_or_default() },
        "items": items,
    })
}

fn discovery(state: &State, api_version: &str) -> Response<Body> {
    let resources: Vec<_> = state.resources.iter().filter(|r| r.api_version == api_version).collect();
    if resources.is_empty() {
        return fail(404, api_version);
    }
    let resources: Vec<_> = resources
        .iter()
        .map(|r| {
            json!({
                "name": r.plural, "singularName": "", "kind": r.kind, "namespaced": r.namespaced,
                "verbs": ["get", "list", "watch"],
            })
        })
        .collect();
    reply(200, &json!({ "kind": "APIResourceList", "groupVersion": api_version, "resources": resources }))
}

fn version() -> Value {
    let fields = ["gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"];
    let mut version = json!({ "major": "1", "minor": "36", "gitVersion": "v1.36.0" });
    for field in fields {
        version[field] = json!("");
    }
    version
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.replace("%3D", "=").replace('+', " "))).collect()
}

fn fail(code: u16, message: &str) -> Response<Body> {
    reply(code, &failure(code, message))
}

fn reply(code: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(BodyExt::boxed(Full::new(Bytes::from(body.to_string()))));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}
