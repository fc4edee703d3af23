//! The one connection to the store: made when it is first wanted, by a task of its own, and shared by all questions.
//!
//! A question waits for a connection no longer than for its answer, which may be less than connecting takes; so
//! connecting goes on without it, and the next one finds the connection made.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::server::{Client, Connection};

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Link {
    client: Arc<Client>,
    state: watch::Sender<State>,
}

/// A connection and which one it is.
#[derive(Clone)]
pub(super) struct Linked {
    pub(super) connection: Connection,
    number: u64,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Counts connections, so that one is not given up for what another did.
    number: u64,
    step: Step,
}

#[derive(Clone, Debug, Default)]
enum Step {
    #[default]
    Down,
    Connecting,
    Up(Connection),
}

impl Link {
    pub(super) fn new(client: Client) -> Self {
        Self { client: Arc::new(client), state: watch::Sender::default() }
    }

    /// The connection, once there is one; `None` if it cannot be made.
    pub(super) async fn get(&self) -> Option<Linked> {
        self.connect();
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| !matches!(state.step, Step::Connecting)).await.ok()?;
        match &state.step {
            Step::Up(connection) => Some(Linked { connection: connection.clone(), number: state.number }),
            Step::Down | Step::Connecting => None,
        }
    }

    /// Gives a connection up. The next question makes another one, by another look at where the store is.
    pub(super) fn drop(&self, linked: &Linked) {
        self.state.send_if_modified(|state| {
            let same = state.number == linked.number && matches!(state.step, Step::Up(_));
            if same {
                state.step = Step::Down;
            }
            same
        });
    }

    /// Starts to connect, unless it is being done or is done.
    fn connect(&self) {
        let started = self.state.send_if_modified(|state| {
            let down = matches!(state.step, Step::Down);
            if down {
                *state = State { number: state.number + 1, step: Step::Connecting };
            }
            down
        });
        if !started {
            return;
        }
        let (client, sender) = (self.client.clone(), self.state.clone());
        tokio::spawn(async move {
            let step = match tokio::time::timeout(CONNECT_TIMEOUT, client.connect()).await {
                Ok(Ok(connection)) => Step::Up(connection),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "cannot connect to the store of exact limits");
                    Step::Down
                }
                Err(_) => Step::Down,
            };
            sender.send_modify(|state| state.step = step);
        });
    }
}
