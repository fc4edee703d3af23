//! What proxies are asked of single requests: the generated client and server of our own protocol.

pub use generated::decision_service_client::DecisionServiceClient;
pub use generated::decision_service_server::{DecisionService, DecisionServiceServer};
pub use tidegate_proto::tidegate::v1::{DecisionAnswer, DecisionQuestion};

mod generated {
    #![allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/tidegate.v1.rs"));
}
