//! Has a service judge the signature of each request, and keeps the request until it has.
//!
//! Configuration: `{"cluster": "keys", "path": "/verify", "header": "x-signature", "timeoutMs": 500}`. The service is sent the
//! signature and what was signed (method, path and host), and lets pass with status 200 and the signer in `x-signer`.

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root(Config::default())));
}}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    cluster: String,
    path: String,
    header: String,
    timeout_ms: u64,
}

struct Root(Config);

struct Request(Config);

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        match serde_json::from_slice(&text) {
            Ok(config) => {
                self.0 = config;
                true
            }
            Err(error) => {
                proxy_wasm::hostcalls::log(LogLevel::Error, &format!("configuration: {error}")).ok();
                false
            }
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request(self.0.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Request {
    fn refuse(&self, status: u32, why: &str) -> Action {
        self.send_http_response(status, vec![], Some(why.as_bytes()));
        Action::Pause
    }
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let Some(signature) = self.get_http_request_header(&self.0.header) else {
            return self.refuse(401, "no signature\n");
        };
        let part = |name: &str| self.get_http_request_header(name).unwrap_or_default();
        let signed = format!("{} {} {}", part(":method"), part(":path"), part(":authority"));
        let headers = vec![
            (":method", "POST"),
            (":path", self.0.path.as_str()),
            (":authority", self.0.cluster.as_str()),
            ("x-signature", signature.as_str()),
        ];
        let limit = Duration::from_millis(self.0.timeout_ms);
        match self.dispatch_http_call(&self.0.cluster, headers, Some(signed.as_bytes()), vec![], limit) {
            Ok(_) => Action::Pause,
            Err(_) => self.refuse(503, "nobody to verify signatures\n"),
        }
    }
}

impl Context for Request {
    fn on_http_call_response(&mut self, _call: u32, headers: usize, _body: usize, _trailers: usize) {
        let status = self.get_http_call_response_header(":status").unwrap_or_default();
        match (headers, status.as_str()) {
            (1.., "200") => {
                let signer = self.get_http_call_response_header("x-signer");
                self.set_http_request_header("x-signer", signer.as_deref());
                self.resume_http_request();
            }
            (0, _) | (_, "503" | "504") => drop(self.refuse(503, "signatures cannot be verified now\n")),
            _ => drop(self.refuse(403, "the signature does not hold\n")),
        }
    }
}
