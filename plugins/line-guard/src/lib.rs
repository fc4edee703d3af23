//! For protocols of lines over TCP: ends connections whose client sends a line that begins with a word that is not allowed, and
//! blackens words in what comes back.
//!
//! Configuration: `{"deny": ["DROP"], "mask": ["secret"]}`.
//!
//! What a client sends is held back until its line is whole, so that no half of a denied one gets through. What a server sends
//! passes as it comes: a word that comes in two pieces is not found.

use proxy_wasm::hostcalls::{define_metric, increment_metric, log};
use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType, PeerType};
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { config: Config::default(), denied: 0 }));
}}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    deny: Vec<String>,
    #[serde(default)]
    mask: Vec<String>,
}

struct Root {
    config: Config,
    /// A metric.
    denied: u32,
}

struct Connection {
    config: Config,
    denied: u32,
}

/// The word that is not allowed, at the beginning of any of the lines.
fn denied<'a>(config: &'a Config, lines: &[u8]) -> Option<&'a str> {
    let begins = |line: &[u8], word: &str| {
        let rest = line.get(..word.len()).filter(|begin| begin.eq_ignore_ascii_case(word.as_bytes()));
        rest.is_some() && line.get(word.len()).is_none_or(|next| !next.is_ascii_alphanumeric())
    };
    let of = |line: &[u8]| config.deny.iter().find(|word| begins(line, word));
    lines.split(|byte| *byte == b'\n').find_map(of).map(String::as_str)
}

/// With stars in place of the words; `None` if there are none.
fn masked(config: &Config, text: &[u8]) -> Option<Vec<u8>> {
    let mut out = text.to_vec();
    for word in config.mask.iter().filter(|word| !word.is_empty()) {
        let mut at = 0;
        while let Some(found) = out[at..].windows(word.len()).position(|part| part == word.as_bytes()) {
            out[at + found..at + found + word.len()].fill(b'*');
            at += found + word.len();
        }
    }
    (out != text).then_some(out)
}

fn say(text: &str) {
    log(LogLevel::Info, text).ok();
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        match serde_json::from_slice(&text) {
            Ok(config) => self.config = config,
            Err(error) => {
                log(LogLevel::Error, &format!("configuration: {error}")).ok();
                return false;
            }
        }
        self.denied = define_metric(MetricType::Counter, "line_guard.denied").unwrap_or_default();
        true
    }

    fn create_stream_context(&self, _id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Connection { config: self.config.clone(), denied: self.denied }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}

impl Context for Connection {
    fn on_done(&mut self) -> bool {
        say("done");
        true
    }
}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        say("a connection");
        Action::Continue
    }

    fn on_downstream_data(&mut self, size: usize, end: bool) -> Action {
        let data = self.get_downstream_data(0, size).unwrap_or_default();
        if let Some(word) = denied(&self.config, &data) {
            say(&format!("denied: {word}"));
            increment_metric(self.denied, 1).ok();
            self.close_downstream();
            return Action::Pause;
        }
        if end || data.is_empty() || data.ends_with(b"\n") { Action::Continue } else { Action::Pause }
    }

    fn on_downstream_close(&mut self, by: PeerType) {
        say(&format!("the client's side is closed: {by:?}"));
    }

    fn on_upstream_data(&mut self, size: usize, _end: bool) -> Action {
        let data = self.get_upstream_data(0, size).unwrap_or_default();
        if let Some(masked) = masked(&self.config, &data) {
            self.set_upstream_data(0, size, &masked);
        }
        Action::Continue
    }

    fn on_upstream_close(&mut self, by: PeerType) {
        say(&format!("the server's side is closed: {by:?}"));
    }

    fn on_log(&mut self) {
        say("over");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        serde_json::from_str(r#"{"deny": ["DROP"], "mask": ["secret", "key"]}"#).unwrap()
    }

    #[test]
    fn a_word_counts_at_the_beginning_of_a_line_and_as_a_whole() {
        let denied = |text: &str| denied(&config(), text.as_bytes()).is_some();
        assert!(denied("DROP TABLE a\n") && denied("SELECT 1\ndrop;\n") && denied("Drop"));
        assert!(!denied("DROPS\n") && !denied("do not DROP it\n") && !denied("DRO") && !denied(""));
    }

    #[test]
    fn words_are_blackened_wherever_they_are() {
        let masked =
            |text: &str| masked(&config(), text.as_bytes()).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(masked("a secret, secretkey").as_deref(), Some("a ******, *********"));
        assert_eq!(masked("nothing"), None);
    }
}
