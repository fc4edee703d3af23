//! Lets pass who knows one of the tokens that it is configured with, and tells the backend whose it was.
//!
//! Configuration: `{"header": "x-token", "tokens": {"secret-of-ann": "ann"}}`.

use std::collections::HashMap;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root(Config::default())));
}}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    header: String,
    /// Names, by token.
    tokens: HashMap<String, String>,
}

struct Root(Config);

struct Request(Config);

/// Whose token it is; in constant time for each, so that nobody learns a token by the clock.
fn owner<'a>(config: &'a Config, token: &str) -> Option<&'a str> {
    let same = |known: &str| {
        let differ = known.bytes().zip(token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        known.len() == token.len() && differ == 0
    };
    let mut found = None;
    for (known, name) in &config.tokens {
        if same(known) {
            found = Some(name.as_str());
        }
    }
    found
}

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

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let token = self.get_http_request_header(&self.0.header);
        match token.as_deref().and_then(|token| owner(&self.0, token)) {
            Some(name) => {
                // What a client says of itself does not count.
                self.set_http_request_header("x-user", Some(name));
                self.set_http_request_header(&self.0.header, None);
                Action::Continue
            }
            None => {
                self.send_http_response(401, vec![("www-authenticate", "Token")], Some(b"who are you?\n"));
                Action::Pause
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_whom_it_was_given() {
        let text = r#"{"header": "x-token", "tokens": {"abc": "ann", "abcd": "bob"}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(owner(&config, "abc"), Some("ann"));
        assert_eq!(owner(&config, "abcd"), Some("bob"));
        assert_eq!((owner(&config, "ab"), owner(&config, "")), (None, None));
    }
}
