//! A connection in the place of a request: what each side says in turn, and what of it the plugin lets pass.

use std::task::Waker;

use bytes::Bytes;
use serde_json::json;
use tidegate_proxy::wasm::{ClosedBy, Direction, Fault, Step};

use super::test::Run;

impl Run<'_> {
    /// The client begins; when both have said everything, the client ends it.
    pub(super) fn connection(&mut self) -> Result<String, Fault> {
        let step = self.vm.lock().new_connection(self.id)?;
        if let Some(ended) = self.settle(step, Direction::Request)? {
            return Ok(ended);
        }
        let sides = [(Direction::Request, &self.args.client), (Direction::Response, &self.args.server)];
        for turn in 0..self.args.client.len().max(self.args.server.len()) {
            for (direction, said) in sides {
                let Some(text) = said.get(turn) else { continue };
                if let Some(ended) = self.say(direction, text, false)? {
                    return Ok(ended);
                }
            }
        }
        for (direction, _) in sides {
            if let Some(ended) = self.say(direction, "", true)? {
                return Ok(ended);
            }
        }
        for (direction, by) in
            [(Direction::Response, ClosedBy::Unknown), (Direction::Request, ClosedBy::Remote)]
        {
            self.vm.lock().connection_closed(self.id, direction, by)?;
        }
        Ok(String::from("passed"))
    }

    /// What one side says, or that this was its last; says how the connection ended, if it did.
    fn say(&mut self, direction: Direction, text: &str, last: bool) -> Result<Option<String>, Fault> {
        let mut step = self.vm.lock().data(self.id, direction, Bytes::from(text.to_owned()), last)?;
        if step == Step::Pause && !last {
            // It may want more before it lets any pass.
            self.work()?;
            step = self.vm.lock().poll(self.id, direction, Waker::noop())?;
        }
        let holds = step == Step::Pause && !last;
        let ended = if holds { None } else { self.settle(step, direction)? };
        let goes_on = !holds && ended.is_none();
        let passed = if goes_on { self.vm.lock().take_body(self.id, direction).0 } else { Bytes::new() };
        if !text.is_empty() || !passed.is_empty() {
            self.told.carried.push(json!({
                "from": if direction == Direction::Request { "client" } else { "server" },
                "said": text,
                "passed": String::from_utf8_lossy(&passed),
            }));
        }
        Ok(ended)
    }
}
