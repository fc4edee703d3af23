//! Export.
use std::time::Duration;
#[derive(Debug)]
pub(super) struct SpanQueue {}
impl SpanQueue {
    pub(super) async fn flush(self, _bound: Duration) {}
}
