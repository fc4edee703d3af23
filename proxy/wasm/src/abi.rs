//! The ABI's versions and the callbacks that a module may export.
//!
//! Source: <https://github.com/proxy-wasm/spec/tree/main/abi-versions>.

use std::fmt;

use wasmtime::{ExternType, FuncType, Instance, Module, Store, TypedFunc, ValType, WasmParams, WasmResults};

use crate::error::LoadError;
use crate::host::Host;

/// What a module says it was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AbiVersion {
    V0_1_0,
    V0_2_0,
    V0_2_1,
}

impl AbiVersion {
    const ALL: [Self; 3] = [Self::V0_1_0, Self::V0_2_0, Self::V0_2_1];
    const PREFIX: &str = "proxy_abi_version_";

    fn name(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_2_1 => "0.2.1",
        }
    }

    pub(crate) fn list() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// # Errors
    /// None, several, or one that is not known.
    pub(crate) fn of(module: &Module) -> Result<Self, LoadError> {
        let named = module.exports().filter_map(|export| export.name().strip_prefix(Self::PREFIX));
        let named: Vec<String> = named.map(|version| version.replace('_', ".")).collect();
        match &*named {
            [] => Err(LoadError::NoAbi),
            [one] => {
                let known = Self::ALL.into_iter().find(|version| version.name() == one);
                known.ok_or_else(|| LoadError::UnknownAbi(one.clone()))
            }
            several => Err(LoadError::SeveralAbis(several.join(", "))),
        }
    }
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names, parameters and results of what the host calls, all of them `i32`.
const CALLBACKS: &[(&str, usize, usize)] = &[
    ("proxy_on_context_create", 2, 0),
    ("proxy_on_vm_start", 2, 1),
    ("proxy_on_configure", 2, 1),
    ("proxy_on_tick", 1, 0),
    ("proxy_on_queue_ready", 2, 0),
    ("proxy_on_request_body", 3, 1),
    ("proxy_on_response_body", 3, 1),
    ("proxy_on_request_trailers", 2, 1),
    ("proxy_on_response_trailers", 2, 1),
    ("proxy_on_http_call_response", 5, 0),
    ("proxy_on_grpc_receive_initial_metadata", 3, 0),
    ("proxy_on_grpc_receive", 3, 0),
    ("proxy_on_grpc_receive_trailing_metadata", 3, 0),
    ("proxy_on_grpc_close", 3, 0),
    ("proxy_on_new_connection", 1, 1),
    ("proxy_on_downstream_data", 3, 1),
    ("proxy_on_upstream_data", 3, 1),
    ("proxy_on_downstream_connection_close", 2, 0),
    ("proxy_on_upstream_connection_close", 2, 0),
    ("proxy_on_done", 1, 1),
    ("proxy_on_log", 1, 0),
    ("proxy_on_delete", 1, 0),
];

/// The two whose form depends on the version.
const HEADER_CALLBACKS: [&str; 2] = ["proxy_on_request_headers", "proxy_on_response_headers"];

/// Those that are called for requests, whatever they export beside them.
pub(crate) const OF_REQUESTS: [&str; 6] = [
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
];

/// Those that are called for connections that are carried as a whole.
pub(crate) const OF_CONNECTIONS: [&str; 5] = [
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_connection_close",
];

/// # Errors
/// A callback has another form than the ABI says: it could not be called.
pub(crate) fn check_callbacks(module: &Module, abi: AbiVersion) -> Result<(), LoadError> {
    let headers = if abi == AbiVersion::V0_1_0 { 2 } else { 3 };
    let of_version = HEADER_CALLBACKS.map(|name| (name, headers, 1));
    for (name, params, results) in CALLBACKS.iter().copied().chain(of_version) {
        let Some(found) = module.get_export(name) else { continue };
        let fits = matches!(&found, ExternType::Func(func) if is_i32(func, params, results));
        if !fits {
            let found = match found {
                ExternType::Func(func) => func.to_string(),
                _ => String::from("no function"),
            };
            let params = vec!["i32"; params].join(" ");
            let results = if results == 1 { " (result i32)" } else { "" };
            let wanted = format!("(func (param {params}){results})");
            return Err(LoadError::Signature { name: name.to_owned(), found, wanted });
        }
    }
    Ok(())
}

