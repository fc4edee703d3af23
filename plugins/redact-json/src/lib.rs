//! Blackens fields of JSON answers, whatever object they are in.
//!
//! Configuration: names with commas between, such as `card,iban`.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde_json::Value;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root(Rc::default())));
}}

const BLACK: &str = "***";

struct Root(Rc<Vec<String>>);

struct Response {
    fields: Rc<Vec<String>>,
    is_json: bool,
}

fn fields(configuration: &str) -> Vec<String> {
    configuration.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// How many values were there.
fn redact(value: &mut Value, fields: &[String]) -> usize {
    match value {
        Value::Object(object) => object
            .iter_mut()
            .map(|(name, value)| {
                if fields.contains(name) {
                    *value = Value::from(BLACK);
                    1
                } else {
                    redact(value, fields)
                }
            })
            .sum(),
        Value::Array(items) => items.iter_mut().map(|item| redact(item, fields)).sum(),
        _ => 0,
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        self.0 = Rc::new(fields(&String::from_utf8_lossy(&text)));
        !self.0.is_empty()
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Response { fields: self.0.clone(), is_json: false }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Response {}

impl HttpContext for Response {
    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        let kind = self.get_http_response_header("content-type").unwrap_or_default();
        self.is_json = kind.starts_with("application/json");
        if self.is_json {
            // What it will be is not known yet.
            self.set_http_response_header("content-length", None);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        if !self.is_json {
            return Action::Continue;
        }
        if !end {
            return Action::Pause;
        }
        let body = self.get_http_response_body(0, size).unwrap_or_default();
        let Ok(mut value) = serde_json::from_slice::<Value>(&body) else {
            // What cannot be read cannot be judged either.
            self.set_http_response_body(0, size, b"{}");
            return Action::Continue;
        };
        if redact(&mut value, &self.fields) > 0 {
            self.set_http_response_body(0, size, value.to_string().as_bytes());
        }
        Action::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_blackened_wherever_they_are() {
        let mut value = json!({"card": 1, "list": [{"iban": "x", "name": "ann"}], "cards": 2});
        assert_eq!(redact(&mut value, &fields("card, iban,")), 2);
        assert_eq!(value, json!({"card": "***", "list": [{"iban": "***", "name": "ann"}], "cards": 2}));
    }
}