fn is_i32(func: &FuncType, params: usize, results: usize) -> bool {
    let all = |mut types: Box<dyn Iterator<Item = ValType> + '_>| types.all(|ty| matches!(ty, ValType::I32));
    func.params().len() == params
        && func.results().len() == results
        && all(Box::new(func.params()))
        && all(Box::new(func.results()))
}

type One = TypedFunc<u32, ()>;
type OneToOne = TypedFunc<u32, u32>;
type Two = TypedFunc<(u32, u32), ()>;
type TwoToOne = TypedFunc<(u32, u32), u32>;
pub(crate) type Three = TypedFunc<(u32, u32, u32), ()>;
type ThreeToOne = TypedFunc<(u32, u32, u32), u32>;
type Five = TypedFunc<(u32, u32, u32, u32, u32), ()>;

/// One of the two pairs of callbacks that are told of bytes.
pub(crate) type OfBytes = fn(&Callbacks) -> &[Option<ThreeToOne>; 2];

/// What an instance exports of that; what it lacks has nothing to say.
#[derive(Clone, Default)]
pub(crate) struct Callbacks {
    pub(crate) context_create: Option<Two>,
    pub(crate) vm_start: Option<TwoToOne>,
    pub(crate) configure: Option<TwoToOne>,
    pub(crate) tick: Option<One>,
    pub(crate) queue_ready: Option<Two>,
    /// Request, response; one of these two pairs.
    pub(crate) headers: [Option<ThreeToOne>; 2],
    pub(crate) old_headers: [Option<TwoToOne>; 2],
    pub(crate) body: [Option<ThreeToOne>; 2],
    pub(crate) trailers: [Option<TwoToOne>; 2],
    pub(crate) new_connection: Option<OneToOne>,
    /// Downstream, upstream; as those of requests.
    pub(crate) data: [Option<ThreeToOne>; 2],
    pub(crate) connection_close: [Option<Two>; 2],
    pub(crate) http_call_response: Option<Five>,
    pub(crate) grpc_initial: Option<Three>,
    pub(crate) grpc_receive: Option<Three>,
    pub(crate) grpc_trailing: Option<Three>,
    pub(crate) grpc_close: Option<Three>,
    pub(crate) done: Option<OneToOne>,
    pub(crate) log: Option<One>,
    pub(crate) delete: Option<One>,
}

impl Callbacks {
    pub(crate) fn of(instance: &Instance, store: &mut Store<Host>, abi: AbiVersion) -> Self {
        let mut find = Find(instance, store);
        let [request, response] = HEADER_CALLBACKS;
        let old = abi == AbiVersion::V0_1_0;
        let none = || [None, None];
        Self {
            context_create: find.get("proxy_on_context_create"),
            vm_start: find.get("proxy_on_vm_start"),
            configure: find.get("proxy_on_configure"),
            tick: find.get("proxy_on_tick"),
            queue_ready: find.get("proxy_on_queue_ready"),
            headers: if old { none() } else { [find.get(request), find.get(response)] },
            old_headers: if old { [find.get(request), find.get(response)] } else { [None, None] },
            body: [find.get("proxy_on_request_body"), find.get("proxy_on_response_body")],
            trailers: [find.get("proxy_on_request_trailers"), find.get("proxy_on_response_trailers")],
            new_connection: find.get("proxy_on_new_connection"),
            data: [find.get("proxy_on_downstream_data"), find.get("proxy_on_upstream_data")],
            connection_close: [
                find.get("proxy_on_downstream_connection_close"),
                find.get("proxy_on_upstream_connection_close"),
            ],
            http_call_response: find.get("proxy_on_http_call_response"),
            grpc_initial: find.get("proxy_on_grpc_receive_initial_metadata"),
            grpc_receive: find.get("proxy_on_grpc_receive"),
            grpc_trailing: find.get("proxy_on_grpc_receive_trailing_metadata"),
            grpc_close: find.get("proxy_on_grpc_close"),
            done: find.get("proxy_on_done"),
            log: find.get("proxy_on_log"),
            delete: find.get("proxy_on_delete"),
        }
    }
}

struct Find<'a>(&'a Instance, &'a mut Store<Host>);

impl Find<'_> {
    fn get<P: WasmParams, R: WasmResults>(&mut self, name: &str) -> Option<TypedFunc<P, R>> {
        self.0.get_typed_func(&mut *self.1, name).ok()
    }
}
